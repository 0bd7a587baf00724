"""Read JSON that people wrote: what is wrong with a text is said in words, and nothing is dropped silently."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from ..text import plain, shorten


class JsonError(ValueError):
    """A text is not JSON, or not JSON that can be taken at its word; the message says why, for a sentence's end."""


def read_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        JsonError: if it is not JSON, nested too deeply, or an object has a name twice, of which one would be lost.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except JsonError:
        raise
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise JsonError(error.msg) from None  # without its line and column: they count inside this text
    except ValueError:
        digits = f"{sys.get_int_max_str_digits():,}"
        raise JsonError(f"a number has too many digits: at most {digits} are read") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise JsonError(f'the name "{plain(shorten(twice, 60))}" comes twice in one object: keep one of them')
    return found
