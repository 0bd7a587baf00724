"""Paper mode (arXiv 2312.11795): settings, refusals, generation, and the way out."""

import pytest
import torch
from support.model_calls import padded
from support.paper_cases import CASES, FACTS, QUESTIONS, ids_of
from support.prompts import OTHERS
from support.tiny_models import END

from meloedit import Edit, Editor, MeloConfig, PaperConfig
from meloedit.errors import EditError, ModelError, StoreError
from meloedit.paper.config import config_from_dict
from meloedit.store import Store


def test_what_paper_mode_cannot_do_is_refused(make_paper):
    editor = make_paper("bert", CASES[:1], steps=1)
    revision = editor.store.revision
    with pytest.raises(EditError, match="edit 'q': paper mode has no quiet prompts: leave them out"):
        editor.edit([CASES[1], Edit(OTHERS[0], "tax", id="q", quiet=["Please hum"])])
    for prompts in (None, ["one", "two"]):
        with pytest.raises(EditError, match="paper mode takes keys as they are: there is nothing to calibrate"):
            editor.calibrate(prompts)
    assert editor.store.revision == revision and editor.neighbours("a") == (None, None, [])
    editor.unload()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 0}, "radius must be positive and finite, not 0"),
        ({"radius": -1.0}, "radius must be positive and finite, not -1.0"),
        ({"radius": float("inf")}, "radius must be positive and finite, not inf"),
        ({"radius": float("nan")}, "radius must be positive and finite, not nan"),
        ({"radius": "wide"}, "radius must be positive and finite, not 'wide'"),
        ({"rank": 0}, "rank must be a positive integer, not 0"),
        ({"rank": "two"}, "rank must be a positive integer, not 'two'"),
        ({"edits_per_block": 0}, "edits_per_block must be a positive integer, not 0"),
        ({"lr_step": 0}, "lr_step must be a positive integer, not 0"),
        ({"lr_decay": 1.5}, "lr_decay must be above 0 and at most 1, not 1.5"),
        ({"expand": "mean"}, "expand must be 'paper' or 'reference', not 'mean'"),
        ({"reach": "answer"}, "reach must be 'all' in paper mode, not 'answer'"),
        (
            {"preset": "zsre"},
            "no preset 'zsre'; there are: zsre-t5-small, zsre-t5-large, scotus-bert, hallucination-gpt2-xl",
        ),
        ({"radii": 1}, "unknown setting 'radii'"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(settings, message):
    with pytest.raises(ModelError) as error:
        PaperConfig.from_dict(settings)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_paper_settings_mean_nothing_in_the_default_mode():
    for settings in ({"reference_quirks": True}, {"edits_per_block": 2}):
        with pytest.raises(ModelError, match=f"unknown setting '{next(iter(settings))}'"):
            MeloConfig.from_dict(settings)
    config = PaperConfig(radius=2.0)
    assert (config.steps, config.reach, config.lr_step, config.lr_decay, config.lr) == (50, "all", 20, 0.5, 0.01)
    assert config_from_dict(config.to_dict()) == config and config_from_dict({}) == MeloConfig()
    with pytest.raises(ModelError, match="MeloConfig has the settings of 'default' mode, not those of 'paper' mode"):
        MeloConfig.from_dict(config.to_dict() | {})


def test_a_store_of_one_mode_is_not_opened_in_the_other(make_paper, make_source_editor, make_source, tmp_path):
    paths = {"paper": tmp_path / "paper.melo", "default": tmp_path / "default.melo"}
    make_paper("bert", CASES[:1], store=paths["paper"], steps=1).unload()
    make_source_editor("bert", store=paths["default"]).unload()
    for made, config in (("paper", MeloConfig()), ("default", PaperConfig(radius=1.0))):
        model, tokenizer = make_source("bert")
        with pytest.raises(StoreError) as error:
            Editor(model, tokenizer, config, store=Store.open(paths[made]))
        assert str(error.value) == (
            f"{paths[made]} was made in {made} mode and cannot be opened in {config.mode} mode: "
            "open it without a config, or make another store"
        )
        assert not model._forward_hooks
        with Editor(model, tokenizer, store=Store.open(paths[made])) as editor:
            assert editor.config.mode == made


def test_detach_and_generation(make_paper):
    editor = make_paper("t5-gated", FACTS)
    rows = ids_of(editor, [OTHERS[0], QUESTIONS["a"], QUESTIONS["c"], OTHERS[2]])

    def say(rows, **settings):
        with torch.no_grad():
            made = editor.model.generate(**padded(rows, "right"), max_new_tokens=6, do_sample=False, **settings)
        return [row[1 : row.index(END) if END in row else None] for row in made.tolist()]

    for settings in ({}, {"num_beams": 3}, {"use_cache": False}):
        together = say(rows, **settings)
        assert [route.edit for route in editor.last_routes] == [None, "a", "c", None]
        assert together == [say([row], **settings)[0] for row in rows]
    assert [editor.tokenizer.decode(row).strip() for row in say(rows)[1:3]] == ["Jorge", "eight"]
    model = editor.unload()
    assert "generate" not in vars(model) and not any(module._forward_hooks for module in model.modules())
