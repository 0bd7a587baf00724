"""What the commands are given: settings, edits, prompts."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .config import MeloConfig
from .edit import Edit, SourcedEdit, check_line, check_prompt, json_rows, open_text, read_edits
from .errors import EditError, ModelError
from .types import Prompt

_PYTHON = {"None": None, "True": True, "False": False}
"""Values that are no JSON, but that whoever knows the Python names writes."""
SourcedPrompt = tuple[str, Prompt]
"""Where a prompt was read (``traffic.txt, line 3``; empty for an argument), and the prompt."""


def read_config(
    given: dict[str, Any], settings: Sequence[str], paper: bool = False, preset: str | None = None
) -> MeloConfig:
    """Return the settings of options, those that were given, and of ``NAME=VALUE`` texts; in paper mode if wanted.

    Raises:
        ModelError: if there is no such setting, or it cannot have this value.
    """
    values = {name: value for name, value in given.items() if value is not None}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ModelError(f"--set {setting}: give NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = _PYTHON.get(text, text)
        except RecursionError:
            raise ModelError(f"--set {name}: the value is nested too deeply") from None
    rank = values.get("rank")
    if isinstance(rank, int) and not paper:  # who asks for a rank above the largest tried wants that raised as well
        values.setdefault("max_rank", max(rank, MeloConfig.max_rank))
    try:
        if not paper:
            _refuse_paper(values)
            return MeloConfig.from_dict(values)
        if "preset" in values:
            raise ModelError("--set preset: use --preset NAME")
        return MeloConfig.paper(preset, **values)
    except TypeError as error:
        raise ModelError(f"a setting has a value of the wrong kind ({error})") from None


def _refuse_paper(values: dict[str, Any]) -> None:
    if values.get("mode") == "paper" or values.get("preset") is not None:
        raise ModelError("paper mode is chosen with --paper or --preset NAME, not with --set")


def read_wanted(
    file: str | None,
    prompt: str | None,
    target: str | None,
    edit_id: str | None,
    variant: list[str] | None,
    quiet: list[str] | None,
) -> list[SourcedEdit]:
    """Return the edits of a file, or the one that options make.

    Raises:
        EditError: if it is both or neither, or not usable.
    """
    one = {"prompt": prompt, "target": target, "id": edit_id, "variant": variant, "quiet": quiet}
    used = [f"--{name}" for name, value in one.items() if value]
    if file is not None:
        if used:
            raise EditError(f"give a file or {used[0]}, not both")
        if not (sourced := read_edits(file)):
            raise EditError(f"{'standard input' if file == '-' else file} holds no edits")
        return sourced
    if prompt is None or target is None:
        raise EditError("give a file of edits, or --prompt and --target")
    made = Edit(prompt, target, edit_id or "", tuple(variant or ()), tuple(quiet or ()))
    return [SourcedEdit(made, "")]


def with_place(error: EditError, wanted: Sequence[SourcedEdit]) -> EditError:
    """Return an error that says in which line of a file the edit stands that it names."""
    named = [item.where for item in wanted if item.where and str(error).startswith(f"edit {item.edit.id!r}")]
    return EditError(f"{named[0]}: {error}") if named else error


def with_line(error: EditError, sourced: Sequence[SourcedPrompt], encode: Callable[[Prompt], object]) -> EditError:
    """Return an error that says in which line the first prompt stands that cannot be encoded."""
    for where, prompt in sourced:
        try:
            encode(prompt)
        except EditError as own:
            return EditError(f"{where}: {own}") if where else own
    return error


def with_system(system: str, prompt: Prompt) -> Prompt:
    """Return a prompt as chat messages behind a system prompt."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [{"role": "system", "content": system}, *messages]


def read_prompts(path: str | Path) -> list[SourcedPrompt]:
    """Read prompts, one per line, each with where it stands, from a file (``.gz`` too) or standard input (``-``).

    A line of a ``.txt`` file or of standard input is a prompt as it stands; of any other file, it is a JSON string, a
    list of chat messages, or an object with a ``prompt`` that is one of these.

    Raises:
        EditError: naming file and line, if a line is no prompt, or if there is none.
    """
    plain = str(path) == "-" or str(path).removesuffix(".gz").lower().endswith(".txt")
    name = "standard input" if str(path) == "-" else str(path)
    prompts: list[SourcedPrompt] = []
    try:
        with open_text(path) as stream:
            if plain:
                lines = ((f"{name}, line {number}", text) for number, text in enumerate(stream, 1) if text.strip())
                prompts.extend((where, check_line(text, where).strip()) for where, text in lines)
            else:
                prompts.extend((where, _prompt(value, where)) for where, value in json_rows(stream, name))
    except UnicodeDecodeError as error:
        raise EditError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (OSError, EOFError, zlib.error) as error:
        raise EditError(f"{name}: cannot be read ({error})") from None
    if not prompts:
        raise EditError(f"{name} holds no prompts: one per line is expected")
    return prompts


def _prompt(value: object, where: str) -> Prompt:
    if isinstance(value, dict):
        if "prompt" not in value:
            raise EditError(f"{where}: no prompt (fields found: {', '.join(value) or 'none'})")
        value = value["prompt"]
    try:
        return check_prompt(value)
    except EditError as error:
        raise EditError(f"{where}: {error}") from None
