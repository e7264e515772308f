"""What an invalidation names, the answers that are not to be given any more, and how it is acknowledged."""

import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from .errors import InvalidRequest

EVENT = "invalidation"
"""The event that acknowledges one. Its attributes are the arguments of the command, ``issued_by``, ``issued_ms``, the
``outcome`` and, where that is ``refused``, the ``problem``."""

_MILLISECONDS = re.compile(r"[0-9]{1,18}", re.ASCII)


class InvalidationOutcome(StrEnum):
    """What became of an invalidation."""

    APPLIED = "applied"
    """It holds everywhere: no request that is read from now on gets an answer of before."""
    REPEATED = "repeated"
    """It was applied before; the command was read again after a failure of the job."""
    UNKNOWN = "unknown"
    """Nothing is known of its tenant or model, so nothing changed."""
    REFUSED = "refused"
    """It does not say clearly what it means, so nothing changed."""


class Invalidation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answers that hold no longer: those that meet all filters that are given.

    Of ``source``, ``prompt_version``, ``model`` and ``category`` at most one is given, alone or with ``tenant``; with
    any of them, and alone, ``before_ms``. ``key`` stands alone. ``validation.validate_invalidation`` holds it to that.
    """

    tenant: str | None = None
    """Those written for this tenant. What tenants share (cache scope ``shared``) belongs to none of them."""
    source: str | None = None
    """Those that depend on this data source (``cache.sources`` of their requests)."""
    prompt_version: str | None = None
    model: str | None = None
    """Those of this model, a name under ``models``."""
    category: str | None = None
    key: str | None = None
    """The one of this digest (``canonical.Digests.exact``)."""
    before_ms: int | None = None
    """Those completed before this time, in milliseconds since the Unix epoch; younger ones go on holding."""

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> "Invalidation":
        """What the arguments of a command name.

        Raises:
            InvalidRequest: an argument is unknown (passed over, it would widen what is invalidated) or no number.
        """
        if unknown := arguments.keys() - set(cls.__struct_fields__):
            mend = f"use one of {', '.join(cls.__struct_fields__)}"
            raise InvalidRequest(f"{min(unknown):.40}", "is nothing to invalidate by", mend)
        before_ms = arguments.get("before_ms")
        if before_ms is not None and not _MILLISECONDS.fullmatch(before_ms):
            raise InvalidRequest("before_ms", f"is {before_ms[:40]!a}", "give milliseconds since the Unix epoch")
        names = {name: value for name, value in arguments.items() if name != "before_ms"}
        return cls(**names, before_ms=None if before_ms is None else int(before_ms))

    def arguments(self) -> dict[str, str]:
        """The filters that are given, as a command carries them."""
        return {name: str(value) for name, value in msgspec.to_builtins(self).items()}
