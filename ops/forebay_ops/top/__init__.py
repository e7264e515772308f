"""What `forebay top` shows: the parts are looked at, again and again, and what grew between the looks is worked out."""
