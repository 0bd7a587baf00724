"""vLLM's engine in this process, with the plugin's hooks put on and taken off between two runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # so that the hooks can be reached
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


class Run(NamedTuple):
    """What a load took: seconds on the clock, seconds of the processor, tokens that came out."""

    wall: float
    cpu: float
    tokens: int


class Bench:
    """An engine and its plugin.

    Args:
        model: the folder of the model.
        flags: flags of the engine.
    """

    def __init__(self, model: str, **flags: Any) -> None:
        from vllm import LLM

        settings = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024, "max_num_seqs": 16}
        settings |= {"enable_prefix_caching": True, "block_size": 32}
        settings |= {"worker_extension_cls": "meloedit.vllm.Worker", "scheduler_cls": "meloedit.vllm.Scheduler"}
        self.llm = LLM(model=model, **(settings | flags))
        self.tokenizer = self.llm.get_tokenizer()

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the worker."""
        (result,) = self.llm.collective_rpc(method, args=args)
        return result

    @property
    def attached(self) -> Any:
        """The plugin in the worker."""
        return self.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker._melo

    @contextmanager
    def tokens_per_pass(self, count: int) -> Iterator[None]:
        """Let a pass have at most so many tokens."""
        scheduler = self.llm.llm_engine.engine_core.engine_core.scheduler
        before, scheduler.max_num_scheduled_tokens = scheduler.max_num_scheduled_tokens, count
        try:
            yield
        finally:
            scheduler.max_num_scheduled_tokens = before

    def counted(self, name: str) -> float:
        """Return a counter of vLLM's; the engine must run with ``disable_log_stats=False``."""
        return sum(one.value for one in self.llm.get_metrics() if name in one.name and hasattr(one, "value"))

    @contextmanager
    def without_hooks(self) -> Iterator[None]:
        """Let vLLM be as it is without the plugin."""
        self.attached.hooks.detach()
        try:
            yield
        finally:
            self.attached.hooks.attach(self.attached.served)

    def ask(self, prompts: Sequence[Sequence[int]], tokens: int) -> Run:
        """Answer prompts in one load, each with so many tokens, from an empty prefix cache."""
        from vllm import SamplingParams

        self.llm.reset_prefix_cache()
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        wall, cpu = time.perf_counter(), time.process_time()
        found = self.llm.generate([{"prompt_token_ids": list(ids)} for ids in prompts], params, use_tqdm=False)
        taken = time.perf_counter() - wall, time.process_time() - cpu
        return Run(*taken, sum(len(one.outputs[0].token_ids) for one in found))

    def chat(self, text: str) -> list[int]:
        """Return the tokens of a question in the chat template."""
        messages = [{"role": "user", "content": text}]
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer.encode(rendered, add_special_tokens=False))
