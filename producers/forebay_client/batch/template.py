"""A prompt with the names of columns in it."""

import string
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from forebay_schemas.errors import InvalidRequest

_DOUBLE = "write braces that are no column double: {{ and }}"


class Template:
    """Text with ``{column}`` in it, and nothing else that could be called: a file of prompts is data, not a program.

    Raises:
        InvalidRequest: it names no column, or braces do not match.
    """

    def __init__(self, text: str) -> None:
        try:
            self._parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise InvalidRequest("template", f"has braces that do not match ({error})", _DOUBLE) from None
        for _, name, form, conversion in self._parts:
            if name is not None and (not name.strip() or form or conversion):
                shown = f"{{{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}}}"
                raise InvalidRequest("template", f"holds {shown!a:.60}, which names no column", _DOUBLE)
        if not self.columns:
            raise InvalidRequest("template", "names no column", "put one in braces: Classify: {text}")

    @property
    def columns(self) -> list[str]:
        """The columns that it names."""
        return list(dict.fromkeys(name for _, name, _, _ in self._parts if name is not None))

    def check(self, columns: Collection[str]) -> None:
        """See that there are the columns that it names.

        Raises:
            InvalidRequest: one is missing.
        """
        for name in self.columns:
            if name not in columns:
                raise InvalidRequest(
                    "template", f"names the column {name!a}, which the file has not", f"use one of {', '.join(columns)}"
                )

    def fill(self, row: Mapping[str, Any]) -> str:
        """The prompt of a row.

        Raises:
            InvalidRequest: a column has no value there.
        """
        for name in self.columns:
            if row.get(name) is None:
                raise InvalidRequest(name, "has no value in this row", "give it one, or leave the row out")
        return "".join(text + ("" if name is None else str(row[name])) for text, name, _, _ in self._parts)


def template_text(given: str) -> str:
    """The text of a template that is given itself, or as the path of a file: text is what has a brace.

    Raises:
        InvalidRequest: there is no such file.
    """
    if "{" in given:
        return given
    try:
        return Path(given).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            "template", f"{given!a:.80} holds no {{column}} and cannot be read as a file ({error})", "give one of both"
        ) from None
