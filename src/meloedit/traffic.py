"""Reading prompts: the traffic to calibrate on, or questions to ask."""

from __future__ import annotations

from pathlib import Path

from .edit import Prompt, _json_rows, _open_text, check_prompt
from .errors import EditError


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read prompts, one per line, from a file (``.gz`` too) or standard input (``-``).

    A line of a ``.txt`` file or of standard input is a prompt as it stands; of any other file, it is a JSON string, a
    list of chat messages, or an object with a ``prompt`` that is one of these.

    Raises:
        EditError: naming file and line, if a line is no prompt, or if there is none.
    """
    plain = str(path) == "-" or str(path).removesuffix(".gz").lower().endswith(".txt")
    name = "standard input" if str(path) == "-" else str(path)
    prompts: list[Prompt] = []
    try:
        with _open_text(path) as stream:
            if plain:
                prompts.extend(text.strip() for text in stream if text.strip())
            else:
                prompts.extend(_prompt(value, where) for where, value in _json_rows(stream, name))
    except UnicodeDecodeError as error:
        raise EditError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (OSError, EOFError) as error:
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
