"""Files and command lines that hypothesis makes up: each ends in a result, or in one line."""

import json

from attack_common import Tally, fresh
from attack_flips import Hung, within
from cli_helpers import run
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from meloedit.errors import MeloEditError
from meloedit.readers import read_edits, read_prompts
from meloedit.store import Store, repair, verify

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["prompt", "target", "id", "variants", "quiet", "metadata", "messages", "rephrases", "x"])
ROWS = st.dictionaries(FIELDS, JSON, max_size=6).map(json.dumps)
LINES = st.lists(ROWS | JSON.map(json.dumps) | st.text(max_size=60), max_size=6)
BYTES = st.binary(max_size=300) | LINES.map("\n".join).map(lambda text: text.encode("utf-8", "replace"))
WORDS = st.sampled_from(
    "book capital legs 1 2 3 0 -1 99999999999999999999 --json --at --limit -n --help -h --to --answers -- -".split()
) | st.text(max_size=12)
COMMANDS = st.sampled_from("ls show rm enable disable history rollback verify repair report xyz".split())
SUFFIXES = st.sampled_from([".jsonl", ".json", ".csv", ".txt", ".jsonl.gz", ".csv.gz", ""])


def _each(strategy, count, number, check):
    """Call ``check`` with so many values."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=False,
    )
    @seed(number)
    @given(strategy)
    def walk(value):
        check(value)

    walk()


def _guarded(tally, what, call):
    """Call something that may raise errors of the family alone."""
    try:
        with within(20):
            call()
        tally.outcomes["a result"] += 1
    except MeloEditError as error:
        tally.outcomes["one line"] += 1
        if "\n" in str(error):
            tally.failures.append(f"{what}: more than one line: {error}")
    except Hung:
        tally.failures.append(f"{what}: hung")
    except Exception as error:
        tally.outcomes["broken"] += 1
        tally.failures.append(f"{what}: {error!r}")


def files(home, count, number):
    """Read made-up files of edits and of prompts."""
    tally = Tally("made-up files of edits and prompts")

    def check(value):
        data, suffix = value
        path = home / f"made-up{suffix}"
        path.write_bytes(data)
        for read in (read_edits, read_prompts):
            _guarded(tally, f"{read.__name__} {suffix} {data!r}", lambda read=read: list(read(str(path))))

    _each(st.tuples(BYTES, SUFFIXES), count // 2, number, check)
    return tally


def stores(source, home, count, number):
    """Open, verify and repair made-up bytes as stores: any, or a store's with some changed."""
    tally, whole = Tally("made-up files as stores"), source.read_bytes()
    path, to = home / "bytes.melo", home / "saved.melo"
    spots = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=40)), max_size=6)

    def check(value):
        data = value if isinstance(value, bytes) else bytearray(whole)
        for place, new in value if not isinstance(value, bytes) else ():
            data[place : place + len(new)] = new
        path.write_bytes(data)
        for name in home.glob("saved.melo*"):
            name.unlink()
        for call in (Store.open, verify, lambda path: repair(path, to)):
            _guarded(tally, f"{value!r:.200}", lambda call=call: call(path))

    _each(st.binary(max_size=5000) | spots, count // 3, number, check)
    return tally


def lines(source, home, count, number):
    """Run made-up command lines on a store."""
    tally, path = Tally("made-up command lines"), home / "lines.melo"

    def check(value):
        name, words = value
        fresh(source, path)
        words = [word.replace("\0", "") for word in words]
        words = [str(home / "saved.melo") if word == "--to" else word for word in words]
        try:
            with within(20):
                result = run(name, path, *words)
        except Hung:
            tally.failures.append(f"{name} {words}: hung")
            return
        odd = result.exception is not None and not isinstance(result.exception, SystemExit)
        tally.outcomes[f"exit code {result.exit_code}"] += 1
        if odd or result.exit_code not in (0, 1, 2) or "Traceback" in result.output:
            tally.failures.append(f"{name} {words}: {result.exception!r} {result.output[-200:]!r}")

    _each(st.tuples(COMMANDS, st.lists(WORDS, max_size=4)), count, number, check)
    return tally
