"""The comparisons of ``cmr``, ``ike`` and ``wise`` with released code, for ``faithful``."""

from __future__ import annotations

import json
import tempfile
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration

from meloedit import Edit
from meloedit.methods import method_class
from meloedit.methods.data_files import read_training_edits
from meloedit.methods.in_context.demonstrations import Demonstrations
from meloedit.methods.in_context.text_encoder import TextEncoder
from meloedit.methods.memory.wise import Wise
from meloedit.training.trainer import seeded

from ..shared import replay_authors

SUBJECTS = ["Peru", "Ada Volt", "a spider", "the book of sand", "Oslo", "a beetle", "the blue door", "Carl Ohm"]
TEMPLATES = [
    ("Who wrote {}?", "{} was written by", "Jorge Luis"),
    ("The capital of {} is", "{} has the capital", "Lima"),
    ("How many legs has {}?", "Count the legs of {}:", "eight"),
]
CMR = {"lr": 1e-3, "total_steps": 1000, "epochs": 10, "max_grad_norm": 0.1, "weight_decay": 0.0}
WISE = {"edit_lr": 0.5, "n_iter": 12, "alpha": 0.5, "beta": 2.0, "gamma": 1.0, "act_ratio": 0.88}
WISE |= {"mask_ratio": 0.2, "norm_constraint": 1.0, "densities": 0.53, "weights": 1.0, "save_freq": 2, "merge_freq": 4}


def make_t5(vocabulary: int) -> T5ForConditionalGeneration:
    """Return a T5 of random weights in float64."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=2,
        eos_token_id=1,
        pad_token_id=2,
    )
    return T5ForConditionalGeneration(config).double().eval()


def cmr(path: Path, tokenizer: Any, batches: list[list[Edit]], difference: Any) -> dict[str, Any]:
    """Compare CMR's variants, in two calls of two edits; all that is in memory is replayed, in one batch."""
    model = make_t5(len(tokenizer))
    code = {"learning_rate": CMR["lr"], "num_epochs": CMR["epochs"], "max_grad_norm": CMR["max_grad_norm"]}
    code |= {"total_steps": CMR["total_steps"], "warmup_steps": 0, "weight_decay": 0.0, "adam_epsilon": 1e-8}
    code |= {"gradient_accumulation_steps": 1, "save_ckpt_freq": 0, "replay_frequency": 1, "replay_size": 8}
    code |= {"upstream_sample_ratio": 0.5, "use_replay_mix": True, "memory_path": "", "replay_candidate_size": 8}
    code |= dict.fromkeys(("memory_key_encoder", "memory_store_rate", "init_memory_cache_path"), None)
    code |= dict.fromkeys(("num_adapt_epochs", "inference_query_size", "local_adapt_lr"), 0)
    samples = len(batches[0])  # the code divides the Fisher information by one less than that
    l2, ewc = {"diff_loss_weight": 0.3}, {"ewc_lambda": 500.0}
    more = {"ewc_lambda": 500.0 * samples / (samples - 1)}
    # our variant, the code's method, our settings, the code's settings, and whether a gradient left behind is cleared
    rows: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], bool]] = {
        "er": ("er", "er", {}, {}, False),
        "er+l2": ("er+l2", "er", l2, l2, False),
        "l2": ("l2", "simple_cl", l2, l2, False),
        "ewc, Fisher information over n - 1, no gradient left": ("ewc", "online_ewc", more, ewc, True),
        "ewc, no gradient left": ("ewc", "online_ewc", ewc, ewc, True),
        "ewc, as it is": ("ewc", "online_ewc", ewc, ewc, False),
    }
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        upstream = Path(folder) / "upstream.jsonl"
        upstream.write_text("".join(json.dumps({"prompt": f"Is {s} here?", "target": s}) + "\n" for s in SUBJECTS[:4]))
        for name, (variant, runner, mine, theirs_only, clean) in rows.items():
            ours, theirs = deepcopy(model), deepcopy(model)
            settings = {**CMR, "variant": variant, "batch_size": 100, "replay_size": 8, "upstream": str(upstream)}
            method: Any = method_class("cmr")(ours, tokenizer, settings | {"ewc_gamma": 0.9} | mine)
            args = code | {"diff_loss_weight": 0.0, "ewc_gamma": 0.9} | theirs_only
            setup = SimpleNamespace(method=runner, args=args, upstream=method.upstream, batches=[], clean=clean)
            setup.batches = [method.examples(batch) for batch in batches]
            for batch in batches:
                method.edit(batch)
            replay_authors.cmr(path, theirs, setup)
            result[f"cmr, {name}"] = {"difference": difference(model, ours, theirs), "settings": CMR | mine}
    return result


def _training_rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return made-up training edits in EasyEdit's flat format and in CounterFact's."""
    flat, full = [], []
    for template, other, target in TEMPLATES:
        for i, subject in enumerate(SUBJECTS):
            near, true = template.format(SUBJECTS[i - 1]), f"none {i}"
            prompt, rephrase = template.format(subject), other.format(subject)
            row = {"prompt": prompt, "target_new": target, "rephrase_prompt": rephrase}
            flat.append(row | {"locality_prompt": near, "locality_ground_truth": true})
            rewrite = {
                "prompt": template,
                "subject": subject,
                "target_new": {"str": target},
                "target_true": {"str": true},
            }
            full.append(
                {"requested_rewrite": rewrite, "paraphrase_prompts": [rephrase], "neighborhood_prompts": [near]}
            )
    return flat, full


def ike(authors_path: Path | None, easyedit_path: Path | None, edits: list[Edit]) -> dict[str, Any]:
    """Compare the texts that IKE writes before edits: the share of them that are equal to the released code's."""
    encoder, result = TextEncoder("minilm", "cpu"), dict[str, Any]()
    flat, full = _training_rows()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in full))
        rows = read_training_edits(str(file), len(full))
    prompts, targets = [str(edit.prompt) for edit in edits], [edit.target for edit in edits]
    if easyedit_path:
        ours = Demonstrations(rows, encoder, "minilm", among_facts=False).chosen(prompts, targets, 16, 0)
        theirs = replay_authors.easyedit_ike(easyedit_path, flat, edits, encoder, 16)
        result["ike, EasyEdit"] = {"equal_texts": _equal(ours, theirs), "demonstrations": 16}
    if authors_path:
        shown = Demonstrations(rows, encoder, "minilm", among_facts=True)
        found = shown.nearest(
            [f"New Fact: {p} {t}\nPrompt: {p}\n\n" for p, t in zip(prompts, targets, strict=True)], 16
        )
        theirs = []
        ours = shown.chosen(prompts, targets, 16, 0)
        for texts, near, prompt, target in zip(ours, found, prompts, targets, strict=True):
            kinds = [_kind(shown.parts[i], text) for i, text in zip(near, reversed(texts[:-1]), strict=True)]
            theirs.append(replay_authors.ike_demonstrations(authors_path, full, near, kinds))
            theirs[-1].append(f"New Fact: {prompt} {target}\nPrompt: {prompt} {target}\n\n")  # as the script does
        result["ike, authors, kinds given"] = {"equal_texts": _equal(ours, theirs), "demonstrations": 16}
    return result


def _kind(parts: Any, text: str) -> int:
    return 0 if text == parts.copy else 1 if text in parts.update else 2


def _equal(ours: list[list[str]], theirs: list[list[str]]) -> float:
    return sum("".join(one) == "".join(other) for one, other in zip(ours, theirs, strict=True)) / len(ours)


class _WithoutEnd(Wise):
    """WISE without what EasyEdit does not have: the end token, and a row of the prompt alone beside contexts."""

    def _rows(self, edit: Edit) -> Any:
        return super()._rows(edit)[1:]

    def _loss(self, rows: Any, counted: Any) -> Any:
        loss, scores = super()._loss(rows, counted)
        seen = self._seen
        logits = self.backbone.target_logits(rows)[:-1]
        self._seen = seen
        ends = [
            torch.nn.functional.cross_entropy(own[-1:].float(), torch.tensor(row.target[-1:])) / len(row.target)
            for own, row in zip(logits, rows, strict=False)
        ]
        return loss - torch.stack(ends).mean(), scores


def wise(path: Path, tokenizer: Any, model: Any, edits: list[Edit]) -> dict[str, Any]:
    """Compare WISE on four edits, two for each of two copies, which are then merged; mask and texts are given.

    All rows of an edit have as many tokens, since EasyEdit counts padding among an edit's tokens.
    """
    result = {}
    for name, kind, masked_decay in (
        ("wise, EasyEdit's target loss, weight decay inside of the mask", _WithoutEnd, True),
        ("wise, EasyEdit's target loss", _WithoutEnd, False),
        ("wise, as it is", Wise, False),
    ):
        ours, theirs = deepcopy(model), deepcopy(model)
        method = kind(ours, tokenizer, {**WISE, "depth": 0.5, "contexts": 2})
        contexts = ["The last of the. ", "The last of the! "]
        others = [_text_as_long(tokenizer, f"{contexts[0]}{edit.prompt} {edit.target}") for edit in edits]
        method._contexts, method._others = contexts, [*others, *[others[0]] * 196]
        original = method._module.weight.detach().clone()
        masks = [torch.rand(original.shape, generator=seeded(0, period, "mask")) < 0.2 for period in range(2)]
        prompts = [str(edit.prompt) for edit in edits]
        for edit in edits:
            method.edit([edit])
        config = WISE | {"hidden_act": model.config.hidden_act, "objective_optimization": "only_label"}
        config |= {"retrieve": True, "replay": False, "merge_alg": "ties", "model_name": "llama", "device": "cpu"}
        setup = SimpleNamespace(edits=edits, others=others, masks=masks, config=config, prompts=prompts)
        setup.masked_decay = masked_decay
        setup.templates = [text + "{}" for text in contexts]
        setup.module = "model.layers[{}].mlp.down_proj".format(method.layer.split(".")[2])
        left = replay_authors.easyedit_wise(path, theirs, tokenizer, setup)
        (merged,) = method.memory
        moved = (left.copies[1] - original).norm()
        scores = torch.tensor([_score(method, prompt, merged.weight) for prompt in prompts])
        theirs_scores = torch.tensor(left.scores)[:, 1]
        result[name] = {
            "difference": float((merged.weight - left.copies[1]).norm() / moved),
            "threshold": abs(merged.least - left.least[1]) / left.least[1],
            "scores": float(((scores - theirs_scores).abs() / theirs_scores).max()),
            "settings": WISE,
        }
        method.close()
    return result


def _text_as_long(tokenizer: Any, text: str) -> str:
    """Return another text of as many tokens."""
    other = "#" * len(tokenizer(text)["input_ids"])
    assert len(tokenizer(other)["input_ids"]) == len(other), "the sign is a token of its own"
    return other


def _score(method: Any, prompt: str, weight: Any) -> float:
    """Return our score of a prompt for a copy."""
    seen: list[Any] = []
    handle = method._module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    method._idle = True
    with torch.no_grad():
        method.model(**method.backbone.tokenizer(prompt, return_tensors="pt"))
    method._idle = False
    handle.remove()
    (given,) = seen
    return float(method._distance(given @ method._module.weight.T, method._written(weight, given)).mean())
