"""A scan of a log, against the plain cost of the key layer's forward on the same lines.

    python -m benchmarks.oversight.scanning --log log.jsonl --edits desk/dev.jsonl --out scanning.json

Both read the same lines in the same batches, and in turn. The process's memory is read after each part of the scan.
Then lines that the scan lists, and lines that it does not, are asked.
"""

from __future__ import annotations

import json
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from meloedit import Edit, Editor
from meloedit.hooks.state_reader import pooled_prompts
from meloedit.oversight.scan_record import ScanRecord
from meloedit.oversight.scanning import LINES_AT_ONCE

from ..shared import models
from ..shared.edits import read_jsonl
from ..shared.options import option_parser, positive, share, write
from ..shared.timing import median_interval


def parted(path: Path, parts: int, folder: Path) -> list[Path]:
    """Write the lines of a log to as many logs, and return these."""
    lines = path.read_text("utf-8").splitlines()
    size = -(-len(lines) // parts)
    logs = [folder / f"{number}.jsonl" for number in range(parts)]
    for number, log in enumerate(logs):
        log.write_text("\n".join(lines[number * size : (number + 1) * size]) + "\n", "utf-8")
    return logs


def plain_forward(editor: Editor, log: Path) -> None:
    """Run the layers up to the key layer on the lines of a log."""
    prompts = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    backbone, engine = editor.backbone, editor.engine
    for start in range(0, len(prompts), LINES_AT_ONCE):
        encoded = [backbone.encode(prompt, "chat") for prompt in prompts[start : start + LINES_AT_ONCE]]
        pooled_prompts(engine.router, encoded, pooling=engine.policy.pooling)


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__, "--log", "--edits")
    models.add_options(parser)
    parser.add_argument("--parts", type=positive, default=8)
    parser.add_argument(
        "--asked", type=positive, default=500, help="lines that are asked, of those listed and of the others"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model, tokenizer = models.load(given)
    rows = [row for row in read_jsonl(given.edits) if isinstance(row["prompt"], str)]
    ratios, speeds, memory = [], [], []
    with Editor(model, tokenizer) as editor, tempfile.TemporaryDirectory() as name:
        editor.edit([Edit(row["prompt"], row["target"], id=row["id"]) for row in rows], keep_both=True, trial=False)
        logs = parted(Path(given.log), given.parts, Path(name))
        fires: list[bool] = []
        others: list[bool] = []
        for log in logs:
            began = time.perf_counter()
            report = editor.scan(log)
            scanned = time.perf_counter()
            plain_forward(editor, log)
            ratios.append((time.perf_counter() - scanned) / (scanned - began))
            speeds.append(60 * report.prompts / (scanned - began))
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            _ask(editor, log, Path(report.record), given.asked // given.parts, fires, others)
    ratio, ci = median_interval(ratios)
    result: dict[str, Any] = {
        "task": "scanning",
        "lines": sum(1 for _ in open(given.log)),
        "of the plain forward's speed": {"ratio": round(ratio, 3), "ci": [round(end, 3) for end in ci]},
        "lines a minute": round(median_interval(speeds)[0]),
        "megabytes after each part": [round(size) for size in memory],
        "listed lines that fire": share(fires),
        "other lines that fire": share(others),
    }
    write(result, given.out, **models.described(given))


def _ask(editor: Editor, log: Path, record: Path, count: int, fires: list[bool], others: list[bool]) -> None:
    """Ask some of the lines that a scan lists, and some that it does not."""
    lines = log.read_text("utf-8").splitlines()
    head = json.loads(record.open().readline())["scan"]
    listed = {found.line: found for found in ScanRecord(record, head).findings() if found.fires}
    rest = [number for number in range(1, len(lines) + 1) if number not in listed]
    rng = random.Random(0)
    for numbers, into in ((list(listed), fires), (rest, others)):
        chosen = rng.sample(numbers, min(count, len(numbers)))
        prompts = [json.loads(lines[number - 1]) for number in chosen]
        answers = editor.ask(prompts, "chat", max_new_tokens=1) if prompts else []
        into += [answer.route.edit is not None for answer in answers]


if __name__ == "__main__":
    main()
