"""The local stack: every part of Forebay on one machine, from Python packages alone, supervised."""
