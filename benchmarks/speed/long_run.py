"""Ten thousand edits from one file in one process: how fast the first and the last are, and what memory it takes.

    python -m benchmarks.speed.long_run --edits A.jsonl.gz --edits B.jsonl.gz --count 10000 --interrupt 500 --out long.json

Runs ``meloedit edit STORE FILE`` as a user would, looks at process and store from outside, interrupts it once
(Ctrl-C) and starts the same command again: what was finished must still be there, and not be made again.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from activation import read_edits
from common import provenance, write

EVERY = 20
"""Seconds between two looks at the process."""

Row = dict[str, Any]


def records(store: Path) -> dict[str, str]:
    """Return the checksum of each record that a store has, by edit."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as db:
        return {name: digest.hex() for name, digest in db.execute("SELECT edit_id, sha256 FROM records")}


def watched(command: list[str], store: Path, stop_at: int | None) -> tuple[list[Row], Row]:
    """Run a command until it ends or the store has ``stop_at`` records; return looks at it, and how it ended."""
    with tempfile.NamedTemporaryFile("w+") as stream:
        # A shell that starts things in the background lets them ignore Ctrl-C, and what they start too.
        child = subprocess.Popen(
            command,
            stdout=stream,
            stderr=stream,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        process, looks = psutil.Process(child.pid), []
        while child.poll() is None:
            time.sleep(EVERY)
            try:
                held, spent = process.memory_info().rss, process.cpu_times()
            except psutil.NoSuchProcess:
                break
            if not held:  # it has just ended
                break
            edits = len(records(store))
            looks.append({"edits": edits, "resident_bytes": held, "cpu_seconds": round(spent.user + spent.system, 1)})
            print(looks[-1], flush=True)
            if stop_at is not None and edits >= stop_at:
                child.send_signal(signal.SIGINT)
                stop_at = None
        code = child.wait()
        stream.seek(0)
        return looks, {"exit_code": code, "said_last": stream.read().strip().splitlines()[-1]}


def per_thousand(looks: list[Row], step: int) -> list[Row]:
    """Return processor seconds per edit and resident bytes, by parts of ``step`` edits."""
    parts, start = [], looks[0] if looks else {}
    for look in looks:
        if look["edits"] - start["edits"] >= step:
            took = (look["cpu_seconds"] - start["cpu_seconds"]) / (look["edits"] - start["edits"])
            parts.append(
                {"up_to": look["edits"], "seconds_per_edit": round(took, 4), "resident_bytes": look["resident_bytes"]}
            )
            start = look
    return parts


def main() -> None:
    """Run it, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", action="append", required=True, metavar="FILE")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--interrupt", type=int, default=500, metavar="N", help="after so many edits, once")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--out")
    given = parser.parse_args()
    edits = read_edits(given.edits)[: given.count]
    meloedit = [sys.executable, "-m", "meloedit"]
    with tempfile.TemporaryDirectory() as folder:
        store, file = Path(folder) / "long.melo", Path(folder) / "edits.jsonl"
        rows = [{"prompt": edit.prompt, "target": edit.target} for edit in edits]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        subprocess.run([*meloedit, "init", str(store), "--model", given.model], check=True)
        command = [*meloedit, "edit", str(store), str(file)]
        before, interrupted = watched(command, store, given.interrupt)
        made = records(store)
        after, ended = watched(command, store, None)
        kept = records(store)
        result: Row = {
            "task": "editing from one file in one process, interrupted once",
            "edits": len(edits),
            "stored": len(kept),
            "interrupted": interrupted,
            "ended": ended,
            "stored_at_the_interrupt": len(made),
            "of_these_unchanged_at_the_end": sum(kept.get(name) == digest for name, digest in made.items()),
            "parts": per_thousand(after, max(1, len(edits) // 10)),
            "looks": before + after,
            "file_bytes": store.stat().st_size,
        }
    write(result | {"provenance": provenance()}, given.out)


if __name__ == "__main__":
    main()
