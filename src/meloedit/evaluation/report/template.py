"""The templates of the pages."""

from __future__ import annotations

from importlib import resources
from typing import Any


def render(name: str, **values: Any) -> str:
    """Return a page as HTML; every value is escaped.

    Args:
        name: the template's file in this folder.
        values: what it shows.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files(__package__)
    environment = Environment(
        loader=FunctionLoader(lambda file: folder.joinpath(file).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(values)
