"""How messages say things: numbers with their nouns, texts in one line, names in a row."""

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """Return ``1 edit``, ``2 edits``: how messages say a number."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plain(text: str) -> str:
    """Return a text in one line, control characters spelled out: a terminal would obey them."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return names in a row, the first few of many."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(map(plain, names[:limit])) + more


def size(nbytes: float) -> str:
    """Return a number of bytes in words."""
    return f"{nbytes / 1000:,.1f} kB" if nbytes < 1e6 else f"{nbytes / 1e6:,.1f} MB"
