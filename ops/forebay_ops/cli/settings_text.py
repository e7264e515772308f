"""The configuration as TOML that explains itself, secrets masked."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forebay_schemas.config import Config
from forebay_schemas.section import FILE, secrets_of
from pydantic import BaseModel, SecretStr

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

Table = BaseModel | dict[str, Any]


def settings_text(config: Config) -> str:
    """Every setting with its meaning before it. What has no value, and what is secret, stands as a comment, so that
    the text can be used as a configuration file."""
    return "\n".join(_lines((), config)).strip()


def _lines(path: tuple[str, ...], table: Table) -> Iterator[str]:
    tables = {name: value for name, value in dict(table).items() if value and isinstance(value, BaseModel | dict)}
    for name, value in dict(table).items():
        if name not in tables:
            if meaning := _meaning(table, name):
                yield f"# {meaning}"
            yield _setting(name, value)
    for name, value in tables.items():
        yield ""
        if meaning := _meaning(table, name):
            yield f"# {meaning}"
        if isinstance(value, BaseModel) or not all(isinstance(item, BaseModel | dict) for item in value.values()):
            yield f"[{'.'.join(map(_key, (*path, name)))}]"
        yield from _lines((*path, name), value)


def _meaning(table: Table, name: str) -> str:
    """What a field's description says, else the first line about its type."""
    if not isinstance(table, BaseModel):
        return ""
    described = type(table).model_fields[name].description
    value = getattr(table, name)
    if described and name in secrets_of(type(table)):
        return f"{described} Or {name}{FILE}: a file that holds it."
    return described or ((type(value).__doc__ or "").split("\n")[0] if isinstance(value, BaseModel) else "")


def _setting(name: str, value: Any) -> str:
    if value is None:
        return f"# {_key(name)} is not set"
    if isinstance(value, SecretStr):
        return f"# {_key(name)} is secret: {value}"
    return f"{_key(name)} = {_value(value)}"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)  # JSON and TOML write these alike
