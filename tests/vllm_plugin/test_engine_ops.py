"""vLLM's passes with ops, compiled, under the V2 runner, and over three ranks: answers and routes of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from engines import reference
from ops_engine import EVERY

pytestmark = pytest.mark.vllm
SCRIPT = Path(__file__).parent / "ops_engine.py"
LEAST = 1e30
"""Distances above it stand for none."""


@pytest.fixture(scope="module")
def run(world, model_folder, tmp_path_factory):
    """Answer prompts in a process of its own, once a mode."""
    folder, known = tmp_path_factory.mktemp("ops"), {}

    def answered(mode):
        if mode not in known:
            out = folder / f"{mode}.json"
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, str(SCRIPT), mode, str(world), str(model_folder), str(out)]
            subprocess.run(command, check=True, env=environment)
            known[mode] = json.loads(out.read_text())
        return known[mode]

    return answered


MODES = [
    "eager",
    "compiled",
    "eager+ranks",
    "eager+v2",
    "eager+v2+preempting",
]


@pytest.mark.parametrize("mode", MODES)
def test_routes_and_texts_are_those_of_one_process(mode, run, world):
    found, rows = run(mode), reference(world)[::EVERY]
    assert ("NONE" in found["config"] or found["config"] == "0") == ("compiled" not in mode)
    assert (found["preempted"] > 0) == ("preempting" in mode)
    for turn in found["turns"]:
        assert [one["route"]["edit"] for one in turn] == [row["edit"] for row in rows]
        assert [one["text"] for one in turn] == [row["answer"] for row in rows]
        pairs = [(one["route"]["distance"], row["distance"]) for one, row in zip(turn, rows, strict=True)]
        assert all(abs(got - want) < 1e-4 for got, want in pairs if got is not None and want < LEAST)


@pytest.mark.parametrize("mode", MODES)
def test_prompts_without_an_edit_get_the_tokens_of_vllm_without_the_plugin(mode, run):
    edited, plain = run(mode), run(mode.replace("eager", "eager+plain").replace("compiled", "compiled+plain"))
    for turn, base in zip(edited["turns"], plain["turns"], strict=True):
        pairs = [(one, other) for one, other in zip(turn, base, strict=True) if one["route"]["edit"] is None]
        assert len(pairs) > len(turn) // 4
        assert [one["tokens"] for one, _ in pairs] == [other["tokens"] for _, other in pairs]
