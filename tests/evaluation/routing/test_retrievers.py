"""The cache of states that retrievers share."""

from pathlib import Path

import torch

from meloedit.evaluation.routing import retriever as retrievers


def test_states_are_taken_once_and_made_anew_if_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("MELOEDIT_CACHE", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return torch.ones(3, 2)

    for _ in range(2):
        assert retrievers.cached_states(["a", [1, 2]], 3, make).shape == (3, 2)
    assert len(made) == 1
    retrievers.cached_states(["b"], 3, make)
    for file in Path(retrievers.states_folder()).iterdir():
        file.write_bytes(b"no tensors")
    retrievers.cached_states(["a", [1, 2]], 3, make)
    assert len(made) == 3
