"""Noise: how people type. It goes on both sides of a pair and on pairs of both kinds, so that it means nothing."""

from __future__ import annotations

import random
import re

_KEYS = {
    "a": "sqz", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "r": "et", "s": "ad", "t": "ry", "u": "yi",
    "v": "cb", "w": "eq",
}  # fmt: skip
POLITE = (
    "please tell me: ", "hi, ", "hello! ", "quick question: ", "sorry, ", "could you tell me - ", "hey, ",
    "hi there. ", "one more thing: ", "just wondering, ", "good morning, ", "Dear team, ", "question: ",
    "urgent: ", "thanks in advance! ",
)  # fmt: skip
ENDS = (" thanks", " please", " thx", "??", " Thank you.", " Cheers!", " pls", "!", " asap")


def typo(text: str, rng: random.Random) -> str:
    """Return a text with one letter doubled, dropped, swapped or mistyped, in a word of five letters or more."""
    words = [m for m in re.finditer(r"[^\W\d_]{5,}", text)]
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    kind, letter = rng.random(), text[at]
    if kind < 0.3:
        return text[:at] + text[at + 1] + letter + text[at + 2 :]
    if kind < 0.55:
        return text[:at] + text[at + 1 :]
    if kind < 0.75:
        return text[:at] + letter + text[at:]
    return text[:at] + rng.choice(_KEYS.get(letter.lower(), letter)) + text[at + 1 :]


def noisy(text: str, rng: random.Random) -> str:
    """Return a text as somebody might type it."""
    kind = rng.random()
    if kind < 0.55:
        return text
    if kind < 0.68:
        text = text.lower().rstrip("?.!？。 ")
    elif kind < 0.75:
        text = text.rstrip("?.!？。 ")
    elif kind < 0.78:
        text = text.upper()
    elif kind < 0.84:
        text = rng.choice(POLITE) + text
    elif kind < 0.88:
        text = text + rng.choice(ENDS)
    elif kind < 0.90:
        text = text.title()
    return typo(text, rng) if rng.random() < 0.25 or kind >= 0.90 else text
