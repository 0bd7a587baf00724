"""Blocks that are cut over ranks: two processes of torch.distributed give what one gives."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ranks import run
from safetensors.torch import load_file

from meloedit.errors import ModelError
from meloedit.hooks.blocks import Factors
from meloedit.vllm.graphs.shards import Crew, shard_of

HERE = Path(__file__).parent
UNTOUCHED = [0, 1, 7, 8, 9]
"""Rows before the end of the first prompt, and those of the request without a block."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What each rank got, by (how many ranks, which one)."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen([sys.executable, str(HERE / "ranks.py"), str(rank), "2", str(folder)], env=environment)
        for rank in (0, 1)
    ]
    run(0, 1, folder)
    assert [process.wait(300) for process in started] == [0, 0]
    return {(n, r): load_file(folder / f"{n}-{r}.safetensors") for r, n in ((0, 1), (0, 2), (1, 2))}


def test_two_ranks_give_what_one_gives(runs):
    whole, first, second = runs[1, 0], runs[2, 0], runs[2, 1]
    assert torch.allclose(first["edited"], whole["edited"], atol=1e-4)
    assert torch.equal(first["edited"], second["edited"])
    assert not torch.allclose(whole["edited"][2:7], whole["base"][2:7], atol=1e-1)


def test_rows_without_a_block_are_those_of_the_cut_base_to_the_bit(runs):
    for rank in (0, 1):
        edited, base = runs[2, rank]["edited"], runs[2, rank]["base"]
        assert torch.equal(edited[UNTOUCHED].view(torch.int32), base[UNTOUCHED].view(torch.int32))


def test_all_ranks_have_heard_the_same(runs):
    assert runs[2, 0]["starts"].tolist() == runs[2, 1]["starts"].tolist() == [[2, 2, 0], [0, 0, 5], [-1, -1, -1]]
    assert runs[2, 0]["spelled"].tolist() == runs[2, 1]["spelled"].tolist() == [7, 9]


def linear(**attributes):
    return SimpleNamespace(**{"input_size": 12, "output_size": 8, **attributes})


def test_a_block_is_cut_as_its_linear_is():
    factors = Factors(torch.randn(2, 12), torch.randn(8, 2), torch.randn(2, 3))
    rows = [shard_of("m", linear(input_size_per_partition=6, output_size_per_partition=8, tp_rank=r)) for r in (0, 1)]
    parts = [shard.cut(factors) for shard in rows]
    assert torch.equal(torch.cat([part.a for part in parts], 1), factors.a)
    assert all(torch.equal(part.b, factors.b) for part in parts)
    assert torch.equal(parts[0].p, factors.p) and not parts[1].p.any()
    columns = [shard_of("m", linear(output_size_per_partition=4, tp_rank=r)) for r in (0, 1)]
    parts = [shard.cut(factors) for shard in columns]
    assert torch.equal(torch.cat([part.b for part in parts]), factors.b)
    assert all(torch.equal(part.a, factors.a) and torch.equal(part.p, factors.p) for part in parts)
    whole = shard_of("m", linear(tp_rank=1))  # every rank has all of it
    assert all(torch.equal(one, other) for one, other in zip(whole.cut(factors), factors, strict=True))


def test_merged_matrices_are_refused():
    with pytest.raises(ModelError, match="merged"):
        shard_of("qkv_proj", linear(output_size_per_partition=4, output_sizes=[4, 2, 2], tp_rank=0))


def test_one_rank_alone_tells_nobody():
    assert Crew({}, torch.float32).share(1, [None], torch.device("cpu")) == [None]
