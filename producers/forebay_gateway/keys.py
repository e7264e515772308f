"""API keys: made, kept as hashes in one file, and known again.

A key is ``fb_<id>_<secret>``. The secret has 256 random bits, so its SHA-256 says nothing about it: slow hashes are for
what people choose, and would cost every call what an exact hit does. Several copies of the gateway read one file, such
as a mounted secret, and notice changes by themselves.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from forebay_schemas.errors import ConfigError, ForebayError

_LOOK_EVERY_S = 1.0
"""How late a change of the file is noticed."""
_KEY = re.compile(r"fb_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")
_NOBODY = "0" * 64
"""The hash of no secret."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
Dollars = Annotated[float, msgspec.Meta(gt=0)]

_log = logging.getLogger(__name__)


class UnknownKey(ForebayError):
    """A key cannot be changed as asked."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of a key; a limit that is absent does not hold."""

    id: str
    """Its first part, which is no secret."""
    sha256: str
    """Of its secret, in hex."""
    tenant: str
    """Whose calls are made with it."""
    note: str = ""
    created_ms: int
    revoked_ms: int | None = None
    requests_per_min: Positive | None = None
    tokens_per_min: Positive | None = None
    """Of prompt and answer together."""
    usd_per_day: Dollars | None = None
    """US dollars that answers may cost, by UTC days."""
    usd_per_month: Dollars | None = None
    sees_all: bool = False
    """Whether the page shows it the traffic of all tenants, and not of its own alone."""

    @property
    def limited(self) -> bool:
        """Whether its calls must be counted."""
        limits = (self.requests_per_min, self.tokens_per_min, self.usd_per_day, self.usd_per_month)
        return any(limit is not None for limit in limits)


LIMITS = ("requests_per_min", "tokens_per_min", "usd_per_day", "usd_per_month")


class KeyFile:
    """The file. Reading and knowing keys is for the gateway, changing it for one operator at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Key]:
        """All keys by id; none where there is no file yet.

        Raises:
            ConfigError: the file cannot be read.
        """
        try:
            return {key.id: key for key in msgspec.json.decode(self._path.read_bytes(), type=list[Key])}
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(
                f"gateway.key_file: {self._path} cannot be read ({error}); mend it or take a copy"
            ) from None

    def create(self, tenant: str, **settings: object) -> tuple[Key, str]:
        """Add a key; its text, which is kept nowhere, goes to the caller.

        Args:
            settings: other fields of ``Key``.

        Raises:
            ConfigError: the file cannot be read or written.
        """
        secret = secrets.token_urlsafe(32)
        key = msgspec.convert(
            {
                "id": secrets.token_hex(6),
                "sha256": _sha256(secret),
                "tenant": tenant,
                "created_ms": time.time_ns() // 1_000_000,
                **settings,
            },
            Key,
        )
        self._write({**self.read(), key.id: key})
        return key, f"fb_{key.id}_{secret}"

    def change(self, key_id: str, **settings: object) -> Key:
        """Change fields of a key.

        Raises:
            UnknownKey: there is no such key.
            ConfigError: the file cannot be read or written.
        """
        keys = self.read()
        if key_id not in keys:
            raise UnknownKey(f"there is no key {key_id} in {self._path}; `forebay gateway keys list` shows them")
        keys[key_id] = msgspec.convert({**msgspec.to_builtins(keys[key_id]), **settings}, Key)
        self._write(keys)
        return keys[key_id]

    def _write(self, keys: Mapping[str, Key]) -> None:
        unfinished = self._path.with_name(f"{self._path.name}.unfinished")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
                out.write(msgspec.json.format(msgspec.json.encode(list(keys.values())), indent=2) + b"\n")
                self._keep_access(out.fileno())
            unfinished.replace(self._path)
        except OSError as error:
            raise ConfigError(f"gateway.key_file: {self._path} cannot be written ({error})") from None

    def _keep_access(self, unfinished: int) -> None:
        """Let those read the new file who may read the old one: a gateway may be another user than who makes keys."""
        if not self._path.exists():
            return
        old, new = self._path.stat(), os.fstat(unfinished)
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.fchown(unfinished, old.st_uid, old.st_gid)
        os.fchmod(unfinished, stat.S_IMODE(old.st_mode))


class Keys:
    """Knows callers by their keys, as the file says now.

    Args:
        clock: seconds that only grow.

    Raises:
        ConfigError: the file cannot be read.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._file, self._clock = path, KeyFile(path), clock
        self._keys = self._file.read()
        self._seen, self._looked_s = self._stamp(), clock()

    def of(self, text: str) -> Key | None:
        """The key that a caller gave, unless it is unknown or revoked. Takes the same time for every wrong secret."""
        self._follow()
        match = _KEY.fullmatch(text)
        key = self._keys.get(match["id"]) if match else None
        right = hmac.compare_digest(_sha256(match["secret"] if match else ""), key.sha256 if key else _NOBODY)
        return key if right and key is not None and key.revoked_ms is None else None

    def known(self, key_id: str) -> Key | None:
        """The key of an id, revoked or not; None where it is gone."""
        self._follow()
        return self._keys.get(key_id)

    def _follow(self) -> None:
        if self._clock() < self._looked_s + _LOOK_EVERY_S:
            return
        self._looked_s = self._clock()
        stamp = self._stamp()
        if stamp == self._seen:
            return
        try:
            if stamp is None:
                raise ConfigError(f"gateway.key_file: {self._path} is gone")
            self._keys, self._seen = self._file.read(), stamp
        except ConfigError as error:  # while it is mended, those who may call go on calling
            _log.error("%s; the keys read before hold on", error)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            told = self._path.stat()
        except OSError:
            return None
        return told.st_mtime_ns, told.st_ino, told.st_size


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
