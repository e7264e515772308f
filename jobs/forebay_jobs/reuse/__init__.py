"""Whether an answer may be given again: what is eligible, and which policy decides."""
