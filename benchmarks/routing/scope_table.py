r"""The one table of the scope: which prompts reach an edit, on every set that measures it, by method and setting.

    python -m benchmarks.routing.scope_table --desk dev.jsonl --unrelated unrelated_dev.jsonl \
        --zsre zsre_distinct.jsonl.gz --counterfact counterfact_distinct.jsonl.gz --nq nq_open_dev.jsonl.gz \
        --wikitext wikitext2_valid.txt.gz --pairs question_pairs.jsonl.gz --methods melo,rag,melo-paper --out scope

Sets without a file are left out. Nothing is trained: every set is a run of ``meloedit eval --routing`` in
``OUT/SET/ROW``, which goes on where it stopped. ``OUT/scope_table.md`` has the table, ``OUT/scope_table.json`` every
figure with its 95 % interval.

``--set NAME:SETTINGS`` gives a row settings; several are separated by commas, and the option can be repeated. If NAME
is one of ``--methods``, they are the settings of its row (``--set rag:min_similarity=0.6``). Otherwise NAME is a row of
its own, and its method stands before each setting (``--set "wide:melo.min_similarity=0.4"``).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from meloedit.errors import MeloEditError
from meloedit.evaluation.routing.pairs import PairsRunner
from meloedit.evaluation.routing.retrievers import RETRIEVERS
from meloedit.evaluation.routing.runner import RoutingRunner
from meloedit.evaluation.run.folder import RunFolder
from meloedit.evaluation.run.plan import RunPlan
from meloedit.evaluation.tasks.registry import load_task
from meloedit.methods import method_class
from meloedit.settings import parse_setting

from ..shared import models
from ..shared.options import option_parser, positive, write

FORM = "NAME:SETTING=VALUE,... for a method's row, NAME:METHOD.SETTING=VALUE,... for another one"
FILES = ("desk", "unrelated", "zsre", "counterfact", "nq", "wikitext", "pairs")
FAR_OF = ("nq", "wikitext")
COLUMNS: dict[str, dict[str, str]] = {
    "desk": {
        "close": "reaches_close@en",
        "far": "reaches_far@en",
        "terse": "reaches_terse@en",
        "chat": "reaches_chat@en",
        "pronoun": "reaches_pronoun@en",
        "same subject, hard": "fires_same_subject_hard@en",
        "same subject, easy": "fires_same_subject_easy@en",
        "same relation": "fires_same_relation@en",
        "unrelated": "activation_far",
        "kept at 5 % same subject": "coverage_same_subject_5pct@en",
        "kept at 5 % same relation": "coverage_same_relation_5pct@en",
        "AUC same subject": "auc_same_subject@en",
        "AUC same relation": "auc_same_relation@en",
        "other languages, close": "reaches_close@other",
        "other languages, same subject": "fires_same_subject@other",
    },
    "pairs": {"AUC": "auc", "AUC of the judge": "auc_judge", "hits": "hits", "traps": "traps"},
    "zsre": {
        "right edit": "right_edit",
        "reached": "right_block_rephrases",
        "kept at 5 % near": "coverage_near_5pct",
        "near": "activation_near",
        "far": "activation_far",
    },
}
"""The columns of each set: the heading, and the metric. CounterFact has those of zsRE."""
COLUMNS["counterfact"] = COLUMNS["zsre"]
TITLES = {"desk": "desk", "pairs": "pairs", "zsre": "zsRE", "counterfact": "CounterFact"}


@dataclass
class Row:
    """A row of the table: its name, its method, and the settings that differ from the method's defaults."""

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name of its folders."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-") or "row"


def read_rows(methods: Sequence[str], given: Iterable[str]) -> list[Row]:
    """Return the rows: one for each method, then those that ``--set`` names.

    Raises:
        MeloEditError: if a text is not of the form of ``--set``, or a method or one of its settings is unknown.
    """
    rows = {name: Row(name, name) for name in methods}
    for text in given:
        name, colon, settings = (part.strip() for part in text.partition(":"))
        if not colon or not name or not settings:
            raise MeloEditError(f"--set {text}: give {FORM}")
        for setting in settings.split(","):
            key, value = parse_setting(setting.strip(), FORM)
            method, dot, key_of_method = key.partition(".")
            if not dot:
                method, key_of_method = name, key
            row = rows.setdefault(name, Row(name, method))
            if row.method != method:
                raise MeloEditError(f"--set {text}: the row {name!r} is of {row.method}, not of {method}")
            row.settings[key_of_method] = value
    for row in rows.values():
        if row.method not in RETRIEVERS:
            raise MeloEditError(f"no routes of method {row.method!r}: there are {', '.join(RETRIEVERS)}; --set {FORM}")
        method_class(row.method).read_settings(row.settings)
    if len({row.slug for row in rows.values()}) < len(rows):
        raise MeloEditError("two rows have like names: their runs would share a folder")
    return list(rows.values())


def data_of(name: str, files: Mapping[str, str | None]) -> list[str]:
    """Return the files of a set, its edits first."""
    others = {"desk": ("unrelated",), "pairs": ()}.get(name, FAR_OF)
    return [str(files[part]) for part in (name, *others) if files[part]]


def measure(name: str, rows: Sequence[Row], given: argparse.Namespace, load: Any) -> dict[str, dict[str, Any]]:
    """Return the figures of each row on a set, from runs in ``OUT/SET/ROW``."""
    kind = "helpdesk" if name == "desk" else name
    data = data_of(name, vars(given))
    task = load_task(kind, data, protocol="routing")
    wanted = {"pairs": given.pair_count, "desk": None}.get(name, given.edits)
    count = None if wanted is None else min(wanted, len(task.items))
    runner = PairsRunner if name == "pairs" else RoutingRunner
    figures = {}
    for row in rows:
        plan = RunPlan(task, "routing", given.model, {row.method: row.settings}, count, limit=given.limit)
        folder = RunFolder(Path(given.out) / name / row.slug, plan.configuration())
        result = runner(plan, [], folder, load, lambda step, done, total: None).run()
        figures[row.name] = result["methods"][row.method]
        print(f"{TITLES[name]}: {row.name} done")
    return figures


def table(rows: Sequence[Row], figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the Markdown table of the figures, by set, row and metric; a dash stands for what was not measured."""
    columns = [(name, heading, metric) for name in figures for heading, metric in COLUMNS[name].items()]
    lines = ["| | " + " | ".join(f"{TITLES[name]}: {heading}" for name, heading, _ in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for row in rows:
        cells = [figures[name][row.name].get(metric) for name, _, metric in columns]
        lines.append(f"| {row.name} | " + " | ".join("–" if c is None else f"{c['value']:.3f}" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every set, and write the table and the figures."""
    parser = option_parser(__doc__, out=False)
    models.add_options(parser)
    for name in FILES:
        parser.add_argument(f"--{name}", metavar="FILE")
    parser.add_argument("--methods", default="melo,rag,melo-paper", help="rows with default settings")
    parser.add_argument("--set", action="append", default=[], metavar="NAME:SETTINGS", help=FORM)
    parser.add_argument("--edits", type=positive, default=1000, help="edits of zsRE and of CounterFact")
    parser.add_argument("--pair-count", type=positive, help="pairs; default: all")
    parser.add_argument("--limit", type=positive, default=2000, help="far prompts of each kind")
    parser.add_argument("--out", required=True, metavar="DIR")
    given = parser.parse_args()
    try:
        rows = read_rows([name for name in given.methods.split(",") if name], given.set)
        sets = [name for name in COLUMNS if getattr(given, name)]
        if not sets:
            raise MeloEditError(f"no set is given: name a file with {', '.join(f'--{name}' for name in COLUMNS)}")
        load = cache(lambda: models.load(given))
        figures = {name: measure(name, rows, given, load) for name in sets}
    except MeloEditError as error:
        parser.exit(1, f"error: {error}\n")
    text = table(rows, figures)
    out = Path(given.out)
    (out / "scope_table.md").write_text(text, encoding="utf-8")
    settings = {row.name: {"method": row.method, "settings": row.settings} for row in rows}
    sizes = {"edits": given.edits, "limit": given.limit, "pair_count": given.pair_count}
    setup = {"rows": settings, "sizes": sizes, **models.described(given)}
    write({"figures": figures}, out / "scope_table.json", **setup)
    print(text)


if __name__ == "__main__":
    main()
