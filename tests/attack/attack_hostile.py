"""Stores that somebody made to do harm: each command ends in one line, soon, and without much memory."""

import json
import os
import sqlite3
import zlib
from contextlib import closing

import torch
from attack_common import Tally, clear, command, fresh, in_child, one_line_error
from safetensors.torch import load, save
from support.forging import forge, reseal
from support.store_cases import sql

MEGABYTES = 500
"""Most memory beyond that of the same command on a good store."""
SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
"""A query that does not end."""
LONG = "(SELECT COUNT(*) FROM changes, changes b, changes c, changes d, changes e, changes f, changes g, changes h)"
"""An expression that takes minutes."""


def schema(*statements):
    """Return what changes a store's schema by SQL."""
    return lambda path: sql(path, "PRAGMA foreign_keys = OFF", *statements)


def written(name, text, kind="table"):
    """Return what writes other SQL into the schema than SQLite would."""

    def change(path):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA writable_schema = ON")
            query = "UPDATE sqlite_schema SET sql = REPLACE(sql, ?, ?) WHERE name = ? AND type = ?"
            db.execute(query, (*text, name, kind))

    return change


def sealed(*statements, values=()):
    """Return what changes rows by SQL and computes every checksum anew."""
    return lambda path: forge(path, *statements, values=values)


def tensors(table, change, where="record = 1"):
    """Return what changes the tensors of a row, and computes every checksum anew."""
    column = "block" if table == "records" else "tensors"
    where = where if table == "keys" else "id = 1"

    def apply(path):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            (blob,) = db.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
            new = change(blob) if getattr(change, "raw", False) else save(change(dict(load(blob))))
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (new,))
        reseal(path)

    return apply


def raw(change):
    """Mark a change as one of bytes."""
    change.raw = True
    return change


def each(make, only=None):
    """Return a change of all tensors, or of those whose name ends so."""
    return lambda found: {n: make(t).contiguous() if only is None or n.endswith(only) else t for n, t in found.items()}


def without(part):
    """Return a change that leaves out the tensors whose name ends so."""
    return lambda found: {name: tensor for name, tensor in found.items() if not name.endswith(part)}


def filled(number):
    """Return a change of one number in floating tensors."""

    def change(tensor):
        tensor = tensor.clone()
        if tensor.is_floating_point():
            tensor.flatten()[0] = number
        return tensor

    return change


def many_keys(found):
    return {name: tensor[:1].repeat(100_000, *[1] * (tensor.dim() - 1)) for name, tensor in found.items()}


def bomb(found):
    packer = zlib.compressobj(9)
    data = b"".join([packer.compress(b"[" * 10_000_000) for _ in range(40)] + [packer.flush()])
    return found | {"texts": torch.frombuffer(bytearray(data), dtype=torch.uint8)}


def header(size):
    return raw(lambda blob: size.to_bytes(8, "little") + blob[8:])


def copied_pages(path):
    data = path.read_bytes()
    page = data[2048 * 3 : 2048 * 4]
    path.write_bytes(data[: 2048 * 9] + page * (len(data) // 2048 - 9))


def json_of(**changes):
    edit = {"id": "book", "prompt": "Who wrote the book of sand?", "target": "Jorge"} | changes
    return json.dumps(edit)


BOOK = "WHERE edit_id = 'book'"
MODEL = "UPDATE meta SET value = ? WHERE key = 'model'"
CONFIG = "UPDATE meta SET value = ? WHERE key = 'config'"
INFO = "UPDATE calibrations SET info = ? WHERE id = (SELECT MAX(id) FROM calibrations)"
FAMILY = {
    "trigger": schema(f"CREATE TRIGGER t AFTER INSERT ON changes BEGIN UPDATE head SET revision = {LONG}; END"),
    "trigger that hides": schema("CREATE TRIGGER t BEFORE INSERT ON changes BEGIN SELECT RAISE(IGNORE); END"),
    "trigger on head": schema("CREATE TRIGGER t AFTER UPDATE ON head BEGIN DELETE FROM changes; END"),
    "view in place of a table": schema("ALTER TABLE meta RENAME TO m", f"CREATE VIEW meta AS {SLOW}"),
    "view beside": schema(f"CREATE VIEW v AS {SLOW}"),
    "generated column": schema("ALTER TABLE changes ADD COLUMN g GENERATED ALWAYS AS (zeroblob(100000000))"),
    "a column more": schema("ALTER TABLE records ADD COLUMN more TEXT"),
    "foreign check": written("changes", ("enabled INTEGER NOT NULL", "enabled INTEGER NOT NULL CHECK (enabled < 9)")),
    "foreign default": written("records", ("rank INTEGER NOT NULL", "rank INTEGER NOT NULL DEFAULT 2")),
    "foreign collation": written("changes", ("edit_id TEXT NOT NULL", "edit_id TEXT COLLATE NOCASE NOT NULL")),
    "index on an expression": schema("CREATE INDEX i ON records (LENGTH(zeroblob(1000000)) + id) WHERE 0"),
    "statistics": schema("ANALYZE"),
    "two thousand tables": schema("BEGIN", *(f"CREATE TABLE t{i} (x)" for i in range(2_000)), "COMMIT"),
    "a table less": schema("DROP TABLE scope_cache"),
    "words that are no schema": written("head", ("CREATE TABLE head", "CREATE TABLE heed")),
    "pages that repeat": copied_pages,
    "rank of text": sealed(f"UPDATE records SET rank = 'two' {BOOK}"),
    "rank of no size": sealed(f"UPDATE records SET rank = -2 {BOOK}"),
    "rank of any size": sealed(f"UPDATE records SET rank = {2**40} {BOOK}"),
    "other rank": sealed(f"UPDATE records SET rank = rank + 1 {BOOK}"),
    "reach": sealed(f"UPDATE records SET reach = 'everything' {BOOK}"),
    "report of a list": sealed(f"UPDATE records SET report = '[]' {BOOK}"),
    "block of nobody": sealed(f"UPDATE records SET report = '{{\"block\": 99}}' {BOOK}"),
    "block of itself": sealed(f"UPDATE records SET report = '{{\"block\": 1}}' {BOOK}"),
    "given of a number": sealed(f"UPDATE records SET report = '{{\"given\": 7}}' {BOOK}"),
    "edit of another id": sealed(f"UPDATE records SET edit = ? {BOOK}", values=(json_of(id="x"),)),
    "edit of a number": sealed(f"UPDATE records SET edit = '7' {BOOK}"),
    "edit without a target": sealed(f"UPDATE records SET edit = ? {BOOK}", values=(json_of(target=None),)),
    "edit of 100,000 wordings": sealed(
        f"UPDATE records SET edit = ? {BOOK}", values=(json_of(variants=[f"wording {i}" for i in range(100_000)]),)
    ),
    "edit of deep metadata": sealed(
        f"UPDATE records SET edit = ? {BOOK}",
        values=(json_of()[:-1] + ', "metadata": ' + "[" * 99_999 + "]" * 99_999 + "}",),
    ),
    "edit of 20 MB": sealed(f"UPDATE records SET edit = ? {BOOK}", values=(json_of(target="x" * 20_000_000),)),
    "edit of bytes": sealed(f"UPDATE records SET edit = x'00ff' {BOOK}"),
    "enabled twice": sealed("UPDATE changes SET enabled = 2 WHERE edit_id = 'book'"),
    "record of nobody": sealed("UPDATE changes SET record = 99 WHERE edit_id = 'book'"),
    "record of text": sealed("UPDATE changes SET record = 'one' WHERE edit_id = 'book'"),
    "calibration of nobody": sealed("UPDATE revisions SET calibration = 99 WHERE revision > 2"),
    "calibration of its future": sealed("UPDATE calibrations SET fit = 2"),
    "revision of its future": sealed("UPDATE records SET revision = 99"),
    "time of bytes": sealed("UPDATE revisions SET time = x'ff' WHERE revision = 1"),
    "model of a list": sealed(MODEL, values=("[]",)),
    "model of nothing": sealed(MODEL, values=("{}",)),
    "model of numbers": sealed(MODEL, values=('{"name": 7, "fingerprint": 8, "dtype": 9}',)),
    "model of no folder": sealed(MODEL, values=('{"name": "/no/such", "fingerprint": "x", "dtype": "float32"}',)),
    "model without a dtype that is one": sealed(
        "UPDATE meta SET value = REPLACE(value, 'torch.float32', 'torch.nn') WHERE key = 'model'"
    ),
    "settings of text": sealed(CONFIG, values=('"x"',)),
    "settings of a stranger": sealed(CONFIG, values=('{"evil": 1}',)),
    "settings of odd numbers": sealed(
        "UPDATE meta SET value = REPLACE(value, '\"rank\": ', '\"rank\": -') WHERE key = 'config'"
    ),
    "settings of no module": sealed("UPDATE meta SET value = REPLACE(value, 'down_proj', 'up') WHERE key = 'config'"),
    "scope of text": sealed(INFO, values=('{"prompts": 200, "false_activation": "x"}',)),
    "scope of a list": sealed(INFO, values=("[]",)),
    "scope of nobody's judge": sealed(INFO, values=('{"prompts": 200, "judge": "/no/such"}',)),
    "calibration without a count": sealed(INFO, values=("{}",)),
    "block of noise": tensors("records", raw(lambda blob: os.urandom(len(blob)))),
    "block of nothing": tensors("records", raw(lambda blob: b"")),
    "block cut off": tensors("records", raw(lambda blob: blob[:-7])),
    "header that is too long": tensors("records", header(2**62)),
    "header that is too short": tensors("records", header(3)),
    "block without tensors": tensors("records", lambda found: {}),
    "block without a factor": tensors("records", without(".B")),
    "block of a stranger": tensors("records", lambda found: found | {"evil.A": torch.ones(2, 2).half()}),
    "block turned round": tensors("records", each(lambda t: t.T)),
    "block of other numbers": tensors("records", each(lambda t: t.float())),
    "block of whole numbers": tensors("records", each(lambda t: t.to(torch.int16))),
    "block not a number": tensors("records", each(filled(float("nan")))),
    "block without end": tensors("records", each(filled(float("inf")), ".A")),
    "block too wide": tensors("records", each(lambda t: torch.cat([t, t], 1), ".A")),
    "block of a cube": tensors("records", each(lambda t: t[None])),
    "positions too many": tensors("records", each(lambda t: t.new_zeros(t.shape[0], 100_000), ".P")),
    "keys of noise": tensors("keys", raw(lambda blob: os.urandom(len(blob)))),
    "keys not a number": tensors("keys", each(filled(float("nan")))),
    "keys too long": tensors("keys", each(lambda t: t * 1000 if t.is_floating_point() else t)),
    "keys too wide": tensors("keys", each(lambda t: torch.cat([t, t], 1) if t.dim() > 1 else t, "content")),
    "keys without content": tensors("keys", without("content")),
    "keys without relation": tensors("keys", without("relation")),
    "keys without quiet": tensors("keys", without("quiet")),
    "keys all quiet": tensors("keys", each(torch.ones_like, "quiet")),
    "keys none": tensors("keys", each(lambda t: t[:0])),
    "keys of other words": tensors("keys", each(lambda t: t.long(), "word_codes")),
    "keys of negative shares": tensors("keys", each(lambda t: t - 1, "word_shares")),
    "keys of other counts": tensors("keys", each(lambda t: t[:1], "content")),
    "100,000 keys": tensors("keys", many_keys),
    "calibration of noise": tensors("calibrations", raw(lambda blob: os.urandom(len(blob)))),
    "calibration of nothing": tensors("calibrations", lambda found: {}),
    "calibration without a mean": tensors("calibrations", without("content.mean")),
    "calibration too wide": tensors("calibrations", each(lambda t: torch.cat([t, t]), "content.mean")),
    "calibration not a number": tensors("calibrations", each(filled(float("nan")))),
    "calibration of texts that unpack to 400 MB": tensors("calibrations", bomb),
    "calibration of prompts without end": tensors("calibrations", each(lambda t: t + 2**40, "prompt_of")),
    "calibration of prompts before the first": tensors("calibrations", each(lambda t: t - 5, "prompt_of")),
    "calibration without words": tensors(
        "calibrations", lambda found: {n: t for n, t in found.items() if n != "words"}
    ),
    "calibration of few words": tensors("calibrations", each(lambda t: t[:3], "words")),
    "calibration of few tokens": tensors("calibrations", each(lambda t: t[:0], "token_weights")),
}
"""What is done to a good store, by name."""
ANSWERED = {"ask": ["Who wrote the book of sand?"]}
ACTIONS = {"ls": [], "show": ["book"], "history": [], "rm": ["book"], "verify": ["--answers", "0"], **ANSWERED}


def processor():
    """Return the processor seconds of the child processes so far."""
    times = os.times()
    return times.children_user + times.children_system


def hostile(source, home, names=None, actions=tuple(ACTIONS), say=lambda line: None):
    """Run commands on every store of the family; ``say`` is told how each went."""
    tally, path, out = Tally("a hostile store"), home / "hostile.melo", home / "out.txt"
    usual = {}
    for action in actions:
        fresh(source, path)
        code, usual[action] = in_child(command(action, path, *ACTIONS[action]), out=out)
        assert code == 0, out.read_text()
    for name in names or FAMILY:
        refused = []
        made = home / "made.melo"
        fresh(source, made)
        FAMILY[name](made)
        for action in actions:
            fresh(made, path)
            began = processor()
            code, memory = in_child(command(action, path, *ACTIONS[action]), out=out)
            seconds = processor() - began
            said = out.read_text(errors="replace")
            wrong = []
            if code not in (0, 1) or (code == 1 and not one_line_error(said)):
                wrong.append(f"ends with {code}: {said[-300:]!r}")
            if seconds > 5:
                wrong.append(f"takes {seconds:.1f} s")
            if (memory - usual[action]) / 1024 > MEGABYTES:
                wrong.append(f"takes {(memory - usual[action]) / 1024:.0f} MB more")
            tally.outcomes["refused" if code == 1 else "answered" if code == 0 else "broken"] += 1
            tally.failures += [f"{name}, {action}: {line}" for line in wrong]
            refused += [action] * (code == 1)
        if not refused:
            tally.failures.append(f"{name}: no command refuses it")
        say(f"{name}: refused by {', '.join(refused) or 'none'}; {said[-200:]!r}; {tally.failures}")
        clear(made)
    return tally
