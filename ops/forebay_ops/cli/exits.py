"""Exit codes that scripts tell apart; 1 is that a command could not do its work, and 2 that it was called wrongly."""

FOUND = 3
"""A measurement found what it looks for."""

# Of a batch:
ROWS_FAILED = 3
"""Some rows ended in an error."""
CEILING = 4
"""It stopped at its price ceiling."""
ENDED = 5
"""It was cancelled, or its completion window ended."""
UNFINISHED = 6
"""Rows are not answered yet."""
