import json

import numpy as np
import pytest

from meloedit import MeloConfig
from meloedit.backbones.locations import key_layer_index, last_layers
from meloedit.errors import ModelError
from meloedit.paper.config import PaperConfig


def test_settings_survive_json():
    config = MeloConfig(modules=["a.b", "c"], key_layer="k", rank=3, max_rank=5, reach="all", lr=0.02)
    again = MeloConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and again.modules == ("a.b", "c")
    assert MeloConfig.from_dict({}) == MeloConfig()


def test_an_unknown_setting_names_those_there_are():
    with pytest.raises(ModelError, match="unknown setting 'ranks'.*rank, max_rank"):
        MeloConfig.from_dict({"ranks": 3})


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "layers": [0, -1, 1.5, True, "3", None],
        "key_size": [0],
        "rank": [0, 2.0],
        "steps": [0],
        "train_batch_size": [0],
        "modules": [(), [], "model.layers.0.mlp", [3]],
        "key_depth": [0, 1, -0.1, 2, "a", None],
        "max_rank": [1, 2.5],
        "reach": ["both", None],
        "lr": [0, -1, float("nan"), "fast", None, 10**400],
        "min_target_probability": [-0.1, 1, "sure", False],
        "false_activation": [0, 1, 2, "low", 1e-320, np.float32(0.01), np.array([0.1, 0.2])],
        "min_similarity": [-1.1, 1.1, "low"],
        "calibration_prompts": [199, 0, 1e3, 50_001],
        "answer_positions": [-1, 1.5, True, "8", 1025],
    }.items(),
)
def test_values_that_do_not_fit_are_refused_by_name(name, values):
    for value in values:
        with pytest.raises(ModelError, match=f"^{name} must be "):
            MeloConfig(**{name: value})


def test_the_paper_knows_no_places():
    with pytest.raises(ModelError, match="^answer_positions must be None or 0 in paper mode, not 8"):
        PaperConfig(answer_positions=8)
    assert PaperConfig(answer_positions=0).answer_positions == 0
    with pytest.raises(ModelError, match="^train_with_lead_in must be false in paper mode, not True"):
        PaperConfig(train_with_lead_in=True)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(
        ModelError, match="rank must be a positive integer, not 0; .*lr must be positive and finite, not -1"
    ):
        MeloConfig(rank=0, lr=-1)


def test_choice_of_layers():
    assert last_layers(12, 3) == [9, 10, 11]
    assert last_layers(2, 3) == [0, 1]
    assert key_layer_index(30, 0.27, 27) == 8
    assert key_layer_index(4, 0.9, 1) == 0
    assert key_layer_index(5, 0.27, 2) == 1
    with pytest.raises(ModelError, match="layer 0"):
        key_layer_index(3, 0.27, 0)
