"""What there is to learn from one generated answer."""

import msgspec

from .decision import Decision


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that was generated although a known question was near."""

    owner: str
    tenant: str
    category: str
    decision: Decision
    entry: str
    """Digest of the known one."""
    epochs: dict[str, str]
    """That the known answer has to hold under; else it says nothing of what is right now."""
    digest: str
    question: str
    text: str
    as_json: bool = False
    """Whether the request asked for a format."""
    bucket: str = ""
    """Of the desk where the answer landed."""
    share: float = 1.0
    """The chance with which it was taken among those like it, in (0, 1]: so many does it stand for."""
    known_text: str = ""
    """The known answer; present where the judge left it open whether they agree."""
