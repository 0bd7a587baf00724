"""Tokens: who may ask, and who may edit. Each token has a role and a name, which the history keeps."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import MeloEditError

Role = Literal["ask", "edit"]
"""``ask``: answers, models, metrics. ``edit``: all of that, and whatever concerns the edits."""
SHORTEST = 16
"""Characters of a token, at least: a shorter one could be guessed."""


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: the name of the token.
        role: what it may do.
    """

    name: str
    role: Role


class Tokens:
    """The tokens of a server.

    Args:
        lines: a token a line: its role, its name, the token itself; empty lines and those that begin with # are
            left out.
        where: what errors call their source.

    Raises:
        MeloEditError: naming the line, if one is no token, is too short, or comes twice. The token is never shown.
    """

    def __init__(self, lines: Iterable[str] = (), where: str = "tokens") -> None:
        self._by_digest: list[tuple[bytes, Caller]] = []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                self._add(line.split(), f"{where}, line {number}")

    def _add(self, words: list[str], where: str) -> None:
        if len(words) != 3 or words[0] not in ("ask", "edit"):
            raise MeloEditError(f"{where}: a line is 'ask NAME TOKEN' or 'edit NAME TOKEN'")
        role: Role = "ask" if words[0] == "ask" else "edit"
        if len(words[2]) < SHORTEST or len(set(words[2])) < 6:
            raise MeloEditError(
                f"{where}: the token of {words[1]!r} is weak: {SHORTEST} characters or more, not always the same ones "
                "(openssl rand -hex 24 makes one)"
            )
        if not words[2].isascii():
            raise MeloEditError(
                f"{where}: the token of {words[1]!r} has characters that no header can carry: use ASCII"
            )
        digest = _digest(words[2])
        if any(caller.name == words[1] or known == digest for known, caller in self._by_digest):
            raise MeloEditError(f"{where}: the name {words[1]!r} or its token came before: each has its own")
        self._by_digest.append((digest, Caller(words[1], role)))

    def __len__(self) -> int:
        """Return how many tokens there are; without any, every caller may do everything."""
        return len(self._by_digest)

    def caller(self, token: str) -> Caller | None:
        """Return whose token it is, in a time that does not depend on how much of it is right."""
        given, found = _digest(token), None
        for digest, caller in self._by_digest:
            if hmac.compare_digest(given, digest):
                found = caller
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def read_tokens(path: str | Path) -> Tokens:
    """Read tokens from a file, one a line.

    Raises:
        MeloEditError: if it cannot be read, has none, or a line is wrong.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MeloEditError(f"{path}: the tokens cannot be read ({error})") from None
    tokens = Tokens(text.splitlines(), str(path))
    if not len(tokens):
        raise MeloEditError(f"{path} has no tokens: a line is 'ask NAME TOKEN' or 'edit NAME TOKEN'")
    return tokens
