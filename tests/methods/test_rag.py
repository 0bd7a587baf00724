"""Retrieval with a tiny encoder: distances, and what it refuses."""

import pytest

from meloedit import Edit
from meloedit.errors import MeloEditError
from meloedit.methods import method_class

QUESTIONS = [
    Edit("Who wrote the book of sand?", "Jorge", id="book"),
    Edit("What is the capital of Peru?", "Lima", id="capital"),
    Edit("How many legs has a spider?", "eight", id="legs"),
]


def test_rag_refuses_documents():
    with pytest.raises(MeloEditError, match="rag cannot serve task scotus"):
        method_class("rag").check_task("scotus", "document")
    method_class("rag").check_task("zsre", "question")


def test_rag_measures_chords_and_a_wrong_encoder_is_one_line(make_model, make_source, tokenizer, tmp_path):
    encoder, reader = make_source("bert")
    encoder.save_pretrained(tmp_path / "encoder")
    reader.save_pretrained(tmp_path / "encoder")
    rag = method_class("rag")(make_model("llama"), tokenizer, {"encoder": str(tmp_path / "encoder")})
    rag.edit(QUESTIONS)
    texts = [QUESTIONS[0].prompt, "Is it late?"]
    first, other = rag.route(texts)
    cosine = float((rag.encoder.embed(texts[1:]) @ rag.encoder.embed([edit.prompt for edit in QUESTIONS]).T).max())
    assert first.edit == "book" and first.distance == pytest.approx(0, abs=1e-3)
    assert other.distance == pytest.approx((2 - 2 * cosine) ** 0.5, abs=1e-4)
    assert other.threshold == pytest.approx(2**0.5)
    with pytest.raises(MeloEditError, match=r"cannot load the encoder '/no/such' \(there is no such folder, [^\n]+$"):
        method_class("rag")(rag.model, tokenizer, {"encoder": "/no/such"})
