"""Training edits of methods that learn beforehand: how files become edits, what is left out, what a result says."""

import json
from dataclasses import replace

import eval_runs
import pytest
from eval_runs import evaluated, result_of, run, write, zsre

from meloedit import Edit
from meloedit.errors import MeloEditError
from meloedit.evaluation.learning import training_edits, unscored
from meloedit.evaluation.tasks.task import Item, Task

files = eval_runs.files
TASK = Task("zsre", "question", (Item(Edit("Who wrote Solaris?", "Ada"), ("By whom is Solaris?",)),))
MEND = [
    {"src": f"Where is {name}?", "alt": "Lima", "answers": ["Rome"], "rephrase": f"{name} is where?", "subject": name,
     "loc": f"nq question: who found {name}", "loc_ans": "nobody"}
    for name in ("Omsk", "Tartu", "Baku")
]  # fmt: skip
FLAT = [
    {"case_id": i, "prompt": f"{name} is in", "target_new": "Lima", "subject": name, "ground_truth": "Rome",
     "rephrase_prompt": f"One finds {name} in", "locality_prompt": f"Not {name} but Paris is in"}
    for i, name in enumerate(("Omsk", "Tartu", "Baku"))
]  # fmt: skip


def read(path, task=TASK):
    edits = unscored("mend", path, training_edits("mend", path, task.kind == "question"), task.items)
    return {str(edit.prompt): edit for edit in edits}


def test_rephrasings_become_variants_and_near_or_far_prompts_quiet(tmp_path):
    edits = read(write(tmp_path / "mend.jsonl", MEND))
    assert set(edits) == {"Where is Omsk?", "Where is Tartu?", "Where is Baku?"}
    edit = edits["Where is Omsk?"]
    assert (edit.target, edit.variants) == ("Lima", ("Omsk is where?",))
    assert {str(one.quiet[0]) for one in edits.values()} == {f"who found {name}" for name in ("Omsk", "Tartu", "Baku")}
    edit = read(write(tmp_path / "flat.jsonl", FLAT))["Baku is in"]
    assert (edit.variants, edit.quiet) == (("One finds Baku in",), ("Not Baku but Paris is in",))


def test_edits_in_the_packages_own_form_are_read_for_any_kind_of_task(tmp_path):
    rows = [{"prompt": "a b", "target": "tax", "variants": ["b a"], "quiet": ["c d"]}]
    path = write(tmp_path / "own.jsonl", rows)
    for task in (TASK, replace(TASK, kind="document"), replace(TASK, kind="passage")):
        (edit,) = read(path, task).values()
        assert (edit.prompt, edit.target, edit.variants, edit.quiet) == ("a b", "tax", ("b a",), ("c d",))


def test_what_is_scored_is_not_learned(tmp_path):
    own = [{"prompt": "By whom is Solaris?", "target": "x"}, {"prompt": "Who?", "target": "y"}]
    path = write(tmp_path / "own.jsonl", own)
    assert list(read(path)) == ["Who?"]
    with pytest.raises(MeloEditError, match=r"^method mend would learn what is scored: each edit of \S+ asks what"):
        read(write(tmp_path / "own.jsonl", own[:1]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"colour": 1}\n', r"cannot learn from \S+: \S+, line 1: "),
        ("no json\n", r"cannot learn from \S+: \S+, line 1: not JSON"),
        (None, r"cannot learn from \S+: \S+: cannot be read"),
    ],
)
def test_a_file_of_another_shape_is_one_line(tmp_path, text, words):
    path = tmp_path / "train.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MeloEditError, match=f"^method mend {words}[^\n]*$"):
        read(str(path))


LEARNS = ["--set", "mend.rank=8", "--set", "mend.steps=4", "--set", "mend.batch_size=3", "--set", "mend.val_interval=2"]


def test_a_run_learns_once_and_says_what_that_took(files, tmp_path):
    train = write(tmp_path / "train.jsonl", MEND)
    options = [
        *LEARNS,
        "--set",
        f"mend.train={train}",
        "--set",
        f"mend.learned={tmp_path / 'kept'}",
        "--method",
        "mend",
    ]
    evaluated(*zsre(files, tmp_path / "run", *options, "--protocol", "single"))
    result = result_of(tmp_path / "run")
    learned = result["details"]["mend"]["learned"]
    assert (learned["examples"], learned["held_out"], learned["steps"]) == (3, 0, 4) and learned["seconds"] > 0
    assert any(note.startswith("mend: learned beforehand from 3 edits (4 steps, ") for note in result["notes"])
    assert "edit_success" in result["methods"]["mend"]
    evaluated(*zsre(files, tmp_path / "again", *options))
    assert result_of(tmp_path / "again")["details"]["mend"]["learned"] == learned  # read, not learned anew
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_standard_input_is_refused():
    with pytest.raises(MeloEditError, match="^training data come from a file, not from standard input"):
        read("-")


def test_rows_of_the_packages_own_form_that_contradict_each_other_are_said(tmp_path):
    rows = [{"prompt": "Who?", "target": one, "variants": ["By whom?"]} for one in ("x", "y")]
    with pytest.raises(MeloEditError, match=r"line 2 contradicts \S+, line 1: same prompt or id, other target"):
        read(write(tmp_path / "own.jsonl", rows))  # as edits of a task they would lose their wordings, in silence


def test_a_bad_file_of_training_edits_is_said_before_the_model_answers(files, tmp_path, monkeypatch):
    from meloedit.methods.none import Unedited

    monkeypatch.setattr(Unedited, "answer", lambda *args, **kwargs: pytest.fail("the model was asked"))
    (tmp_path / "bad.jsonl").write_text('{"colour": 1}\n')
    result = run(*zsre(files, tmp_path / "run", "--method", "mend", "--set", f"mend.train={tmp_path / 'bad.jsonl'}"))
    assert result.exit_code == 1 and "cannot learn from" in result.output and "Traceback" not in result.output


def test_a_run_that_is_stopped_while_it_learns_says_what_is_kept_where(files, tmp_path, monkeypatch):
    from meloedit.methods.learned.fitting import Fitting

    train, step = write(tmp_path / "train.jsonl", MEND), Fitting._step
    options = [*LEARNS, "--set", f"mend.train={train}", "--set", f"mend.learned={tmp_path / 'kept'}"]

    def stop(self, number):
        if number == 3:
            raise KeyboardInterrupt
        step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "_step", stop)
        result = run(*zsre(files, tmp_path / "run", "--method", "mend", *options, "--protocol", "single"))
    said = " ".join(result.output.split())
    assert result.exit_code == 130 and "what mend learned so far elsewhere: the same command goes on" in said
    assert ("nothing is finished in" in said) is not (tmp_path / "run" / "run.json").exists()
    evaluated(*zsre(files, tmp_path / "run", "--method", "mend", *options, "--protocol", "single"))
    assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".learned"]


def test_without_training_edits_no_run_starts(files, tmp_path):
    result = run(*zsre(files, tmp_path / "run", "--method", "mend"))
    assert result.exit_code == 1 and "--set mend.train=FILE" in result.output and "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_training_edits_belong_to_the_state_of_a_run(files, tmp_path):
    train = tmp_path / "train.jsonl"
    write(train, MEND)
    options = [
        *LEARNS,
        "--set",
        f"mend.train={train}",
        "--set",
        f"mend.learned={tmp_path / 'kept'}",
        "--method",
        "mend",
    ]
    evaluated(*zsre(files, tmp_path / "run", *options))
    write(train, [*MEND[:2], {**MEND[2], "alt": "Oslo"}])
    result = run(*zsre(files, tmp_path / "run", *options))
    assert result.exit_code == 1 and "edits made with other settings" in " ".join(result.output.split())
    assert json.loads((tmp_path / "run" / "result.json").read_text())["finished"]


def test_a_file_that_a_method_reads_belongs_to_the_state_of_a_run(files, tmp_path):
    upstream = tmp_path / "upstream.jsonl"
    write(upstream, [{"question": "Who?", "answer": "Ada"}])
    chosen = {"upstream": upstream, "depth": 0.9, "epochs": 1, "edits_per_call": 2}
    options = [part for name, value in chosen.items() for part in ("--set", f"cmr.{name}={value}")]
    evaluated(*zsre(files, tmp_path / "run", "--method", "cmr", *options))
    evaluated(*zsre(files, tmp_path / "run", "--method", "cmr", *options))
    write(upstream, [{"question": "Who?", "answer": "Bo"}])
    result = run(*zsre(files, tmp_path / "run", "--method", "cmr", *options))
    assert result.exit_code == 1 and "edits made with other settings" in " ".join(result.output.split())
