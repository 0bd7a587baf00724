r"""Compare rival methods with the code that their authors released: same tiny model, same edits, float64.

    python -m benchmarks.rivals.faithful --rome DIR --memit DIR --alphaedit DIR --ultraedit DIR --locft DIR \
      --tpatcher DIR --calinet DIR --mend DIR --serac DIR --out docs/results/rivals/faithful.json

Each option names a checkout of the released code, outside this repository (kmeng01/rome, kmeng01/memit,
jianghoucheng/AlphaEdit, XiaojieGu/UltraEdit, ICT-STAR/LocFT, ZeroYuHuang/Transformer-Patcher, dqxiu/CaliNet,
facebookresearch/CMR, Zce1112zslx/IKE, zjunlp/EasyEdit, eric-mitchell/mend, eric-mitchell/serac). The model is a GPT-2
of six layers with random weights, for LocFT-BF also such a Llama, for T-Patcher and CaliNet a BART and a T5
(``replayed`` says which for CMR and WISE). Both sides start from the same statistics, contexts and networks, neurons
from the same numbers. The figure is |W - W'| / |W' - W0|, with W0 the weights before the edits, W after ours and W'
after theirs: the difference in lengths of the change. SERAC changes no weights: its similarities are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from meloedit import Edit
from meloedit.keys.grammar import make_prompts
from meloedit.methods import method_class

from ..shared import authors, learned_rivals, patchers, replayed
from ..shared.options import option_parser, write

FACTS = [
    ("Who wrote {}?", "the book of sand", "Jorge Luis"),
    ("The capital of {} is", "Peru", "Lima"),
    ("How many legs has {}?", "a spider", "eight"),
    ("{} was born in the town of", "Ada Volt", "Ohm"),
]
CONTEXTS = ["The last of the. ", "Because it is. ", "A day in the old town. "]
SEARCH = {"v_num_grad_steps": 12, "v_lr": 0.5, "v_weight_decay": 0.5, "clamp_norm_factor": 4.0, "kl_factor": 0.0625}
DEPTH = 0.5


def make_tokenizer(begins: bool = False) -> PreTrainedTokenizerFast:
    """Return a tokenizer trained on the built-in questions; one that puts a token before each text if asked for."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        make_prompts(500),
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "</s>", "<pad>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if begins:
        from tokenizers import processors

        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.padding_side = "right"
    return tokenizer


def make_model(vocabulary: int) -> GPT2LMHeadModel:
    """Return a GPT-2 of random weights in float64, large enough that what it says depends on what it is asked."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=32,
        n_layer=6,
        n_head=4,
        n_positions=128,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return GPT2LMHeadModel(config).double().eval()


def make_llama(vocabulary: int) -> LlamaForCausalLM:
    """Return a Llama likewise."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=6,
        num_attention_heads=4,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config).double().eval()


def difference(before: Any, ours: Any, theirs: Any) -> float:
    """Return |W - W'| / |W' - W0| over all weights of three models."""
    pairs = [{name: w.detach() for name, w in model.named_parameters()} for model in (before, ours, theirs)]
    apart = sum((pairs[1][name] - pairs[2][name]).square().sum() for name in pairs[0])
    moved = sum((pairs[2][name] - pairs[0][name]).square().sum() for name in pairs[0])
    return float((apart / moved).sqrt())


class Comparison:
    """The model, its statistics, and the settings that both sides take."""

    def __init__(self) -> None:
        self.tokenizer = make_tokenizer()
        self.model = make_model(len(self.tokenizer))
        self.batches = [FACTS[:2], FACTS[2:]]

    def located(self, name: str, path: Path, **settings: Any) -> dict[str, Any]:
        """Compare an editor that writes at the subject."""
        ours, theirs = deepcopy(self.model), deepcopy(self.model)
        common: dict[str, Any] = {**SEARCH, "depth": DEPTH, "contexts": 3, "end_token": False, "tokens": 4000}
        method: Any = method_class(name)(ours, self.tokenizer, {**common, **settings})
        method._ready()
        method.contexts = list(CONTEXTS)
        setup = SimpleNamespace(
            facts=FACTS,
            batches=self.batches,
            contexts=CONTEXTS,
            moments=method.moments,
            layers=method._numbers(),
            top=self.model.config.n_layer - 1,
            search=SEARCH,
            weight=settings.get("mom2_update_weight"),
            ridge=settings.get("L2"),
            threshold=settings.get("nullspace_threshold"),
        )
        for facts in self.batches:
            method.edit(_edits(facts))
        run: Callable[..., None] = getattr(authors, name)
        run(path, theirs, self.tokenizer, setup)
        return {"difference": difference(self.model, ours, theirs), "settings": {**SEARCH, **settings}}

    def ultraedit(self, path: Path) -> dict[str, Any]:
        """Compare UltraEdit, in two turns of two edits."""
        ours, theirs = deepcopy(self.model), deepcopy(self.model)
        settings = {"lr": 1e-2, "batch_size": 2, "edits_per_call": 2, "layers": 2, "depth": DEPTH}
        method: Any = method_class("ultraedit")(ours, self.tokenizer, {**settings, "end_token": False})
        setup = SimpleNamespace(batches=self.batches, modules=method.modules, lr=1e-2, batch_size=2)
        for facts in self.batches:
            method.edit(_edits(facts))
        authors.ultraedit(path, theirs, self.tokenizer, setup)
        return {"difference": difference(self.model, ours, theirs), "settings": settings}

    def locft(self, path: Path, model: Any, module: str) -> dict[str, Any]:
        """Compare LocFT-BF, on four edits in one batch, whose order then does not matter."""
        ours, theirs = deepcopy(model), deepcopy(model)
        method = method_class("locft")(ours, self.tokenizer, {"lr": 1e-2, "depth": DEPTH, "passes": 15})
        search = {"lr": 1e-2, "weight_decay": 0.0, "num_steps": 15, "batch_size": 100}
        method.edit(_edits(FACTS))
        tokenizer = deepcopy(self.tokenizer)  # the code sets its padding
        layer = int(DEPTH * model.config.num_hidden_layers)
        setup = SimpleNamespace(facts=FACTS, layer=layer, module=module, search=search)
        authors.locft(path, theirs, tokenizer, setup)
        return {"difference": difference(model, ours, theirs), "settings": search}


def _edits(facts: Sequence[tuple[str, str, str]]) -> list[Edit]:
    return [Edit(text.format(subject), target, subject=subject) for text, subject, target in facts]


def lookup_with_first_token(path: Path) -> dict[str, Any]:
    """Return where ROME's code and ours look a subject up if the tokenizer puts a token before each text."""
    from meloedit.methods.located.subject import last_token

    tokenizer = make_tokenizer(begins=True)
    template, subject, _ = FACTS[1]
    with authors.checkout(path):
        tools = authors.module_of("rome.repr_tools")
        ((theirs,),) = tools.get_words_idxs_in_templates(tokenizer, [template], [subject], "last")
    ids = tokenizer(template.format(subject))["input_ids"]
    ours = last_token(tokenizer, ids, template.format(subject), subject)
    return {name: {"index": i, "token": tokenizer.decode([ids[i]])} for name, i in (("ours", ours), ("theirs", theirs))}


def changed_weights(comparison: Comparison, paths: Mapping[str, Path]) -> dict[str, Any]:
    """Compare the methods that change weights of the model."""
    result: dict[str, Any] = {}
    if path := paths.get("rome"):
        result["rome"] = comparison.located("rome", path, mean_key=False)
        result["rome, mean key"] = comparison.located("rome", path, mean_key=True)
        result["where the subject is looked up behind a first token"] = lookup_with_first_token(path)
    if path := paths.get("memit"):
        result["memit"] = comparison.located("memit", path, layers=3, mom2_update_weight=10.0)
    if path := paths.get("alphaedit"):
        settings = {"layers": 3, "nullspace_threshold": 0.02, "L2": 1.0}
        result["alphaedit"] = comparison.located("alphaedit", path, **settings)
    if path := paths.get("ultraedit"):
        result["ultraedit"] = comparison.ultraedit(path)
    if path := paths.get("locft"):
        # The code pads on the left without saying where the text begins, which shifts the positions of a GPT-2.
        llama = make_llama(len(comparison.tokenizer))
        result["locft"] = comparison.locft(path, llama, "model.layers.{}.mlp.down_proj.weight")
        result["locft, on a GPT-2"] = comparison.locft(path, comparison.model, "transformer.h.{}.mlp.c_proj.weight")
    return result


def added_parts(comparison: Comparison, paths: Mapping[str, Path]) -> dict[str, Any]:
    """Compare the methods that add parts to the model, or learn beforehand."""
    result, tokenizer = dict[str, Any](), comparison.tokenizer
    if path := paths.get("tpatcher"):
        targets = [target for _, _, target in FACTS] * 10
        others = [Edit(prompt, target) for prompt, target in zip(make_prompts(40), targets, strict=True)]
        result |= patchers.tpatcher(path, tokenizer, _edits(FACTS), others)
    if path := paths.get("calinet"):
        result |= patchers.calinet(path, tokenizer, _edits(FACTS))
    if path := paths.get("mend"):
        result["mend"] = learned_rivals.mend(path, comparison.model, tokenizer, FACTS, difference)
    if path := paths.get("serac"):
        with TemporaryDirectory() as folder:
            result["serac"] = learned_rivals.serac(path, comparison.model, tokenizer, FACTS, Path(folder))
    return result


def replays(comparison: Comparison, paths: Mapping[str, Path]) -> dict[str, Any]:
    """Compare those for which what is drawn at random is given to both sides."""
    result, tokenizer = dict[str, Any](), comparison.tokenizer
    if path := paths.get("cmr"):
        result |= replayed.cmr(path, tokenizer, [_edits(facts) for facts in comparison.batches], difference)
    if "ike" in paths or "easyedit" in paths:
        result |= replayed.ike(paths.get("ike"), paths.get("easyedit"), _edits(FACTS))
    if path := paths.get("easyedit"):
        result |= replayed.wise(path, tokenizer, make_llama(len(tokenizer)), _edits(FACTS))
    return result


CHECKOUTS = (
    "rome", "memit", "alphaedit", "ultraedit", "locft", "tpatcher", "calinet", "cmr", "ike", "easyedit", "mend",
    "serac",
)  # fmt: skip


def main() -> None:
    """Run the comparisons whose checkouts are given."""
    parser = option_parser(__doc__)
    for name in CHECKOUTS:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help=f"checkout of the released code of {name}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    paths = {name: path.resolve() for name in CHECKOUTS if (path := getattr(args, name)) is not None}
    comparison, result = Comparison(), dict[str, Any]()
    for compare in (changed_weights, added_parts, replays):
        result |= compare(comparison, paths)
    write({"figures": result}, args.out)


if __name__ == "__main__":
    main()
