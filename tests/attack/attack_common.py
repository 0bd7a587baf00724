"""What the attacks share: the table of counts, a store made by the commands, commands in a process of their own."""

import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli_helpers import FACTS, SETTINGS, good, write

from meloedit.store import Store

SECONDS = 60
"""How long one try may take before it counts as hung."""


@dataclass
class Tally:
    """The counts of one attack.

    Attributes:
        name: the attack.
        outcomes: how many tries ended in which way.
        failures: what must not happen, one line each.
    """

    name: str
    outcomes: Counter = field(default_factory=Counter)
    failures: list = field(default_factory=list)

    @property
    def tries(self):
        return sum(self.outcomes.values())

    def row(self):
        """Return the row of the table."""
        counts = ", ".join(f"{number:,} {name}" for name, number in sorted(self.outcomes.items()))
        return f"| {self.name} | {self.tries:,} | {counts} | {len(self.failures)} |"


HEADER = "| attack | tries | outcomes | failures |\n|---|---|---|---|"


def make_model(folder):
    """Write a tiny model and its tokenizer into a folder."""
    from support.tiny_models import CHATML, bpe, build
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe(), bos_token="<s>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template, tokenizer.padding_side = CHATML, "left"
    build("llama", len(tokenizer), tokenizer.eos_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_store(home, model):
    """Make a store with three edits and a history by the commands, and return its path."""
    path = Path(home) / "full.melo"
    good("init", path, "--model", model, *SETTINGS)
    good("edit", path, write(Path(home) / "facts.jsonl", *FACTS))
    good("disable", path, "legs")
    good("enable", path, "legs")
    good("calibrate", path, "--min-similarity", "0.75")
    return path


def clear(path):
    """Remove a store and what lies beside it."""
    for name in path.parent.glob(f"{path.name}*"):
        name.unlink()
    for name in path.parent.glob(f".{path.name}*"):
        name.unlink()


def fresh(source, path):
    """Put a copy of a store in the place of another."""
    clear(path)
    shutil.copyfile(source, path)
    return path


def portrait(path):
    """Return all that a store says: every revision's edits, the history, tensors, settings; opened anew."""
    store = Store.open(path)
    if store.revision > 10_000:
        raise AssertionError("more revisions than were made")
    past = [[(s.edit, s.enabled, s.record) for s in store.edits(at)] for at in range(1, store.revision + 1)]
    tensors = {
        edit_id: [{name: tensor.tolist() for name, tensor in part.items()} for part in parts]
        for edit_id, parts in store.tensors().items()
    }
    number, calibration, info = store.calibration()
    calibration = {name: hash(tuple(tensor.flatten().tolist())) for name, tensor in calibration.items()}
    names = [[change.edit_id for change in revision.changes] for revision in store.history()]
    told = [store.history(edit.edit.id) for edit in store.edits()]
    return (store.model, store.config, past, store.history(), tensors, number, calibration, info, names, told)


def in_child(work, seconds=SECONDS, out=os.devnull, kill_after=None):
    """Run ``work`` in a forked process; return its exit code, negative for a signal, or "hung", and its peak memory.

    Args:
        work: returns an exit code, or None.
        seconds: after which it is killed and counts as hung.
        out: a file for its stdout and stderr.
        kill_after: seconds after which it gets SIGKILL whatever it does.
    """
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            where = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(where, 1), os.dup2(where, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            code = work() or 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError):
                    pass
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.wait4(pid, 0)
    return "hung", 0


def command(*args):
    """Return what runs a command as the program does, for ``in_child``."""

    def work():
        from meloedit.cli.app import main

        sys.argv = ["meloedit", *map(str, args)]
        main()

    return work


def one_line_error(text):
    """Return whether the last line of what a command printed is its only error, and no traceback is there."""
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    return len(lines) == 1 and "Traceback" not in text


@contextmanager
def file_limit(size):
    """Let no file of this process grow beyond a size, as ``ulimit -f`` does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
