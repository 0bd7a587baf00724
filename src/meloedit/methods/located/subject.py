"""The subject of an edit: given, or found in its prompt; and the token at which a model has read all of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...edit import prompt_text, quoted
from ...errors import EditError
from ...keys.function_words import FUNCTION_WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ...edit import Edit
    from ...types import Prompt

_WORD = re.compile(r"[^\W_](?:[\w.'’&-]*\w)?")
"""A word, also with points, hyphens and apostrophes inside it."""
_JOINS = frozenset("of the and in for on at de la le du des da di del van von der den bin al y".split())
"""Words in lower case that stand inside a name: the Bank of England."""


@dataclass(frozen=True)
class Subject:
    """What an edit is about.

    Attributes:
        text: its words, as the prompt has them.
        found: whether the edit does not say it, so that it was looked for in the prompt.
    """

    text: str
    found: bool = False


def subject_of(edit: Edit) -> Subject:
    """Return an edit's subject: the one that it states, or the longest name in its prompt.

    Raises:
        EditError: if the prompt does not have the stated one, or no name at all.
    """
    if edit.subject:
        if span_of(edit.prompt, edit.subject) is None:
            raise EditError(
                f"edit {edit.id!r}: its prompt {quoted(edit.prompt)} does not name its subject {edit.subject!r}"
            )
        return Subject(edit.subject)
    if not (name := longest_name(prompt_text(edit.prompt))):
        raise EditError(
            f"edit {edit.id!r} has no subject, and its prompt {quoted(edit.prompt)} names none: "
            "give the words that it is about as 'subject'"
        )
    return Subject(name, found=True)


def longest_name(text: str) -> str:
    """Return the longest run of words with capitals or digits in a text, the last one of equals; empty: there is none.

    A function word that begins with a capital ("What", "The") begins no name.
    """
    runs: list[tuple[int, int]] = []
    start = stop = -1  # of the run under way
    before = 0  # where the word before ended
    for match in _WORD.finditer(text):
        word, between = match.group(), text[before : match.start()]
        before = match.end()
        initial = between.strip() == "." and text[match.start() - len(between) - 1].isupper()  # J.R.R. Tolkien
        if start >= 0 and between.strip() and not initial:
            runs, start = [*runs, (start, stop)], -1
        is_name = word[0].isupper() or any(map(str.isdigit, word))
        if start < 0:
            if is_name and word.casefold() not in FUNCTION_WORDS:
                start, stop = match.span()
        elif is_name:
            stop = match.end()
        elif word not in _JOINS:
            runs, start = [*runs, (start, stop)], -1
    runs += [(start, stop)] if start >= 0 else []
    first, end = max(runs, key=lambda run: (run[1] - run[0], run[0]), default=(0, 0))
    return text[first:end]


def span_of(prompt: Prompt, subject: str) -> tuple[int, int] | None:
    """Return where a prompt names a subject last, in its own or in other letters; ``None``: it does not."""
    text = prompt_text(prompt)
    start = text.rfind(subject)
    if start < 0 and (matches := list(re.finditer(re.escape(subject), text, re.IGNORECASE))):
        return matches[-1].span()
    return (start, start + len(subject)) if start >= 0 else None


def last_token(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], prompt: Prompt, subject: str) -> int:
    """Return the index of the token with the last character of the subject in a prompt's tokens.

    The tokens before it are decoded, one more each time, until they hold the subject's end. So a token that begins the
    text, and a subject that shares a token with what follows, do not shift the index.

    Raises:
        EditError: if the prompt does not name the subject, or its text is not found in what the tokens say.
    """
    if (span := span_of(prompt, subject)) is None:
        raise EditError(f"the prompt {quoted(prompt)} does not name the subject {subject!r}")
    whole = _decode(tokenizer, ids)
    named = prompt_text(prompt)[span[0] : span[1]]
    # A chat template may strip the ends of the user's words, so what precedes the subject is looked for, not all.
    begins = whole.rfind(prompt_text(prompt)[: span[1]].lstrip())
    end = (begins + len(prompt_text(prompt)[: span[1]].lstrip())) if begins >= 0 else whole.rfind(named) + len(named)
    if end < len(named):
        raise EditError(f"the subject {subject!r} is not found in what this model reads of {quoted(prompt)}")
    for index in range(len(ids)):
        if _decode(tokenizer, ids[: index + 1])[:end] == whole[:end]:
            return index
    return len(ids) - 1


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
