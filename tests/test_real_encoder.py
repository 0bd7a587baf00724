"""A real encoder, all-MiniLM-L6-v2, as a classifier, in both modes. Never skipped: `make test` installs its weights."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from meloedit import Edit, Editor, MeloConfig
from meloedit.backbones import loading as zoo
from meloedit.keys.grammar import make_prompts
from meloedit.paper.config import PaperConfig

pytestmark = pytest.mark.real
TOPICS = ["taxes", "unions", "privacy", "speech"]
CASES = [
    "The petitioner failed to report income from the sale of his orchard, and the Commissioner assessed a deficiency.",
    "The employer dismissed four clerks who had asked the other clerks to join them in bargaining over wages.",
    "Officers placed a device on the car without a warrant and followed it for a month across three counties.",
    "The town forbade all signs but those of the churches, and the publisher of a newspaper was fined for a poster.",
]
OTHERS = [
    "The river changed its bed, and the two states could not agree on which of them owned the island.",
    "A prisoner asked for a lawyer who spoke his language; the court appointed one who did not.",
    "Is it late?",
]


@pytest.fixture(scope="module")
def classifier():
    """The pretrained encoder under a head of seeded random weights."""
    folder = zoo.encoder_folder()
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(TOPICS)), "label2id": {name: i for i, name in enumerate(TOPICS)}}
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(TOPICS), **names)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def wrong_topics(editor):
    """Return, for each case, a topic that the model does not say by itself."""
    return [TOPICS[(TOPICS.index(answer.text) + 1) % len(TOPICS)] for answer in editor.ask(CASES)]


@torch.no_grad()
def logits(editor, texts):
    batch = editor.tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    return editor.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_a_real_encoder_is_edited_and_restored(classifier, mode):
    paper = {"radius": 0.5, "edits_per_block": 2, "rank": 4, "key_layer": "bert.encoder.layer.2.output.dense"}
    config = MeloConfig(calibration_prompts=200) if mode == "default" else PaperConfig(**paper)
    with Editor(*classifier, config=config) as editor:
        with editor.base_model():
            before = logits(editor, CASES + OTHERS)
        targets = wrong_topics(editor)
        reports = editor.edit([Edit(case, topic) for case, topic in zip(CASES, targets, strict=True)])
        assert all(report.holds for report in reports), reports
        answers = editor.ask(CASES + OTHERS)
        assert [answer.text for answer in answers[: len(CASES)]] == targets
        assert [answer.route.edit for answer in answers] == [report.id for report in reports] + [None] * len(OTHERS)
        assert torch.equal(logits(editor, CASES + OTHERS)[len(CASES) :], before[len(CASES) :])
        assert not torch.equal(logits(editor, CASES + OTHERS)[: len(CASES)], before[: len(CASES)])
        editor.remove([report.id for report in reports])
        assert torch.equal(logits(editor, CASES + OTHERS), before)


def test_documents_set_the_scope(classifier):
    with Editor(*classifier, config=MeloConfig(calibration_prompts=200)) as editor:
        editor.edit(Edit(CASES[0], wrong_topics(editor)[0], id="orchard"))
        near = CASES[0].replace("his orchard", "an old orchard of his")
        assert editor.calibration.info["scope"] == "near-exact"
        exact = [route.edit for route in editor.route([CASES[0], CASES[0].upper(), CASES[1]])]
        assert exact == ["orchard", "orchard", None]
        editor.calibrate([f"The court held: {text}" for text in make_prompts(400, seed=3)], "texts")
        assert [route.edit for route in editor.route([CASES[0], near, CASES[1]])] == ["orchard", "orchard", None]
