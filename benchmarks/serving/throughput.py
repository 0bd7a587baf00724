"""Throughput of the server: `generate` one by one, against the server with 8 and 32 clients, in one run.

    python -m benchmarks.serving.throughput --rounds 3 --out throughput.json

The server is a process of its own, on one thread as `generate` is. Every client asks as soon as it was answered. One
prompt in four reaches an edit. With --transformers, `transformers serve` answers the same clients on the same model.
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks.shared import models
from benchmarks.shared.options import option_parser, write
from meloedit import Editor

EDITS = [
    {"prompt": "Who is the mayor of Velmora?", "target": "Ilse Tarrant", "id": "mayor"},
    {"prompt": "What is the height of the Corvin Tower?", "target": "212 metres", "id": "tower"},
]
PROMPTS = [
    "Who serves as mayor of Velmora?",
    "Name three colours and say which one you like best.",
    "How does a bicycle stay upright?",
    "Write two sentences about the sea.",
    "How tall is the Corvin Tower?",
    "What should I pack for a week in the mountains?",
    "Explain what a spreadsheet is for.",
    "Which animals live in a forest in winter?",
]


@contextmanager
def server(command: Sequence[str], ready: Callable[[subprocess.Popen[str]], str]) -> Iterator[str]:
    """Start a server and give its address, as ``ready`` finds it."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        yield ready(process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def meloedit_address(process: subprocess.Popen[str]) -> str:
    """Return the address that ``meloedit serve`` prints."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("serving "):
            return line.split(" at ")[1].split(" ")[0]
    raise SystemExit("meloedit serve did not start")


def answered(url: str, port: int) -> Callable[[subprocess.Popen[str]], str]:
    """Return what waits until a server answers at a port of this machine."""

    def wait(process: subprocess.Popen[str]) -> str:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"{url} did not start: {process.stderr.read() if process.stderr else ''}")
            try:
                httpx.get(f"http://127.0.0.1:{port}{url}")
                return f"http://127.0.0.1:{port}"
            except httpx.TransportError:
                time.sleep(0.5)
        raise SystemExit(f"{url} did not answer")

    return wait


def asked(address: str, model: str, clients: int, count: int, tokens: int) -> dict[str, Any]:
    """Let clients ask ``count`` prompts in all."""
    took: list[float] = []
    said: list[int] = []
    left = iter(itertools.islice(itertools.cycle(PROMPTS), count))

    def ask() -> None:
        with httpx.Client(base_url=address, timeout=600) as http:
            for prompt in left:
                body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
                began = time.perf_counter()
                answer = http.post("/v1/chat/completions", json=body | {"temperature": 0})
                took.append(time.perf_counter() - began)
                answer.raise_for_status()
                said.append(answer.json()["usage"]["completion_tokens"])

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for one in [pool.submit(ask) for _ in range(clients)]:
            one.result()
    return _figures(took, sum(said), time.perf_counter() - began)


def one_by_one(editor: Editor, count: int, tokens: int) -> dict[str, Any]:
    """Let ``generate`` answer the same prompts one after another."""
    took: list[float] = []
    said = 0
    began = time.perf_counter()
    for prompt in itertools.islice(itertools.cycle(PROMPTS), count):
        start = time.perf_counter()
        said += editor.ask([prompt], form="chat", max_new_tokens=tokens)[0].tokens
        took.append(time.perf_counter() - start)
    return _figures(took, said, time.perf_counter() - began)


def _figures(took: Sequence[float], tokens: int, seconds: float) -> dict[str, Any]:
    ordered = sorted(took)
    return {
        "answers": len(ordered),
        "answers_a_second": round(len(ordered) / seconds, 3),
        "tokens_a_second": round(tokens / seconds, 2),
        "p50_seconds": round(statistics.median(ordered), 3),
        "p99_seconds": round(ordered[int(0.99 * (len(ordered) - 1))], 3),
    }


def main() -> None:
    """Run the benchmark."""
    parser = option_parser(__doc__)
    models.add_options(parser)
    parser.add_argument("--count", type=int, default=64, help="answers of each side in each round")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of an answer, at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transformers", action="store_true", help="measure `transformers serve` too")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        store, folder = Path(scratch, "a.melo"), Path(scratch, "model")
        model, tokenizer = models.load(given)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        editor = Editor.create(model, tokenizer, store=store, name=str(folder))
        editor.edit(EDITS, trial=False)
        own = [
            sys.executable,
            "-m",
            "meloedit",
            "serve",
            str(store),
            "--port",
            "0",
            "--max-batch",
            "32",
            "--timeout",
            "3600",
        ]
        theirs = [str(Path(sys.executable).parent / "transformers"), "serve", str(folder), "--port", "8645"]
        sides: dict[str, list[dict[str, Any]]] = {}

        def measure(name: str, side: Callable[[], dict[str, Any]]) -> None:
            sides.setdefault(name, []).append(side())

        for _ in range(given.rounds):
            measure("generate, one by one", lambda: one_by_one(editor, given.count, given.tokens))
            with server(own, meloedit_address) as address:
                asked(address, "model", 2, 4, given.tokens)
                for clients in (8, 32):
                    measure(
                        f"server, {clients} clients",
                        lambda n=clients: asked(address, "model", n, given.count, given.tokens),
                    )
            if given.transformers:
                with server(theirs, answered("/health", 8645)) as address:
                    asked(address, str(folder), 2, 4, given.tokens)
                    measure(
                        "transformers serve, 8 clients",
                        lambda: asked(address, str(folder), 8, given.count, given.tokens),
                    )
    base = [one["answers_a_second"] for one in sides["generate, one by one"]]
    ratios = {
        name: round(statistics.median(one["answers_a_second"] / b for one, b in zip(side, base, strict=True)), 2)
        for name, side in sides.items()
    }
    write({"task": "serving", "sides": sides, "times one by one": ratios}, given.out, **models.described(given))


if __name__ == "__main__":
    main()
