"""Begun answers: how much of a target an assistant's turn says already, where a caller began it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...results import Reason
from ...types import Begun
from .tools import CALLS

CLOSING = ".!* \n\t"
"""What may stand behind a whole target without saying more."""
QUOTES, OPENING = "\"'`*_", "([{<„“‘«/@#$€£"
"""What opens and closes something, and what opens something: no blank stands behind it."""
LAST_WITH_BLANKS = "\u2e7f"
"""The last character of scripts that part words by blanks; Chinese and Japanese come behind it."""
MORE_TOKENS = 8
"""Tokens that a begun answer may take beyond those of its target."""

Encode = Callable[[str], list[int]]
Decode = Callable[[Sequence[int]], str]


class BegunAnswer(NamedTuple):
    """Where a begun answer stands in a target.

    Attributes:
        given: tokens at the end of the prompt that say the target's beginning.
        rest: where that beginning stands behind a lead, or stops inside of a token of the target: the tokens that say
            what is left of the target, and its end token. No block was trained to go on there.
        place: how many of the target's tokens are said, where that beginning is all that is said.
        over: why the edit stays out: the whole target is said, and more behind it; or a tool is called.
    """

    given: int = 0
    rest: tuple[int, ...] = ()
    place: int = 0
    over: Reason | None = None


def place_in_answer(begun: Begun, target: str, end: int, encode: Encode, decode: Decode) -> BegunAnswer:
    """Return where the answer to a prompt begins in its target.

    Args:
        begun: what the prompt ends with.
        target: the target.
        end: the token that ends an answer.
        encode: returns the tokens of a text.
        decode: returns the text of tokens.
    """
    ids, whole = encode(target), decode(begun.ids)
    if whole.lstrip().startswith(CALLS):
        return BegunAnswer(over="tool call")
    # how many of the target's tokens say each of its beginnings, the fewest where several do
    places = {decode(ids[:k]).lstrip(): k for k in range(len(ids), 0, -1)}
    first = max(0, len(begun.ids) - len(target.encode()) - MORE_TOKENS)  # a token has a byte or more
    for start in range(first, len(begun.ids)):
        before = decode(begun.ids[:start])
        # decoders drop a blank at the beginning, so the end of the whole text tells more than the last tokens alone
        piece = whole[len(before) :] if whole.startswith(before) else decode(begun.ids[start:])
        said = piece.lstrip()
        joined = piece[:1].isalnum() and before[-1:].isalnum()
        if not said or joined:
            continue
        given, place = len(begun.ids) - start, places.get(said)
        if place is not None and not before.strip():
            return BegunAnswer(given, (), place)  # as in training
        if said.startswith(target) and not said[len(target) :].strip(CLOSING):
            return BegunAnswer(given, (end,), len(ids))
        if target.startswith(said):
            rest = _as_tokens(begun.ids, target[len(said) :], encode, decode)
            return BegunAnswer(given, (*rest, end), len(ids)) if rest else BegunAnswer(given, (), place or len(ids))
    said_before = re.search(rf"(?<!\w){re.escape(target)}(?!\w)", whole)
    # a target that the question names, too, may come in any lead
    return BegunAnswer(over="answer given" if said_before is not None and target not in begun.prompt else None)


def opens_bare(begun: str) -> bool:
    """Return whether what goes on behind the beginning of an answer has no blank before it."""
    last = begun[-1:]
    if last in QUOTES:
        return begun.count(last) // (2 if begun.endswith(2 * last) else 1) % 2 == 1  # it opens, and does not close
    return last.isspace() or last in OPENING or last > LAST_WITH_BLANKS


def _as_tokens(begun: Sequence[int], text: str, encode: Encode, decode: Decode) -> tuple[int, ...]:
    """Return the tokens that go on with a text behind others; none if the tokenizer cannot write it there."""
    whole = decode(begun) + text
    lead = encode("\n")  # behind it, a tokenizer puts no blank before a word
    for ids in (encode(text), encode("\n" + text)[len(lead) :]):
        if decode([*begun, *ids]) == whole:
            return tuple(ids)
    return ()
