"""How decoder-only causal language models read prompts: prompt and answer in one sequence, raw or in a chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...edit import prompt_text
from ...errors import EditError
from ...messages import begun
from ...types import Begun, Form, Prompt
from ..batch import Encoded, Example
from ..chat import BegunAnswer, ChatMarkers, Span, opens_bare, place_in_answer, reason, user_span
from .reader import PromptReader, end_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class CausalPrompts(PromptReader):
    """The tokenizer of a decoder-only causal language model.

    Args:
        tokenizer: the tokenizer.
        stops: the tokens that end an answer, as the model's files state them; ``None``: the tokenizer's own.
        max_length: the most tokens that prompt and answer may have; ``None``: no limit is known.

    Raises:
        ModelError: if no token ends an answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stops: int | Sequence[int] | None = None,
        max_length: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.markers = ChatMarkers.of(tokenizer)
        self.stop_ids = end_tokens(stops, tokenizer)
        self.max_length = max_length

    def forms(self, prompt: Prompt) -> list[Encoded]:
        """Return ``prompt`` as given, and the same text in the other form if there is one.

        A string gives raw text and, if the tokenizer has a chat template, a user turn. Chat messages give the rendered
        chat and, if the user's turn is the only one beside system prompts, its text raw.
        """
        if isinstance(prompt, str):
            return [self.encode(prompt, "raw")] + ([self.encode(prompt, "chat")] if self.markers else [])
        alone = all(message["role"] == "system" for message in prompt[:-1])
        return [self.encode(prompt, "chat")] + ([self.encode(prompt[-1]["content"], "raw")] if alone else [])

    def with_lead_in(self, lead: str, prompt: Prompt) -> list[Encoded]:
        """Return the prompt's text after the sentence ``lead``, raw; nothing for a chat of several messages.

        Nothing either if the model does not take that many tokens.
        """
        if isinstance(prompt, list) and len(prompt) > 1:
            return []
        try:
            return [self.encode(f"{lead} {prompt_text(prompt)}", "raw")]
        except EditError:  # too long
            return []

    def encode(self, prompt: Prompt, form: Form | None = None) -> Encoded:
        """Tokenise a prompt; a string is raw unless ``form`` is ``chat``.

        Raises:
            EditError: if the prompt has no tokens or too many, or needs a chat template that the model lacks.
        """
        if form not in ("raw", "chat", None):
            raise EditError(f"form must be 'raw' or 'chat', not {form!r}")
        if form == "chat" or not isinstance(prompt, str):
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            if not getattr(self.tokenizer, "chat_template", None):
                raise EditError(
                    "chat messages, a system prompt or the chat form need a chat template; this model has none"
                )
            ids = self.tokenizer(self._rendered(messages), add_special_tokens=False)["input_ids"]
        else:
            ids = self.tokenizer(prompt)["input_ids"]
        if not ids:
            raise EditError(f"the prompt has no tokens: {prompt!r}")
        if self.max_length is not None and len(ids) >= self.max_length:
            raise EditError(f"the prompt has {len(ids)} tokens, the model takes {self.max_length}: shorten it")
        return Encoded(ids, self.user_span(ids), "raw" if form != "chat" and isinstance(prompt, str) else "chat")

    def _rendered(self, messages: list[dict[str, Any]]) -> str:
        """Return messages in the chat template, up to where the model goes on."""
        goes_on = begun(messages)
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=not goes_on, continue_final_message=goes_on
            )
        # A template is a program: a TypeError comes where a tool call is not as it expects it, a ValueError where it
        # changes the answer to go on with.
        except Exception as error:
            raise EditError(f"the model's chat template refuses this prompt: {reason(error)}") from None
        return str(text)

    def user_span(self, ids: Sequence[int]) -> Span:
        """Return the span of the user's text; of the whole prompt if no template shows it."""
        return user_span(ids, self.markers)

    def turns_before(self, ids: Sequence[int], stop: int) -> list[tuple[int, int]]:
        """Return start and stop of the texts of a conversation's turns before the token ``stop``."""
        return self.markers.turns_before(ids, stop) if self.markers else []

    def prompt_end(self, ids: Sequence[int]) -> int | None:
        """Return where the prompt ends and an answer begins, by the chat template; ``None`` if that does not show."""
        return self.markers.prompt_end(ids, self.user_span(ids).stop) if self.markers else None

    def after_tools(self, ids: Sequence[int]) -> bool:
        """Return whether a tool's result stands behind the user's last turn."""
        return self.markers is not None and self.markers.has_result(ids)

    def place_in(self, target: str, begun: Begun) -> BegunAnswer:
        """Return where in a target an answer goes on that a caller has begun."""
        return place_in_answer(
            begun,
            target.strip(),
            self._answer_end,
            lambda text: list(self.tokenizer(text, add_special_tokens=False)["input_ids"]),
            lambda ids: str(self.tokenizer.decode(list(ids))),
        )

    def encode_target(self, target: str, prompt: Encoded) -> list[int]:
        """Tokenise a target as the continuation of ``prompt``, with the token that ends the answer.

        After a raw prompt the answer begins with a space, unless the prompt already ends in white space.

        Raises:
            EditError: if the target has no tokens, or prompt and target together are too long for the model.
        """
        return self._encode_target(target, prompt, self._bare(prompt))

    def _encode_target(self, target: str, prompt: Encoded, bare: bool) -> list[int]:
        ids = self._target_ids(target, target.strip() if bare else " " + target.strip())
        if self.max_length is not None and (total := len(prompt.ids) + len(ids) + 1) > self.max_length:
            raise EditError(f"prompt and target have {total} tokens, the model takes {self.max_length}: shorten them")
        return [*ids, self._answer_end if prompt.form == "chat" else self.stop_ids[0]]

    def _bare(self, prompt: Encoded) -> bool:
        return prompt.form == "chat" or self.begins_bare(prompt.ids, begun=False)

    def row(self, target: str, prompt: Encoded, beginning: str = "") -> Example:
        """Return a prompt and its target as a row to train a block on; in a chat maybe behind a begun answer."""
        bare = self._bare(prompt)
        if beginning:
            ids = self.tokenizer(beginning, add_special_tokens=False)["input_ids"]
            bare, prompt = self.begins_bare(ids, begun=True), replace(prompt, ids=[*prompt.ids, *ids])
        row = Example.of(prompt, self._encode_target(target, prompt, bare))
        places, other = self.first_places(target), -1
        if beginning and places[0] == places[1]:
            other = self._encode_target(target, prompt, not bare)[0]
        return replace(row, place=places[bare], other=other)

    def begins_bare(self, ids: Sequence[int], begun: bool) -> bool:
        """Return whether an answer behind these tokens begins without a blank.

        It does behind white space and special tokens; in a begun answer as ``opens_bare`` says.
        """
        if begun:
            return opens_bare(str(self.tokenizer.decode(list(ids))))
        last = self.decode(ids[-1:])
        return not last or last[-1:].isspace()

    def first_places(self, target: str) -> tuple[int, int]:
        """Return the answer position of a target's first token: where it begins with a blank, and where it is bare.

        Where the blank is a token of its own, as before digits, all others have the same places both ways: or a block
        would have to say two tokens at one place, and digits come twice. Other targets begin at the first place.
        """
        text = target.strip()
        blank, bare = (list(self.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in (" " + text, text))
        return 0, len(blank) - len(bare) if blank[-len(bare) :] == bare else 0

    @property
    def _answer_end(self) -> int:
        """The token that ends an answer in a chat."""
        turn_end = self.markers.answer_end if self.markers else None
        return turn_end if turn_end in self.stop_ids else self.stop_ids[0]
