"""What a batch is: the file, and all that is said about its rows, of which its id is made."""

import hashlib
from typing import Any

import msgspec
from forebay_schemas import batches
from forebay_schemas.records import CacheOptions

HASH = hashlib.sha256


class RowOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How rows become requests, and whose they are. All of it is part of the batch's id."""

    tenant: str
    run: str | None = None
    """Another run of the same file: a date, for example. Without it the same file is the same batch for ever."""
    template: str | None = None
    """The prompt over the columns of CSV or Parquet: text with ``{column}`` in it."""
    system: str | None = None
    """System prompt of rows that a template makes."""
    id_column: str | None = None
    """The column that holds each row's ``custom_id``; absent: the number of the row."""
    endpoint: str | None = None
    category: str | None = None
    min_tier: str | None = None
    max_tier: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    cache: CacheOptions | None = None
    prompt_version: str | None = None
    metadata: dict[str, str] = {}

    def fields(self) -> dict[str, Any]:
        """What it says of every request, as ``RequestFields``; a row of OpenAI's format may say otherwise."""
        names = ("endpoint", "category", "min_tier", "max_tier", "max_tokens", "temperature", "cache", "prompt_version")
        values = {name: getattr(self, name) for name in names} | {"metadata": self.metadata or None}
        return {name: value for name, value in values.items() if value is not None}

    def batch_id(self, source_digest: str) -> str:
        """The id of the batch that a file makes with these options: the same command again names the same batch."""
        said = msgspec.json.encode([source_digest, self], order="deterministic")
        return batches.batch_id(HASH(said).hexdigest())
