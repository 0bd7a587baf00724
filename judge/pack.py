"""Pack a trained judge into the file that ships: python -m judge.pack --model FOLDER --kept ROWS... --out FILE."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification

from meloedit.judging.judge import Judge
from meloedit.judging.pairs import PairTokenizer
from meloedit.judging.weights import restored, rounded, write_judge

from .measure import near_pairs, report, scorer
from .mixture import kept_back, read_rows

CONFIG = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act", "pad_token_id",
)  # fmt: skip
"""The settings of the model that its file names."""


def main() -> None:
    """Round the weights, score near pairs that were kept back, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--kept", type=Path, nargs="+", required=True, help="files of which every 14th row is taken")
    parser.add_argument("--lang", default="en", help="the rows whose near pairs set the threshold of a stated rate")
    parser.add_argument("--dev", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = BertForSequenceClassification.from_pretrained(args.model, num_labels=1, dtype=torch.float32)
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("position_ids")}
    model.load_state_dict(restored({k: t for name, w in weights.items() for k, t in rounded(name, w).items()}))
    tokenizer = (args.model / "tokenizer.json").read_bytes()
    score = scorer(model, PairTokenizer(Tokenizer.from_str(tokenizer.decode())))
    kept = near_pairs([row for path in args.kept for row in kept_back(path, True) if row["lang"] == args.lang])
    near = score([pair.prompt for pair in kept], [pair.wording for pair in kept])
    card = {
        "config": {name: getattr(model.config, name) for name in CONFIG},
        "training": json.loads((args.model / "training.json").read_text())
        if (args.model / "training.json").is_file()
        else {},
        "near_pairs": len(near),
    }
    write_judge(args.out, weights, tokenizer, near, card)
    judge = Judge.open(args.out)
    rates = {rate: round(judge.least_score(rate), 2) for rate in (0.02, 0.05, 0.1, 0.15, 0.2)}
    print(judge, args.out.stat().st_size, rates)
    if args.dev:
        print(json.dumps(report(judge.scores, read_rows([args.dev])), indent=1))


if __name__ == "__main__":
    main()
