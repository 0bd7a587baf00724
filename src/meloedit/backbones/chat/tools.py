"""Results of tools in rendered prompts: how a chat template writes them, read off the template itself."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

from ...messages import RESULTS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CALLS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<function_call>", "<|tool_call_begin|>")
"""What opens a tool call in the turns of the assistants that are in use."""
_RESULT, _ANOTHER = "xQmeloQxResult", "xQmeloQxOther"
_MARKS = "<[|`"
"""A mark has one of these: without them it could be words that somebody writes."""


def _call(name: str, value: str) -> dict[str, Any]:
    function = {"name": name, "arguments": {value: value}}
    # some templates refuse another length of an id
    call = {"id": "a1b2c3d4e", "type": "function", "function": function}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _result(name: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "a1b2c3d4e", "name": name, "content": text}


_QUESTION = {"role": "user", "content": "xQmeloQxFirst"}
_LOOPS = (
    [_QUESTION, _call("look_up", "xQa"), _result("look_up", _RESULT)],
    [_QUESTION, _call("find", "xQb"), _result("find", _RESULT)],
    [_QUESTION, {"role": "assistant", "content": "xQc"}, _result("find", _RESULT)],
    [_QUESTION, _call("find", "xQb"), _result("look_up", _ANOTHER), _result("find", _RESULT)],
)
"""The results of two calls, of a call written as text, and a second result."""


@dataclass(frozen=True)
class ToolMarks:
    """What stands before a tool's result in a rendered prompt.

    Attributes:
        mark: the text before every result, without white space; empty if the template takes none, or nothing tells
            them.
        opening: what a user's turn begins with that is a result, likewise; empty where results have their own turns.
    """

    mark: str
    opening: str

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, opener: str) -> ToolMarks:
        """Read the marks off a tokenizer's chat template, in which ``opener`` opens a user's turn."""
        befores = [before for loop in _LOOPS if (before := _before_result(tokenizer, loop))]
        if len(befores) < 2:  # with one alone, what it has in common with others is not known
            return cls("", "")
        behind = [before.rpartition(_QUESTION["content"])[2] for before in befores]
        of_user, _, opening = behind[0].rpartition(opener) if opener else ("", "", "")
        return cls(_mark(commonprefix([before[::-1] for before in behind])[::-1]), _mark(opening) if of_user else "")

    @property
    def have_turns(self) -> bool:
        """Whether results have turns of their own, or none, and a mark tells them."""
        return bool(self.mark) and not self.opening

    @property
    def width(self) -> int:
        """Characters in which a mark stands, at the beginning of a turn."""
        return 2 * max(map(len, (*RESULTS, self.opening)))

    def opens(self, text: str) -> bool:
        """Return whether a user's turn with this text is a tool's result."""
        return _close(text).startswith((*RESULTS, self.opening) if self.opening else RESULTS)

    def stands_in(self, text: str) -> bool:
        """Return whether a tool's result stands in what follows a user's turn."""
        return self.marks(text) or any(mark in _close(text) for mark in (*RESULTS, self.opening) if mark)

    def marks(self, text: str) -> bool:
        """Return whether a text has the mark of results that have turns of their own."""
        return self.have_turns and self.mark in _close(text)


def _close(text: str) -> str:
    """Return a text without white space: tokenizers decode it in several ways around special tokens."""
    return "".join(text.split())


def _mark(text: str) -> str:
    """Return the text before a result as a mark; empty if it could be words that somebody writes."""
    mark = _close(text).rstrip("\"'{:")  # which of these come depends on what the result is
    return mark if any(char in mark for char in _MARKS) else ""


def _before_result(tokenizer: PreTrainedTokenizerBase, loop: list[dict[str, Any]]) -> str:
    """Return what a template writes before the last result of a loop; empty if it refuses it or leaves it out."""
    try:
        text = str(tokenizer.apply_chat_template(loop, tokenize=False, add_generation_prompt=True))
    except Exception:  # a template is a program: it may raise anything
        return ""
    at = text.find(_RESULT)
    return text[:at] if at > 0 else ""
