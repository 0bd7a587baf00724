"""Files that methods read beside the edits: training edits, upstream examples."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ..errors import MeloEditError
from ..readers import open_utf8


@contextmanager
def open_data(path: str, name: str) -> Iterator[TextIO]:
    """Open a file of UTF-8 text, gzipped or not; what cannot be read becomes a MeloEditError that names it.

    Args:
        path: the file.
        name: what messages call it.
    """
    with open_utf8(path, name) as stream:
        try:
            yield stream
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise MeloEditError(f"{name}: not a readable gzip file ({error})") from None
