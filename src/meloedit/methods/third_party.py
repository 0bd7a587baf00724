"""Methods of other packages, which an entry point of the group ``meloedit.methods`` names.

The package's ``pyproject.toml`` says which class is which method::

    [project.entry-points."meloedit.methods"]
    vectors = "meloedit_vectors:Vectors"

Only the package of a method that is asked for is imported.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from ..errors import MeloEditError
from ..text import join_names, plain, shorten

if TYPE_CHECKING:
    from .base import Method

GROUP = "meloedit.methods"
"""The group of entry points."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What a method may be called: files of a run and settings on the command line bear the name."""


def third_party_names() -> list[str]:
    """Return the names of the methods that installed packages offer, in alphabetical order; nothing is imported."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def third_party_class(name: str) -> type[Method] | None:
    """Return the class of an installed package's method; ``None`` if no package has one of this name.

    Raises:
        MeloEditError: if two packages have one, it cannot be imported, or what is imported is no method of this name.
    """
    point = _entry_point(name)
    if point is None:
        return None
    about = f"method {name} of package {_package(point)}"
    if not NAME.fullmatch(name):
        raise MeloEditError(f"{about}: a name has letters, digits, - and _ alone: rename the entry point")
    try:
        found = point.load()
    except Exception as error:  # a package can fail in any way while it is imported
        reason = plain(shorten(f"{type(error).__name__}: {error}", 300))
        advice = "install it anew, or uninstall it"
        raise MeloEditError(f"{about} cannot be imported from {point.value} ({reason}): {advice}") from None
    return _checked(found, name, f"{about}: {point.value}")


def package_of(name: str) -> str | None:
    """Return the package that offers a method, with its version; ``None`` if none does."""
    point = _entry_point(name)
    return None if point is None else _package(point)


def _entry_point(name: str) -> EntryPoint | None:
    points = {_package(point): point for point in entry_points(group=GROUP, name=name)}
    if len(points) > 1:
        raise MeloEditError(f"method {plain(name)} is offered by {join_names(sorted(points))}: uninstall all but one")
    return next(iter(points.values()), None)


def _package(point: EntryPoint) -> str:
    return "(unknown)" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _checked(found: Any, name: str, about: str) -> type[Method]:
    """Return an object that is a method of this name, whatever was imported.

    Raises:
        MeloEditError: naming what is wrong with it.
    """
    from .base import Method

    if not (isinstance(found, type) and issubclass(found, Method)):
        raise MeloEditError(f"{about} is no subclass of meloedit.methods.base.Method")
    if inspect.isabstract(found):
        raise MeloEditError(f"{about} lacks {', '.join(sorted(found.__abstractmethods__))}")
    if getattr(found, "name", None) != name:
        raise MeloEditError(f"{about} has the name {getattr(found, 'name', None)!r}, its entry point {name!r}")
    return found
