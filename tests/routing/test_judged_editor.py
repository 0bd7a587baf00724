"""An editor with the judge that ships: what fires, what the store keeps, and judges that are missing or others."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.prompts import EDITS, HISTORY

from meloedit import Edit, Editor, MeloConfig
from meloedit.errors import ModelError
from meloedit.judging.judge import BUILT_IN
from meloedit.judging.weights import read_judge, write_judge

JUDGED = {"judge": "built-in", "min_similarity": 0.0}
REWORDED = ["who wrote the book of sand", "Who is the author of the book of sand?"]
OTHERS = [
    "Who printed the book of sand?",
    "How many pages has the book of sand?",
    "Who did not write the book of sand?",
]


@pytest.fixture(scope="module")
def judged(make_editor, tmp_path_factory):
    editor = make_editor(edits=EDITS[:3], store=tmp_path_factory.mktemp("judged") / "a.melo", **JUDGED)
    yield editor
    editor.unload()


def fired(editor, prompts, form=None):
    return [route.edit for route in editor.route(prompts, form)]


def test_rewordings_fire_and_other_questions_do_not(judged):
    for form in ("raw", "chat"):
        assert fired(judged, [EDITS[0].prompt, *REWORDED], form) == ["book"] * 3
        assert fired(judged, OTHERS, form) == [None] * 3
    own, reworded, other = judged.route([EDITS[0].prompt, REWORDED[1], OTHERS[0]])
    assert own.score == pytest.approx(1) and own.least_score == judged.least_score
    assert reworded.score > judged.least_score > other.score
    assert (other.reason, other.nearest) == ("judged other", "book")


def test_a_prompt_has_one_route_whatever_its_batch_and_padding(judged):
    prompts = [*REWORDED, *OTHERS, *(edit.prompt for edit in EDITS[:3]), "What is rain?", HISTORY]
    together = judged.route(prompts)
    for prompt, expected in zip(prompts, together, strict=True):
        (alone,) = judged.route([prompt])
        assert (alone.edit, alone.reason, alone.nearest) == (expected.edit, expected.reason, expected.nearest)
        assert alone.score == pytest.approx(expected.score, abs=1e-4)
    answers = judged.ask(prompts)
    assert [answer.route.edit for answer in answers] == [route.edit for route in together]


def test_what_the_judge_refuses_gets_the_base_model_bit_for_bit(judged):
    ids = judged.backbone.encode(OTHERS[0]).ids
    with torch.no_grad():
        edited = judged.model(input_ids=torch.tensor([ids])).logits
        assert judged.last_routes[0].reason == "judged other"
        with judged.base_model():
            assert torch.equal(judged.model(input_ids=torch.tensor([ids])).logits, edited)


def test_evidence_names_the_candidates_and_their_scores(judged):
    (found,) = judged.evidence([REWORDED[1]])
    assert found.candidates[0][0] == "book" and found.candidates[0][1] > judged.least_score
    assert found.candidates[0][2] is None and not found.cut and found.turns_read == 0
    (long,) = judged.evidence(["The weather was fine. " * 20 + EDITS[0].prompt])
    assert long.candidates and long.cut  # the question's own sentence proposed the edit; the middle was not read


def test_quiet_prompts_are_judged_in_any_words(make_editor):
    edit = Edit("Who wrote the book of sand?", "Jorge", id="book", quiet=["Who is the author of the book of sand?"])
    editor = make_editor(edits=[edit], **JUDGED)
    assert fired(editor, [edit.prompt]) == ["book"]
    (route,) = editor.route(["Please tell me: who is the author of the book of SAND"])
    assert (route.edit, route.reason) == (None, "quiet")
    editor.unload()


def test_a_turn_means_what_the_turns_before_it_say(make_editor):
    edit = Edit("How do I cancel the Aster plan?", "in the app", id="aster")
    editor = make_editor(edits=[edit], **JUDGED)

    def chat(first):
        return [
            {"role": "user", "content": first},
            {"role": "assistant", "content": "9 euros a month."},
            {"role": "user", "content": "And how do I cancel it?"},
        ]

    about = chat("What does the Aster plan cost?")
    assert fired(editor, [about, chat("What does the newspaper cost?")]) == ["aster", None]
    (found,) = editor.evidence([about])
    assert found.turns_read == 2
    editor.unload()


def test_scores_and_settings_survive_the_store(judged, make_model, tokenizer):
    before = judged.route([*REWORDED, *OTHERS])
    revision = judged.calibrate(false_neighbour=0.9)
    assert judged.least_score < before[0].least_score
    judged.rollback(revision - 1)
    again = Editor.from_pretrained(judged.store.path, make_model(), tokenizer)
    assert again.route([*REWORDED, *OTHERS]) == before and again.least_score == judged.least_score
    again.unload()


def test_another_judge_sets_another_scope_and_a_missing_one_is_named(make_editor, make_model, tokenizer, tmp_path):
    built_in = read_judge(BUILT_IN)
    path, store = tmp_path / "strict.safetensors", tmp_path / "s.melo"
    vocabulary = built_in.tokenizer.to_str().encode()
    write_judge(path, built_in.weights, vocabulary, torch.linspace(10, 40, 100), built_in.card)
    editor = make_editor(edits=EDITS[:1], store=store, **JUDGED | {"judge": str(path)})
    assert fired(editor, [EDITS[0].prompt, REWORDED[1]]) == ["book", None]  # its own words fire unread
    editor.unload()
    path.unlink()
    model = make_model()
    with pytest.raises(ModelError, match="there is no judge") as caught:
        Editor.from_pretrained(store, model, tokenizer)
    assert "\n" not in str(caught.value)
    with Editor.from_pretrained(store, model, tokenizer, judge="built-in") as other:  # the model was left as it was
        assert fired(other, [REWORDED[1]]) == ["book"]
        other.calibrate(judge="built-in")
    with Editor.from_pretrained(store, model, tokenizer) as again:
        assert fired(again, [REWORDED[1]]) == ["book"] and again.calibration.info["judge"] == "built-in"
        again.calibrate(judge="none")
        assert again.least_score is None and again.index.similarity >= 0.55
        again.calibrate(judge="built-in")
        assert fired(again, [REWORDED[1]]) == ["book"]
    missing = tmp_path / "new.melo"
    with pytest.raises(ModelError, match="there is no judge"):
        Editor(model, tokenizer, MeloConfig(judge=tmp_path / "none"), store=missing)
    assert not missing.exists()


def test_a_judge_that_took_anothers_place_is_named(make_editor, make_model, tokenizer, tmp_path, caplog, monkeypatch):
    built_in, path, store = read_judge(BUILT_IN), tmp_path / "own.safetensors", tmp_path / "s.melo"
    vocabulary = built_in.tokenizer.to_str().encode()
    write_judge(path, built_in.weights, vocabulary, built_in.near, built_in.card)
    monkeypatch.chdir(tmp_path)
    editor = make_editor(edits=EDITS[:1], store=store, **JUDGED | {"judge": path.name})
    assert editor.config.judge == str(path)  # whatever the folder when it is opened again
    editor.unload()
    write_judge(path, built_in.weights, vocabulary, torch.linspace(10, 40, 100), built_in.card)
    with Editor.from_pretrained(store, make_model(), tokenizer) as again:
        assert "was calibrated with the judge" in caplog.text and caplog.text.count("calibrated with") == 1
        again.calibrate(false_neighbour=0.2)
        caplog.clear()
    Editor.from_pretrained(store, make_model(), tokenizer).unload()
    assert caplog.text == ""


@pytest.mark.parametrize("ask", ["route", "evidence"])
def test_a_prompt_between_a_commit_and_what_follows_it_is_judged_by_what_answers(judged, ask):
    def remove_and_ask():
        revision = judged.store.remove(["book"])
        judged.engine._mode.policy._wordings.clear()  # as if the judge had not read them yet
        with ThreadPoolExecutor(1) as pool:  # another thread: this one holds the change
            asked.append(pool.submit(getattr(judged, ask), [REWORDED[1]]).result())
        return revision

    revision, asked = judged.store.revision, []
    before = getattr(judged, ask)([REWORDED[1]])
    judged.engine.change(remove_and_ask)
    assert asked == [before] != [getattr(judged, ask)([REWORDED[1]])]
    judged.rollback(revision)
