"""Which tier answers a request: features of its text, a complexity from them, and the ladder."""
