"""Every write, truncation and fsync of every change of a store fails once, and is killed once: nothing is lost."""

import signal
from functools import partial

from attack_common import Tally, fresh, in_child, portrait
from sqlite_shim import FAILURES, shimmed
from support.store_cases import CONFIG, MODEL, keys, record

from meloedit.errors import StoreError
from meloedit.store import Store, verify

CHANGES = {
    "put": lambda store: store.put([record("d", seed=4), record("a", "Rome", seed=5)], removed=["c"]),
    "put much": lambda store: store.put([record(f"e{i}", seed=i, size=900) for i in range(4)]),
    "remove": lambda store: store.remove(["a"]),
    "disable": lambda store: store.set_enabled(["a", "c"], False),
    "rollback": lambda store: store.rollback(3),
    "calibrate": lambda store: store.calibrate({}, {"n": 3}, {name: keys(7) for name in "abc"}),
    "rescope": lambda store: store.rescope({"n": 4}),
    "amend": lambda store: store.amend(store.get("a").edit, keys(8), "quiet", {"prompts": ["x"]}),
    "cache": lambda store: store.keep_scope_cache({"near": keys(1)["key"]}),
}


def make(path):
    """Make a store at revision 4: a, b (disabled) and c are live."""
    import torch

    store = Store.create(path, MODEL, CONFIG)
    store.calibrate({"mean": torch.arange(3.0)}, {"n": 10}, {})
    store.put([record("a", seed=1), record("b", seed=2), record("c", seed=3)])
    store.set_enabled(["b"], False)
    return path


def faults(home, names=tuple(CHANGES), killing=True):
    """Let each call of each change fail, in every way that it can, and kill the process at it."""
    tally = Tally("each write and fsync fails, or is the last")
    source, path = make(home / "source.melo"), home / "faulty.melo"
    before = portrait(source)
    for name in names:
        fresh(source, path)
        with shimmed() as shim:
            CHANGES[name](Store.open(path))
        calls, after = list(shim.calls), portrait(path)
        for number, kind in enumerate(calls):
            ways = [("fail", code, lasting) for code in FAILURES[kind] for lasting in (False, True)]
            for way in ways + ([("kill", None, False), ("half", None, False)] if killing else []):
                what = f"{name}, {kind} {number}: {way}"
                fresh(source, path)
                _try(tally, what, partial(strike, path, name, number, way))
                _try(tally, what, partial(whole, path, before, after))
    return tally


def strike(path, name, number, way):
    """Let one call fail, or end the process at it."""
    how, code, lasting = way
    if how == "fail":
        fails(path, name, number, code, lasting)
    else:
        killed(path, name, number, how)


def _try(tally, what, check):
    try:
        if (found := check()) is not None:
            tally.outcomes[found] += 1
    except Exception as error:
        tally.outcomes["broken"] += 1
        tally.failures.append(f"{what}: {error!r}")


def fails(path, name, number, code, lasting):
    """Let one call fail: the change is refused in one line, or was stored before it."""
    store = Store.open(path)
    with shimmed() as shim:
        shim.at, shim.code, shim.lasting = number, code, lasting
        try:
            CHANGES[name](store)
        except StoreError as error:
            assert "\n" not in str(error)


def killed(path, name, number, how):
    """Kill the process at one call."""

    def work():
        store = Store.open(path)
        with shimmed() as shim:
            shim.at, shim.how = number, how
            CHANGES[name](store)

    code, _ = in_child(work)
    assert code == -signal.SIGKILL, f"it ended with {code}"


def whole(path, before, after):
    """Check that the store is as it was before the change or after it, and can be written."""
    assert verify(path) == [], verify(path)
    found = untimed(portrait(path))
    stored = found == untimed(after)
    assert stored or found == untimed(before), "neither before nor after"
    store = Store.open(path)
    store.put([record("z")])
    assert verify(path) == []
    return "stored whole" if stored and found != untimed(before) else "not stored"


def untimed(found):
    """Return a portrait without the times of its revisions."""
    history = [(r.revision, r.action, r.detail, r.changes) for r in found[3]]
    return (*found[:3], history, *found[4:9])
