"""Write the pool of questions that trials of edits draw on: python -m judge.neighbours --rows FILE... --out FILE.

Of each row it keeps what it asks, as words, and the questions that must not get its answer, the subject's name left
out. Rows kept back from training are left out, so that a trial can be measured on them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .mixture import HARD, kept_back

SLOT = "{x}"


def pooled(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a row as the pool has it; ``None`` if its near questions do not name its subject."""
    subject = str(row.get("subject") or "")
    if not subject or not isinstance(row["prompt"], str):
        return None
    named = bool(re.search(r"[A-Z0-9]", subject[1:] if row["lang"] == "de" else subject))
    near = [text for text in row["near_same_subject"] if subject in text and len(text) < 160][:HARD]
    asked = [text for text in (row["prompt"], *row["rephrasings"]) if subject in text and len(text) < 120]
    if not near or not asked:
        return None
    slot = SLOT if named else subject
    return {
        "asks": [text.replace(subject, slot) for text in asked[:3]],
        "near": [text.replace(subject, slot) for text in near],
        **({} if named else {"subject": subject}),
    }


def main() -> None:
    """Write the pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [pooled(row) for path in args.rows for row in kept_back(path, False)]
    kept = [row for row in rows if row is not None]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    args.out.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(len(rows), "rows,", len(kept), "kept,", args.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
