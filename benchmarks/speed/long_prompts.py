"""The key's side of long prompts: time and memory of ``Editor.route`` for many turns and for many tokens.

    python -m benchmarks.speed.long_prompts --out long_prompts.json

One edit is made. Its question is asked alone, as the last of 200 turns, and at the end of long single turns. The
seconds are of the whole call; ``encoding`` and ``layers`` are parts of it: template and tokenizer, and the layers up to
the key layer. The rest is pooling, the index and the judge. ``memory`` is what the process takes on top while it runs,
in megabytes. A prompt longer than the model takes is refused; a second row lifts that limit, to show what the key alone
would cost.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from meloedit import Edit, Editor
from meloedit.backbones.batch import Example
from meloedit.errors import EditError
from meloedit.keys.grammar import make_prompts
from meloedit.types import Prompt

from ..shared import models
from ..shared.options import option_parser, positive, write

EDIT = Edit("Who is the mayor of Velmora?", "Ilse Tarrant")
ANSWER = "I am not sure about that, but I can look it up for you if you tell me a little more."
"""What the assistant says to everything in a conversation."""
EVERY = 0.002
"""Seconds between two looks at the process's memory."""


def measured(call: Callable[[], Any], rounds: int) -> tuple[Any, dict[str, float]]:
    """Return a call's result, its median seconds, and the greatest memory in megabytes that it took on top."""
    process, took, most, result = psutil.Process(), [], 0, None
    for _ in range(rounds):
        before, done = process.memory_info().rss, threading.Event()
        peak = [before]

        def watch(peak: list[int] = peak, done: threading.Event = done) -> None:
            while not done.wait(EVERY):
                peak[0] = max(peak[0], process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        try:
            result = call()
        finally:
            took.append(time.perf_counter() - began)
            done.set()
            watcher.join()
        most = max(most, peak[0] - before)
    return result, {"seconds": round(statistics.median(took), 3), "memory": round(most / 1e6, 1)}


def turns(count: int) -> Prompt:
    """Return a conversation that ends with the edit's question, behind ``count`` turns or one fewer."""
    pairs = ((("user", text), ("assistant", ANSWER)) for text in make_prompts(max(1, count // 2))[: count // 2])
    talk = [{"role": role, "content": text} for pair in pairs for role, text in pair]
    return [*talk, {"role": "user", "content": EDIT.prompt}]


def tokens(editor: Editor, count: int) -> Prompt:
    """Return one turn of about so many tokens that ends with the edit's question."""
    texts, size = [], 0
    for text in make_prompts(3000) * (1 + count // 20_000):
        if size >= count - 60:  # what the template and the question add
            break
        texts.append(text)
        size += len(editor.tokenizer(" " + text, add_special_tokens=False)["input_ids"])
    return [{"role": "user", "content": f"{' '.join(texts)} {EDIT.prompt}"}]


def of_prompt(editor: Editor, prompt: Prompt, rounds: int) -> dict[str, Any]:
    """Return the figures of one prompt."""
    backbone = editor.backbone
    try:
        encoded = backbone.encode(prompt)
    except EditError as error:
        return {"refused": str(error)} | measured(lambda: _refused(editor, prompt), rounds)[1]
    (route,), figures = measured(lambda: editor.route([prompt]), rounds)
    batch = backbone.pad([Example.of(encoded)])
    encoding = measured(lambda: backbone.encode(prompt), rounds)[1]["seconds"]
    layers = measured(lambda: editor.engine.router.key_states(batch), rounds)[1]["seconds"]
    parts = {"encoding": encoding, "layers": layers, "reason": route.reason, "score": route.score}
    return {"tokens": len(encoded.ids)} | figures | parts


def _refused(editor: Editor, prompt: Prompt) -> None:
    try:
        editor.route([prompt])
    except EditError:
        pass


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    models.add_options(parser)
    parser.add_argument("--turns", type=int, nargs="+", default=[0, 20, 200])
    parser.add_argument("--tokens", type=positive, nargs="+", default=[1000, 8000, 30_000])
    parser.add_argument("--rounds", type=positive, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = []
    with Editor(*models.load(given)) as editor:
        editor.edit(EDIT, trial=False)
        for count in given.turns:
            rows.append({"turns before": count} | of_prompt(editor, turns(count), given.rounds))
            print(rows[-1], file=sys.stderr)
        for count in given.tokens:
            prompt = tokens(editor, count)
            rows.append({"turns before": 0} | of_prompt(editor, prompt, given.rounds))
            print(rows[-1], file=sys.stderr)
            if "refused" in rows[-1]:
                editor.backbone.max_length = None
                rows.append({"turns before": 0, "limit": "lifted"} | of_prompt(editor, prompt, 1))
                print(rows[-1], file=sys.stderr)
    write({"task": "routes of long prompts", "rows": rows}, given.out, **models.described(given))


if __name__ == "__main__":
    main()
