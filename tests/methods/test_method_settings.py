"""Settings of methods: what is unknown, of the wrong kind or out of range is refused with a reason."""

import pytest

from meloedit.errors import MeloEditError
from meloedit.methods import METHODS, method_class


@pytest.mark.parametrize("name", list(METHODS))
def test_an_unknown_setting_is_named_with_the_known_ones(name):
    with pytest.raises(MeloEditError, match=r"'colour'"):
        method_class(name).read_settings({"colour": 1})


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("grace", {"replacement": "some"}, "replacement must be one of"),
        ("grace", {"n_iter": 1.5}, "n_iter must be a whole number"),
        ("grace", {"edits_per_call": 2}, "edits_per_call must be 1"),
        ("lora", {"lr": "fast"}, "lr must be a number"),
        ("ft", {"edits_per_call": 0}, "edits_per_call must be positive"),
        ("lora", {"rank": 0}, "rank must be positive and finite, not 0"),
        *(
            (name, {"depth": 1.5}, "depth must lie between 0 and 1, not 1.5")
            for name in ("ft", "rome", "ultraedit", "wise")
        ),
        ("locft", {"depth": -0.5}, "depth must lie between 0 and 1, not -0.5"),
        ("lora", {"dropout": 1.0}, "dropout must be below 1, not 1"),
        ("lora", {"dropout": -0.1}, "dropout must not be negative, not -0.1"),
        *(
            (name, {setting: -1.0}, f"{setting} must not be negative, not -1.0")
            for name, setting in (
                ("ft", "enough"),
                ("lora", "enough"),
                ("calinet", "enough"),
                ("cmr", "weight_decay"),
                ("rome", "kl_factor"),
                ("tpatcher", "mlc"),
                ("tpatcher", "eps"),
            )
        ),
        *((name, {setting: -1}, "must not be negative") for name, setting in (("ike", "k"), ("mend", "val_examples"))),
        *((name, {"edits_per_call": 2}, "edits_per_call must be 1: it cannot be") for name in ("wise", "tpatcher")),
        ("alphaedit", {"mom2_update_weight": 15.0}, "mom2_update_weight must be 20000.0: it cannot be chosen"),
        ("tpatcher", {"eps": 1.0}, "eps must be below 1, not 1"),
        ("wise", {"densities": 1.5}, "densities must lie between 0 and 1, not 1.5"),
        ("rag", {"min_similarity": float("nan")}, "min_similarity must be positive and finite"),
        ("grace", {"eps": -1.0}, "eps must be positive"),
        ("grace", {"prefix_cache": 1}, "prefix_cache must be true or false"),
        ("grace", {"colour": 2}, "it has: seed, layer, eps"),
        ("rag", {"top": 0}, "top must be positive"),
        ("rag", {"form": "{prompt}"}, "form must contain {facts} and {prompt}"),
        ("melo", {"mode": "paper"}, "paper mode is the method melo-paper"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(name, settings, words):
    with pytest.raises(MeloEditError, match=words.replace("{", r"\{").replace("}", r"\}")):
        method_class(name).read_settings(settings)
