"""What the commands are given: settings, edits, prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..edit import Edit
from ..errors import EditError
from ..readers import SourcedEdit, SourcedPrompt, read_edits
from ..types import Prompt


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
