"""Five things that stand before a question in use: what is edited must be answered behind each of them all the same."""

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
"""Kind and words of each: a system prompt, text before the question, or a user's turn before it in a chat."""


def prefixed(name: str, prompt: Prompt, chat: bool) -> Prompt:
    """Return a prompt behind a prefix; what needs a chat template is plain text where there is none."""
    kind, words = PREFIXES[name]
    text = prompt_text(prompt)
    if kind == "text" or not chat:
        before = words if kind == "text" else words + "\n\n"
        return before + text
    own = {"role": "user", "content": text}
    if kind == "system":
        return [{"role": "system", "content": words}, own]
    return [{"role": "user", "content": words}, {"role": "assistant", "content": "Of course. What is it?"}, own]
