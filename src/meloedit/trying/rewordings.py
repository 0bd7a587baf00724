"""Rewordings of a prompt that are made without a model. An edit is tried in them before it is said to hold."""

from __future__ import annotations

import random
import re

from ..edit import prompt_text
from ..keys.grammar import make_lead
from ..types import Prompt

_END = " \t\n.?!:;…。？！؟"
_FRAMES = (
    "Please tell me: {}",
    "I would like to know this: {}.",
    "{} Do you know?",
    "Hello! One question: {}?",
)


def _plain(text: str, rng: random.Random) -> str:
    """Return a text as it is typed in haste: in lower case, without the mark at its end."""
    return text.lower().rstrip(_END)


def _shortened(text: str, rng: random.Random) -> str:
    """Return a text without some of its short words, as a search is typed."""
    words = text.rstrip(_END).split()
    short = [i for i, word in enumerate(words) if len(word) <= 4 and word.islower()]
    dropped = set(rng.sample(short, (len(short) + 1) // 2))
    return " ".join(word for i, word in enumerate(words) if i not in dropped)


def _framed(text: str, rng: random.Random) -> str:
    """Return a text inside of some polite words."""
    frame = rng.choice(_FRAMES)
    return frame.format(text if frame.startswith("{}") else text.rstrip(_END))


def _led(text: str, rng: random.Random) -> str:
    """Return a text behind a sentence that it has nothing to do with."""
    return f"{make_lead(str(rng.random()))} {text}"


_WAYS = (_plain, _framed, _shortened, _led)


def made_rewordings(prompt: Prompt, count: int, seed: str) -> list[Prompt]:
    """Return up to ``count`` other wordings of a prompt, the same for the same seed.

    A conversation has its last turn reworded. A wording that says the prompt again is left out.

    Args:
        prompt: a text, or chat messages that end with the user's turn.
        count: how many to make; each is made in another way, as far as there are ways.
        seed: what to draw from.
    """
    text = prompt_text(prompt)
    made: dict[str, None] = {}
    first = random.Random(seed).randrange(len(_WAYS))
    for i in range(count):
        rng = random.Random(f"{seed}/{i}")
        reworded = _WAYS[(first + i) % len(_WAYS)](text, rng)
        if re.search(r"\w", reworded) and reworded != text:
            made[reworded] = None
    if isinstance(prompt, str):
        return list(made)
    return [[*prompt[:-1], {**prompt[-1], "content": one}] for one in made]
