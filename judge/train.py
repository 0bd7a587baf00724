"""Train the pair judge.

python -m judge.train --start FOLDER --whole FILE --rows FILE... --wordings FOLDER --dev FILE --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import random
import time
from contextlib import suppress
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import BertForSequenceClassification

from meloedit.judging.pairs import PairTokenizer

from .measure import report, scorer
from .mixture import Hand, batches, kept_back, read_rows
from .public import Public


def main() -> None:
    """Train, and write the model with what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--rows", type=Path, nargs="+", required=True, help="files of which every 14th row is kept back"
    )
    parser.add_argument("--whole", type=Path, nargs="*", default=[], help="files of which every row is trained on")
    parser.add_argument("--wordings", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--layers", type=int, help="keep so many of the lower layers alone, for a curve over size")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, help="stop after so much time, the learning rate decaying with it")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=1700)
    parser.add_argument("--lr", type=float, default=6e-5)
    parser.add_argument("--hand", type=float, default=0.75)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--watch", action="store_true", help="read the rows again now and then: somebody adds to them")
    parser.add_argument("--limit-rows", type=int, help="train on so many rows alone, for a learning curve")
    parser.add_argument("--elsewhere", type=float, default=0.0, help="share of pairs by hand with another row's prompt")
    parser.add_argument("--floor", type=float, default=0.01, help="least share of the learning rate")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16: faster where the processor can")
    parser.add_argument("--average", type=float, default=0.999, help="decay of the running average that is written")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    torch.manual_seed(args.seed)
    config = {"hidden_dropout_prob": args.dropout, "attention_probs_dropout_prob": args.dropout}
    if args.layers:
        config["num_hidden_layers"] = args.layers
    model = BertForSequenceClassification.from_pretrained(args.start, num_labels=1, dtype=torch.float32, **config)
    pairs = PairTokenizer(Tokenizer.from_file(str(args.start / "tokenizer.json")))
    rows = read_rows(args.whole) + [row for path in args.rows for row in kept_back(path, False)]
    rng.shuffle(rows)
    rows = rows[: args.limit_rows]
    print(len(rows), "rows", flush=True)
    hand = Hand(rows, rng, args.elsewhere)
    mixed = batches([(args.hand, hand), (1 - args.hand, Public(args.wordings, rng))], args.size, args.tokens, rng)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.average))
    dev, score = read_rows([args.dev]), scorer(averaged.module, pairs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01, fused=True)
    total, count, began = 0.0, 0, time.perf_counter()
    model.train()
    for step in range(1, args.steps + 1):
        done = step / args.steps
        if args.minutes:
            done = max(done, (time.perf_counter() - began) / 60 / args.minutes)
        optimizer.param_groups[0]["lr"] = args.lr * min(1, step / 80) * max(args.floor, 1 - done)
        batch = next(mixed)
        ids, types, mask = pairs.pad(pairs.encode([pair.prompt for pair in batch], [pair.wording for pair in batch]))
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            logits = model(input_ids=ids, token_type_ids=types, attention_mask=mask).logits[:, 0].float()
        wanted = torch.tensor([float(pair.same) for pair in batch])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(model)
        total, count = total + loss.item(), count + 1
        if step % 50 == 0 or done >= 1:
            print(f"{step} loss {total / count:.3f} {time.perf_counter() - began:.0f} s", flush=True)
            total, count = 0.0, 0
        if args.watch and step % 200 == 0:
            with suppress(ValueError):  # a line that is being written: next time
                rows = read_rows(args.whole) + [row for path in args.rows for row in kept_back(path, False)]
                hand.take(rows)
                print(len(rows), "rows", flush=True)
        if step % 500 == 0 or done >= 1:
            figures = report(score, dev)
            print(json.dumps(figures), flush=True)
            averaged.module.save_pretrained(args.out)
            (args.out / "tokenizer.json").write_bytes((args.start / "tokenizer.json").read_bytes())
            (args.out / "training.json").write_text(json.dumps({"step": step, **figures}, indent=1))
        if done >= 1:
            break


if __name__ == "__main__":
    main()
