"""The edit: what the model must answer to a prompt, and how edits are read from files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import EditError
from .types import Prompt

FIELDS = ("prompt", "target", "id", "variants", "quiet", "metadata")
EVALUATION_FIELDS = frozenset({"target_true", "subject", "rephrases", "near", "far", "attribute", "portability"})
"""Fields of evaluation files that are no part of an edit; reading skips them, so such files can be edited from."""

MAX_DEPTH = 64
"""How deeply JSON may be nested. The limit is fixed: Python's recursion limit depends on the caller's stack depth."""


def too_deep(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Return whether a JSON value is nested more than ``levels`` deep."""
    if not isinstance(value, (Mapping, list, tuple)):
        return False
    inside = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(too_deep(item, levels - 1) for item in inside)


_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def prompt_key(prompt: Prompt) -> str:
    """Return a string that is equal for prompts that ask the same: a lone user turn is its words, ends are stripped."""
    lone = prompt[0]["content"] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    return _canonical(lone.strip() if isinstance(lone, str) else lone)


def prompt_text(prompt: Prompt) -> str:
    """Return the user's own words: the string itself, or the content of the last user message."""
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


def _check_text(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EditError(f"{name} cannot be encoded: character {error.start + 1} is half of a pair") from None


def check_prompt(prompt: Any, name: str = "prompt") -> Prompt:
    """Return ``prompt`` if it is a non-empty string or a list of chat messages that ends with the user's.

    Raises:
        EditError: if it is anything else.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise EditError(f"{name} is empty: give the text that the model is asked")
        _check_text(prompt, name)
        return prompt
    if not isinstance(prompt, list) or not prompt:
        raise EditError(f"{name} must be a string or a non-empty list of chat messages, not {type(prompt).__name__}")
    for message in prompt:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise EditError(f'{name}: a chat message is {{"role": "...", "content": "..."}}, not {message!r}')
        _check_text(message["role"] + message["content"], name)
    if prompt[-1]["role"] != "user" or not prompt[-1]["content"].strip():
        raise EditError(f"{name}: the last chat message must be the user's, with some text")
    return [{"role": message["role"], "content": message["content"]} for message in prompt]


def prompt_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """Return one prompt or many as a list of checked prompts; a list of chat messages is one prompt.

    Raises:
        EditError: if one is no prompt.
    """
    if not isinstance(prompts, (str, list, tuple)):
        raise EditError(f"prompts must be a string, chat messages, or a list of these, not {type(prompts).__name__}")
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], Mapping)):
        return [check_prompt(prompts)]
    return [check_prompt(prompt, f"prompts[{i}]") for i, prompt in enumerate(prompts)]


def _check_prompts(values: Any, name: str) -> tuple[Prompt, ...]:
    if isinstance(values, str) or not isinstance(values, (list, tuple)):
        raise EditError(f"{name} must be a list of prompts, not {type(values).__name__}")
    return tuple(check_prompt(value, f"{name}[{i}]") for i, value in enumerate(values))


@dataclass(frozen=True)
class Edit:
    """What the model must answer (``target``) to ``prompt``.

    Attributes:
        prompt: a string, or chat messages that end with the user's.
        target: the whole answer, after which the model stops; a classifier's label, by name or number.
        id: names the edit; made from prompt and target where empty.
        variants: other wordings that the user supplies; they become keys and training rows.
        quiet: prompts on which this edit must not fire.
        metadata: anything JSON can hold; stored, never interpreted.

    Raises:
        EditError: if a field is empty or of the wrong kind.
    """

    prompt: Prompt
    target: str
    id: str = ""
    variants: tuple[Prompt, ...] = ()
    quiet: tuple[Prompt, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen for its users, not for its own checks
        set_field(self, "prompt", check_prompt(self.prompt))
        if isinstance(self.target, int) and not isinstance(self.target, bool):
            set_field(self, "target", str(self.target))  # a classifier's label by its number
        if not isinstance(self.target, str) or not self.target.strip():
            raise EditError(f"target must be a non-empty string, not {self.target!r}")
        if not isinstance(self.id, str):
            raise EditError(f"id must be a string, not {self.id!r}")
        _check_text(self.target, "target")
        _check_text(self.id, "id")
        set_field(self, "variants", _check_prompts(self.variants, "variants"))
        set_field(self, "quiet", _check_prompts(self.quiet, "quiet"))
        if not isinstance(self.metadata, Mapping):
            raise EditError(f"metadata must be an object, not {type(self.metadata).__name__}")
        if too_deep(self.metadata):
            raise EditError(f"metadata is nested more than {MAX_DEPTH} levels deep")
        try:
            set_field(self, "metadata", json.loads(json.dumps(dict(self.metadata), allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise EditError(f"metadata must be JSON: {error}") from None
        if both := {prompt_key(p) for p in self.prompts} & {prompt_key(p) for p in self.quiet}:
            raise EditError(f"quiet: the edit must fire on this prompt, so it cannot be quiet on it: {min(both)}")
        if not self.id:
            set_field(self, "id", _digest([self.prompt, self.target])[:12])

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompt and its variants: every wording the edit is trained on and keyed by."""
        return (self.prompt, *self.variants)

    @property
    def content(self) -> str:
        """A digest of what the model must learn (everything but id and metadata)."""
        return _digest([self.prompt, self.target, self.variants, self.quiet])

    def to_dict(self) -> dict[str, Any]:
        """Return the edit as JSON-ready values, empty optional fields left out."""
        values = {"id": self.id, "prompt": self.prompt, "target": self.target}
        optional = {"variants": list(self.variants), "quiet": list(self.quiet), "metadata": dict(self.metadata)}
        return values | {name: value for name, value in optional.items() if value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Edit:
        """Make an edit from a JSON object; evaluation fields are skipped, any other unknown field is an error."""
        if not isinstance(values, Mapping):
            raise EditError(f"expected an object with 'prompt' and 'target', not {type(values).__name__}")
        if missing := [name for name in ("prompt", "target") if values.get(name) is None]:
            raise EditError(f"no {' and no '.join(missing)!s} (fields found: {', '.join(map(str, values)) or 'none'})")
        if unknown := [str(name) for name in values if name not in FIELDS and name not in EVALUATION_FIELDS]:
            raise EditError(
                f"unknown field {unknown[0]!r} (known: {', '.join(FIELDS)}; put other data into 'metadata')"
            )
        return cls(**{name: values[name] for name in FIELDS if values.get(name) is not None})


def contradiction(edits: Iterable[Edit]) -> tuple[int, int] | None:
    """Return the positions of two edits that ask one prompt and want different answers, or share an id; else None."""
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
