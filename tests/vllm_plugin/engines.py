"""An offline engine of vLLM in this process, and what the tests ask it."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # bound to one core, a busy machine starves it
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # so that a test reaches the scheduler and the worker

FLAGS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 1024,
    "max_num_seqs": 16,
    "max_num_batched_tokens": 1024,
    "enable_prefix_caching": True,
    "block_size": 32,
    "worker_extension_cls": "meloedit.vllm.Worker",
    "scheduler_cls": "meloedit.vllm.Scheduler",
    "disable_log_stats": False,
}


class Engine:
    """vLLM with the plugin, and short ways to ask it."""

    def __init__(self, model: Path, **flags) -> None:
        from vllm import LLM

        self.llm = LLM(model=str(model), **{**FLAGS, **flags})
        self.tokenizer = self.llm.get_tokenizer()

    def call(self, method, *args):
        (result,) = self.llm.collective_rpc(method, args=args)
        return result

    @property
    def scheduler(self):
        return self.llm.llm_engine.engine_core.engine_core.scheduler

    @property
    def worker(self):
        return self.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker

    def generate(self, rows, tokens=24, **settings):
        """Answer prompts, given as tokens, in one mixed load; return the tokens of each."""
        return [list(one.outputs[0].token_ids) for one in self.outputs(rows, tokens, **settings)]

    def outputs(self, rows, tokens=24, **settings):
        from vllm import SamplingParams

        params = SamplingParams(**{"temperature": 0, "max_tokens": tokens, **settings})
        return self.llm.generate([{"prompt_token_ids": list(ids)} for ids in rows], params, use_tqdm=False)

    def asked(self, rows, tokens=24, **settings):
        """Return answers (tokens) and routes of prompts."""
        self.call("melo_forget")
        outputs = self.outputs(rows, tokens, **settings)
        told = self.call("melo_routes")
        routes = [
            next(route for name, route in told.items() if name.split("-")[0] == one.request_id) for one in outputs
        ]
        return [list(one.outputs[0].token_ids) for one in outputs], routes

    def text(self, tokens):
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def chat(self, *turns, answer=False):
        """Return the tokens of a chat: turns of the user and the assistant in turn."""
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=not answer, continue_final_message=answer
        )
        return self.tokenizer.encode(text, add_special_tokens=False)

    @contextmanager
    def tokens_per_pass(self, count):
        before, self.scheduler.max_num_scheduled_tokens = self.scheduler.max_num_scheduled_tokens, count
        try:
            yield
        finally:
            self.scheduler.max_num_scheduled_tokens = before

    @contextmanager
    def few_blocks(self, count):
        """Leave the engine so many free blocks."""
        pool = self.scheduler.kv_cache_manager.block_pool
        self.llm.reset_prefix_cache()
        taken = pool.get_new_blocks(pool.get_num_free_blocks() - count)
        try:
            yield
        finally:
            pool.free_blocks(taken)

    def counted(self, name):
        """Return a counter of vLLM's."""
        return sum(one.value for one in self.llm.get_metrics() if name in one.name and hasattr(one, "value"))


def reference(folder: Path):
    return json.loads((folder / "reference.json").read_text())
