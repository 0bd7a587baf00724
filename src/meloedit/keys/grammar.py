"""A grammar that makes diverse user prompts, on which keys are fitted and the scope is calibrated.

The templates and word lists are in `data/grammar.json`; nothing in them comes from a data set. A template is a line of
text with these marks:

- `{name}`: an item of the list `name` or of `name*`, which lists patterns of invented names (they may have slots, too);
  where both lists exist, each is used half of the time;
- `{#a-b}`: a whole number from a to b;
- `<this/that>`: one of the alternatives;
- `a(n)`: the article that fits the next word;
- a final "?" or ".": a question or a request; a line without either is a text to complete;
- a leading "~": text as typed into a search box;
- a leading "|": a sentence that follows a question.

Templates are dealt like cards, each once before any comes again, so that no wording dominates a list of any length.
"""

import json
import random
import re
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from typing import Any, TypeVar

MAX_PROMPTS = 50_000
"""Most prompts of one list; in longer ones the wordings repeat too often to add anything."""

# Weights of the kinds of prompt. Relation questions weigh most: they come nearest to edits.
_SHARES = {"relation": 40, "search": 30, "statement": 12, "assistant": 12, "lead": 6}
_TRIES = 1000
T = TypeVar("T")
_SLOT = re.compile(r"\{([^{}]+)\}")
_CHOICE = re.compile(r"<([^<>]+)>")
_ARTICLE = re.compile(r"\b([Aa])\(n\) (\w+)")
# Beginnings that are written with a vowel and spoken with a consonant, and the reverse.
_SPOKEN_CONSONANT = ("uni", "use", "eu", "one", "uk")
_SPOKEN_VOWEL = ("hour", "honest", "heir", "8", "11", "18")
_OPENERS = (
    "Please tell me: ",
    "Tell me, ",
    "I was wondering, ",
    "Quick question: ",
    "Just curious, ",
    "Question: ",
    "Hi, ",
    "Hello! ",
    "Help me out here: ",
    "Please answer briefly: ",
    "Remind me, ",
    "One more thing: ",
    "Q: ",
)
_CLOSERS = (", please?", "? Thanks!", "? Answer in one sentence.", "? Thank you.", "? I forgot.", "? Please be brief.")


@cache
def _grammar() -> dict[str, Any]:
    """Read the templates and lists of the package."""
    return json.loads(resources.files(__package__).joinpath("data/grammar.json").read_text(encoding="utf-8"))


def _dealer(items: Iterable[T], rng: random.Random) -> Callable[[], T]:
    """Return a function that deals the items in random order, and shuffles again when none is left."""
    stock = list(items)
    hand: list[T] = []

    def deal() -> T:
        if not hand:
            hand.extend(rng.sample(stock, len(stock)))
        return hand.pop()

    return deal


def _pick(name: str, rng: random.Random) -> str:
    """Draw an item for a slot; slots in the item are not filled yet."""
    if name.startswith("#"):
        low, high = name[1:].split("-")
        return str(rng.randint(int(low), int(high)))
    lists = _grammar()["lists"]
    known, invented = lists.get(name), lists.get(name + "*")
    if known and invented:
        return rng.choice(invented if rng.random() < 0.5 else known)
    return rng.choice(known or invented)


def _fill(template: str, rng: random.Random, subject: str = "") -> str:
    """Fill every slot of a template, each with another text where the lists allow it.

    Args:
        template: the template.
        rng: the source of randomness.
        subject: the name of the list that the slot ``{x}`` is filled from.
    """
    seen: set[str] = set()

    def slot(match: re.Match[str]) -> str:
        name = subject if match[1] == "x" else match[1]
        for _ in range(20):
            text = _fill(_pick(name, rng), rng)
            if text not in seen:
                break
        seen.add(text)
        return text

    text = _CHOICE.sub(lambda match: rng.choice(match[1].split("/")), template)
    return _SLOT.sub(slot, text)


def _article(match: re.Match[str]) -> str:
    """Choose between "a" and "an" by the word that follows."""
    word = match[2].lower()
    vowel = word.startswith(_SPOKEN_VOWEL) or (word[0] in "aeiou" and not word.startswith(_SPOKEN_CONSONANT))
    return f"{match[1]}{'n' if vowel else ''} {match[2]}"


def _capital(text: str) -> str:
    """Put the first letter into upper case."""
    return text[:1].upper() + text[1:]


def _mistype(text: str, rng: random.Random) -> str:
    """Swap or drop one inner letter of a word of five letters or more."""
    words = list(re.finditer(r"[a-z]{5,}", text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 2)
    return text[:at] + (text[at + 1] + text[at] if rng.random() < 0.5 else text[at + 1]) + text[at + 2 :]


def _wrap(text: str, rng: random.Random) -> str:
    """Put a few polite or casual words before or after a question."""
    if rng.random() < 0.35:
        return text[:-1] + rng.choice(_CLOSERS)
    opener = rng.choice(_OPENERS)
    return opener + (text[:1].lower() + text[1:] if opener.endswith(", ") else text)


def _dress(template: str, text: str, kind: str, rng: random.Random) -> str:
    """Give a filled template case and punctuation, in one of the ways in which people type."""
    text = _ARTICLE.sub(_article, text)
    roll = rng.random()
    if kind in ("statement", "lead") or template[-1] not in ".?" and template[0] != "~" and kind != "search":
        if roll >= 0.12:
            return _capital(text)
        return text.lower() if kind == "lead" else text.lower().rstrip(".")
    if template[0] == "~":
        return text[1:].lower() if roll < 0.7 else text[1:]
    if kind == "assistant":
        return text.lower().rstrip(".?") if roll < 0.25 else _capital(text)
    if kind == "search" and template[-1] != "?":
        text += "?"
    if roll < 0.5 or not text.endswith("?"):
        return text.lower().rstrip(".?") if roll < 0.5 else _capital(text)
    # An opener such as "Tell me, " puts the next word in lower case, so that word must not be a name.
    if roll < 0.6 and template[0] not in "{<":
        return _wrap(_capital(text), rng)
    return _capital(text.rstrip("?") if roll < 0.66 else text) if roll < 0.95 else text.lower()


def make_prompts(count: int = 4000, seed: int = 0) -> list[str]:
    """Make distinct prompts, the same ones for the same seed; a longer list begins with the shorter one.

    Args:
        count: how many.
        seed: the seed.

    Raises:
        ValueError: if ``count`` is below 1, or more than the grammar can make.
    """
    if not 1 <= count <= MAX_PROMPTS:
        raise ValueError(f"the grammar makes between 1 and {MAX_PROMPTS} prompts, not {count}")
    rng = random.Random(seed)
    grammar = _grammar()
    relations = _dealer([(r["subject"], _dealer(r["wordings"], rng)) for r in grammar["relations"]], rng)
    deals = {kind: _dealer(lines, rng) for kind, lines in grammar["templates"].items()}

    def draw(kind: str) -> str:
        subject, deal = relations() if kind == "relation" else ("", deals[kind])
        template = deal()
        text = _dress(template, _fill(template, rng, subject), kind, rng)
        if kind == "lead" and text.startswith("|"):
            question = draw("search")
            return question + ("?" if question[-1].isalnum() else "") + text[1:]
        if kind == "lead":
            question = draw(rng.choice(("relation", "search")))
            # One person writes both sentences, so their case must agree.
            return f"{text} {question.lower() if text.islower() else question}"
        return _mistype(text, rng) if rng.random() < 0.02 else text

    prompts: list[str] = []
    seen: set[str] = set()
    tries = 0
    while len(prompts) < count:
        prompt = draw(rng.choices(list(_SHARES), list(_SHARES.values()))[0])
        # Prompts that differ only in case or punctuation are one question, and count once.
        bare = re.sub(r"\W+", " ", prompt.lower()).strip()
        words = prompt.count(" ") + 1
        if bare not in seen and 3 <= words <= 40:
            seen.add(bare)
            prompts.append(prompt)
            tries = 0
        elif (tries := tries + 1) > _TRIES:
            raise ValueError(f"the grammar has no more than {len(prompts)} distinct prompts, not {count}")
    return prompts


def make_pairs(count: int, seed: int = 0) -> list[tuple[str, str, int]]:
    """Make pairs of prompts that ask the same in two wordings.

    Returns:
        Triples of two prompts and the number of the relation that both ask for.
    """
    rng = random.Random(seed)
    relations = _dealer(list(enumerate(r for r in _grammar()["relations"] if len(r["wordings"]) > 1)), rng)
    pairs = []
    for _ in range(count):
        number, relation = relations()
        subject = _fill(f"{{{relation['subject']}}}", rng)
        first, second = (
            _dress(wording, _fill(wording.replace("{x}", subject), rng), "relation", rng)
            for wording in rng.sample(relation["wordings"], 2)
        )
        pairs.append((first, second, number))
    return pairs


def make_lead(seed: str) -> str:
    """Make a sentence to put before a question it has nothing to do with; the same one for the same seed."""
    rng = random.Random(seed)
    template = rng.choice([line for line in _grammar()["templates"]["lead"] if not line.startswith("|")])
    return _capital(_ARTICLE.sub(_article, _fill(template, rng)))
