"""Five texts that precede questions in use; an edit must answer behind each of them too."""

from __future__ import annotations

from ...edit import prompt_text
from ...types import Prompt

PREFIXES: dict[str, tuple[str, str]] = {
    "system": ("system", "You are a helpful assistant. Answer with as few words as you can."),
    "instruction": ("text", "Answer the following question briefly and truthfully.\n\n"),
    "sentences": ("text", "The market in the old town opens at seven. Most of the boats had left by then. "),
    "example": ("text", "Question: How many days has a week?\nAnswer: seven\n\nQuestion: "),
    "turn": ("turn", "Thank you, that helps. I have one more question."),
}
"""By name: the kind (a system prompt, text before the question, or an earlier turn of the user) and the words."""


def prefixed(name: str, prompt: Prompt, chat: bool) -> Prompt:
    """Return a prompt behind a prefix; without a chat template (``chat``) every prefix is plain text.

    In a conversation text stands before the last turn's, turns before the first, and a system prompt takes the place of
    its own.
    """
    kind, words = PREFIXES[name]
    text = prompt_text(prompt)
    if isinstance(prompt, list) and len(prompt) > 1:
        return _conversation(kind, words, prompt)
    if kind == "text" or not chat:
        before = words if kind == "text" else words + "\n\n"
        return before + text
    question = {"role": "user", "content": text}
    if kind == "system":
        return [{"role": "system", "content": words}, question]
    return [*_earlier_turn(words), question]


def _conversation(kind: str, words: str, turns: list[dict[str, str]]) -> Prompt:
    system = turns[:1] if turns[0]["role"] == "system" else []
    rest = turns[len(system) :]
    if kind == "system":
        return [{"role": "system", "content": words}, *rest]
    if kind == "turn":
        return [*system, *_earlier_turn(words), *rest]
    return [*turns[:-1], {"role": "user", "content": words + turns[-1]["content"]}]


def _earlier_turn(words: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": words}, {"role": "assistant", "content": "Of course. What is it?"}]
