"""Words for messages: counts with their nouns, sizes, lists of names, and texts cut to one line."""

import unicodedata
from collections.abc import Iterable, Sequence


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 edit``, ``2,000 edits``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


JOINERS = "\u200c\u200d"
"""Characters that nobody sees and that texts need: Persian words and some emoji are spelled with them."""


def plain(text: str, kept: str = "") -> str:
    """Return a text in one line, control characters spelled out: a terminal would obey them, or turn the text around.

    Args:
        text: the text.
        kept: control characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in kept or char in JOINERS or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape", "backslashreplace").decode()
        for char in text
    )


def visible(text: str) -> str:
    """Return a text with control characters spelled out, except those that end lines and set columns apart."""
    return plain(text, kept="\n\t")


def printable(text: str) -> str:
    """Return a text with U+FFFD in place of every character that cannot be printed."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def has_words(text: str) -> bool:
    """Return whether a text has a letter or a digit of any script: punctuation and emoji alone ask nothing."""
    return any(char.isalnum() for char in text)


def shorten(text: str, width: int) -> str:
    """Return a text in one line of at most ``width`` characters; an ellipsis stands for the rest of a longer text."""
    words = " ".join(text.split(None, width))  # more words than ``width`` cannot fit: leave them unsplit
    return words if len(words) <= width else words[: width - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


NAME = 80
"""Characters of a name that a list of names shows, at most."""


def join_names(names: Sequence[str], limit: int = 5) -> str:
    """Return names separated by commas; of more than ``limit`` names, the first ones and how many are missing."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    shown = [name if len(name) <= NAME else f"{name[: NAME - 1]}\N{HORIZONTAL ELLIPSIS}" for name in names[:limit]]
    return ", ".join(map(plain, shown)) + more


def fields_found(names: Iterable[object]) -> str:
    """Return what an error says of the fields that a row has instead of the one that it lacks."""
    return f"(fields found: {join_names([str(name) for name in names], 12) or 'none'})"


def format_size(nbytes: float) -> str:
    """Return a number of bytes in kilobytes or megabytes."""
    return f"{nbytes / 1000:,.1f} kB" if nbytes < 1e6 else f"{nbytes / 1e6:,.1f} MB"
