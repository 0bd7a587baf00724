"""Invocation: the token from which PEFT's activated LoRA does what a block of reach ``answer`` does.

PEFT looks for the last place in a prompt where the invocation tokens stand, and lets the adapter act from the first of
them on. A block of reach ``answer`` acts from the last prompt token on. Both are the same where one token is given and
every prompt ends with it, which is so for chats: their template ends with the assistant's header.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import EditError, ModelError

if TYPE_CHECKING:
    from ..backbones import Backbone
    from ..edit import Edit

PROBES = ("Hello", "Is it late?", "Name a river.\nThen a lake. ")
"""Questions with which every template is asked, besides the edits' own."""


def invocation_token(backbone: Backbone, edits: Sequence[Edit]) -> int:
    """Return the token with which every chat ends, the edits' own prompts among them.

    Raises:
        ModelError: if there is no chat template, or chats end with different tokens: then no activated LoRA is exact.
    """
    if backbone.markers is None:
        raise ModelError("no activated LoRA is exact here: without a chat template prompts end with any token")
    ends: dict[int, object] = {}
    for prompt in (*PROBES, *(prompt for edit in edits for prompt in edit.prompts)):
        try:
            ends.setdefault(backbone.encode(prompt, "chat").ids[-1], prompt)
        except EditError as error:
            raise ModelError(f"no activated LoRA is exact here: a prompt is no chat ({error})") from None
    if len(ends) > 1:
        first, second = list(ends)[:2]
        raise ModelError(
            f"no activated LoRA is exact here: chats end with different tokens ({first} and {second} are two of them)"
        )
    return next(iter(ends))
