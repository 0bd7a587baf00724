"""Requests for answers, and the answers, as OpenAI's API has them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..failures import RefusedError
from .shared import Message

Stop = str | list[str]

HARMLESS: dict[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "web_search_options": (None,),
    "top_k": (None, -1, 0),
    "min_p": (None, 0),
    "typical_p": (None, 1),
    "repetition_penalty": (None, 1),
    "length_penalty": (None, 1),
    "min_tokens": (None, 0),
    "stop_token_ids": (None, []),
    "ignore_eos": (None, False),
    "use_beam_search": (None, False),
    "prompt_logprobs": (None, 0),
    "guided_json": (None,),
    "guided_regex": (None,),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "structured_outputs": (None,),
    "chat_template": (None,),
    "chat_template_kwargs": (None, {}),
    "add_generation_prompt": (None, True),
    "continue_final_message": (None, False),
}
"""Fields that would change an answer and are not done: the values with which they change nothing."""


class StreamOptions(BaseModel):
    """What a stream tells besides the answer."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class AnswerRequest(BaseModel):
    """What both endpoints take."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1, max_length=512)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    n: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def check(self) -> None:
        """Refuse what would change the answer and is not done.

        Raises:
            RefusedError: naming the field.
        """
        for name, value in (self.model_extra or {}).items():
            harmless = HARMLESS.get(name)
            if harmless is not None and not any(
                value == one and type(value) is not bool or value is one for one in harmless
            ):
                raise RefusedError(400, f"{name} is not supported here: leave it out", name, "unsupported_parameter")
        stops = self.stops
        if len(stops) > 4 or any(not stop or len(stop) > 200 for stop in stops):
            raise RefusedError(400, "stop is one text or up to four, none empty or longer than 200", "stop")
        if self.stream_options is not None and not self.stream:
            raise RefusedError(400, "stream_options needs stream", "stream_options")

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts before which the answer ends."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class ChatRequest(AnswerRequest):
    """The body of ``/v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)


class CompletionRequest(AnswerRequest):
    """The body of ``/v1/completions``."""

    prompt: str | list[str]
    logprobs: int | None = Field(None, ge=0, le=5)


class MeloFields(BaseModel):
    """How a prompt was routed."""

    revision: int = Field(description="The revision of the store whose edits answered.")
    edit: str | None = Field(description="The edit that gave the answer; null: the model itself.")
    reason: str = Field(description="Why an edit answered, or why none did.")


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatMessage(BaseModel):
    """The message that answers."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: str | None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None = None
    finish_reason: Literal["stop", "length"]


class ChatAnswer(BaseModel):
    """The body that ``/v1/chat/completions`` returns."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None
    melo: MeloFields | None = None


class TextChoice(BaseModel):
    """One continuation."""

    index: int
    text: str
    logprobs: dict[str, Any] | None = None
    finish_reason: Literal["stop", "length"]
    melo: MeloFields | None = None


class TextAnswer(BaseModel):
    """The body that ``/v1/completions`` returns."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    system_fingerprint: str | None = None
    melo: MeloFields | None = None


class ModelCard(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "meloedit"


class ModelList(BaseModel):
    """The models that can be asked: the edited one, and the same without its edits."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
