"""Log probabilities in the two shapes of OpenAI's API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..running.choosing import Chosen

Decode = Callable[[Sequence[int]], str]


def _one(token: int, logprob: float | None, decode: Decode) -> dict[str, Any]:
    text = decode([token])
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}


def of_chat(chosen: Sequence[Chosen], decode: Decode) -> dict[str, Any]:
    """Return what ``/v1/chat/completions`` gives of the tokens of an answer, or of a piece of it."""
    content = [
        _one(one.token, one.logprob, decode)
        | {"top_logprobs": [_one(token, logprob, decode) for token, logprob in one.top]}
        for one in chosen
    ]
    return {"content": content, "refusal": None}


def of_text(chosen: Sequence[Chosen], decode: Decode, offset: int = 0) -> dict[str, Any]:
    """Return what ``/v1/completions`` gives of them.

    Args:
        chosen: the tokens.
        decode: turns tokens into text.
        offset: where the first one begins in the answer, in characters.
    """
    tokens = [decode([one.token]) for one in chosen]
    offsets = []
    for text in tokens:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": tokens,
        "token_logprobs": [one.logprob for one in chosen],
        "top_logprobs": [{decode([token]): logprob for token, logprob in one.top} for one in chosen],
        "text_offset": offsets,
    }
