"""Check the arguments of public calls against their type hints, once, where a caller comes in."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .. import types as hints
from ..errors import ArgumentError
from ..text import plain, shorten

OWN_CHECKS = frozenset({"config", "edits", "executor", "lengths", "model", "prompts", "tokenizer"})
"""Parameters whose values are looked through where they are read: the messages there say more than a type can."""
SHOWN = 60
"""Characters of a value in a message."""
WORDS: dict[Any, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    None: "None",
    types.NoneType: "None",
}
"""How messages call a type."""

T = TypeVar("T")


def checked(owner: type[T]) -> type[T]:
    """Let a class's public methods, its own and not those that it inherits, check their arguments; a class decorator.

    A wrong one is an ``ArgumentError`` that names the argument, its value and what would do. Parameters of other hints
    than plain ones (``OWN_CHECKS``, those of models, ``**kwargs``) are passed on as they are.
    """
    for name, member in list(vars(owner).items()):
        function = member.__func__ if isinstance(member, classmethod) else member
        if not inspect.isfunction(function) or (name.startswith("_") and name != "__init__"):
            continue
        wrapped = _checking(function)
        setattr(owner, name, classmethod(wrapped) if isinstance(member, classmethod) else wrapped)
    return owner


def _checking(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)
    tests = functools.cache(functools.partial(_tests, function))  # at the first call: the hints of a class may be later

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            fits, wanted = tests().get(name, (None, ""))
            if fits is not None and not fits(value):
                raise ArgumentError(f"{name} must be {wanted}, not {shown(value)}")
        return function(*args, **kwargs)

    return call


def shown(value: object) -> str:
    """Return a value as a message shows it: short, in one line; also one that cannot be shown."""
    try:
        return plain(shorten(repr(value), SHOWN))
    except Exception:  # a caller's own class may raise anything
        return f"a {type(value).__name__}"


Test = tuple[Callable[[Any], bool], str]
"""Says whether a value fits, and what would do in words."""


def _tests(function: Callable[..., Any]) -> dict[str, Test]:
    """Return, by the names of parameters, whether a value fits the hint, and what would do in words."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    options = ConfigDict(strict=True, arbitrary_types_allowed=True)
    known = vars(sys.modules[function.__module__])
    tests: dict[str, Test] = {}

    def test(adapter: TypeAdapter[Any], called: bool, value: Any) -> bool:
        if called and isinstance(value, type):  # it can be called, and makes objects of what a function is told
            return False
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    for name, parameter in inspect.signature(function).parameters.items():
        plain_kind = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name == "self" or name in OWN_CHECKS or not plain_kind or not isinstance(parameter.annotation, str):
            continue
        try:
            hint = get_type_hints(_Hinted(parameter.annotation), known, vars(hints))["value"]
        except NameError:  # of a class that is imported for type checkers alone
            continue
        if _is_own(hint):
            tests[name] = functools.partial(_is_one, hint), in_words(hint)
            continue
        adapter: TypeAdapter[Any] = TypeAdapter(_checkable(hint), config=options)
        called = any(get_origin(one) is Callable for one in (hint, *get_args(hint)))
        tests[name] = functools.partial(test, adapter, called), in_words(hint)
    return tests


def _is_own(hint: Any) -> bool:
    return inspect.isclass(hint) and hint.__module__.partition(".")[0] == __name__.partition(".")[0]


def _is_one(owner: type, value: object) -> bool:
    return isinstance(value, owner)


class _Hinted:
    """Something with one annotation."""

    def __init__(self, hint: str) -> None:
        self.__annotations__ = {"value": hint}


def _checkable(hint: Any) -> Any:
    """Return a hint that pydantic checks by ``isinstance`` alone where it names a class of this package."""
    from pydantic import InstanceOf

    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return Union[tuple(_checkable(one) for one in inner)]  # noqa: UP007
    if origin is Sequence:
        return types.GenericAlias(Sequence, (_checkable(inner[0]),))
    return InstanceOf[hint] if _is_own(hint) else hint  # type: ignore[misc]


def in_words(hint: Any) -> str:
    """Return what a type hint asks for."""
    *first, last = dict.fromkeys(_alternatives(hint))
    return f"{', '.join(first)} or {last}" if first else last


def _alternatives(hint: Any) -> list[str]:
    """Return the kinds of values that would do, each in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return [words for one in inner for words in _alternatives(one)]
    if origin is Literal:
        return sorted(map(repr, inner))  # in order: typing takes Literals of the same values for one
    if hint in WORDS:
        return [WORDS[hint]]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return ["a mapping"]
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return [f"a list of {in_words(inner[0]).removeprefix('a ').removeprefix('an ')}s"]
    if origin is Callable or hint is Callable:
        return ["a function"]
    return [f"a {hint.__name__}" if inspect.isclass(hint) else str(hint)]
