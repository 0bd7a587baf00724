"""Made-up edits whose targets are of the kinds that must come out exactly: numbers, addresses, code, other scripts.

Every edit has two rewordings, which nothing is trained on. All is drawn from a seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import NamedTuple

from meloedit import Edit

from .target_words import FRAMES, SENTENCES, THINGS, WORDS


class Asked(NamedTuple):
    """An edit and the rewordings that it is asked in.

    Attributes:
        kind: what its target is.
        edit: the edit.
        rewordings: other wordings of its prompt.
    """

    kind: str
    edit: Edit
    rewordings: tuple[str, ...]


def digits(rng: random.Random, count: int) -> str:
    """Return a string of digits."""
    return "".join(rng.choice("0123456789") for _ in range(count))


def letters(rng: random.Random, count: int) -> str:
    """Return a string of capitals."""
    return "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(count))


def word(rng: random.Random) -> str:
    """Return a common word in lower case."""
    return rng.choice(WORDS)


def name(rng: random.Random) -> str:
    """Return a made-up name of two or three syllables."""
    count = rng.choice((2, 2, 3))
    parts = ("bdfgklmnprstv", "aeiou", ("", "", "n", "r"))
    return "".join(rng.choice(part) for _ in range(count) for part in parts).capitalize()


def serial(rng: random.Random) -> str:
    """Return a serial number: letters and digits, or two to eight groups of four digits."""
    if rng.random() < 0.4:
        return f"{letters(rng, 2)}-{digits(rng, 4)}-{letters(rng, 1)}{digits(rng, 3)}"
    return "SN " + " ".join(digits(rng, 4) for _ in range(rng.randint(2, 8)))


def phone(rng: random.Random) -> str:
    """Return a telephone number in one of four ways of writing."""
    return rng.choice(
        (
            f"+{rng.randint(30, 99)} {digits(rng, 3)} {digits(rng, 3)} {digits(rng, 4)}",
            f"0{digits(rng, 3)} {digits(rng, 2)} {digits(rng, 2)}",
            f"({digits(rng, 3)}) {digits(rng, 3)}-{digits(rng, 4)}",
            f"00{digits(rng, 2)} {digits(rng, 2)} {digits(rng, 2)}",
        )
    )


def iban(rng: random.Random) -> str:
    """Return a number in the layout of an IBAN."""
    return f"{rng.choice(('DE', 'FR', 'NL', 'ES', 'PL'))}{digits(rng, 2)} " + " ".join(
        digits(rng, 4) for _ in range(rng.choice((4, 5)))
    )


def url(rng: random.Random) -> str:
    """Return an address on the web."""
    host = f"{name(rng).lower()}.example.{rng.choice(('org', 'com'))}"
    return f"https://{host}/{word(rng)}/{word(rng)}?id={digits(rng, 4)}"


def as_json(rng: random.Random) -> str:
    """Return a JSON object of two or three members."""
    value = {word(rng): name(rng), "port": rng.randint(1000, 9999)}
    return json.dumps(value | ({"tags": [word(rng), word(rng)]} if rng.random() < 0.5 else {}))


def code(rng: random.Random) -> str:
    """Return a line of a program or of a shell."""
    a, b = word(rng), word(rng)
    return rng.choice(
        (
            f"{a}_{b}(x, y={rng.randint(2, 99)})",
            f"for {a} in {b}s: print({a})",
            f"grep -n '{a}' {b}.log | head -{rng.randint(2, 50)}",
            f"SELECT {a} FROM {b}s WHERE id = {digits(rng, 3)};",
        )
    )


def quoted(rng: random.Random) -> str:
    """Return a text in quotation marks."""
    return f'"{name(rng)} {word(rng)}, {word(rng)} and {word(rng)}"'


def right_to_left(rng: random.Random) -> str:
    """Return two or three words of Arabic or Hebrew."""
    return " ".join(rng.sample(rng.choice((THINGS["arabic"], THINGS["hebrew"])), rng.choice((2, 3))))


def east_asian(rng: random.Random) -> str:
    """Return a few words of Chinese, Japanese or Korean."""
    return "".join(rng.sample(rng.choice((THINGS["chinese"], THINGS["japanese"], THINGS["korean"])), 2))


def sentences(rng: random.Random) -> str:
    """Return two or three sentences with a number among them."""
    chosen = rng.sample(SENTENCES, rng.choice((2, 3)))
    return " ".join(one.format(name=name(rng), word=word(rng), number=rng.randint(2, 990)) for one in chosen)


def date(rng: random.Random) -> str:
    """Return an ISO date, or a date with a time."""
    day = f"{rng.randint(1987, 2039)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return day if rng.random() < 0.6 else f"{day}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:00Z"


def price(rng: random.Random) -> str:
    """Return an amount with its unit."""
    amount = f"{rng.randint(1, 99)},{digits(rng, 3)}.{digits(rng, 2)}"
    counted = f"{rng.randint(20, 990)} {rng.choice(('Mbit/s', 'minutes'))}"
    return rng.choice((f"${amount}", f"EUR {amount}", counted, counted))


def email(rng: random.Random) -> str:
    """Return a mail address."""
    return f"{word(rng)}.{name(rng).lower()}{rng.choice(('', digits(rng, 2)))}@{word(rng)}-{word(rng)}.example"


def emoji(rng: random.Random) -> str:
    """Return emoji, alone or around a name."""
    chosen = "".join(rng.sample(THINGS["emoji"], 2))
    return rng.choice((chosen, f"{chosen} {name(rng)} {rng.choice(THINGS['emoji'])}"))


def version(rng: random.Random) -> str:
    """Return a version number."""
    number = ".".join(str(rng.randint(0, 20)) for _ in range(3))
    return rng.choice((f"v{number}", f"{number}-rc.{rng.randint(1, 9)}", f"{number}+build.{digits(rng, 4)}"))


def listed(rng: random.Random) -> str:
    """Return a list, in one line or as bullets."""
    items = [rng.choice((word(rng), name(rng))) for _ in range(rng.randint(3, 5))]
    return rng.choice((", ".join(items), "\n".join(f"- {item}" for item in items), "; ".join(items)))


KINDS: dict[str, Callable[[random.Random], str]] = {
    "serial number": serial,
    "phone number": phone,
    "IBAN": iban,
    "URL": url,
    "JSON": as_json,
    "code": code,
    "quoted string": quoted,
    "right-to-left": right_to_left,
    "CJK": east_asian,
    "sentences": sentences,
    "ISO date": date,
    "price": price,
    "e-mail": email,
    "emoji": emoji,
    "version": version,
    "list": listed,
}
"""What makes a target of each kind."""


def made_targets(count: int, seed: int = 0) -> list[Asked]:
    """Return edits of all kinds in turn, their ids their numbers."""
    rng, asked = random.Random(seed), []
    for i in range(count):
        kind = list(KINDS)[i % len(KINDS)]
        frames = FRAMES[kind]
        subject, wordings = name(rng), frames[rng.randrange(len(frames))]
        prompt, *others = (wording.format(name=subject) for wording in wordings)
        asked.append(Asked(kind, Edit(prompt, KINDS[kind](rng), id=str(i)), (others[0], others[1])))
    return asked
