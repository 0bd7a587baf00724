"""The memory of Transformer-Patcher: what a feed-forward is given in text that no patch should answer.

The authors take the questions and answers that their model was trained on. That text is not at hand for most models:
here it is a file of the user's, or the built-in questions. A decoder-only model reads a text, and each of its tokens
is a query. An encoder-decoder answers it, and each token of its own answer is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...backbones.batch import Encoded, Example, of_like_length
from ...backbones.contexts import own_run
from ...engine.answering import greedy
from ...errors import MeloEditError
from ...keys.grammar import make_prompts
from ..data_files import read_texts
from ..located.rows import stopping_after
from ..located.statistics import BUILT_IN
from .parts import predicting
from .places import Beside

if TYPE_CHECKING:
    from ...backbones.base import Backbone

WINDOW = 128
"""Tokens of a text that are read together."""
AT_ONCE = 32
"""Rows that are read in one pass."""
ANSWER = 8
"""Tokens of an encoder-decoder's answer that are read."""
GROUP = 64
"""Texts that are sorted by length together."""


def remembered(
    backbone: Backbone, beside: Beside, text: str, sizes: tuple[int, int], method: str
) -> tuple[Tensor, Tensor]:
    """Return two memories (M, d), one to train with and one to look at, of different tokens.

    If there are fewer tokens than asked for, both are smaller in proportion.

    Args:
        backbone: the unedited model.
        beside: the hooks of the feed-forward.
        text: a file of texts; empty: the prompts of the built-in grammar.
        sizes: how many tokens each memory has at most.
        method: the method's name, for errors.

    Raises:
        MeloEditError: if the file cannot be read, or has fewer than two tokens to remember.
    """
    texts = read_texts(text) if text else make_prompts(BUILT_IN)
    wanted, found, count = sum(sizes), list[Tensor](), 0
    for start in range(0, len(texts), GROUP):
        for states in _states(backbone, beside, _rows(backbone, texts[start : start + GROUP])):
            found.append(states)
            count += len(states)
            if count >= wanted:
                break
        if count >= wanted:
            break
    if count < 2:
        raise MeloEditError(f"method {method} finds no tokens to remember in {text or 'the built-in questions'}")
    states = torch.cat(found)[:wanted]
    first = sizes[0] if len(states) == wanted else min(len(states) - 1, max(1, len(states) * sizes[0] // wanted))
    return states[:first].clone(), states[first:].clone()


def _states(backbone: Backbone, beside: Beside, rows: Sequence[Example]) -> Iterator[Tensor]:
    """Yield the queries (T, d) of the rows' tokens."""
    for group in of_like_length(rows, AT_ONCE):
        part = [rows[i] for i in group]
        with own_run(backbone.model), stopping_after(beside.place.writer):
            backbone.target_logits(part)
        assert beside.given is not None, "the feed-forward has run"
        yield torch.cat(predicting(backbone, part, beside.given))


def _rows(backbone: Backbone, texts: Sequence[str]) -> list[Example]:
    """Return texts as rows whose "targets" are predicted by the tokens to remember; the first token is not."""
    if not backbone.answer_follows_prompt:
        return _answered(backbone, [backbone.encode(text) for text in texts])
    rows = []
    for text in texts:
        ids = list(backbone.tokenizer(text)["input_ids"])
        windows = [ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW)]
        rows += [Example(part[:2], [*part[2:], backbone.pad_id]) for part in windows if len(part) > 1]
    return rows


def _answered(backbone: Backbone, prompts: Sequence[Encoded]) -> list[Example]:
    """Return prompts with what the model answers to them."""
    settings = greedy(backbone) | {"max_new_tokens": ANSWER}
    rows = []
    for group in of_like_length([Example.of(prompt) for prompt in prompts], AT_ONCE):
        part = [prompts[i] for i in group]
        with own_run(backbone.model):
            answers = backbone.answer(backbone.pad([Example.of(one) for one in part]), settings)
        said = [(one, text) for one, (text, _) in zip(part, answers, strict=True) if text]
        rows += [Example.of(one, backbone.encode_target(text, one)) for one, text in said]
    return rows
