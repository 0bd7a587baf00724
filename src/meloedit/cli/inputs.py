"""Turn what a command is given into edits and prompts, and name the line of a file that an error is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..edit import Edit, check_asked
from ..errors import EditError, ModelError
from ..readers import SourcedEdit, SourcedPrompt, read_edits, source_name
from ..types import Prompt


def edits_to_make(
    file: str | None,
    prompt: str | None,
    target: str | None,
    edit_id: str | None,
    variant: list[str] | None,
    quiet: list[str] | None,
    log: Path | None = None,
    line: int | None = None,
    over_tools: bool = False,
) -> list[SourcedEdit]:
    """Return the edits of a file, or the one edit that options describe; its prompt may stand in a line of a log.

    Raises:
        EditError: if both or neither are given, or they are no edits.
    """
    options: dict[str, object] = {"prompt": prompt, "target": target, "id": edit_id, "variant": variant}
    options |= {"quiet": quiet, "from-log": log, "line": line is not None, "over-tools": over_tools}
    given = [f"--{name}" for name, value in options.items() if value]
    if file is not None:
        if given:
            raise EditError(f"give a file or {given[0]}, not both")
        if not (sourced := read_edits(file)):
            raise EditError(f"{source_name(file)} holds no edits")
        return sourced
    if log is not None or line is not None:
        return [_logged_edit(prompt, target, edit_id, variant, quiet, log, line, over_tools)]
    if prompt is None or target is None:
        raise EditError("give a file of edits, or --prompt and --target")
    edit = Edit(prompt, target, edit_id or "", tuple(variant or ()), tuple(quiet or ()), over_tools=over_tools)
    return [SourcedEdit(edit, "")]


def _logged_edit(
    prompt: str | None,
    target: str | None,
    edit_id: str | None,
    variant: list[str] | None,
    quiet: list[str] | None,
    log: Path | None,
    line: int | None,
    over_tools: bool,
) -> SourcedEdit:
    """Return the edit of what a line of a log asked."""
    from ..oversight.log import logged_prompt

    if prompt is not None:
        raise EditError("give --prompt or --from-log, not both: the prompt is what the line asked")
    if log is None or line is None or target is None:
        raise EditError("--from-log LOG, --line N and --target TEXT belong together: give all three")
    asked, where = logged_prompt(log, line)
    try:
        wordings = tuple(variant or ()), tuple(quiet or ())
        return SourcedEdit(Edit(asked, target, edit_id or "", *wordings, over_tools=over_tools), where)
    except EditError as error:
        raise EditError(f"{where}: {error}") from None


def with_edit_line(error: EditError, sourced: Sequence[SourcedEdit]) -> EditError:
    """Return an error about an edit with the line of the file that the edit was read from."""
    places = [item.where for item in sourced if item.where and str(error).startswith(f"edit {item.edit.id!r}")]
    return EditError(f"{places[0]}: {error}") if places else error


def with_prompt_line(
    error: EditError, sourced: Sequence[SourcedPrompt], encode: Callable[[Prompt], object]
) -> EditError:
    """Return the error of the first prompt that cannot be encoded, with the line that the prompt was read from.

    Args:
        error: what to return if all prompts can be encoded.
        sourced: the prompts and where they were read.
        encode: raises an EditError for a prompt that the model cannot take.
    """
    for where, prompt in sourced:
        try:
            encode(prompt)
        except EditError as reason:
            return EditError(f"{where}: {reason}") if where else reason
    return error


def with_system(system: str, prompt: Prompt) -> Prompt:
    """Return a prompt as chat messages behind a system prompt."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [{"role": "system", "content": system}, *messages]


def with_prefill(prefill: str, prompt: Prompt) -> Prompt:
    """Return a prompt as chat messages before the beginning of an answer.

    Raises:
        EditError: if the prompt has such a beginning.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if messages[-1]["role"] == "assistant":
        raise EditError("--prefill: the prompt ends with the beginning of an answer: leave one of them out")
    return check_asked([*messages, {"role": "assistant", "content": prefill}])


def for_export_settings(given: Mapping[str, Any], settings: list[str], paper: bool) -> dict[str, Any]:
    """Return the settings of a store whose blocks are LoRAs.

    Raises:
        ModelError: if the options ask for others.
    """
    from ..adapters.exporting import FOR_EXPORT
    from ..settings import parse_setting

    if paper:
        raise ModelError("--for-export is of the default mode: leave out --paper and --preset")
    asked = {name: value for name, value in given.items() if value is not None} | dict(map(parse_setting, settings))
    for name, value in FOR_EXPORT.items():
        if asked.get(name, value) != value:
            raise ModelError(f"--for-export sets {name}={value}: leave {name}={asked[name]} out")
    return FOR_EXPORT
