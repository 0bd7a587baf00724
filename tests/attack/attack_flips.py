"""Flipped bits and truncated files: each is refused in one line, or without any effect."""

import random
import signal
import sqlite3
from contextlib import closing, contextmanager

from attack_common import Tally, clear, portrait

from meloedit.errors import MeloEditError
from meloedit.store import Store, schema, verify


class Hung(Exception):
    """A try took too long."""


@contextmanager
def within(seconds):
    """Raise ``Hung`` in a ``with`` block that takes longer."""

    def stop(*_):
        raise Hung

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def aimed_pages(path):
    """Return the pages of the schema and of all tables, those that tensors run over to left out; and their size."""
    size = schema.PAGE_SIZE
    with closing(sqlite3.connect(path)) as db:
        roots = [row[3] for row in db.execute(schema.SCHEMA_OF).fetchall()]
        try:
            pages = [row[0] for row in db.execute("SELECT pageno FROM dbstat WHERE pagetype <> 'overflow'")]
        except sqlite3.Error:
            pages = []  # this SQLite cannot tell
    return sorted({1, *roots, *pages}), size


def flips(source, home, count, seed, aimed):
    """Flip one bit of a store, or cut it off, and read and write it."""
    tally, chance = Tally("a bit flipped, aimed" if aimed else "a bit flipped, or the end cut off"), random.Random(seed)
    data, good, path = source.read_bytes(), portrait(source), home / "flipped.melo"
    pages, size = aimed_pages(source)
    for number in range(count):
        changed, what = bytearray(data), ""
        if not aimed and number % 10 == 9:
            end = chance.randrange(len(data))
            changed, what = changed[:end], f"cut to {end}"
        else:
            start = (chance.choice(pages) - 1) * size if aimed else 0
            position = start + chance.randrange(size if aimed else len(data))
            changed[position] ^= 1 << chance.randrange(8)
            what = f"byte {position}, {data[position]} -> {changed[position]}"
        clear(path)
        path.write_bytes(changed)
        try:
            with within(30):
                tally.outcomes[outcome(path, good)] += 1
        except Hung:
            tally.outcomes["hung"] += 1
            tally.failures.append(f"hung: {what}")
        except Exception as error:
            tally.outcomes["not right"] += 1
            tally.failures.append(f"{what}: {error!r}")
    return tally


def outcome(path, good):
    """Read a store, verify it and write it; return how it ended."""
    try:
        found = portrait(path)
    except MeloEditError as error:
        assert "\n" not in str(error), error
        assert verify(path), "refused, and verify finds nothing"
        return "refused"
    assert found == good, "other values, and no error"
    try:
        store = Store.open(path)
        first = store.edits()[0]
        store.set_enabled([first.edit.id], not first.enabled)
    except MeloEditError as error:
        assert "\n" not in str(error), error
        assert portrait(path) == good, "a refused change has changed something"
        return "read, not written"
    after = portrait(path)
    assert after[2][:-1] == good[2] and after[4] == good[4], "a write has changed something else"
    return "without effect"
