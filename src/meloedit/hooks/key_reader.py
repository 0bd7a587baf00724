"""KeyReader: which tokens of a prompt make its key, and which sentences of it get keys besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..backbones.chat import Span
from ..edit import prompt_text, quoted
from ..errors import EditError
from ..keys.pooling import Pooling, span_weights, text_start
from ..keys.segments import Segmenter
from ..text import has_words
from ..types import Asked, Begun, KeyTokens, Prompt

if TYPE_CHECKING:
    from ..backbones.batch import Encoded
    from ..backbones.prompts import PromptReader


MAX_TURNS = 8
"""Turns before the last one that a prompt is read with."""


class KeyReader:
    """Knows which of a prompt's tokens make its key.

    Args:
        backbone: how the model's family reads prompts; a ``Backbone`` is one.
        key_tokens: ``words``: those of the user's words; ``last``: the last token (the paper); ``position``: the last
            position of the padded batch (the released code).
    """

    def __init__(self, backbone: PromptReader, key_tokens: KeyTokens = "words") -> None:
        self.backbone, self.key_tokens = backbone, key_tokens
        self._segmenter = Segmenter(backbone.tokenizer)

    @property
    def reads_text(self) -> bool:
        """Whether keys depend on the text of a prompt and of its sentences, beside its states."""
        return self.key_tokens == "words" and not self.backbone.documents

    def span(self, ids: Sequence[int]) -> Span:
        """Return the span of a prompt's tokens that its key is taken of; an empty one if the prompt has no words."""
        if self.key_tokens != "words":
            return Span(len(ids) - 1, len(ids), True)
        return self._worded(ids, self.backbone.user_span(ids))

    def _worded(self, ids: Sequence[int], span: Span) -> Span:
        if not self.reads_text or has_words(self._text(ids, span)):
            return span
        return Span(span.start, span.start, span.known)

    def worded(self, prompt: Prompt) -> Prompt:
        """Return an edit's prompt.

        Raises:
            EditError: if it has no words, and so reaches no edit.
        """
        if self.reads_text and not has_words(prompt_text(prompt)):
            raise EditError(f"{quoted(prompt)} has no letter and no digit: such a prompt reaches no edit, leave it out")
        return prompt

    def locate(self, encoded: Encoded) -> Encoded:
        """Return an encoded prompt with the span that its key is taken of."""
        if self.key_tokens != "words":
            return replace(encoded, span=self.span(encoded.ids))
        return replace(encoded, span=self._worded(encoded.ids, encoded.span))

    def segments(self, ids: Sequence[int], span: Span) -> list[Span]:
        """Return the spans of the sentences and lines of a prompt's words, where there are several that have words."""
        if not self.reads_text:
            return []
        spans = [Span(start, stop, span.known) for start, stop in self._segmenter(ids, span.start, span.stop)]
        return [one for one in spans if has_words(self._text(ids, one))]

    def with_segments(self, encoded: Sequence[Encoded]) -> tuple[list[Encoded], list[int]]:
        """Return prompts, each followed by its segments as prompts of their own, and the prompt's number for each."""
        parts, rows = [], []
        for i, prompt in enumerate(map(self.locate, encoded)):
            segments = self.segments(prompt.ids, prompt.span)
            parts += [prompt, *(replace(prompt, span=span) for span in segments)]
            rows += [i] * (1 + len(segments))
        return parts, rows

    def asked(self, ids: Sequence[int], span: Span, before: Sequence[int] = ()) -> Asked:
        """Return what a prompt asks: the text of a span of its tokens, and the turns before it, the last ones.

        ``before``: tokens that stand before ``ids``.
        """
        whole = [*before, *ids[: span.start]]
        turns = self.backbone.turns_before(whole, len(whole)) if span.known else []
        texts = (self.backbone.decode(whole[start:stop]).strip() for start, stop in turns[-MAX_TURNS:])
        return Asked(self._text(ids, span), tuple(text for text in texts if text))

    def _text(self, ids: Sequence[int], span: Span) -> str:
        return self.backbone.decode(ids[text_start(span.start) : span.stop])

    def all_asked(self, encoded: Sequence[Encoded], rows: Sequence[int] | None = None) -> list[Asked]:
        """Return what prompts' spans ask; with ``rows`` from ``with_segments``, a segment has no turns before it."""
        whole = [rows is None or i == 0 or rows[i] != rows[i - 1] for i in range(len(encoded))]
        return [
            self.asked(prompt.ids, prompt.span) if first else self.segment(prompt.ids, prompt.span)
            for prompt, first in zip(encoded, whole, strict=True)
        ]

    def segment(self, ids: Sequence[int], span: Span) -> Asked:
        """Return the text of a sentence of a prompt, which is read by itself."""
        return Asked(self._text(ids, span))

    def after_tools(self, ids: Sequence[int]) -> bool:
        """Return whether a tool's result stands behind the question of a prompt."""
        return self.backbone.after_tools(ids)

    def begun(self, ids: Sequence[int]) -> Begun | None:
        """Return the answer that a caller has begun behind the template's header; ``None`` if there is none."""
        end = self.backbone.prompt_end(ids)
        if end is None or end >= len(ids):
            return None
        return Begun(tuple(ids[end:]), self.backbone.decode(ids[:end]))

    def weights(
        self, ids: Sequence[int], span: Span, columns: Sequence[int], length: int, pooling: Pooling | None
    ) -> Tensor:
        """Return the weights (p, length) of a span's tokens, which stand at ``columns`` of a row."""
        of_span = span_weights(ids, span.bounds, pooling)
        weights = torch.zeros(len(of_span), length, dtype=torch.float32)
        weights[:, columns[span.start : span.stop]] = of_span
        return weights
