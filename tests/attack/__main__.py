"""All attacks in one command, with the counts in one table.

    python -m tests.attack --seed 1 --count 100

``--count`` is the number of kills; the other attacks scale with it. ``--only NAME`` runs one of them.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent, HERE.parent / "cli"):
    sys.path.insert(0, str(folder))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from attack_common import HEADER, make_model, make_store  # noqa: E402
from attack_faults import faults  # noqa: E402
from attack_flips import flips  # noqa: E402
from attack_fuzz import files, lines, stores  # noqa: E402
from attack_hostile import ACTIONS, hostile  # noqa: E402
from attack_kills import kills  # noqa: E402
from attack_limits import full_disk, limits, read_only, writers  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100, help="kills; the other attacks scale with it")
    parser.add_argument("--only", action="append", help="an attack, by its name; several times for several")
    parser.add_argument("--actions", help="the commands that are run on hostile stores, by commas: ask, rm, ...")
    given = parser.parse_args()
    count, number = given.count, given.seed
    actions = given.actions.split(",") if given.actions else tuple(ACTIONS)
    if unknown := sorted(set(actions) - set(ACTIONS)):
        parser.error(f"no command {unknown[0]!r}; there are: {', '.join(ACTIONS)}")
    import torch

    torch.set_num_threads(1)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="meloedit-attack-") as folder:
        os.environ["MELOEDIT_CACHE"] = folder
        home = Path(folder)
        home.chmod(0o755)
        source = make_store(home, make_model(home / "model"))
        attacks = {
            "kills": lambda: kills(source, home, count, number),
            "flips": lambda: flips(source, home, 5 * count, number, aimed=False),
            "aimed": lambda: flips(source, home, 5 * count, number, aimed=True),
            "faults": lambda: faults(home),
            "hostile": lambda: hostile(source, home, actions=actions),
            "limits": lambda: limits(source, home, count // 2, number),
            "disk": lambda: full_disk(source, home, count // 2, number),
            "read-only": lambda: read_only(source, home),
            "writers": lambda: writers(source, home, count),
            "files": lambda: files(home, 10 * count, number),
            "stores": lambda: stores(source, home, 3 * count, number),
            "lines": lambda: lines(source, home, 5 * count, number),
        }
        if unknown := sorted(set(given.only or ()) - set(attacks)):
            parser.error(f"no attack {unknown[0]!r}; there are: {', '.join(attacks)}")
        print(HEADER, flush=True)
        for name in given.only or attacks:
            began = time.monotonic()
            tally = attacks[name]()
            failures += len(tally.failures)
            print(tally.row(), flush=True)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            for line in tally.failures[:20]:
                print(f"  {line}", file=sys.stderr, flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
