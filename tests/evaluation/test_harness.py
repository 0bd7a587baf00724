"""The lm-evaluation-harness on an edited model: routes by the context alone, the same as generate's."""

import json

import pytest
import torch
from support.prompts import EDITS, OTHERS, SETTINGS
from typer.testing import CliRunner

from meloedit import Editor, MeloConfig
from meloedit.cli.app import app
from meloedit.errors import MeloEditError
from meloedit.evaluation.harness import find_tasks, run_harness
from meloedit.evaluation.harness_model import model_of
from meloedit.methods import method_class

pytest.importorskip("lm_eval")
from lm_eval.api.instance import Instance  # noqa: E402


def ask(kind, *args):
    return Instance(kind, {}, args, 0)


@pytest.fixture(scope="module")
def lm(llama):
    return model_of(llama)


def test_a_continuation_is_as_likely_as_the_edited_model_generates_it(llama, lm):
    own = [ask("loglikelihood", edit.prompt, " " + edit.target) for edit in EDITS[:3]]
    found = lm.loglikelihood(own, disable_tqdm=True)
    assert all(greedy for _, greedy in found)
    with llama.base_model():
        base = lm.loglikelihood(own, disable_tqdm=True)
    assert not any(greedy for _, greedy in base)
    assert all(edited > plain for (edited, _), (plain, _) in zip(found, base, strict=True))


def test_what_no_edit_concerns_is_bit_identical_in_a_mixed_batch(llama, lm):
    requests = [ask("loglikelihood", edit.prompt, " " + edit.target) for edit in EDITS[:3]]
    others = [ask("loglikelihood", text, " Lima") for text in OTHERS]
    mixed = lm.loglikelihood([*requests, *others], disable_tqdm=True)[len(requests) :]
    with llama.base_model():
        assert lm.loglikelihood([*requests, *others], disable_tqdm=True)[len(requests) :] == mixed


def test_the_likelihood_is_that_of_the_tokens_by_hand(llama, lm):
    ((score, _),) = lm.loglikelihood([ask("loglikelihood", OTHERS[0], " Lima")], disable_tqdm=True)
    context = llama.tokenizer(OTHERS[0])["input_ids"]
    whole = llama.tokenizer(OTHERS[0] + " Lima")["input_ids"]
    with torch.no_grad(), llama.base_model():
        told = llama.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    wanted = sum(told[i - 1, whole[i]].item() for i in range(len(context), len(whole)))
    assert score == pytest.approx(wanted, abs=1e-4)


def test_generation_is_routed_and_stops(lm):
    texts = lm.generate_until([ask("generate_until", EDITS[0].prompt, {"until": ["r"], "max_gen_toks": 8})])
    assert texts == [EDITS[0].target.split("r")[0]]


def test_a_whole_text_has_no_prompt_and_is_the_base_models(llama, lm):
    requests = [ask("loglikelihood_rolling", EDITS[0].prompt + " " + EDITS[0].target)]
    found = lm.loglikelihood_rolling(requests)
    with llama.base_model():
        assert lm.loglikelihood_rolling(requests) == found


@pytest.fixture
def task(tmp_path):
    rows = [{"question": edit.prompt, "choices": ["nobody", edit.target], "answer": 1} for edit in EDITS[:3]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "facts.yaml").write_text(
        f"task: own_facts\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path / 'rows.jsonl'}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: question\ndoc_to_choice: choices\n"
        "doc_to_target: answer\nmetric_list:\n  - metric: acc\n"
    )
    return tmp_path


def test_a_local_task_runs_with_and_without_edits(llama, task):
    found = run_harness(llama, ["own_facts"], find_tasks(["own_facts"], task))
    assert found["edited"]["own_facts"]["acc"] == 1
    assert set(found) == {"edited", "unedited"} and "acc" in found["unedited"]["own_facts"]


def test_the_command_prints_both(task, make_model, tokenizer, tmp_path):
    folder, store = tmp_path / "model", tmp_path / "own.melo"
    make_model("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with Editor(make_model("llama"), tokenizer, MeloConfig(**SETTINGS), store, str(folder)) as editor:
        editor.edit(EDITS[0])
    args = ["harness", str(store), "--tasks", "own_facts", "--include", str(task), "--json"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["edited"]["own_facts"]["acc"] >= 1 / 3
    bad = CliRunner().invoke(app, [*args[:3], "no_such_task"])
    assert bad.exit_code == 1 and "the harness has no task 'no_such_task'" in bad.output


def test_a_folders_own_tasks_are_found_without_those_of_the_harness(task):
    assert find_tasks(["own_facts"], task).all_tasks == ["own_facts"]


def test_classifiers_are_refused(make_source_editor):
    with make_source_editor("bert") as editor, pytest.raises(MeloEditError, match="a classifier has none"):
        model_of(editor)


@pytest.fixture(scope="module")
def tuned(make_model, tokenizer):
    """A method that changes weights, with an edit."""
    method = method_class("ft")(make_model("llama"), tokenizer, {"depth": 1.0, "lr": 0.05, "passes": 12})
    method.edit(EDITS[:1])
    yield method
    method.close()


def test_a_rival_is_scored_with_the_weights_that_it_changed(tuned):
    edit = EDITS[0]
    lm = model_of(tuned)
    ((score, greedy),) = lm.loglikelihood([ask("loglikelihood", edit.prompt, " " + edit.target)], disable_tqdm=True)
    target = lm.tok_encode(edit.prompt + " " + edit.target)[len(lm.tok_encode(edit.prompt)) :]
    told = tuned.logits([edit.prompt], [target])[0].log_softmax(-1)
    wanted = sum(told[i, token].item() for i, token in enumerate(target))
    assert score == pytest.approx(wanted, abs=1e-4)
    assert greedy == (told.argmax(-1).tolist() == target)


def test_a_rivals_whole_texts_and_answers_are_of_the_changed_weights(tuned, make_model, tokenizer):
    requests = [ask("loglikelihood_rolling", OTHERS[0])]
    until = [ask("generate_until", OTHERS[0], {"until": [], "max_gen_toks": 4})]
    changed = model_of(tuned)
    plain = model_of(method_class("none")(make_model("llama"), tokenizer))
    assert changed.loglikelihood_rolling(requests) != plain.loglikelihood_rolling(requests)
    assert changed.generate_until(until) == [tuned.answer([OTHERS[0]], 4)[0].text]


def test_what_a_method_writes_before_a_prompt_counts(make_model, tokenizer, tiny_encoder):
    method = method_class("rag")(make_model("llama"), tokenizer, {"encoder": tiny_encoder, "min_similarity": -1.0})
    method.edit(EDITS[:1])
    request = [ask("loglikelihood", EDITS[0].prompt + " ", " Lima")]
    told = model_of(method).loglikelihood(request, disable_tqdm=True)
    written = method.settings.form.format(
        facts=method.settings.fact.format(prompt=EDITS[0].prompt, target=EDITS[0].target), prompt=EDITS[0].prompt
    )
    method.close()
    plain = model_of(method_class("none")(make_model("llama"), tokenizer))
    assert told[0][0] == pytest.approx(
        plain.loglikelihood([ask("loglikelihood", written, "  Lima")], disable_tqdm=True)[0][0], abs=1e-3
    )


def test_an_empty_context_is_one_token(tuned):
    ((score, _),) = model_of(tuned).loglikelihood([ask("loglikelihood", "", "Lima")], disable_tqdm=True)
    assert score < 0
