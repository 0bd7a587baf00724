"""Contexts: beginnings of texts that the model itself writes; an edit's prompt is learned behind each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ...backbones.contexts import own_run
from ...training.trainer import seeded

if TYPE_CHECKING:
    from ...backbones.causal import CausalBackbone

LIKELIEST = 5
"""Tokens of which one is drawn at each step, as in the authors' ``generate_fast``."""


def written_contexts(backbone: CausalBackbone, starts: Sequence[str], length: int, count: int, seed: int) -> list[str]:
    """Return texts that the model writes, each followed by a full stop and a blank.

    Args:
        backbone: the model.
        starts: what the texts begin with, in turn; an empty one is the token that begins a text.
        length: tokens of a text, those of its beginning among them.
        count: how many texts.
        seed: seed of what is drawn.
    """
    tokenizer = backbone.tokenizer
    opening = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else backbone.stop_ids[0]
    generator = seeded(seed, length, "contexts")
    texts = []
    for i in range(count):
        start = starts[i % len(starts)]
        ids = list(tokenizer(start)["input_ids"]) if start else [opening]
        while len(ids) < length:
            with own_run(backbone.model):
                logits = backbone.model(input_ids=torch.tensor([ids], device=backbone.device)).logits[0, -1]
            best = logits.float().topk(LIKELIEST)
            drawn = torch.multinomial(best.values.softmax(0).cpu(), 1, generator=generator)
            ids.append(int(best.indices[int(drawn)]))
        texts.append(" ".join(backbone.decode(ids).split()) + ". ")
    return texts
