"""Answering with another edit in each row of a batch, against PEFT with one adapter per edit and ``adapter_names``.

    python -m benchmarks.speed.adapters --edits 10000 --adapters 100

The rival's adapters have the same rank on the same modules, and the rival gets the adapter of each row as an argument;
this package finds the edit itself. The rival has fewer adapters, since PEFT adds an adapter the more slowly the more it
has.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from meloedit import MeloConfig

from ..shared.made_up import store_with_edits
from ..shared.models import add_options, described, load
from ..shared.options import option_parser, positive, write
from ..shared.timing import compare
from .answering import near


def with_adapters(base: Any, modules: tuple[str, ...], rank: int, count: int) -> tuple[Any, float]:
    """Return a model with ``count`` LoRA adapters, named by number, and the seconds to add the last one."""
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
    parser = option_parser(__doc__)
    add_options(parser)
    parser.add_argument("--edits", type=positive, default=10_000)
    parser.add_argument("--adapters", type=positive, default=100)
    parser.add_argument("--rows", type=positive, default=32)
    parser.add_argument("--columns", type=positive, default=32)
    parser.add_argument("--tokens", type=positive, default=16)
    parser.add_argument("--rounds", type=positive, default=20)
    given = parser.parse_args()
    if given.adapters < given.rows:
        raise SystemExit(f"each row needs another adapter: give --adapters {given.rows} or more")
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {"task": "answering with another edit in every row, against PEFT's adapter_names"}
    result |= {"edits": given.edits, "adapters": given.adapters, "rows": given.rows}
    with tempfile.TemporaryDirectory() as folder:
        editor = store_with_edits(Path(folder) / "many.melo", load(given), given.edits, MeloConfig(judge="none"))
        editor.model.eval()
        modules = tuple(site.name for site in editor.engine.router.bank.sites)
        rival, result["seconds_to_add_the_last_adapter"] = with_adapters(
            load(given)[0], modules, editor.config.rank, given.adapters
        )
        batch = near(editor, given.rows, given.columns)
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
        editor.unload()
    write(result, given.out, **described(given))


if __name__ == "__main__":
    main()
