"""Unpack a judge's file into a folder that training starts from: python -m judge.unpack --out FOLDER [--judge FILE]."""

from __future__ import annotations

import argparse
from pathlib import Path

import meloedit.judging
from meloedit.judging.weights import read_judge

SHIPPED = Path(meloedit.judging.__file__).with_name("judge.safetensors")


def main() -> None:
    """Write the model, its weights restored from int8, and its tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", type=Path, default=SHIPPED)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    file = read_judge(args.judge)
    file.model().save_pretrained(args.out)
    file.tokenizer.save(str(args.out / "tokenizer.json"))


if __name__ == "__main__":
    main()
