"""PromptReader: how a model family reads texts and writes them as tokens. It needs a tokenizer and no model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...edit import Edit
from ...errors import EditError, ModelError
from ...types import Begun, Form, Prompt
from ..batch import Encoded, Example
from ..chat import BegunAnswer, ChatMarkers, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptReader(ABC):
    """Reads prompts with a tokenizer.

    Attributes:
        tokenizer: the tokenizer.
        documents: whether prompts are whole documents; then no prompt is a rephrasing of another.
        stop_ids: the tokens that end an answer.
        markers: the tokens by which the chat template marks turns; ``None`` without a template.
        max_length: the most tokens that a prompt may have, with its answer if that follows in one sequence;
            ``None``: no limit is known.
    """

    tokenizer: PreTrainedTokenizerBase
    documents = False
    stop_ids: list[int]
    markers: ChatMarkers | None = None
    max_length: int | None = None
    defaults: Mapping[str, Any] = {
        "judge": "built-in",
        "min_similarity": 0.55,
        "min_target_probability": 0.98,
        "answer_positions": 8,
        "rewordings": 4,
    }
    """Values of the settings that are ``None`` in ``MeloConfig``: each family has its best ones."""

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return ``prompt`` in every form in which a user may send it: raw, and in a chat if there is a template."""
        return [self.encode(prompt)]

    def with_lead_in(self, lead: str, prompt: Prompt) -> list[Encoded]:
        """Return the forms of ``prompt`` after the unrelated sentence ``lead``, as further training rows.

        The list is empty if the family does not train on such rows, or the prompt does not allow it.
        """
        return []

    @abstractmethod
    def encode(self, prompt: Prompt, form: Form | None = None) -> Encoded:
        """Tokenise a prompt.

        Raises:
            EditError: if the prompt has no tokens or too many, or the model has no such form.
        """

    @abstractmethod
    def user_span(self, ids: Sequence[int]) -> Span:
        """Return the span of the user's text in a prompt's tokens; the rest is the chat template's."""

    def prompt_end(self, ids: Sequence[int]) -> int | None:
        """Return where the prompt ends in ``ids``, which may contain an answer too; ``None`` if nothing shows it."""
        return None

    def after_tools(self, ids: Sequence[int]) -> bool:
        """Return whether a tool's result stands behind the user's last turn; never by default."""
        return False

    def place_in(self, target: str, begun: Begun) -> BegunAnswer:
        """Return where in a target an answer goes on that a caller has begun: at its beginning by default."""
        return BegunAnswer()

    @abstractmethod
    def encode_target(self, target: str, prompt: Encoded) -> list[int]:
        """Return the tokens that the model must answer to ``prompt``, the end token included; or the label's number.

        Raises:
            EditError: if the model cannot write the target, or prompt and target together are too long for it.
        """

    def row(self, target: str, prompt: Encoded, beginning: str = "") -> Example:
        """Return a prompt and its target as a row to train a block on.

        Args:
            target: the target.
            prompt: the prompt.
            beginning: the beginning of an answer behind it, in a chat.

        Raises:
            EditError: as ``encode_target`` does.
        """
        return Example.of(prompt, self.encode_target(target, prompt))

    def begins_bare(self, ids: Sequence[int], begun: bool) -> bool:
        """Return whether an answer behind these tokens begins without a blank, by default never.

        Args:
            ids: the tokens before it.
            begun: whether they are an answer that a caller has begun.
        """
        return False

    def first_places(self, target: str) -> tuple[int, int]:
        """Return the answer position of a target's first token: where it begins with a blank, and where it is bare."""
        return 0, 0

    def text_of(self, target: Sequence[int]) -> str:
        """Return the text of a target's tokens: the reverse of ``encode_target``."""
        return self.decode(target[:-1]).strip()

    def as_written(self, edit: Edit) -> Edit:
        """Return an edit with its target as the model writes it: a classifier's label by name."""
        return edit

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def turns_before(self, ids: Sequence[int], stop: int) -> list[tuple[int, int]]:
        """Return start and stop of the texts of a conversation's turns before the token ``stop``; none by default."""
        return []

    def _target_ids(self, target: str, text: str) -> list[int]:
        """Tokenise the ``text`` of a target, and check that the model can write it."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise EditError(f"the target {target!r} has no tokens in this model's vocabulary")
        if special := [token for token in ids if token in (*self.stop_ids, *self.tokenizer.all_special_ids)]:
            name = self.tokenizer.convert_ids_to_tokens(special[0])
            raise EditError(f"the target {target!r} has the special token {name!r}, which is not text: leave it out")
        if self.decode(ids).split() != target.split():
            raise EditError(
                f"this model's vocabulary cannot write the target {target!r}: it comes out as {self.decode(ids)!r}"
            )
        return list(ids)


def end_tokens(stops: int | Sequence[int] | None, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end an answer.

    Args:
        stops: the end tokens that the model's files state; ``None``: none are stated.
        tokenizer: its own end token counts then.

    Raises:
        ModelError: if there is none.
    """
    stops = tokenizer.eos_token_id if stops is None else stops
    stop_ids = [stops] if isinstance(stops, int) else list(stops or [])
    if not stop_ids:
        raise ModelError(
            "the model has no end-of-sequence token, so an answer cannot stop: set generation_config.eos_token_id"
        )
    return stop_ids
