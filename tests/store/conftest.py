"""A store with three edits."""

import pytest
import torch
from support.store_cases import CONFIG, MODEL, record

from meloedit.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "facts.melo"


@pytest.fixture
def store(path):
    """A store at revision 4: a, b (disabled) and c are live under calibration 1."""
    store = Store.create(path, MODEL, CONFIG)
    store.calibrate({"mean": torch.arange(3.0)}, {"n": 10}, {})
    store.put([record("a", seed=1), record("b", seed=2), record("c", seed=3)])
    store.set_enabled(["b"], False)
    return store
