"""Runs the released code of CMR, of IKE and of EasyEdit's IKE and WISE, as ``authors`` runs that of others."""

from __future__ import annotations

import ast
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn

from meloedit.backbones.batch import Example

from .authors import checkout, module_of, package_without_init


@contextmanager
def _in_place_of(**modules: ModuleType) -> Iterator[None]:
    """Let imports of these modules (``__`` for a dot) find others."""
    names = {name.replace("__", "."): module for name, module in modules.items()}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _module(name: str, **values: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(values)
    return module


# -- CMR


class _Bart(nn.Module):
    """An encoder-decoder with the loss of CMR's ``MyBart``."""

    def __init__(self, model: Any, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, input_ids: Any, attention_mask: Any, decoder_input_ids: Any, **_: Any) -> Any:
        pad = self.model.config.pad_token_id
        labels = decoder_input_ids.masked_fill(decoder_input_ids == pad, -100)
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).logits
        return self.loss(logits.log_softmax(-1), decoder_input_ids, epsilon=0.1, ignore_index=pad)[0]


class _Loader:
    """All examples in one batch, or one by one where ``args`` ask for it."""

    def __init__(self, examples: Sequence[Example], pad: int) -> None:
        self.examples, self.pad, self.logger, self.args = list(examples), pad, None, SimpleNamespace(train_batch_size=0)
        self.dataloader = [self._batch(self.examples)]

    def load_dataloader(self, do_return: bool = True) -> list[list[Any]]:
        return [self._batch([example]) for example in self.examples]

    def _batch(self, examples: Sequence[Example]) -> list[Any]:
        tensors: list[Any] = []
        for rows in ([one.prompt for one in examples], [one.target for one in examples]):
            width = max(map(len, rows))
            tensors.append(torch.tensor([[*row, *[self.pad] * (width - len(row))] for row in rows]))
            tensors.append((tensors[-1] != self.pad).long())
        return tensors


def cmr(path: Path, model: Any, setup: Any) -> None:
    """Run CMR's released training on a model: a call for each batch of ``setup.batches``.

    Args:
        path: the checkout.
        model: the encoder-decoder to train.
        setup: ``method`` (``er``, ``online_ewc`` or ``simple_cl``), ``batches`` and ``upstream`` (lists of examples),
            ``args`` (the code's settings), ``clean`` (mend what the Fisher information leaves behind: a gradient).
    """
    import transformers

    nothing = type("Nothing", (), {})
    missing = {"cmr__models__mybart": _module("mybart", MyBart=nothing)}
    missing |= {"cmr__models__run_bart": _module("run_bart"), "more_itertools": _module("more_itertools")}
    missing |= {"cmr__task_manager__dataloader": _module("dataloader", GeneralDataset=nothing)}
    missing |= {"cmr__task_manager__eval_metrics": _module("eval_metrics", evaluate_func=None)}
    missing |= {"faiss": _module("faiss"), "cmr__debug_algs__index_based__index_utils": _module("index_utils")}
    sys_bart = _module("modeling_bart", _prepare_bart_decoder_inputs=None)
    missing |= {"transformers__modeling_bart": sys_bart}
    vars(missing["cmr__debug_algs__index_based__index_utils"])["get_bart_dual_representation"] = None
    optimization = module_of("transformers.optimization")
    with checkout(path), _in_place_of(**missing):
        transformers.AdamW = optimization.AdamW = torch.optim.AdamW
        try:
            tools = module_of("cmr.models.utils")
            import cmr.models  # type: ignore[import-not-found]

            cmr.models.run_bart = None
            runner = _cmr_runner(setup.method)
        finally:
            del transformers.AdamW, optimization.AdamW
        runner.base_model = _Bart(model, tools.label_smoothed_nll_loss)
        for weight in model.parameters():
            weight.requires_grad_(True)
        _run_cmr(runner, setup, model.config.pad_token_id)
        for weight in model.parameters():
            weight.requires_grad_(False)
        for name in [
            name for name in sys.modules if name.partition(".")[0] == "cmr"
        ]:  # some are packages without a file
            del sys.modules[name]


def _cmr_runner(method: str) -> Any:
    names = {
        "er": ("cl_mbcl_alg", "MemoryBasedCL"),
        "online_ewc": ("cl_online_ewc_alg", "OnlineEWC"),
        "simple_cl": ("cl_simple_alg", "ContinualFinetuning"),
    }
    module, name = names[method]
    kind = getattr(module_of(f"cmr.debug_algs.{module}"), name)
    runner = kind.__new__(kind)
    logger = logging.getLogger("cmr")
    vars(runner).update(name=method, logger=logger, use_cuda=False, n_gpu=1, model_update_steps=0, timecode=0)
    vars(runner).update(data_args=None, num_data_batches=0, data_batch_size=0)
    return runner


def _run_cmr(runner: Any, setup: Any, pad: int) -> None:
    """Go through the stream with the code's own loop; the scores that it takes on the way are left out."""
    examples = {str(i): one for i, one in enumerate([*setup.upstream, *(one for b in setup.batches for one in b)])}
    numbers = iter(examples)
    upstream = [("", [""], next(numbers)) for _ in setup.upstream]
    batches = [[("", [""], next(numbers)) for _ in batch] for batch in setup.batches]
    runner.tokenizer = SimpleNamespace(pad_token_id=pad)
    runner.upstream_memory_examples = upstream
    runner.data_eval_loaders = batches

    def loader(_: Any, formatted_bug_batch: Any, mode: str = "both", **__: Any) -> tuple[Any, Any]:
        return _Loader([examples[name] for _, _, name in formatted_bug_batch], pad), None

    def errors(batch: Any, _: Any, return_raw_bug_examples: bool = False) -> Any:
        return batch if return_raw_bug_examples else loader(None, batch)

    runner.get_dataloader, runner._get_dynamic_errors = loader, errors
    for name in ("eval_knowledge_retention", "eval_knowledge_generalization", "evaluate_error_fixing"):
        setattr(runner, name, lambda *_: None)
    for name in ("_update_result_dict", "final_evaluation", "_save_base_model", "save_result_file"):
        setattr(runner, name, lambda *_: None)
    runner.debugger_setup(SimpleNamespace(**setup.args))
    if setup.clean:
        train = runner.fix_bugs

        def from_zero(*args: Any, **kwargs: Any) -> Any:
            runner.base_model.zero_grad()
            return train(*args, **kwargs)

        runner.fix_bugs = from_zero
    if setup.method == "er":
        type(runner.memroy_module).save_memory_to_path = lambda *_: None
    runner.online_debug()


# -- IKE


def ike_demonstrations(path: Path, lines: Sequence[Any], nearest: Sequence[int], kinds: Sequence[int]) -> list[str]:
    """Run the authors' ``construct_icl_examples`` with given kinds in place of drawn ones.

    Args:
        path: the checkout of IKE.
        lines: training edits in CounterFact's format.
        nearest: the numbers of those nearest to an edit.
        kinds: 0 copy, 1 update, 2 retain, for each.
    """
    tree = ast.parse((path / "icl.py").read_text("utf-8"))
    chosen = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "construct_icl_examples"]

    def shuffle(order: list[int]) -> None:
        order[:] = kinds

    names: dict[str, Any] = {
        "random": SimpleNamespace(shuffle=shuffle, choice=lambda values: values[0]),
        "corpus_idx": [[i + 2000 for i in nearest]],  # the code leaves out 2,000 rows of its file
    }
    FunctionType(compile(ast.Module(chosen, []), "icl.py", "exec"), names)()
    return list(names["construct_icl_examples"](0, lines))


class _Sentences:
    """What EasyEdit asks of sentence_transformers, with this package's encoder."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def to(self, _: Any) -> _Sentences:
        return self

    def encode(self, texts: Any, **_: Any) -> Any:
        vectors = self.encoder.embed([texts] if isinstance(texts, str) else texts)
        return (vectors[0] if isinstance(texts, str) else vectors).numpy()


def _semantic_search(query: Any, corpus: Any, score_function: Any, top_k: int) -> list[list[dict[str, Any]]]:
    best = (query.float() @ corpus.float().T).topk(min(top_k, len(corpus)))
    pairs = [zip(row, scores, strict=True) for row, scores in zip(best.indices.tolist(), best.values, strict=True)]
    return [[{"corpus_id": i, "score": float(score)} for i, score in row] for row in pairs]


def easyedit_ike(path: Path, rows: Sequence[Any], edits: Sequence[Any], encoder: Any, k: int) -> list[list[str]]:
    """Return the demonstrations that EasyEdit's IKE writes before each edit."""
    tools = SimpleNamespace(
        normalize_embeddings=lambda rows: nn.functional.normalize(rows, dim=1),
        semantic_search=_semantic_search,
        dot_score=None,
    )
    stub = _module("sentence_transformers", SentenceTransformer=lambda _: _Sentences(encoder), util=tools)
    with checkout(path), _in_place_of(sentence_transformers=stub), tempfile.TemporaryDirectory() as folder:
        for name in ("easyeditor", "easyeditor.models", "easyeditor.util", "easyeditor.models.ike"):
            package_without_init(name, path / name.replace(".", "/"))
        util, main = (module_of(f"easyeditor.models.ike.{name}") for name in ("util", "ike_main"))
        config = SimpleNamespace(alg_name="IKE", results_dir=folder, sentence_model_name="m", k=k, device="cpu")
        config.use_icl_examples = True
        util.encode_ike_facts(_Sentences(encoder), list(rows), config)
        requests = [{"prompt": edit.prompt, "target_new": edit.target} for edit in edits]
        return [main.apply_ike_to_model(None, None, one, config, train_ds=list(rows)) for one in requests]


# -- WISE


def _decay_what_is_masked(wise: Any) -> None:
    """Let the weight decay of EasyEdit's WISE stay inside of its mask."""
    masked, optimizer = wise.WISEAdapter.mask_new_weight_gradient, torch.optim.SGD

    def decayed(adapter: Any) -> None:
        adapter.new_weight.grad.add_(adapter.new_weight.detach(), alpha=1e-5)
        masked(adapter)

    def without_decay(params: Any, lr: float, weight_decay: float) -> Any:
        assert weight_decay == 1e-5
        return optimizer(params, lr)

    wise.WISEAdapter.mask_new_weight_gradient = decayed
    wise.torch = SimpleNamespace(**vars(torch) | {"optim": SimpleNamespace(SGD=without_decay)})


def easyedit_wise(path: Path, model: Any, tokenizer: Any, setup: Any) -> Any:
    """Run EasyEdit's WISE on a model; return what it left: copies, thresholds, and the score of each prompt.

    Args:
        path: the checkout of EasyEdit.
        model: a Llama.
        tokenizer: its tokenizer.
        setup: ``edits``, ``others`` (a text for each edit), ``templates``, ``module`` (as code:
            ``model.layers[3]...``), ``masks`` (by the number of the copy), ``config`` (the code's settings),
            ``prompts`` (to score), ``masked_decay`` (mend the weight decay, which leaves the mask).
    """
    stubs = {"easyeditor__util__vl_utils": _module("vl_utils")}
    vars(stubs["easyeditor__util__vl_utils"])["__getattr__"] = lambda _: None
    with checkout(path), _in_place_of(**stubs):
        for name in ("easyeditor", "easyeditor.models", "easyeditor.util", "easyeditor.models.wise"):
            package_without_init(name, path / name.replace(".", "/"))
        wise, tools = (module_of(f"easyeditor.models.wise.{name}") for name in ("WISE", "utils"))
        config = SimpleNamespace(inner_params=[f"{setup.module}.weight"], sequential_edit=True, **setup.config)

        def mask(adapter: Any, _: float) -> None:
            adapter.weight_mask = setup.masks[adapter.editing_total_cnt // config.save_freq].flatten()

        wise.WISEAdapter.generate_activation_mask = mask
        if setup.masked_decay:
            _decay_what_is_masked(wise)
        editor = wise.WISE(config=config, model=model, device="cpu")
        adapter = editor.get_adapter_layer()
        for edit, other in zip(setup.edits, setup.others, strict=True):
            batch = [{"prompt": edit.prompt, "target_new": edit.target, "loc_prompt": other}]
            tokens, act, deact = tools.tokenize(batch, tokenizer, "cpu", setup.templates, config)
            editor.edit(config=config, tokens=tokens, act_mask=act, deact_mask=deact)
        scores = []
        handle = adapter.original_layer.register_forward_hook(lambda _, args, out: scores.append((args[0], out)))
        with torch.no_grad():
            for prompt in setup.prompts:
                model(**tokenizer(prompt, return_tensors="pt"))
        handle.remove()
        copies = [adapter.new_weight, *adapter.memory_weight]
        table = [[float(wise.euc(out, given @ copy.T, config, infer=True)) for copy in copies] for given, out in scores]
        means = [adapter.editing_mean_act, *adapter.memory_mean_act]
        return SimpleNamespace(
            copies=[copy.detach() for copy in copies], scores=table, least=[one.min_act() for one in means]
        )
