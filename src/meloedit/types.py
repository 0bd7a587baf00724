"""Types that many rooms use: prompts, the forms of a prompt, where blocks act, progress callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

Prompt = str | list[dict[str, Any]]
"""A plain string, or chat messages: ``[{"role": "user", "content": "..."}]``, as ``messages.read_messages`` returns."""

Form = Literal["raw", "chat"]
"""How a prompt is given to the model: as raw text, or as a user turn in the chat template."""

Reach = Literal["answer", "all"]
"""Where a block acts: ``answer``: from the last prompt token on; ``all``: on every token."""

KeyTokens = Literal["words", "last", "position"]
"""Which tokens make a key: ``words``: those of the user's text; ``last``: the prompt's last real token (the paper);
``position``: the last position of the padded batch, answer included (the released code)."""

Progress = Callable[[str, int, int], None]
"""A callback for long steps: the name of the step, how much of it is done, and how much there is."""


class Begun(NamedTuple):
    """An assistant's turn that a caller has begun.

    Attributes:
        ids: its tokens, behind the chat template's header and a think block.
        prompt: the text of all that stands before them.
    """

    ids: tuple[int, ...]
    prompt: str


class Asked(NamedTuple):
    """What somebody asks.

    Attributes:
        text: the text of the last user turn, or of a prompt that is no conversation.
        before: the texts of the turns before it, oldest first, the assistant's among them; system prompts are left out.
    """

    text: str
    before: tuple[str, ...] = ()
