"""Exit codes that scripts tell apart; 1 is that a command could not do its work, and 2 that it was called wrongly."""

FOUND = 3
"""A measurement found what it looks for."""
