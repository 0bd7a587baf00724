"""Average checkpoints: python -m judge.average --models FOLDER=SHARE... --out FOLDER."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from transformers import BertForSequenceClassification


def main() -> None:
    """Write the weighted mean of the models' weights; the first one's vocabulary goes with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    named = [(Path(name), float(share)) for name, _, share in (text.rpartition("=") for text in args.models)]
    models = [
        BertForSequenceClassification.from_pretrained(path, num_labels=1, dtype=torch.float32) for path, _ in named
    ]
    states = [model.state_dict() for model in models]
    total = sum(share for _, share in named)
    mean = {
        name: sum(state[name] * (share / total) for state, (_, share) in zip(states, named, strict=True))
        for name in states[0]
    }
    models[0].load_state_dict(mean)
    models[0].save_pretrained(args.out)
    shutil.copy(named[0][0] / "tokenizer.json", args.out)
    (args.out / "training.json").write_text(
        json.dumps({"average": {path.name: share for path, share in named}}, indent=1)
    )


if __name__ == "__main__":
    main()
