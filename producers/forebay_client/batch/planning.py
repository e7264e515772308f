"""From a file and what is said of its rows to the batch that they make, before anything is sent."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import msgspec
from forebay_schemas.batches import Stage
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError, InvalidRequest
from forebay_schemas.records import BatchState, CacheOptions

from .options import RowOptions
from .rows import Source, open_source
from .survey import survey
from .template import template_text


class BatchFields(TypedDict, total=False):
    """What may be said of all rows of a batch; see ``RowOptions``. None is the same as leaving it out."""

    run: str | None
    """Another run of the same file: a date, for example."""
    template: str | None
    """For CSV and Parquet: the prompt, with ``{column}`` in it, or the path of a file that holds it."""
    system: str | None
    id_column: str | None
    endpoint: str | None
    category: str | None
    min_tier: str | None
    max_tier: str | None
    max_tokens: int | None
    temperature: float | None
    cache: CacheOptions | Mapping[str, Any] | None
    prompt_version: str | None
    metadata: dict[str, str] | None


def row_options(tenant: str, fields: Mapping[str, Any]) -> RowOptions:
    """What is said of all rows.

    Args:
        fields: of ``BatchFields``.

    Raises:
        InvalidRequest: a name is unknown, or a value is of another type.
    """
    values = {name: value for name, value in fields.items() if value is not None}
    if "template" in values:
        values["template"] = template_text(values["template"])
    if unknown := values.keys() - BatchFields.__annotations__.keys():
        raise InvalidRequest(min(unknown), "is nothing to say of rows", f"use {', '.join(BatchFields.__annotations__)}")
    try:
        return msgspec.convert({**values, "tenant": tenant}, RowOptions)
    except msgspec.ValidationError as error:
        raise InvalidRequest("options", f"have a wrong type ({error})", "mend its value") from None


def plan(
    file: Path, options: RowOptions, config: Config, surveyed: Callable[[int], object]
) -> tuple[Source, BatchState]:
    """The rows of a file, and the batch that they make; when it begins and where its replies go is still to be said.

    Args:
        surveyed: told how many rows were looked at.

    Raises:
        InvalidRequest: an option does not fit the file, or two rows have one name.
        ForebayError: the file cannot be read.
    """
    source = open_source(file, options, config)
    found = survey(file, source, surveyed)
    return source, BatchState(
        batch_id=options.batch_id(found.digest),
        tenant=options.tenant,
        stage=Stage.SENDING,
        created_ms=0,
        updated_ms=0,
        deadline_ms=0,
        source=str(file.absolute()),
        source_digest=found.digest,
        options=msgspec.json.encode(options).decode(),
        rows=found.rows,
        reply_topic="",
        replies_from=[],
    )


def allowed_reply_topic(name: str | None, config: Config) -> str:
    """Where replies go; None: the standard topic.

    Raises:
        ConfigError: the topic is not allowed.
    """
    topics = config.kafka.topics
    if name not in (None, topics.replies, *config.kafka.reply_topics):
        raise ConfigError(f"reply_topic: {name!a} is not allowed; add it to kafka.reply_topics")
    return name or topics.replies
