"""Runs the released code of Transformer-Patcher and of CaliNet beside ours, in float64, on tiny encoder-decoders.

Of Transformer-Patcher the editor with its modules and losses runs as it is (``Editor`` of ``src/models``). The loop
around it is Lightning's, which is not installed: its steps are taken here (Adam, gradient norm 5, the rate halved on
plateaus). Of CaliNet the feed-forwards with slots run as they are, inside today's T5 (the released T5 needs
transformers 4.13), with the optimiser of its trainer.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration
from transformers.activations import ACT2FN
from transformers.optimization import Adafactor

from meloedit import Edit
from meloedit.methods import method_class
from meloedit.methods.patches.tpatcher import ended
from meloedit.training.trainer import seeded

from . import authors

ABSENT = (
    "pytorch_lightning",
    "pytorch_lightning.core",
    "pytorch_lightning.core.optimizer",
    "torchmetrics",
    "jsonlines",
)
READER, WRITER = "model.model.decoder.layers.5.fc1", "model.model.decoder.layers.5.fc2"
COPIES, STEPS = 8, 60
EOS, PAD = 1, 2


def make_bart(vocabulary: int) -> BartForConditionalGeneration:
    """Return a BART of six layers, as the released code names the sixth, with random weights in float64."""
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=vocabulary, d_model=32, encoder_layers=2, decoder_layers=6, encoder_ffn_dim=64, decoder_ffn_dim=64,
        encoder_attention_heads=4, decoder_attention_heads=4, max_position_embeddings=64, init_std=0.2, dropout=0.0,
        pad_token_id=PAD, bos_token_id=0, eos_token_id=EOS, decoder_start_token_id=EOS, forced_bos_token_id=None,
        forced_eos_token_id=None,
    )  # fmt: skip
    return BartForConditionalGeneration(config).double().eval()


def make_t5(vocabulary: int, form: str) -> T5ForConditionalGeneration:
    """Return a T5 of random weights in float64; ``form`` is that of its feed-forwards."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocabulary, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=3, num_heads=4,
        feed_forward_proj=form, dropout_rate=0.0, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD,
    )  # fmt: skip
    return T5ForConditionalGeneration(config).double().eval()


class _Wrapped(nn.Module):
    """The model as the released code holds it."""

    def __init__(self, model: BartForConditionalGeneration, smoothing: float) -> None:
        super().__init__()
        self.model = model
        self.hparams, self.tokenizer = SimpleNamespace(eps=smoothing), SimpleNamespace(pad_token_id=PAD)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor, decoder_attention_mask: Tensor
    ) -> Tensor:
        """Return the logits."""
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
        inputs |= {"decoder_input_ids": decoder_input_ids, "decoder_attention_mask": decoder_attention_mask}
        logits: Tensor = self.model(**inputs).logits
        return logits


@contextmanager
def _released(path: Path) -> Iterator[None]:
    """Import modules of the checkout; packages that nothing here needs are stubs."""
    stubs = {name: authors._stub(name) for name in ABSENT if name not in sys.modules}
    sys.modules.update(stubs)
    try:
        with authors.checkout(path):
            yield
    finally:
        for name in stubs:
            del sys.modules[name]


def _batch(row: Any, copies: int) -> dict[str, Tensor]:
    """Return a row, a prompt with its target, as the released code takes it."""
    asked, said = torch.tensor([row.prompt] * copies), torch.tensor([[EOS, *row.target]] * copies)
    masks = {"src_attention_mask": torch.ones_like(asked), "trg_attention_mask": torch.ones_like(said)}
    return {"src_input_ids": asked, "trg_input_ids": said} | masks


def tpatcher(path: Path, tokenizer: Any, edits: Sequence[Edit], others: Sequence[Edit]) -> dict[str, Any]:
    """Compare patches of successive edits, after as many steps on both sides.

    Args:
        path: the checkout.
        tokenizer: the tokenizer.
        edits: the edits.
        others: prompts with answers that are remembered.
    """
    cases: dict[str, dict[str, Any]] = {
        "tpatcher, one neuron": {"neurons": 1},
        "tpatcher, up to five neurons, all activations count": {"count": 5 * COPIES},
        # at the start all activations are 1: which of equal ones are the greatest is up to rounding
        "tpatcher, up to five neurons": {},
        "tpatcher, one neuron, margins that the released code drops": {"neurons": 1, "theirs": (0.0, 0.0)},
    }
    return {name: _patches(path, tokenizer, edits, others, **case) for name, case in cases.items()}


def _patches(
    path: Path,
    tokenizer: Any,
    edits: Sequence[Edit],
    others: Sequence[Edit],
    neurons: int = 5,
    count: int = 5,
    theirs: tuple[float, float] = (3.0, -3.0),
) -> dict[str, Any]:
    """Compare patches.

    Args:
        path: the checkout.
        tokenizer: the tokenizer.
        edits: the edits.
        others: prompts with answers that are remembered.
        neurons: most neurons of an edit.
        count: greatest parts of the activation loss that count.
        theirs: the margins of the released code's memory loss.
    """
    model = make_bart(len(tokenizer))
    settings = {"max_add_neuron_num": neurons, "top_act": count, "max_edit_step": STEPS}
    ours: Any = method_class("tpatcher")(deepcopy(model), tokenizer, settings | {"start_val_epoch": STEPS})
    apart, moved, stops = 0.0, 0.0, True
    with _released(path):
        modules, tools = (authors.module_of(f"src.{name}") for name in ("models.seq2seq_modules", "utils"))
        editor = modules.Editor(
            _Wrapped(deepcopy(model), ours.settings.eps), hidden_size=32, activate_loss=f"top{count}_exp",
            memory_loss="top1000_exp+top1000_exp", amplify_v=True, amplify_con=ours.settings.amplify_con,
        )  # fmt: skip
        editor.double()
        kept = [_batch(row, 1) for row in ours.examples(others)]
        for use, part in (("train", kept[::2]), ("val", kept[1::2])):
            editor.construct_memory(part, None, "cpu", memory_use=use)
        for number, edit in enumerate(edits):
            (row,) = ours.examples([edit])
            batch = _batch(row, COPIES)
            memories = [torch.cat(m[READER]).detach() for m in (editor.train_memories, editor.val_memories)]
            ours._memory = (memories[0], memories[1])
            ours.edit([edit])
            patch = ours.patches[edit.id]
            patch.queries = patch.queries[:0]  # what is remembered of it is the released code's
            before, after = _train(editor, tools, batch, ours.settings, theirs, number)
            pairs = zip((patch.keys, patch.biases, patch.values), after, before, strict=True)
            for own, other, first in pairs:
                apart += float((own - other).square().sum())
                moved += float((other - first).square().sum())
            editor.step()
            editor.construct_memory([batch], None, "cpu", update=True)
        looks = torch.rand(200, 6, generator=torch.Generator().manual_seed(0)).round(decimals=2).tolist()
        stop = modules.BartSeq2SeqEditor.early_stop_editing
        stops = all(stop(look, thd=0.001, patience=1) == ended(look, 1) for look in looks)
        theirs_logits = editor.model(**_inputs(batch)).detach()
    with torch.no_grad():
        logits = ours.model(**_inputs(batch)).logits
    answers = float((logits - theirs_logits).norm() / theirs_logits.norm())
    return {"difference": (apart / moved) ** 0.5, "of logits": answers, "stops alike": stops, "steps": STEPS}


def _inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    named = {"input_ids": batch["src_input_ids"], "attention_mask": batch["src_attention_mask"]}
    decoder = {
        "decoder_input_ids": batch["trg_input_ids"][:, :-1],
        "decoder_attention_mask": batch["trg_attention_mask"][:, :-1],
    }
    return named | decoder


def _train(
    editor: Any, tools: Any, batch: dict[str, Tensor], settings: Any, margins: tuple[float, float], number: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Train a patch with the released editor; return keys, biases and values before and after, as ours has them."""
    editor.insert_hidden_detector()
    editor.unlock_hidden_detectors()
    count, index = tools.count_error_nums(editor.model, batch, "cpu")
    count, index = min(count, settings.max_add_neuron_num), index[: settings.max_add_neuron_num]
    start = editor.get_hidden(index)
    editor.clear_detectors()
    editor.set_editors(init_weights=start, error_count=count, select_index=index)
    key, value = (next(e["editor"] for e in editor.editors if e["child"] == child) for child in ("fc1", "fc2"))
    key.margin_val1, key.margin_val2 = margins  # which the editor does not hand on
    drawn = torch.randn(value.extra_input.T.shape, generator=seeded(0, number, "tpatcher"), dtype=torch.float64)
    with torch.no_grad():
        value.extra_input.copy_(drawn.T)

    def read() -> list[Tensor]:
        values = (value.extra_input * value.a).T
        return [part.detach().clone() for part in (key.extra_output.weight, key.extra_output.bias, values)]

    before, weights = read(), [weight for weight in editor.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=settings.lr, weight_decay=settings.weight_decay)
    plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0.05)
    given = {name.replace("src_", "").replace("trg_", "decoder_"): part for name, part in batch.items()}
    for step in range(STEPS):
        editor.train()
        optimizer.zero_grad()
        losses = editor(**given)
        (losses["loss"] + settings.alc * losses["act_loss"] + settings.mlc * losses["memo_loss"]).backward()
        torch.nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
        if (step + 1) % settings.check_val_every_n_epoch == 0:
            editor.eval()
            with torch.no_grad():
                plateau.step(editor(**given)["loss"].item())
    return before, read()


def calinet(path: Path, tokenizer: Any, edits: Sequence[Edit]) -> dict[str, Any]:
    """Compare slots beside a ReLU feed-forward and beside one with a gate, trained on all edits together."""
    result = {}
    for name, form, kind in (
        ("calinet", "relu", "T5DenseReluDenseEx"),
        ("calinet, with a gate", "gated-gelu", "T5DenseGatedGeluDenseEx"),
    ):
        model = make_t5(len(tokenizer), form)
        settings = {"ex_size": 6, "max_steps": 30}
        ours: Any = method_class("calinet")(deepcopy(model), tokenizer, settings)
        start = [weight.clone() for weight in ours._new_slots()[0].weights]
        ours.edit(edits)
        theirs = _slots(path, kind, model, ours, edits, start, 30)
        pairs = list(zip(ours.slots[0].weights, theirs, start, strict=True))
        apart = sum(float((own - other).square().sum()) for own, other, _ in pairs)
        moved = sum(float((other - first).square().sum()) for _, other, first in pairs)
        result[name] = {"difference": (apart / moved) ** 0.5, "settings": settings}
    return result


def _slots(
    path: Path, kind: str, model: Any, ours: Any, edits: Sequence[Edit], start: Sequence[Tensor], steps: int
) -> list[Tensor]:
    """Train the released feed-forward with slots in the last layer of a T5; return the slots' weights."""
    tree = ast.parse((path / "src" / "modeling_t5.py").read_text("utf-8"))
    chosen = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind]
    names: dict[str, Any] = {"torch": torch, "nn": nn, "ACT2FN": ACT2FN, "__name__": "modeling_t5"}
    types.FunctionType(compile(ast.Module(chosen, []), "modeling_t5.py", "exec"), names)()
    module = names[kind](SimpleNamespace(d_model=32, d_ff=48, ex_size=len(start[0]))).double()
    layer = model.decoder.block[-1].layer[-1]
    module.load_state_dict(layer.DenseReluDense.state_dict(), strict=False)
    slots = [weight for name, weight in module.named_parameters() if "_ex" in name]  # as the trainer finds them
    slots.sort(key=lambda weight: weight.shape[0] == 32)  # what writes is last
    with torch.no_grad():
        for weight, first in zip(slots, start, strict=True):
            weight.copy_(first)
    layer.DenseReluDense = _Summed(module)
    model.requires_grad_(False)
    for weight in slots:
        weight.requires_grad_(True)
    batch = ours.backbone.pad(ours.examples(edits))
    labels = torch.full((len(batch.rows), batch.width), -100)
    for i, row in enumerate(batch.rows):
        labels[i, : len(row.target)] = torch.tensor(row.target)
    optimizer = Adafactor(slots, lr=1e-2, scale_parameter=False, relative_step=False)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=batch.ids, attention_mask=batch.mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(slots, 1.0)
        optimizer.step()
    return [weight.detach() for weight in slots]


class _Summed(nn.Module):
    """Adds the two outputs of the released feed-forward, as its layer does behind dropout, which is off."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, given: Tensor) -> Tensor:
        """Return the sum."""
        own, more = self.module(given)
        total: Tensor = own + more
        return total
