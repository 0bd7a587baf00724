"""Answering with another edit in every row of a batch, against PEFT with one adapter per edit and ``adapter_names``.

    python -m benchmarks.speed.adapters --edits 10000 --adapters 100

The rival has as many adapters as are named, of the same rank on the same modules, and is told the adapter of each row;
this package finds the edit itself. PEFT takes the longer to add an adapter the more there are, so that it holds fewer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from answering import in_scope
from common import provenance, write
from filled import filled
from models import add_options, described, load
from paired import compare


def with_adapters(base: Any, modules: tuple[str, ...], rank: int, count: int) -> tuple[Any, float]:
    """Return a model with ``count`` LoRA adapters, named by number, and the seconds that adding the last one took."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(modules), init_lora_weights=False)
    model: Any = get_peft_model(base, config, adapter_name="0")
    took = 0.0
    for number in range(1, count):
        began = time.perf_counter()
        model.add_adapter(str(number), config)
        took = time.perf_counter() - began
    return model.eval(), took


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--edits", type=int, default=10_000)
    parser.add_argument("--adapters", type=int, default=100)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out")
    given = parser.parse_args()
    if given.adapters < given.rows:
        raise SystemExit(f"every row needs an adapter of its own: give --adapters {given.rows} or more")
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {"task": "answering with another edit in every row, against PEFT's adapter_names"}
    result |= {"edits": given.edits, "adapters": given.adapters, "rows": given.rows}
    with tempfile.TemporaryDirectory() as folder:
        editor = filled(Path(folder) / "many.melo", load(given), given.edits)
        editor.model.eval()
        modules = tuple(site.name for site in editor.router.bank.sites)
        rival, result["seconds_to_add_the_last_adapter"] = with_adapters(
            load(given)[0], modules, editor.config.rank, given.adapters
        )
        batch = in_scope(editor, given.rows, given.columns)
        names = [str(row) for row in range(given.rows)]

        def run(model: Any, tokens: int, **more: Any) -> None:
            with torch.no_grad():
                if tokens:
                    lengths = {"max_new_tokens": tokens, "min_new_tokens": tokens}
                    model.generate(**batch, **more, **lengths, do_sample=False, pad_token_id=0)
                else:
                    model(**batch, **more)

        for what, tokens in (("forward", 0), ("generate", given.tokens)):
            result[what] = compare(
                lambda tokens=tokens: run(editor.model, tokens),  # type: ignore[misc]
                lambda tokens=tokens: run(rival, tokens, adapter_names=names),  # type: ignore[misc]
                given.rounds,
            )
            print(what, result[what], flush=True)
        editor.detach()
    write(result | {"provenance": provenance() | described(given)}, given.out)


if __name__ == "__main__":
    main()
