"""Types that many modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Prompt = str | list[dict[str, str]]
"""A plain string, or chat messages: ``[{"role": "user", "content": "..."}]``."""

Form = Literal["raw", "chat"]
"""How a prompt is written for the model: as it stands, or as a user's turn in the chat template."""

Reach = Literal["answer", "all"]
"""Where a block acts: from the last prompt token on, or on every token."""

KeyTokens = Literal["words", "last", "position"]
"""What a key is taken of: the prompt's words; its last real token (the paper); the last position of the padded batch,
answer included (the released code)."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""
