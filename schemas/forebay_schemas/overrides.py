"""What a rollout may change: single settings by their paths, and the configuration that holds with them.

An override is a path as TOML writes it (``tiers.small.model``, ``categories."shop.chat".delta``) and a value as JSON
text, so that both travel in a record.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from .config import Config, changed
from .errors import ConfigError

MAX_BYTES = 64 * 1024
"""Of all overrides that hold together: they travel in each task of their arm, beside the request."""

_OF_EACH = {
    "tiers": {
        "model",
        "priced_as",
        "complexity_up_to",
        "max_tokens",
        "system_prompt",
        "length_directive",
        "stop",
    },
    "categories": {
        "reuse",
        "policy",
        "delta",
        "similarity",
        "adaptive",
        "exact_ttl_s",
        "fresh_s",
        "max_temperature",
        "tier",
        "quality",
        "escalation",
    },
}
"""Of each tier and category, what a request can have for itself: nothing that processes are built of at their start."""
_WHOLE = ("router",)

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

Path = tuple[str, ...]


def applied(config: Config, overrides: Mapping[str, str]) -> Config:
    """The configuration with the overrides over it.

    Raises:
        ConfigError: naming each setting that no rollout may change, that does not exist, or that cannot work.
    """
    return changed(config, _nested(overrides, config)) if overrides else config


def flattened(changes: Mapping[str, Any]) -> dict[str, str]:
    """The overrides in settings as a TOML file gives them."""
    return {path_text(path): json.dumps(value, ensure_ascii=False) for path, value in _leaves(changes, ())}


def paths(overrides: Mapping[str, str]) -> dict[Path, str]:
    """The overrides by the parts of their paths.

    Raises:
        ConfigError: a path is none, or leads through another.
    """
    found = {_parts(text): value for text, value in overrides.items()}
    for path in found:
        if any(path[:length] in found for length in range(1, len(path))):
            raise ConfigError(f"{path_text(path)}: is part of another setting that is given too; leave one out")
    return found


def shared(one: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """The first setting that both change; None where each changes its own."""
    others = paths(other)
    for path in paths(one):
        if any(path[: len(their)] == their[: len(path)] for their in others):
            return path_text(path)
    return None


def laid_over(beneath: Mapping[str, str], over: Mapping[str, str]) -> dict[str, str]:
    """What holds where some overrides lie over others: of a setting that both change, that of ``over``."""
    return {**{path: value for path, value in beneath.items() if shared({path: value}, over) is None}, **over}


def path_text(path: Path) -> str:
    """A path as TOML writes it."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in path)


def _nested(overrides: Mapping[str, str], config: Config) -> dict[str, Any]:
    if (size := sum(len(path.encode()) + len(value.encode()) for path, value in overrides.items())) > MAX_BYTES:
        raise ConfigError(f"overrides: have {size} bytes, above {MAX_BYTES}; shorten the prompts")
    changes: dict[str, Any] = {}
    for path, text in paths(overrides).items():
        _check(path, config)
        *tables, last = path
        table = changes
        for part in tables:
            table = table.setdefault(part, {})
        table[last] = _value(path, text)
    return changes


def _value(path: Path, text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path_text(path)}: {text[:80]!a} is no JSON ({error}); give a value") from None
    if isinstance(value, dict):
        raise ConfigError(f"{path_text(path)}: is a table; give each of its settings by a path of its own")
    return value


def _check(path: Path, config: Config) -> None:
    section, *rest = path
    if section in _WHOLE and rest:
        return
    allowed = _OF_EACH.get(section)
    if allowed is None or len(rest) < 2 or rest[1] not in allowed:
        may = ["router.<setting>", *(f"{name}.<name>.{{{', '.join(sorted(of))}}}" for name, of in _OF_EACH.items())]
        raise ConfigError(f"{path_text(path)}: is nothing that a rollout may change; use one of {'; '.join(may)}")
    if section == "tiers" and rest[0] not in config.tiers:
        raise ConfigError(f"{path_text(path)}: {rest[0]!r} is no tier; use one of {', '.join(config.tiers)}")


@lru_cache(maxsize=1024)  # those of live rollouts are read for each request that is in several
def _parts(text: str) -> Path:
    parts: list[str] = []
    try:
        table: Any = tomllib.loads(f"{text} = 0")
    except (ValueError, RecursionError):
        table = {}
    while isinstance(table, dict) and len(table) == 1:
        ((part, table),) = table.items()
        parts.append(part)
    if table != 0:
        raise ConfigError(f"{text[:80]!a}: is no setting's path; write it as TOML does, such as tiers.small.model")
    return tuple(parts)


def _leaves(changes: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for name, value in changes.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value
