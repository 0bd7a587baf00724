"""Write rows that were kept back from training, to measure on: python -m judge.kept --rows FILE... --out FILE."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from meloedit.judging.wording import names_something

from .mixture import kept_back


def main() -> None:
    """Write the rows of a language, or those of them whose edit names nobody and nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="files of which every 14th row is taken")
    parser.add_argument("--lang", default="en")
    parser.add_argument("--nameless", action="store_true", help="only edits without a name, as in an FAQ")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [row for path in args.rows for row in kept_back(path, True) if row["lang"] == args.lang]
    rows = [row for row in rows if isinstance(row["prompt"], str)]
    rows = [row for row in rows if not (args.nameless and names_something(row["prompt"]))]
    args.out.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    print(len(rows), "rows:", args.out)


if __name__ == "__main__":
    main()
