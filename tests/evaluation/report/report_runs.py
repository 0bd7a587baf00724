"""Run folders with made-up figures and observations, for tests of the report."""

import json
import random
import re

import typer
from typer.testing import CliRunner

from meloedit.cli.commands.report import report

FIGURES = {
    "melo": (0.995, 0.91, 0.999, 0.62, 55.0),
    "melo-paper": (0.97, 0.72, 0.93, 0.81, 21.0),
    "grace": (1.0, 0.31, 1.0, 0.99, 44.0),
    "lora": (0.64, 0.58, 0.31, 0.22, 90.0),
    "none": (0.02, 0.02, 1.0, 1.0, None),
}
ROUTED = ("melo", "melo-paper", "grace")


def figure(value, spread=0.02, n=200):
    return {"value": value, "ci": [max(0.0, value - spread), value + spread], "n": n}


def figures(name):
    success, generality, far, near, speed = FIGURES[name]
    made = {"edit_success": figure(success, 0.01), "generality": figure(generality)}
    made |= {"locality_far": figure(far, 0.003), "locality_near": figure(near), "kl_far": figure(1.2 * (1 - far))}
    if name in ROUTED:
        made |= {"right_block_rephrases": figure(generality), "activation_near": figure(1 - near)}
    if speed:
        made |= {"edits_per_minute": {"value": speed, "ci": None, "n": 200}, "bytes_per_edit": figure(24576.0, 0)}
    return made


def growth(name):
    success, generality, far, *_ = FIGURES[name]
    return [
        {
            "edits": edits,
            "edit_success": figure(success - edits / 9000),
            "generality": figure(generality - edits / 4000),
            "locality_far": figure(far),
        }
        for edits in (50, 100, 150, 200)
    ]


def rows(name, count, seed=0):
    """Observations as a run writes them: answers go wrong as often as the figures say."""
    draw = random.Random(f"{name} {seed}")
    success, generality, far, near, _ = FIGURES[name]
    right = {"edits": success, "rephrases": generality, "near": near, "far": far}
    middle = {"edits": 0.0, "rephrases": 0.25, "near": 0.45, "far": 1.1}
    for where in right:
        for item in range(count):
            good, of_edit = draw.random() < right[where], where in ("edits", "rephrases")
            distance = abs(draw.gauss(middle[where], 0.08 if where != "edits" else 0.0))
            routed = None
            if name in ROUTED:
                fired = of_edit if good else not of_edit
                routed = "none" if not fired else "right" if of_edit else "wrong"
            yield {
                "set": where,
                "item": item,
                "k": 0,
                "prompt": f"In {where}, who leads town {item}, and since when?",
                "wanted": f"Leader {item}" if of_edit else None,
                "answer": f"Leader {item}" if good else f"Somebody else {item}",
                "base": f"Nobody {item}" if of_edit else f"Leader {item}",
                "right": good if of_edit else None,
                "route": f"fact-{item}" if routed in ("right", "wrong") else None,
                "routed": routed,
                "distance": distance if name in ROUTED else None,
                "threshold": 0.4 if name in ROUTED else None,
                "kl": None if of_edit else draw.random() * (not good),
                "identical": None if of_edit else good,
                "kind": "nq" if where == "far" else None,
            }


def make_run(folder, count=60, observed=True, **changed):
    folder.mkdir(parents=True)
    result = {
        "protocol": "retention",
        "task": "zsre",
        "model": "smollm2",
        "data": [{"name": "zsre.jsonl.gz", "role": "edits", "sha256": "ab" * 32, "rows": 1000}],
        "edits": 200,
        "provenance": {"versions": {"torch": "2.13.0"}, "git": "0d4787b", "seeds": [0], "machine": {"threads": 2}},
        "methods": {name: figures(name) for name in FIGURES},
        "growth": {name: growth(name) for name in FIGURES if name != "none"},
        "finished": True,
        "notes": ["Far prompts are questions of NQ-open."],
        "details": {"melo": {"rank": 4}},
    }
    (folder / "result.json").write_text(json.dumps(result | changed))
    if observed:
        (folder / "observations").mkdir()
        for name in FIGURES:
            lines = [json.dumps(row) + "\n" for row in rows(name, count)]
            (folder / "observations" / f"{name}.jsonl").write_text("".join(lines))
    return folder


def call(*arguments):
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, list(map(str, arguments)))


def words(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
