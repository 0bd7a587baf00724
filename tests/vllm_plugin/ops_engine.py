"""vLLM with a class that has ops, in a process of its own: answers prompts and writes tokens and routes.

    python tests/vllm_plugin/ops_engine.py MODE FOLDER MODEL OUT

FOLDER has what ``world.py`` made. MODE is words joined by a ``+``: ``plain`` leaves the plugin out, ``compiled`` lets
vLLM compile, ``v2`` uses its V2 runner, ``ranks`` three ranks, ``preempting`` a cache that is too small for the load.

vLLM's V2 runner needs Triton, which comes with torch. Without a GPU its kernels run in Triton's interpreter
(``TRITON_INTERPRET=1``), and ``pretend_backend`` enters the backend that vLLM asks for.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

TOKENS, PER_PASS = 24, 48
EVERY = int(os.environ.get("MELOEDIT_EVERY", "5"))
"""Of the 200 prompts, one of so many is asked."""
BLOCKS = 10
"""Free blocks of the KV cache where requests are to be preempted."""


def prepare(mode: set[str]) -> None:
    """Set the environment, which vLLM reads when it is imported."""
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_NO_USAGE_STATS="1",
        HF_HUB_OFFLINE="1", VLLM_PLUGINS="meloedit",
    )  # fmt: skip
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if "plain" not in mode:
        os.environ["MELOEDIT_VLLM_CLASS"] = "LlamaForCausalLM"
    if "v2" in mode:
        os.environ.update(VLLM_USE_V2_MODEL_RUNNER="1", TRITON_INTERPRET="1")
        pretend_backend()


def pretend_backend() -> None:
    """Enter a backend named ``cpu`` in Triton: vLLM asks whether there is one; the interpreter does not use it."""
    from triton.backends import Backend, backends
    from triton.backends.compiler import GPUTarget

    class Driver:
        @classmethod
        def is_active(cls) -> bool:
            return True

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cpu", 0, 1)

    backends["cpu"] = Backend(compiler=None, driver=Driver)


def flags(mode: set[str], folder: Path, model: str) -> dict:
    """Return the engine's flags."""
    found = {
        "model": model, "dtype": "float32", "max_model_len": 1024, "max_num_seqs": 16, "block_size": 32,
        "max_num_batched_tokens": PER_PASS, "enable_prefix_caching": True, "disable_log_stats": False,
        "kv_cache_memory_bytes": 300_000_000, "enforce_eager": "compiled" not in mode,
    }  # fmt: skip
    if "ranks" in mode:
        found["tensor_parallel_size"] = 3  # SmolLM2 has nine heads
    if "preempting" in mode:
        found["max_num_batched_tokens"] = 512
    if "plain" in mode:
        return found
    return found | {
        "worker_extension_cls": "meloedit.vllm.Worker",
        "scheduler_cls": "meloedit.vllm.Scheduler",
        "additional_config": {"meloedit_store": str(folder / "facts.melo")},
    }


def main(mode: set[str], folder: Path, model: str, out: Path) -> None:
    """Answer some prompts twice: the prefix cache is cold, then warm."""
    prepare(mode)
    from vllm import LLM, SamplingParams

    llm = LLM(**flags(mode, folder, model))
    rows = json.loads((folder / "reference.json").read_text())[::EVERY]
    told = {"turns": []}
    if "plain" not in mode:
        told["opened"] = llm.collective_rpc("melo_open")
    if "preempting" in mode:  # all are taken up at once, and grow out of the blocks
        pool = llm.llm_engine.engine_core.engine_core.scheduler.kv_cache_manager.block_pool
        pool.get_new_blocks(pool.get_num_free_blocks() - BLOCKS)
    for _ in range(2):
        if "plain" not in mode:
            llm.collective_rpc("melo_forget")
        params = SamplingParams(temperature=0, max_tokens=TOKENS)
        outputs = llm.generate([{"prompt_token_ids": row["ids"]} for row in rows], params, use_tqdm=False)
        routes = {} if "plain" in mode else llm.collective_rpc("melo_routes")[0]
        found = []
        for one in outputs:
            own = [route for name, route in routes.items() if name.split("-")[0] == one.request_id]
            text = llm.get_tokenizer().decode(one.outputs[0].token_ids, skip_special_tokens=True).strip()
            found.append({"tokens": list(one.outputs[0].token_ids), "text": text, "route": own[0] if own else None})
        told["turns"].append(found)
    told["config"] = str(llm.llm_engine.vllm_config.compilation_config.mode)
    told["preempted"] = sum(getattr(one, "value", 0) for one in llm.get_metrics() if "num_preemptions" in one.name)
    if "plain" not in mode:
        told["facts"] = llm.collective_rpc("melo_facts")
    out.write_text(json.dumps(told))


if __name__ == "__main__":
    main(set(sys.argv[1].split("+")), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
