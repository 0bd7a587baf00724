"""Records to store, and what tests of the store share: SQL on its file, forked processes, errors of one line."""

import os
import signal
import sqlite3
import time
import traceback
from contextlib import closing, contextmanager

import pytest
import torch

from meloedit.edit import Edit
from meloedit.errors import StoreError
from meloedit.store import Record

MODEL = {"name": "tiny", "fingerprint": "abc"}
CONFIG = {"rank": 2, "layers": [1, 2]}
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def block(seed, size=4):
    generator = torch.Generator().manual_seed(seed)
    return {"down.A": torch.randn(2, size, generator=generator), "down.B": torch.randn(size, 2, generator=generator)}


def keys(seed, size=3):
    return {"key": torch.randn(size, generator=torch.Generator().manual_seed(1000 + seed))}


def record(name, target="Paris", seed=0, size=4):
    edit = Edit(f"Prompt of {name}?", target, id=name, variants=(f"Say {name}",), metadata={"source": "test"})
    return Record(edit, 2, "answer", {"loss": 0.25, "steps": 7}, block(seed, size), keys(seed))


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def state(store, at=None):
    return {s.edit.id: (s.record, s.enabled) for s in store.edits(at)}


def sql(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement).fetchall()


def one_line(error):
    message = str(error.value)
    assert "\n" not in message and len(message) < 300
    return message


def attempt(call, words):
    with pytest.raises(StoreError) as error:
        call()
    assert words in one_line(error), one_line(error)


@contextmanager
def child(work):
    """Run ``work`` in a forked process; the parent gets its pid and must not leave before it is done or killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def finished(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def killed_midway(work, chance):
    """Fork a process that calls ``work(number)`` for 0, 1, 2 ..., and kill it while it does so.

    The moment is a random one within two calls, as long as calls take on this machine; at least one is done before.
    """
    notes = os.pipe()

    def repeat():
        for number in range(10**6):
            os.write(notes[1], b"x")
            work(number)

    with child(repeat) as pid, open(notes[0], "rb", buffering=0) as begun:
        os.close(notes[1])
        assert begun.read(1)
        start = time.monotonic()
        assert begun.read(1), "the process ended by itself"
        time.sleep(chance.uniform(0, 2 * (time.monotonic() - start)))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        yield
