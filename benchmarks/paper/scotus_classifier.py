"""Train the classifier that SCOTUS edits need: an encoder that learns the topic of cases decided up to 1990.

    python -m benchmarks.paper.scotus_classifier --data scotus_cases.jsonl.gz --out scotus-minilm

About 15 % of the cases up to 1990, chosen by a hash of their id, are held out: they are the upstream set, which edits
must not change. The embeddings and the lower layers are frozen and their output is cached in memory; full fine-tuning
takes twice as long on two cores. Each epoch reads another window of a case, where the case is long enough. Scores are
those of the first window, which is what a user sends.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

from meloedit.backbones import loading as zoo
from meloedit.evaluation.run.provenance import peak_gigabytes
from meloedit.evaluation.tasks.datasets import TOPICS, Case, scotus_cases, split

from ..shared.options import option_parser, positive, share, write


class Cached(torch.nn.Module):
    """Stands in for the embeddings and the frozen layers: passes their cached output on."""

    def forward(self, inputs_embeds: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return the cached activations unchanged."""
        return inputs_embeds


def windows(tokenizer: Any, cases: list[Case], size: int, count: int) -> list[list[list[int]]]:
    """Return the first ``count`` windows of each case, of ``size`` tokens with the special ones."""
    # By default the packaged tokenizer cuts at 128 tokens and pads to 128.
    encoded = tokenizer(
        [case.text for case in cases], add_special_tokens=False, truncation=False, padding=False, verbose=False
    )
    inner = size - 2
    of_case = []
    for ids in encoded["input_ids"]:
        parts = [ids[start : start + inner] for start in range(0, min(len(ids), count * inner), inner)]
        long = [part for k, part in enumerate(parts) if k == 0 or 2 * len(part) > inner]  # a short rest says little
        of_case.append([[tokenizer.cls_token_id, *part, tokenizer.sep_token_id] for part in long])
    return of_case


def padded(rows: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of rows padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


@torch.no_grad()
def prefix(model: Any, rows: list[list[int]], frozen: int, pad: int, bar: Progress) -> list[torch.Tensor]:
    """Return the output (L, d) of the lowest ``frozen`` layers for each row."""
    base = model.base_model
    layers = base.encoder.layer
    base.encoder.layer = layers[:frozen]
    model.eval()
    task = bar.add_task("frozen layers", total=len(rows))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    outputs: list[Any] = [None] * len(rows)
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        ids, mask = padded([rows[i] for i in part], pad)
        hidden = base(input_ids=ids, attention_mask=mask).last_hidden_state
        for i, row in zip(part, hidden, strict=True):
            outputs[i] = row[: len(rows[i])].clone()
        bar.advance(task, len(part))
    base.encoder.layer = layers
    return outputs


@torch.no_grad()
def right(model: Any, tokenizer: Any, cases: list[Case], size: int) -> list[bool]:
    """Return for each case whether the model predicts its topic."""
    model.eval()
    rows = [parts[0] for parts in windows(tokenizer, cases, size, 1)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    hits = [False] * len(rows)
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        ids, mask = padded([rows[i] for i in part], tokenizer.pad_token_id)
        predicted = model(input_ids=ids, attention_mask=mask).logits.argmax(-1).tolist()
        for i, label in zip(part, predicted, strict=True):
            hits[i] = label == cases[i].label
    return hits


def train(model: Any, inputs: list[list[torch.Tensor]], labels: list[int], args: Any, bar: Progress) -> float:
    """Train the upper layers on cached activations; return the last epoch's mean loss."""
    base = model.base_model
    embeddings, layers = base.embeddings, base.encoder.layer
    base.embeddings, base.encoder.layer = Cached(), layers[args.frozen :]
    head = list(model.classifier.parameters())
    body = [p for p in model.parameters() if all(p is not other for other in head)]
    optimiser = torch.optim.AdamW(
        [{"params": body, "lr": args.lr, "weight_decay": 0.01}, {"params": head, "lr": args.lr * 10}]
    )
    steps = args.epochs * -(-len(labels) // args.batch)
    schedule = get_linear_schedule_with_warmup(optimiser, steps // 10, steps)
    task = bar.add_task("training", total=steps)
    model.train()
    total = 0.0
    for epoch in range(args.epochs):
        order = random.sample(range(len(labels)), len(labels))
        total = 0.0
        for start in range(0, len(order), args.batch):
            part = order[start : start + args.batch]
            rows = [inputs[i][epoch % len(inputs[i])] for i in part]
            hidden = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], True)
            logits = model(inputs_embeds=hidden, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([labels[i] for i in part]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            total += loss.item() * len(part) / len(order)
            bar.advance(task)
        bar.console.print(f"epoch {epoch + 1} of {args.epochs}: loss {total:.4f}")
    base.embeddings, base.encoder.layer = embeddings, layers
    return total


def main() -> None:
    """Train, score and save the classifier."""
    parser = option_parser(__doc__, out=False)
    parser.add_argument("--data", required=True, help="file of SCOTUS cases")
    parser.add_argument("--model", default=zoo.ENCODER, help="an encoder with BERT's layout: a folder, or a hub name")
    parser.add_argument("--out", required=True, help="folder for the classifier and training.json")
    parser.add_argument("--epochs", type=positive, default=6)
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument(
        "--lr",
        type=float,
        default=2e-4,
        help="learning rate of the encoder's layers; the classifier's is ten times as large",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-tokens", type=positive, default=256)
    parser.add_argument("--frozen", type=int, default=3, help="lower layers that are not trained")
    parser.add_argument("--windows", type=positive, default=3, help="most windows of each case to train on")
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    source = str(zoo.encoder_folder()) if args.model == zoo.ENCODER else args.model
    tokenizer = AutoTokenizer.from_pretrained(source)
    names = dict(enumerate(TOPICS))
    # MiniLM's pooler weights load too, although its authors trained with mean pooling, without the pooler: they are
    # those of the model it was distilled from. Only `classifier` starts from random.
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=len(TOPICS), id2label=names, label2id={name: i for i, name in names.items()}
    )
    sets = split(scotus_cases(args.data))
    began = time.perf_counter()
    with Progress() as bar:
        train_windows = windows(tokenizer, sets.train, args.max_tokens, args.windows)
        flat = prefix(model, [row for rows in train_windows for row in rows], args.frozen, tokenizer.pad_token_id, bar)
        cached = iter(flat)
        inputs = [[next(cached) for _ in rows] for rows in train_windows]
        loss = train(model, inputs, [case.label for case in sets.train], args, bar)
    seconds = time.perf_counter() - began
    tokenizer.model_max_length = args.max_tokens  # the training length: longer documents are cut, not refused
    model.save_pretrained(args.out)  # before the minutes of scoring: a killed run keeps the trained model
    tokenizer.save_pretrained(args.out)
    scored = {"held_out_upstream": sets.held_out, "edits_1991_2009": sets.edits, "later_2010_on": sets.later}
    result = {
        "task": "topic of a Supreme Court case, from its first tokens",
        "settings": {name: value for name, value in vars(args).items() if name not in ("data", "out")},
        "counts": {"train": len(sets.train)} | {name: len(cases) for name, cases in scored.items()},
        "train_windows": sum(map(len, train_windows)),
        "train_loss_last_epoch": round(loss, 4),
        "accuracy": {name: share(right(model, tokenizer, cases, args.max_tokens)) for name, cases in scored.items()},
        "seconds_training": round(seconds),
        "peak_gigabytes": peak_gigabytes(),
    }
    write(result, Path(args.out) / "training.json")


if __name__ == "__main__":
    main()
