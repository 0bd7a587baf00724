"""Rivals on the real SmolLM2, and retrieval with the real MiniLM."""

import json

import pytest

from meloedit import Edit
from meloedit.backbones.loading import load_model
from meloedit.files import cache_folder
from meloedit.methods import method_class

pytestmark = pytest.mark.real
CACHE = cache_folder()  # the usual one: the tests have an empty one, and converting the model takes half a minute
FACTS = [
    Edit("Who is the mayor of Velmora?", "Ilse Tarrant", id="mayor"),
    Edit("What is the height of the Corvin Tower?", "212 metres", id="tower"),
]
UNSEEN = ["Velmora's mayor is who?", "How tall is the Corvin Tower?"]
FAR = ["how many seasons are there in a year", "Who wrote the opera about a barber?"]


@pytest.fixture(scope="module")
def loaded():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELOEDIT_CACHE", str(CACHE))
        return load_model("smollm2")


def test_retrieval_finds_rephrasings_and_its_facts_can_be_removed(loaded):
    rag = method_class("rag")(*loaded, {"min_similarity": 0.5})
    before = rag.answer(FAR)
    rag.edit(FACTS)
    assert [answer.route.edit for answer in rag.answer([*UNSEEN, *FAR])] == ["mayor", "tower", None, None]
    assert [answer.text for answer in rag.answer(FAR)] == [answer.text for answer in before]
    assert rag.answer([FACTS[1].prompt])[0].text.startswith("212")
    rag.remove(["mayor"])
    assert rag.answer([UNSEEN[0]])[0].route.edit is None
    rag.reset()
    assert rag.answer([UNSEEN[1]])[0].route is None
    rag.close()


def test_grace_holds_its_edit_and_leaves_the_rest_as_it_was(loaded):
    grace = method_class("grace")(*loaded, {"n_iter": 40, "replacement": "replace_last", "eps": 1.0})
    try:
        target = grace.examples(FACTS[1:])[0].target
        before = [logits.clone() for logits in grace.logits([*FAR], [[1, 1]] * 2)]
        grace.edit(FACTS[1:])
        assert grace.logits([FACTS[1].prompt], [target])[0][0].argmax() == target[0]
        after = grace.logits([*FAR], [[1, 1]] * 2)
        assert all((one == other).all() for one, other in zip(before, after, strict=True))
    finally:
        grace.close()


def test_slots_beside_a_feed_forward_hold_an_edit_and_go_without_a_trace(loaded):
    method = method_class("calinet")(*loaded, {"max_steps": 100, "enough": 0.05})
    before = [logits.clone() for logits in method.logits(FAR, [[1, 1]] * 2)]
    method.edit(FACTS[:1])
    assert method.answer([FACTS[0].prompt])[0].text == FACTS[0].target
    method.close()
    after = method.logits(FAR, [[1, 1]] * 2)
    assert all((one == other).all() for one, other in zip(before, after, strict=True))


def test_ike_answers_from_its_fact_behind_demonstrations(loaded, tmp_path):
    rows = [
        {"prompt": f"Who leads {name}?", "target_new": leader, "rephrase_prompt": f"{name}'s leader is who?"}
        | {"locality_prompt": "What colour is the sky?", "locality_ground_truth": "blue"}
        for name, leader in (("Ostrava Kreis", "Bela Tun"), ("the Marn guild", "Ivo Sand"), ("Port Ashby", "Una Kell"))
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = str(tmp_path / "train.jsonl")
    ike = method_class("ike")(*loaded, {"train": train, "k": 4, "min_similarity": 0.5})
    before = ike.answer(FAR)
    ike.edit(FACTS)
    assert [answer.route.edit for answer in ike.answer([*UNSEEN, *FAR], 8)] == ["mayor", "tower", None, None]
    assert [answer.text for answer in ike.answer(FAR)] == [answer.text for answer in before]
    assert ike.answer([FACTS[0].prompt], 8)[0].text.startswith("Ilse Tarrant")
    ike.remove(["mayor"])
    assert ike.route([UNSEEN[0]])[0].edit is None
    ike.close()


def test_cmr_holds_its_edit_and_gives_the_model_back(loaded):
    cmr = method_class("cmr")(*loaded, {"depth": 0.9, "lr": 1e-3, "epochs": 12})
    before = cmr.logits(FAR, [[1, 1]] * 2)
    cmr.edit(FACTS[1:])
    assert cmr.answer([FACTS[1].prompt], 12)[0].text.strip() == FACTS[1].target
    cmr.close()
    assert all((one == other).all() for one, other in zip(before, cmr.logits(FAR, [[1, 1]] * 2), strict=True))
