"""Planning: what a bill would be under other assumptions."""
