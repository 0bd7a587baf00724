"""Calls that cannot be routed are refused, unless no edit could answer them."""

import copy

import pytest
import torch
from support.causal_checks import run
from torch import nn

from meloedit.errors import RoutingError

REFUSED = [
    ({"cache_implementation": "paged"}, ["argument", "config", "model"]),
    ({"prompt_lookup_num_tokens": 2}, ["argument", "config", "model"]),
    ({"assistant_early_exit": 2}, ["argument", "config", "model"]),
    ({"use_mtp": True}, ["argument", "config", "model"]),
    ({"guidance_scale": 1.5}, ["argument", "config", "model"]),
    ({"token_healing": True}, ["argument", "config", "model"]),
    ({"penalty_alpha": 0.6, "top_k": 4}, ["argument", "config", "model"]),
    ({"num_beam_groups": 2, "num_beams": 4}, ["argument", "config", "model"]),
    ({"dola_layers": "high"}, ["argument", "config", "model"]),
    ({"force_words_ids": [[5]]}, ["argument", "config", "model"]),
    ({"custom_generate": "someone/decoding"}, ["argument"]),
    ({"custom_generate": lambda model, **kwargs: None}, ["argument"]),
    ({"negative_prompt_ids": torch.tensor([[5]])}, ["argument"]),
    ({"assistant_model": nn.Linear(1, 1)}, ["argument"]),
]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        pytest.param(settings, place, id=f"{next(iter(settings))}-{place}")
        for settings, places in REFUSED
        for place in places
    ],
)
def test_ways_of_decoding_that_cannot_be_routed_are_refused(llama, settings, where, monkeypatch):
    name = next(iter(settings))
    if where != "argument":
        config = copy.deepcopy(llama.model.generation_config)
        config.update(**settings)
        settings = {"generation_config": config} if where == "config" else {}
        if where == "model":
            monkeypatch.setattr(llama.model, "generation_config", config)
    with pytest.raises(RoutingError, match=f"{name}=.*base_model"):
        llama.model.generate(torch.tensor([[5, 6, 7]]), **settings)


def test_a_kind_of_cache_that_transformers_lacks_is_its_error(llama):
    with pytest.raises(ValueError, match="cache_implementation"):
        llama.model.generate(torch.tensor([[5, 6, 7]]), cache_implementation="nonsense", max_new_tokens=1)


def test_continuous_batching_is_refused(llama):
    for name in ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager"):
        with pytest.raises(RoutingError, match="continuous batching"):
            getattr(llama.model, name)([[5, 6, 7]])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"cu_seq_lens_q": torch.tensor([0, 2, 4])}, "packed"),
        ({"position_ids": torch.tensor([[0, 1, 0, 1]])}, "packed"),
        ({"attention_mask": torch.ones(1, 1, 4, 4)}, "more than two dimensions"),
        ({"attention_mask": torch.ones(1, 3)}, "3 columns, the call has 4"),
    ],
)
def test_plain_calls_that_cannot_be_routed_are_refused(llama, inputs, message):
    with pytest.raises(RoutingError, match=message):
        run(llama, input_ids=torch.tensor([[5, 6, 7, 8]]), **inputs)


def test_lengths_of_other_rows_are_refused(llama):
    with pytest.raises(RoutingError, match="names 2 rows, the call has 1"), llama.prompt_lengths([1, 2]):
        run(llama, input_ids=torch.tensor([[5, 6]]))


@pytest.mark.parametrize("lengths", [[-1], [1.5], ["a"], "a", 5, None])
def test_lengths_that_are_no_numbers_of_tokens_are_refused(llama, lengths):
    with pytest.raises(RoutingError, match="takes a whole number of tokens per row"), llama.prompt_lengths(lengths):
        pass


def test_a_model_without_edits_refuses_nothing(make_editor):
    editor = make_editor()
    made = editor.model.generate(torch.tensor([[5, 6, 5, 6]]), prompt_lookup_num_tokens=2, max_new_tokens=2)
    assert made.shape == (1, 6)
    editor.unload()
