"""One rank of a model that is cut over several: run by ``test_graph_shards.py``, one process a rank.

    python tests/vllm_plugin/ranks.py RANK RANKS FOLDER

The linears are cut as vLLM's are: the feed-forward's first by columns, its second by rows, whose outputs are summed.
The first rank alone knows the blocks. Each rank writes what it got.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file

from meloedit.hooks.blocks import Factors
from meloedit.vllm.edits.passes import Pass
from meloedit.vllm.graphs import ops
from meloedit.vllm.graphs.shards import Answer, Crew, shard_of
from meloedit.vllm.graphs.wide import WideBlocks

SIZE, INNER, TOKENS = 8, 12, 10
UP, DOWN = "mlp.up_proj", "mlp.down_proj"
SITES = {UP: (SIZE, INNER), DOWN: (INNER, SIZE)}
NAMES = ("one", "two", "base")


class Linear:
    """The attributes of one of vLLM's parallel linears, and its part of the weight."""

    def __init__(self, name, weight, rank, ranks):
        self.output_size, self.input_size = weight.shape
        self.tp_rank = rank
        self.input_size_per_partition = self.input_size // (ranks if name == DOWN else 1)
        self.output_size_per_partition = self.output_size // (ranks if name == UP else 1)
        self.shard = shard_of(name, self)
        self.weight = weight[self.shard.outputs, self.shard.inputs]


def answers():
    """Two blocks of different shapes, the second of which has words that must come; a request without one."""
    torch.manual_seed(3)
    found = []
    for rank, places in ((2, 3), (4, 0)):
        factors = {
            name: Factors(torch.randn(rank, i), torch.randn(o, rank), torch.randn(rank, places))
            for name, (i, o) in SITES.items()
        }
        found.append(Answer(2, 2, factors))
    return [found[0], found[1]._replace(start=0, answer=0, last=5, spelled=(7, 9)), None]


def run(rank, ranks, folder):
    torch.manual_seed(4)
    weights = {name: torch.randn(o, i) for name, (i, o) in SITES.items()}
    x = torch.randn(TOKENS, SIZE)
    group = dist.group.WORLD if ranks > 1 else None
    linears = {name: Linear(name, weight, rank, ranks) for name, weight in weights.items()}
    tables = WideBlocks(
        {name: one.shard for name, one in linears.items()}, 16, 3, 4, 3, SIZE, torch.float32, torch.device("cpu")
    )
    crew = Crew(SITES, torch.float32, group)
    assert crew.first == (rank == 0)
    heard = crew.share(3, answers() if crew.first else None, torch.device("cpu"))
    for name, answer in zip(NAMES, heard, strict=True):
        if answer is not None:
            tables.seat(name, answer, NAMES)
    one = Pass(list(NAMES), np.array([0, 4, 7, 10]), np.array([0, 0, 0]), np.array([3, 1, 3]))
    found = {}
    for kind in ("edited", "base"):
        if kind == "edited":
            tables.write(one, tables.rows, tables.places)
        else:
            tables.rows.zero_()
        hidden = _module(UP, linears[UP], tables, x).tanh()
        out = _module(DOWN, linears[DOWN], tables, hidden)
        if group is not None:
            dist.all_reduce(out)
        found[kind] = out
    spelled = [list(answer.spelled) if answer else [] for answer in heard]
    found["spelled"] = torch.tensor([token for row in spelled for token in row])
    found["starts"] = torch.tensor([(a.start, a.answer, a.last) if a else (-1, -1, -1) for a in heard])
    save_file(found, folder / f"{ranks}-{rank}.safetensors")


def _module(name, linear, tables, x):
    y = x @ linear.weight.t()
    return ops.add_blocks(x, y, tables.rows, tables.places, tables.owners, *tables.tables[name])


if __name__ == "__main__":
    torch.set_num_threads(1)
    own, count, where = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{where}/meeting", rank=own, world_size=count)
    run(own, count, where)
    if count > 1:
        dist.destroy_process_group()
