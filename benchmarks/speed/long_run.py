r"""Ten thousand edits from one file in one process: the speed of the first and the last edits, and the memory.

    python -m benchmarks.speed.long_run --edits A.jsonl.gz --edits B.jsonl.gz --count 10000 --interrupt 500 \
        --out long.json

Runs ``meloedit edit STORE FILE`` as a user would and watches process and store from outside. It interrupts the command
once (Ctrl-C) and starts it again: the finished edits must still be in the store, unchanged.
"""

from __future__ import annotations

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

from ..shared.edits import distinct_edits
from ..shared.options import option_parser, positive, write

EVERY = 20
"""Seconds between two samples of the process."""

Sample = dict[str, Any]


def records(store: Path) -> dict[str, str]:
    """Return the checksum of each record in a store, by edit."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as db:
        return {name: checksum.hex() for name, checksum in db.execute("SELECT edit_id, sha256 FROM records")}


def watched(command: list[str], store: Path, stop_at: int | None) -> tuple[list[Sample], Sample]:
    """Run a command; interrupt it once the store has ``stop_at`` records. Return samples, and how it ended."""
    with tempfile.NamedTemporaryFile("w+") as stream:
        # A shell makes background commands ignore Ctrl-C, and their children inherit that.
        child = subprocess.Popen(
            command,
            stdout=stream,
            stderr=stream,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        process, samples = psutil.Process(child.pid), []
        while child.poll() is None:
            time.sleep(EVERY)
            try:
                resident, spent = process.memory_info().rss, process.cpu_times()
            except psutil.NoSuchProcess:
                break
            if not resident:  # it has just ended
                break
            edits = len(records(store))
            samples.append(
                {"edits": edits, "resident_bytes": resident, "cpu_seconds": round(spent.user + spent.system, 1)}
            )
            print(samples[-1], flush=True)
            if stop_at is not None and edits >= stop_at:
                child.send_signal(signal.SIGINT)
                stop_at = None
        code = child.wait()
        stream.seek(0)
        return samples, {"exit_code": code, "said_last": stream.read().strip().splitlines()[-1]}


def by_part(samples: list[Sample], step: int) -> list[Sample]:
    """Return processor seconds per edit and resident bytes for each part of ``step`` edits or more."""
    parts, start = [], samples[0] if samples else {}
    for sample in samples:
        if sample["edits"] - start["edits"] >= step:
            took = (sample["cpu_seconds"] - start["cpu_seconds"]) / (sample["edits"] - start["edits"])
            parts.append(
                {
                    "up_to": sample["edits"],
                    "seconds_per_edit": round(took, 4),
                    "resident_bytes": sample["resident_bytes"],
                }
            )
            start = sample
    return parts


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    parser.add_argument("--edits", action="append", required=True, metavar="FILE")
    parser.add_argument("--count", type=positive, default=10_000)
    parser.add_argument("--interrupt", type=int, default=500, metavar="N", help="press Ctrl-C once, after N edits")
    parser.add_argument("--model", default="smollm2")
    given = parser.parse_args()
    edits = distinct_edits(given.edits)[: given.count]
    meloedit = [sys.executable, "-m", "meloedit"]
    with tempfile.TemporaryDirectory() as folder:
        store, file = Path(folder) / "long.melo", Path(folder) / "edits.jsonl"
        rows = [{"prompt": edit.prompt, "target": edit.target} for edit in edits]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        subprocess.run([*meloedit, "init", str(store), "--model", given.model], check=True)
        command = [*meloedit, "edit", str(store), str(file)]
        before, interrupted = watched(command, store, given.interrupt)
        first = records(store)
        after, ended = watched(command, store, None)
        last = records(store)
        result: dict[str, Any] = {
            "task": "editing from one file in one process, interrupted once",
            "edits": len(edits),
            "stored": len(last),
            "interrupted": interrupted,
            "ended": ended,
            "stored_at_the_interrupt": len(first),
            "of_these_unchanged_at_the_end": sum(last.get(name) == checksum for name, checksum in first.items()),
            "parts": by_part(after, max(1, len(edits) // 10)),
            "looks": before + after,
            "file_bytes": store.stat().st_size,
        }
    write(result, given.out)


if __name__ == "__main__":
    main()
