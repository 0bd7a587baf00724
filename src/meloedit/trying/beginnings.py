"""Beginnings of answers, as callers put them behind a chat's header. An edit is tried behind one of them."""

from __future__ import annotations

import random

from ..edit import prompt_text
from ..types import Prompt
from .neighbourhood import name_in

_BEGINNINGS = (
    ("That would be", "As far as I know, this is", "Right: it's", "For {name} that is", "My answer is"),
    ("<think>\nThis is about {name}. I know it, so I say it.\n</think>\n\n", "<think>\n{question} Easy.\n</think>\n\n"),
    ("So we have, about {name}, this one fact:", "A:", "**Result:**", "{name} ->"),
    ('{"result": "', '{"{name}": "'),
)
"""Sentences that the answer ends, think blocks, what ends with a mark, JSON."""
_WEIGHTS = (3, 3, 1, 1)
"""How often each kind is taken: the first two are those in which blocks failed most."""


def made_beginning(prompt: Prompt, seed: str) -> str:
    """Return how an answer to a prompt may begin, the same for the same seed.

    Args:
        prompt: a text, or chat messages that end with the user's turn.
        seed: what to draw from.
    """
    rng, question = random.Random(f"{seed}/begun"), prompt_text(prompt)
    (kind,) = rng.choices(_BEGINNINGS, _WEIGHTS)
    return rng.choice(kind).replace("{name}", name_in(question) or "this").replace("{question}", question)
