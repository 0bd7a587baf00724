"""Near prompts that ask the edit's own question in other words, told by their words alone."""

from __future__ import annotations

import re

from ....edit import prompt_text
from ....keys.names import words_of
from ....types import Prompt
from ..task import Item

X = "X"
"""What stands for the subject."""


def question_about(text: str, subject: str) -> str:
    """Return the end of a text from the sentence that first names the subject on, with the subject as X."""
    masked = re.sub(re.escape(subject), X, text, flags=re.IGNORECASE)
    head, mark, rest = masked.partition(X)
    start = max(head.rfind(end) for end in (". ", "? ", "\n"))
    return head[start + 1 :].lstrip() + mark + rest


def asks_own_question(item: Item, near: Prompt) -> bool:
    """Return whether a near prompt asks the question of its edit.

    It does if it names the edit's subject and each of its words, the subject aside and from the sentence that first
    names it on, is a word of the edit's prompt or of a rephrasing. An item without a subject has no such prompts.
    """
    text, subject = prompt_text(near), item.subject
    if not subject or subject.casefold() not in text.casefold():
        return False
    known = set().union(*(words_of(prompt_text(prompt)) for prompt in (item.edit.prompt, *item.rephrases)))
    return words_of(question_about(text, subject).replace(X, "")) <= known
