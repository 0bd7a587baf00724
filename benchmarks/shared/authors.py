"""Runs released code of rival methods as it is, on the CPU and in float64, with today's transformers.

Nothing of that code is changed or copied. It is imported from a checkout, and what it takes for granted is provided
around it: a GPU (calls that name one get the CPU), float32 (it gets float64), layers that return tuples, packages for
logging, and text to download (the statistics and the contexts are handed in).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

LAYER = "transformer.h.{}"
STUBS = ("datasets", "wandb", "omegaconf", "nltk", "hydra")
"""Packages that the code imports and that nothing of it needs here."""


class _HereInDouble(TorchFunctionMode):
    """Lets calls that name a GPU or float32 have the CPU and float64."""

    def __torch_function__(self, func: Any, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.float:
            return args[0].double()
        args = tuple(map(self._here, args))
        kwargs = {name: self._here(value) for name, value in (kwargs or {}).items()}
        return func(*args, **kwargs)

    @staticmethod
    def _here(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("cuda"):
            return "cpu"
        if isinstance(value, torch.device) and value.type == "cuda":
            return torch.device("cpu")
        return torch.float64 if value is torch.float32 else value


@contextmanager
def checkout(path: Path) -> Iterator[None]:
    """Import modules from a checkout, silently; forget them afterwards, as several have the same names."""
    before, folder, default = set(sys.modules), os.getcwd(), torch.get_default_dtype()
    stubs = [name for name in STUBS if name not in sys.modules]
    for name in stubs:
        sys.modules[name] = _stub(name)
    sys.path.insert(0, str(path))
    os.chdir(path)
    torch.set_default_dtype(torch.float64)
    try:
        with _HereInDouble(), redirect_stdout(StringIO()):
            yield
    finally:
        torch.set_default_dtype(default)
        os.chdir(folder)
        sys.path.remove(str(path))
        for name in [name for name in sys.modules if name not in before or name in stubs]:
            if name in stubs or _is_in(sys.modules[name], path):
                del sys.modules[name]


def _stub(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__getattr__ = lambda _: SimpleNamespace  # type: ignore[method-assign]
    return module


def _is_in(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    with suppress(TypeError, ValueError):
        return Path(str(file)).resolve().is_relative_to(path.resolve())
    return False


def module_of(name: str) -> Any:
    """Import a module of the checkout."""
    return importlib.import_module(name)


def module_at(path: Path, name: str) -> Any:
    """Import a file whose name is none of a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package_without_init(name: str, path: Path) -> None:
    """Let modules below a package be imported without what the package itself imports."""
    package = types.ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package


def layers_give_tuples(nethook: Any) -> None:
    """Let traces of a layer see a tuple, as layers returned until transformers 5."""
    call, copy = nethook.invoke_with_optional_args, nethook.recursive_copy

    def invoke(fn: Any, *args: Any, output: Any, layer: str, **kwargs: Any) -> Any:
        if isinstance(output, torch.Tensor) and layer.rpartition(".")[0] == LAYER.rpartition(".")[0]:
            return call(fn, *args, output=(output,), layer=layer, **kwargs)[0]
        return call(fn, *args, output=output, layer=layer, **kwargs)

    def as_tuple(value: Any, **kwargs: Any) -> Any:
        copied = copy(value, **kwargs)
        return (copied,) if isinstance(copied, torch.Tensor) else copied

    nethook.invoke_with_optional_args, nethook.recursive_copy = invoke, as_tuple


def requests(facts: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Return facts (template, subject, target) as the code of ROME and its successors takes them."""
    return [
        {"case_id": i, "prompt": template, "subject": subject, "target_new": {"str": target}}
        for i, (template, subject, target) in enumerate(facts)
    ]


def parameters(layers: Sequence[int], **values: Any) -> SimpleNamespace:
    """Return the configuration that the code of ROME and its successors takes, for GPT-2."""
    names = {
        "rewrite_module_tmp": LAYER + ".mlp.c_proj",
        "layer_module_tmp": LAYER,
        "mlp_module_tmp": LAYER + ".mlp",
        "attn_module_tmp": LAYER + ".attn",
        "ln_f_module": "transformer.ln_f",
        "lm_head_module": "transformer.wte",
    }
    text = {"mom2_dataset": "", "mom2_n_samples": 0, "mom2_dtype": "float64"}
    method = {"layers": list(layers), "fact_token": "subject_last", "mom2_adjustment": True}
    return SimpleNamespace(**names, **text, **method, context_template_length_params=[], **values)


def rome(path: Path, model: Any, tokenizer: Any, setup: Any) -> None:
    """Run ROME's released code on a model."""
    with checkout(path):
        main, compute_u = module_of("rome.rome_main"), module_of("rome.compute_u")
        main.get_context_templates = lambda *_: ["{}", *(text + "{}" for text in setup.contexts)]
        inverses = {name: torch.inverse(moment) for name, moment in setup.moments.items()}
        compute_u.get_inv_cov = lambda model, tok, layer, *_: inverses[layer]
        values = parameters(setup.layers[-1:], v_loss_layer=setup.top, **setup.search)
        main.apply_rome_to_model(model, tokenizer, requests(setup.facts), values)


def memit(path: Path, model: Any, tokenizer: Any, setup: Any) -> None:
    """Run MEMIT's released code on a model, once for each batch of facts."""
    with checkout(path):
        main = module_of("memit.memit_main")
        layers_give_tuples(module_of("util.nethook"))
        main.get_context_templates = lambda *_: [["{}"], [text + "{}" for text in setup.contexts]]
        main.get_cov = lambda model, tok, layer, *_, **__: setup.moments[layer]
        values = parameters(setup.layers, v_loss_layer=setup.top, mom2_update_weight=setup.weight, **setup.search)
        for facts in setup.batches:
            main.apply_memit_to_model(model, tokenizer, requests(facts), values)


def alphaedit(path: Path, model: Any, tokenizer: Any, setup: Any) -> None:
    """Run AlphaEdit's released code on a model, once for each batch of facts."""
    with checkout(path):
        main, evaluate = module_of("AlphaEdit.AlphaEdit_main"), None
        layers_give_tuples(module_of("util.nethook"))
        main.get_context_templates = lambda *_: [["{}"], [text + "{}" for text in setup.contexts]]
        values = parameters(setup.layers, v_loss_layer=setup.top, L2=setup.ridge, **setup.search)
        values.nullspace_threshold = setup.threshold
        evaluate = _projection_of(path)
        evaluate["get_cov"] = lambda model, tok, layer, *_, **__: setup.moments[layer]
        projections = torch.stack([evaluate["get_project"](model, tokenizer, i, values) for i in setup.layers])
        past = torch.zeros_like(projections)
        for facts in setup.batches:
            _, past = main.apply_AlphaEdit_to_model(
                model, tokenizer, requests(facts), values, cache_c=past, P=projections
            )


def _projection_of(path: Path) -> dict[str, Any]:
    """Return the function that makes AlphaEdit's projection; its file runs an experiment when it is imported."""
    import ast

    tree = ast.parse((path / "experiments" / "evaluate.py").read_text("utf-8"))
    chosen = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "get_project"]
    names: dict[str, Any] = {"torch": torch}
    code = compile(ast.Module(chosen, []), "evaluate.py", "exec")
    types.FunctionType(code, names)()
    return names


def ultraedit(path: Path, model: Any, tokenizer: Any, setup: Any) -> None:
    """Run UltraEdit's released code on a model, one turn for each batch of facts."""
    with checkout(path), tempfile.TemporaryDirectory() as cache, _environment():
        base, main = module_of("editor.base"), module_of("editor.ultraedit")
        base.AutoTokenizer = SimpleNamespace(from_pretrained=lambda _: tokenizer)
        turn = len(setup.batches[0])
        config = SimpleNamespace(
            model=SimpleNamespace(edit_modules=setup.modules, name="tiny", name_or_path="tiny"),
            editor=SimpleNamespace(lr=setup.lr, batch_size=128, token="ans", cache_dir=cache, name="ultraedit"),
            dataset=SimpleNamespace(name="facts", n_edits=turn, batch_size=setup.batch_size),
            editor_device="cpu",
            model_device="cpu",
            num_seq=len(setup.batches),
        )
        for name in setup.modules:  # as its make_model does
            module_of("util").get_module(model, name).weight.requires_grad_(True)
        editor = main.ULTRAEDIT(config, model)
        for facts in setup.batches:
            rows = [_answer_tokens(tokenizer, text.format(subject), target) for text, subject, target in facts]
            rows.sort(key=lambda row: -int(row["attention_mask"].sum()))  # as its collate_fn does
            parts = [rows[start : start + setup.batch_size] for start in range(0, turn, setup.batch_size)]
            editor.cache([_padded(part) for part in parts])
            editor.edit_model(editor.predict_param_shifts(), False)
            model.zero_grad()


def _answer_tokens(tokenizer: Any, prompt: str, target: str) -> dict[str, torch.Tensor]:
    """Return a prompt with its answer as UltraEdit's readers of data make it."""
    asked, said = tokenizer(prompt)["input_ids"], tokenizer(" " + target)["input_ids"]
    ids, labels = [*asked, *said[:-1]], [*[-100] * (len(asked) - 1), *said]
    rows = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
    return {name: torch.tensor(row) for name, row in rows.items()}


def _padded(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        name: pad([row[name] for row in rows], batch_first=True, padding_value=-100 if name == "labels" else 0)
        for name in rows[0]
    }


@contextmanager
def _environment() -> Iterator[None]:
    """Restore the variables of the environment, of which the code sets some."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def locft(path: Path, model: Any, tokenizer: Any, setup: Any) -> None:
    """Run LocFT-BF's released code on a model, on all facts together."""
    with checkout(path):
        main = module_at(path / "fine-tune.py", "locft_fine_tune")
        config = SimpleNamespace(device=0, layer=setup.layer, rewrite_module=setup.module, **setup.search)
        facts = [{"prompt": text.format(subject), "target_new": target} for text, subject, target in setup.facts]
        main.execute_ft(model, tokenizer, facts, config)
