"""A tiny judge with random weights, as a file."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from meloedit.judging.judge import BUILT_IN
from meloedit.judging.weights import read_judge, write_judge

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="session")
def built_in():
    return read_judge(BUILT_IN)


@pytest.fixture(scope="session")
def tiny_model(built_in):
    torch.manual_seed(0)
    config = TINY | {"vocab_size": built_in.tokenizer.get_vocab_size()}
    return BertForSequenceClassification(BertConfig(**config, num_labels=1)).eval(), config


@pytest.fixture(scope="session")
def tiny_file(built_in, tiny_model, tmp_path_factory):
    model, config = tiny_model
    path = tmp_path_factory.mktemp("judge") / "tiny.safetensors"
    near = torch.tensor([3.0, -1.0, 0.5, 2.0])
    write_judge(path, model.state_dict(), built_in.tokenizer.to_str().encode(), near, {"config": config})
    return path
