"""Other settings, as a file of the configuration's own shape or one by one, over those that hold."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forebay_schemas.config import Config, changed
from forebay_schemas.errors import ConfigError

_SIMULATED = {
    "categories": {
        "preset",
        "reuse",
        "policy",
        "similarity",
        "delta",
        "adaptive",
        "exact_ttl_s",
        "semantic_ttl_s",
        "fresh_s",
        "max_temperature",
        "tier",
    },
    "tiers": {"complexity_up_to", "model", "priced_as", "max_tokens"},
    "models": {"price"},
    "router": {"min_confidence"},
    "redis": {"expiry_jitter"},
}
"""What of each section changes what is simulated."""
_OF_EACH = ("categories", "tiers", "models")
"""Sections that hold a table for each name."""


def what_if(config: Config, file: Path | None, single: Sequence[str]) -> tuple[Config, list[str]]:
    """The configuration with the settings of a file over it, and single ones over those.

    Args:
        single: each a path and a value: ``categories.support.similarity=0.92``. Text needs no quotes.

    Returns:
        The configuration, and which of the settings change nothing that is simulated.

    Raises:
        ConfigError: a setting cannot be read or cannot work.
    """
    every = [*([changes_of_file(file)] if file else []), *map(change_of_text, single)]
    for changes in every:
        config = changed(config, changes)
    return config, [path for changes in every for path in (*_ignored(changes), *_of_other_policies(changes, config))]


def changes_of_file(file: Path) -> dict[str, Any]:
    """The settings in a TOML file of the configuration's shape. Raises ConfigError: it cannot be read."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); give TOML of the configuration's shape") from None


def change_of_text(text: str) -> dict[str, Any]:
    """The setting in a text such as ``categories.support.delta=0.005``. Raises ConfigError: there is none."""
    path, equals, value = text.partition("=")
    for line in (f"{path} = {value}", f"{path} = '{value}'") if equals else ():
        try:
            return tomllib.loads(line)
        except ValueError:
            continue
    raise ConfigError(f"{text!r} is no setting and value; give one such as categories.support.similarity=0.92")


def _ignored(changes: Mapping[str, Any]) -> Iterator[str]:
    for section, values in changes.items():
        for name, value in values.items() if isinstance(values, Mapping) else ():
            tables = {f"{section}.{name}": value} if section in _OF_EACH else {section: {name: value}}
            for path, table in tables.items():
                yield from (f"{path}.{each}" for each in table if each not in _SIMULATED.get(section, ()))


def _of_other_policies(changes: Mapping[str, Any], config: Config) -> Iterator[str]:
    for name, values in changes.get("categories", {}).items():
        policy = config.category(name).policy
        yield from (
            f"categories.{name}.{each} (its policy is {policy})"
            for each, decides in (("similarity", "fixed"), ("delta", "bounded"), ("adaptive", "adaptive"))
            if each in values and policy != decides
        )
