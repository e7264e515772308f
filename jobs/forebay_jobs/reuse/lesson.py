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
    known_text: str = ""
    """The known answer; present where the judge left it open whether they agree."""
