"""The part of a long text that says what is asked: it stands before or behind whatever was pasted in."""

_END_CHARS = 2_000


def ends(text: str) -> str:
    """The text, or of a longer one the first and last 2,000 characters: rules read no document of a megabyte."""
    if len(text) <= 2 * _END_CHARS:
        return text
    return f"{text[:_END_CHARS]}\n{text[-_END_CHARS:]}"
