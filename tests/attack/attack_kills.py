"""kill -9 of the real commands at random moments: nothing that was stored is lost, and no lock stays."""

import random
import time

from attack_common import Tally, command, fresh, in_child, portrait

from meloedit.store import Store, verify

COMMANDS = {
    "edit": ["edit", "-p", "Who leads the town of Ohm?", "-t", "Ada", "--id", "ohm", "--no-trial"],
    "replace": ["edit", "-p", "Who wrote the book of sand?", "-t", "Borges", "--replace", "--no-trial"],
    "rm": ["rm", "book"],
    "rollback": ["rollback", "4"],
    "calibrate": ["calibrate", "--min-similarity", "0.8"],
    "recalibrate": ["calibrate"],
    "disable": ["disable", "legs", "book"],
    "quiet": ["quiet", "book", "Who wrote the book of salt?"],
    "allow": ["allow", "capital", "Peru, its capital?"],
}


def arguments(name, path):
    """Return the words of a command on a store."""
    first, *rest = COMMANDS[name]
    return [first, path, *rest]


def kills(source, home, count, seed):
    """Kill each command in turn at a random moment of its run."""
    tally, chance = Tally("kill -9 of a command"), random.Random(seed)
    path, took = home / "killed.melo", {}
    before = portrait(source)
    for number in range(count):
        name = list(COMMANDS)[number % len(COMMANDS)]
        fresh(source, path)
        if name not in took:
            began = time.monotonic()
            code, _ = in_child(command(*arguments(name, path)), out=home / "out.txt")
            took[name] = time.monotonic() - began
            if code != 0:
                tally.failures.append(f"{name} ends with {code}: {(home / 'out.txt').read_text()}")
            fresh(source, path)
        in_child(command(*arguments(name, path)), kill_after=chance.uniform(0, 1.1 * took[name]))
        try:
            tally.outcomes[left_behind(path, before)] += 1
        except Exception as error:
            tally.outcomes["broken"] += 1
            tally.failures.append(f"{name}, kill {number}: {error!r}")
    return tally


def left_behind(path, before):
    """Check what a kill left; return whether the change is stored."""
    old = before[2]
    store = Store.open(path)
    assert verify(path) == []
    assert store.revision in (len(old), len(old) + 1), f"at revision {store.revision}"
    after = portrait(path)
    assert after[2][: len(old)] == old and after[3][: len(old)] == before[3], "the past has changed"
    stored = store.revision > len(old)
    if not stored:
        assert after == before, "nothing is stored, and yet something has changed"
    store.set_enabled([store.edits()[0].edit.id], not store.edits()[0].enabled)  # no lock is left
    assert verify(path) == []
    return "stored whole" if stored else "not stored"
