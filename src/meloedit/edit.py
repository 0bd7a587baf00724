"""Edit: a prompt and the answer that the model must give to it, with the checks that every edit passes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .callers.arguments import shown
from .errors import EditError
from .messages import begun, check_text, question, read_messages, up_to_question
from .text import fields_found, plain, shorten
from .types import Prompt

FIELDS = ("prompt", "target", "id", "variants", "quiet", "metadata", "over_tools", "subject")
"""The fields of an edit in a file, in the order in which messages list them."""
EVALUATION_FIELDS = frozenset({"target_true", "rephrases", "near", "far", "attribute", "portability"})
"""Fields that only evaluation uses. ``Edit.from_dict`` skips them, so evaluation files can be read as edits."""

SHOWN = 60
"""Characters of a prompt in a message."""
MAX_PROMPTS = 4096
"""Most wordings and quiet prompts of an edit, together."""
MAX_DEPTH = 64
"""How deeply JSON may be nested. The limit is fixed: Python's recursion limit depends on the caller's stack depth."""


def too_deep(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Return whether a JSON value is nested more than ``levels`` deep."""
    if not isinstance(value, (Mapping, list, tuple)):
        return False
    inside = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(too_deep(item, levels - 1) for item in inside)


def _twice(value: Any) -> str | None:
    """Return a name that two keys of an object, at any depth, have in JSON: 1 and "1"; ``None`` if there is none."""
    if not isinstance(value, (Mapping, list, tuple)):
        return None
    names = [_json_name(key) for key in value] if isinstance(value, Mapping) else []
    if len(set(names)) < len(names):
        return next(name for name in names if names.count(name) > 1)
    inside = value.values() if isinstance(value, Mapping) else value
    return next((name for item in inside if (name := _twice(item)) is not None), None)


def _json_name(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key) if isinstance(key, (int, float, type(None))) else repr(key)


_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def prompt_key(prompt: Prompt) -> str:
    """Return a string that is the same for equal prompts.

    White space at the ends does not count, nor does the chat format of a single message.
    """
    lone = prompt[0]["content"] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    return _canonical(lone.strip() if isinstance(lone, str) else lone)


def prompt_text(prompt: Prompt) -> str:
    """Return the user's text: the string itself, or that of the user's last turn."""
    return prompt if isinstance(prompt, str) else question(prompt)


def quoted(prompt: Prompt) -> str:
    """Return a prompt, or any text, in quotes and one short line, for messages."""
    return f'"{plain(shorten(prompt_text(prompt), SHOWN))}"'


def check_prompt(prompt: Any, name: str = "prompt") -> Prompt:
    """Return the prompt of an edit: a non-empty string, or a list of chat messages of which the user's is last.

    Messages come back in the form that ``read_messages`` gives them, so that contents in parts count as their text.

    Args:
        prompt: the value to check.
        name: what messages call it.

    Raises:
        EditError: if it is anything else.
    """
    checked = check_asked(prompt, name)
    if isinstance(checked, list) and (checked[-1]["role"] != "user" or not checked[-1]["content"].strip()):
        raise EditError(f"{name}: the last chat message must be the user's, with some text")
    return checked


def check_asked(prompt: Any, name: str = "prompt", leave_out: bool = False) -> Prompt:
    """Return a prompt that is asked: as ``check_prompt``, but the user's last turn may be empty.

    Results of tools may follow that turn, too, and the beginning of an answer of the assistant's, which the model goes
    on with. An empty one is left out.

    Args:
        prompt: the value to check.
        name: what messages call it.
        leave_out: leave parts of messages out that are no text, instead of refusing them.

    Raises:
        EditError: if it is anything else.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise EditError(f"{name} is empty: give the text that the model is asked")
        return check_text(prompt, name)
    if not isinstance(prompt, list) or not prompt:
        raise EditError(f"{name} must be a string or a non-empty list of chat messages, not {type(prompt).__name__}")
    messages = read_messages(prompt, name, leave_out)
    if begun(messages) and not messages[-1]["content"].strip() and "tool_calls" not in messages[-1]:
        messages = messages[:-1]
    roles = [message["role"] for message in messages]
    if "user" not in roles or roles[-1] not in ("user", "tool", "assistant"):
        raise EditError(
            f"{name}: the last chat message must be the user's, or behind the user's a tool's result, or the beginning "
            "of an answer"
        )
    if "tool_calls" in messages[-1]:
        raise EditError(f"{name}: the last chat message calls a tool: give the tool's result behind it")
    return messages


def prompt_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """Return one prompt or many that are asked, as a list of checked prompts; a list of chat messages is one prompt.

    Raises:
        EditError: if one of them is not a prompt.
    """
    if not isinstance(prompts, (str, list, tuple)):
        raise EditError(f"prompts must be a string, chat messages, or a list of these, not {type(prompts).__name__}")
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], Mapping)):
        return [check_asked(prompts)]
    return [check_asked(prompt, f"prompts[{i}]") for i, prompt in enumerate(prompts)]


def _check_prompts(values: Any, name: str) -> tuple[Prompt, ...]:
    if isinstance(values, str) or not isinstance(values, (list, tuple)):
        raise EditError(f"{name} must be a list of prompts, not {type(values).__name__}")
    return tuple(check_prompt(value, f"{name}[{i}]") for i, value in enumerate(values))


def _check_count(prompts: int) -> None:
    if prompts > MAX_PROMPTS:
        raise EditError(f"an edit has {MAX_PROMPTS:,} wordings and quiet prompts at most, not {prompts:,}")


def _check_metadata(metadata: Any) -> dict[str, Any]:
    """Return metadata as JSON has it."""
    if not isinstance(metadata, Mapping):
        raise EditError(f"metadata must be an object, not {type(metadata).__name__}")
    if too_deep(metadata):
        raise EditError(f"metadata is nested more than {MAX_DEPTH} levels deep")
    if (twice := _twice(metadata)) is not None:
        raise EditError(f"metadata has two keys that JSON writes as {twice!r}: rename one of them")
    try:
        return dict(json.loads(json.dumps(dict(metadata), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise EditError(f"metadata must be JSON: {error}") from None


@dataclass(frozen=True)
class Edit:
    """One correction: the answer (``target``) that the model must give to ``prompt``.

    Attributes:
        prompt: a string, or chat messages of which the user's is last.
        target: the whole answer, after which the model stops; for a classifier a label, by name or number.
        id: the name of the edit; if empty, it is computed from prompt and target.
        variants: other wordings of the prompt; the edit is trained on them and has keys for them, too.
        quiet: prompts on which the edit must not fire.
        metadata: any JSON object; stored, never interpreted.
        over_tools: whether the edit also answers where a tool's result stands behind its question.
        subject: what the prompt is about, in the prompt's words; some methods change the model where it is read.

    Raises:
        EditError: if a field is empty or of the wrong kind.
    """

    prompt: Prompt
    target: str
    id: str = ""
    variants: tuple[Prompt, ...] = ()
    quiet: tuple[Prompt, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    over_tools: bool = False
    subject: str = ""

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # a frozen dataclass can set its fields in no other way
        set_field(self, "prompt", check_prompt(self.prompt))
        if isinstance(self.target, int) and not isinstance(self.target, bool):
            set_field(self, "target", str(self.target))  # the number of a classifier's label
        if not isinstance(self.target, str) or not self.target.strip():
            raise EditError(f"target must be a non-empty string, not {shown(self.target)}")
        for name in ("id", "subject"):
            if not isinstance(getattr(self, name), str):
                raise EditError(f"{name} must be a string, not {shown(getattr(self, name))}")
        for name in ("target", "id", "subject"):
            check_text(getattr(self, name), name)
        set_field(self, "variants", _check_prompts(self.variants, "variants"))
        set_field(self, "quiet", _check_prompts(self.quiet, "quiet"))
        if not isinstance(self.over_tools, bool):
            raise EditError(f"over_tools must be true or false, not {self.over_tools!r}")
        _check_count(1 + len(self.variants) + len(self.quiet))
        set_field(self, "metadata", _check_metadata(self.metadata))
        if both := {prompt_key(p) for p in self.prompts} & {prompt_key(p) for p in self.quiet}:
            raise EditError(f"quiet: the edit must fire on this prompt, so it cannot be quiet on it: {min(both)}")
        if not self.id:
            set_field(self, "id", _digest([self.prompt, self.target])[:12])

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompt and its variants: every wording that the edit is trained on and has a key for."""
        return (self.prompt, *self.variants)

    @property
    def content(self) -> str:
        """A hash of what the model must learn: all fields but id, metadata and subject."""
        tools = ["over tools"] if self.over_tools else []
        return _digest([self.prompt, self.target, self.variants, self.quiet, *tools])

    def to_dict(self) -> dict[str, Any]:
        """Return the edit as JSON-ready values, without empty optional fields."""
        values = {"id": self.id, "prompt": self.prompt, "target": self.target}
        optional: dict[str, Any] = {"variants": list(self.variants), "quiet": list(self.quiet)}
        optional |= {"metadata": dict(self.metadata), "over_tools": self.over_tools, "subject": self.subject}
        return values | {name: value for name, value in optional.items() if value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Edit:
        """Make an edit from a JSON object; fields that only evaluation uses are skipped.

        A conversation may stand in ``messages`` instead of a prompt: up to the user's last turn it is the prompt.
        Without a target, the assistant's answer that ends it is the target.

        Raises:
            EditError: if prompt or target is missing, a field is unknown, or a value does not fit.
        """
        if not isinstance(values, Mapping):
            raise EditError(f"expected an object with 'prompt' and 'target', not {type(values).__name__}")
        values = _with_prompt(values)
        if missing := [name for name in ("prompt", "target") if values.get(name) is None]:
            raise EditError(f"no {' and no '.join(missing)!s} {fields_found(values)}")
        if unknown := [str(name) for name in values if name not in FIELDS and name not in EVALUATION_FIELDS]:
            raise EditError(
                f"unknown field {unknown[0]!r} (known: {', '.join(FIELDS)}; put other data into 'metadata')"
            )
        return cls(**{name: values[name] for name in FIELDS if values.get(name) is not None})


def _with_prompt(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an edit's values with prompt and target in place of ``messages``."""
    if values.get("messages") is None:
        return values
    if values.get("prompt") is not None:
        raise EditError("give prompt or messages, not both")
    if not isinstance(values["messages"], list):
        raise EditError(f"messages must be a list of chat messages, not {type(values['messages']).__name__}")
    messages = read_messages(values["messages"], "messages")
    read = {name: value for name, value in values.items() if name != "messages"}
    read["prompt"] = up_to_question(messages)
    if read.get("target") is None:
        if not messages or messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
            raise EditError("no target, and messages do not end with an answer of the assistant's that could be it")
        read["target"] = messages[-1]["content"]
    return read


def contradiction(edits: Iterable[Edit]) -> tuple[int, int] | None:
    """Return the positions of two edits that contradict each other; ``None`` if there are none.

    They do if they have a prompt in common and different targets, or an id in common and different contents.
    """
    targets: dict[str, tuple[int, str]] = {}
    contents: dict[str, tuple[int, str]] = {}
    for i, edit in enumerate(edits):
        first = contents.setdefault(edit.id, (i, edit.content))
        if first[1] != edit.content:
            return first[0], i
        for prompt in edit.prompts:
            first = targets.setdefault(prompt_key(prompt), (i, edit.target))
            if first[1] != edit.target:
                return first[0], i
    return None
