"""Fills the templates of pages that load nothing, with everything escaped and all in one style."""

from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup


def fill(package: str, template: str, **values: Any) -> str:
    """The text of a page.

    Args:
        package: that holds the template.
        values: what the template names; ``style`` is there besides.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = files("forebay_ops.reporting").joinpath("page.css").read_text("utf-8")
    text = files(package).joinpath(template).read_text("utf-8")
    return environment.from_string(text).render(style=Markup(style), **values)
