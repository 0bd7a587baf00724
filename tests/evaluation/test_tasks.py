"""Tasks: which files they are read from, what becomes of each row, what is left out, and in which order they come."""

import gzip
import hashlib
import json
import random
from dataclasses import asdict

import pytest

from meloedit.errors import EditError
from meloedit.evaluation.tasks.datasets import TOPICS, Case, split
from meloedit.evaluation.tasks.registry import TASKS, load_task
from meloedit.evaluation.tasks.task import Far, Probe

MEND = {
    "subject": "Ada",
    "src": "Where was Ada born?",
    "rephrase": "Ada's place of birth?",
    "alt": "Oslo",
    "answers": ["Rome", "Roma"],
    "loc": "nq question: who won",
    "portability": {"Recalled Relation": "(a, b, c)", "New Question": "Her country?", "New Answer": "Norway"},
}
KNOWEDIT = {
    "subject": "Ada",
    "prompt": "Where was Ada born?",
    "target_new": "Oslo",
    "ground_truth": [["Rome", "Roma"], []],
    "rephrase_prompt": "Ada's place of birth?",
    "generate_prompt": ["Ada comes from where?", "Ada's place of birth?", ""],
    "locality": {
        "Relation_Specificity": [{"prompt": "Ada wrote", "ground_truth": ["odes"]}],
        "Forgetfulness": [{"prompt": "no"}],
    },
    "portability": {
        "Reasoning": [{"prompt": "Her country?", "ground_truth": [["Norway"], ["Norge"]]}],
        "Subject_Aliasing": [
            {"prompt": "Where was A. born?", "ground_truth": "Oslo"},
            {"prompt": "-", "ground_truth": []},
        ],
    },
}
FLAT = {
    "case_id": 7,
    "prompt": "Ada speaks",
    "target_new": "Thai",
    "ground_truth": "Greek",
    "subject": "Ada",
    "rephrase_prompt": "The words of Ada are",
    "locality_prompt": "Bo speaks",
    "locality_ground_truth": "Greek",
}
FULL = {
    "case_id": 8,
    "requested_rewrite": {
        "prompt": "{} speaks",
        "subject": "Cy {x}",
        "target_new": {"str": "Thai", "id": "Q1"},
        "target_true": {"str": "Greek", "id": "Q2"},
    },
    "paraphrase_prompts": ["Rain. Cy said it in", "Cy talks in"],
    "neighborhood_prompts": ["Bo speaks", "Di speaks"],
    "attribute_prompts": ["Ed speaks"],
    "portability": {"New Question": "Cy's alphabet?", "New Answer": "Thai script"},
}
NQ = {"question": "who was first", "answer": ["Ann", "Anna"]}
CASE = {"case_id": "1995-001", "text": "We hold that", "issue_area_id": 8, "year": 1995, "is_primary": True}
BIO = {
    "index": 3,
    "concept": "ada moor",
    "gpt3_sentences": ["Ada is a poet.", "She was born in 1901."],
    "annotation": ["accurate", "major_inaccurate"],
}
PASSAGE = {
    "prompt": "This is a Wikipedia passage about ada moor. Ada is a poet.",
    "target_new": "She was born in 1899.",
    "bio_index": 3,
    "subject": "ada moor",
    "locality_prompt": "Maps of",
}


def rewrite(prompt="{} is a citizen of", subject="Ada", new="Norway", true="Italy", question="Which country is Ada's?"):
    new, true = {"str": new, "id": "Q1"}, {"str": true, "id": "Q2"}
    return {"prompt": prompt, "subject": subject, "target_new": new, "target_true": true, "question": question}


def case(number, *rewrites, answer="Jonas", alias=("J.", "jonas"), questions=("Who rules there?", "Its head?", "Who?")):
    return {
        "case_id": number,
        "requested_rewrite": list(rewrites or [rewrite()]),
        "questions": list(questions),
        "new_answer": answer,
        "new_answer_alias": list(alias),
    }


def file_of(folder, *rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def fact(prompt="Who?", target="Ann", **more):
    return {"prompt": prompt, "target": target, **more}


def counts(task):
    return {name: n for name, n in task.cleaning.items() if n and name not in ("rows", "rule")}


def ids(task):
    return [item.edit.id for item in task.items]


def by_id(task):
    return {item.edit.id: item for item in task.items}


def test_canonical_rows(tmp_path):
    row = fact(
        id="a",
        target_true="Bo",
        subject="Ada",
        rephrases=["Which one?"],
        near=["When?"],
        far=["Why?"],
        attribute=["What?"],
        portability=[{"prompt": "Whose child?", "answers": ["Cy", "C."]}, {"prompt": "Her age?", "answer": "9"}],
    )
    task = load_task("zsre", [file_of(tmp_path, row, fact("What?", "It"))])
    first, bare = by_id(task)["a"], by_id(task)["zsre-1"]
    assert (first.edit.prompt, first.edit.target, first.subject) == ("Who?", "Ann", "Ada")
    assert (first.edit.variants, first.edit.quiet) == ((), ())  # what is asked later is never trained on
    assert (first.rephrases, first.near) == (("Which one?",), ("When?",))
    assert first.portability == (Probe("Whose child?", ("Cy", "C.")), Probe("Her age?", ("9",)))
    assert (bare.rephrases, bare.near, bare.portability, bare.group) == ((), (), (), None)
    assert task.far == (Far("Why?", "own"),)
    assert (task.name, task.kind, task.only_wrong) == ("zsre", "question", False)


@pytest.mark.parametrize(("name", "near"), [("rephrase", "rephrases"), ("neer", "near"), ("targets", "target")])
def test_a_misspelled_field_is_named_with_the_nearest(tmp_path, name, near):
    path = file_of(tmp_path, fact(metadata={"a": 1}, variants=["Which?"]), fact("What?", **{name: ["x"]}))
    with pytest.raises(EditError, match=f"line 2: unknown field '{name}' \\(did you mean '{near}'"):
        load_task("zsre", [path])


def test_mend_rows_go_to_their_target(tmp_path):
    other = MEND | {"src": "Who?", "subject": "Bo", "rephrase": "Which?", "loc": "nq question: Who won "}
    task = load_task("zsre", [file_of(tmp_path, MEND, other)])
    item = by_id(task)["zsre-0"]
    assert (item.edit.prompt, item.edit.target) == ("Where was Ada born?", "Oslo")
    assert (item.rephrases, item.near) == (("Ada's place of birth?",), ())
    assert item.portability == (Probe("Her country?", ("Norway",)),)
    assert task.far == (Far("who won", "own"),)  # without its lead-in, and once


@pytest.mark.parametrize("row", [MEND, KNOWEDIT, fact(target_true="Rome")])
def test_the_papers_protocol_edits_zsre_toward_the_truth(tmp_path, row):
    task = load_task("zsre", [file_of(tmp_path, row)], protocol="paper")
    assert task.only_wrong and task.items[0].edit.target == "Rome"
    assert task.items[0].portability == ()  # they follow from the other target
    without = {name: value for name, value in MEND.items() if name != "alt"}
    assert load_task("zsre", [file_of(tmp_path, without)], protocol="paper").items[0].edit.target == "Rome"


def test_knowedit_rows(tmp_path):
    task = load_task("zsre", [file_of(tmp_path, KNOWEDIT)])
    (item,) = task.items
    assert (item.edit.target, item.near) == ("Oslo", ("Ada wrote",))
    assert item.rephrases == ("Ada's place of birth?", "Ada comes from where?")
    assert item.portability == (Probe("Her country?", ("Norway", "Norge")), Probe("Where was A. born?", ("Oslo",)))
    assert counts(task) == {"repeated_rephrases": 1}
    task = load_task("zsre", [file_of(tmp_path, {name: KNOWEDIT[name] for name in list(KNOWEDIT)[:4]})])
    assert (task.items[0].rephrases, task.items[0].near, task.items[0].portability) == ((), (), ())


def test_counterfact_rows_flat_and_full(tmp_path):
    flat, full = file_of(tmp_path, FLAT, name="flat.jsonl"), file_of(tmp_path, FULL, name="full.jsonl")
    task = load_task("counterfact", [flat, full])
    first, second = by_id(task)["cf-7"], by_id(task)["cf-8"]
    assert (first.edit.prompt, first.edit.target) == ("Ada speaks", "Thai")
    assert (first.rephrases, first.near) == (("The words of Ada are",), ("Bo speaks",))
    assert (second.edit.prompt, second.edit.target, second.subject) == ("Cy {x} speaks", "Thai", "Cy {x}")
    assert second.rephrases == ("Rain. Cy said it in", "Cy talks in")
    assert second.near == ("Bo speaks", "Di speaks")  # and no attribute prompts
    assert second.portability == (Probe("Cy's alphabet?", ("Thai script",)),)
    assert load_task("counterfact", [file_of(tmp_path, fact())]).items[0].edit.id == "cf-0"


def test_mquake_asks_what_follows_of_the_first_edit_of_a_case(tmp_path):
    two = case(5, rewrite(), rewrite("{} is led by", "Norway", "Jonas", "Erna", "Who leads Norway?"))
    task = load_task("mquake", [file_of(tmp_path, two, case(6))])  # case 6 has an edit of case 5: they are apart
    assert sorted(ids(task)) == ["mq-5-0", "mq-5-1", "mq-6-0"] and task.cleaning["rows"] == 3
    items = by_id(task)
    assert (items["mq-5-0"].edit.prompt, items["mq-5-0"].edit.target) == ("Ada is a citizen of", "Norway")
    assert items["mq-5-1"].rephrases == ("Who leads Norway?",)
    assert [items[name].group for name in ("mq-5-0", "mq-5-1", "mq-6-0")] == [5, 5, 6]
    questions = ("Who rules there?", "Its head?", "Who?")
    assert items["mq-5-0"].portability == tuple(Probe(question, ("Jonas", "J.")) for question in questions)
    assert items["mq-5-1"].portability == () and len(items["mq-6-0"].portability) == 3


def test_mquake_contradictions_are_those_of_one_case(tmp_path):
    rows = (case(1, rewrite(), rewrite(new="Peru")), case(2, rewrite(new="Peru")), case(3, rewrite(new="italy")))
    task = load_task("mquake", [file_of(tmp_path, *rows, case(4, rewrite(new="Italy"), rewrite("{} is from")))])
    assert sorted(ids(task)) == ["mq-1-0", "mq-2-0", "mq-4-1"]
    assert counts(task) == {"contradictory": 1, "no_op": 2}
    assert len(by_id(task)["mq-4-1"].portability) == 3  # the first that is left


def test_scotus(tmp_path):
    def row(name, year, **more):
        return CASE | {"case_id": name, "year": year, "text": f"Opinion {name} of the Court"} | more

    later = [row("1991-1", 1991), row("2009-1", 2009, issue_area_id=12)]
    early = [row(f"1980-{i}", 1980) for i in range(60)]
    out = [row("2010-1", 2010), row("1999-1", 1999, is_primary=False), row("1999-2", 1999, issue_area_id=11)]
    task = load_task("scotus", [file_of(tmp_path, *early, *later, *out)])
    assert (task.kind, task.only_wrong, task.cleaning["rows"]) == ("document", True, 2)
    assert {item.edit.id: item.edit.target for item in task.items} == {
        "1991-1": "Economic Activity",
        "2009-1": "Federal Taxation",
    }
    assert by_id(task)["1991-1"].edit.prompt == "Opinion 1991-1 of the Court" and task.items[0].rephrases == ()
    found = split(Case(r["case_id"], r["text"], TOPICS[7], r["year"]) for r in early)
    assert set(task.upstream) == {Probe(one.text, ("Economic Activity",)) for one in found.held_out}
    assert [one.prompt for one in task.upstream] != [one.text for one in found.held_out]
    assert task.documents == tuple(one.text for one in found.train)
    assert task.files[0]["rows"] == 65


def test_hallucination(tmp_path):
    edits = file_of(tmp_path, PASSAGE, PASSAGE | {"prompt": "This is about Bo.", "bio_index": 4}, name="edits.jsonl")
    bios = file_of(tmp_path, *(BIO | {"index": i} for i in (2, 3, 4)), name="bios.jsonl")
    web = file_of(tmp_path, {"text": "a  long text " * 20}, name="web.jsonl")
    task = load_task("hallucination", [web, bios, edits])
    assert (task.kind, task.only_wrong) == ("passage", False)
    assert {name: (item.subject, item.group) for name, item in by_id(task).items()} == {
        "h0": ("3", None),
        "h1": ("4", None),
    }
    assert by_id(task)["h0"].edit.target == "She was born in 1899."
    opening = "This is a Wikipedia passage about ada moor. "
    assert task.accurate == tuple(Probe(opening, ("Ada is a poet.",), bio) for bio in "34")
    assert task.far == (Far("a  long text " * 20, "web"),)  # whole
    assert [(f["name"], f["role"]) for f in task.files] == [
        ("web.jsonl", "web"),
        ("bios.jsonl", "biographies"),
        ("edits.jsonl", "edits"),
    ]
    with pytest.raises(EditError, match=r"give one file of biographies, not 0 \(none\)"):
        load_task("hallucination", [edits])
    with pytest.raises(EditError, match=r"give one file of edits, not 2 \(edits\.jsonl, edits\.jsonl\)"):
        load_task("hallucination", [edits, bios, edits])


def test_far_prompts(tmp_path):
    nq = file_of(tmp_path, NQ, {"question": "Was it Bo?", "answer": ["no"]}, name="nq.jsonl")
    web = file_of(tmp_path, {"text": "\n".join(map(str, range(50)))}, {"text": "short"}, name="web.jsonl")
    task = load_task("zsre", [web, nq, file_of(tmp_path, fact())])
    assert sorted((far.kind, far.prompt) for far in task.far) == [
        ("nq", "Was it Bo?"),
        ("nq", "who was first"),
        ("nq dressed", "Was it Bo?"),
        ("nq dressed", "Who was first?"),
        ("web", " ".join(map(str, range(32)))),
        ("web", "short"),
    ]
    plain, dressed = ([far.prompt for far in task.far if far.kind == kind] for kind in ("nq", "nq dressed"))
    assert [prompt.lower().rstrip("?") for prompt in plain] == [prompt.lower().rstrip("?") for prompt in dressed]


def test_edits_that_say_nothing_new_or_the_contrary_are_dropped(tmp_path):
    rows = (
        fact("Who?", "Ann", subject="Ada", target_true="Bo"),
        fact(" who? ", "ann"),  # a duplicate
        fact("When?", " BO", target_true=["Cy", "Bo "]),  # true already
        fact("WHO?", "Di"),  # the first row's prompt
        fact("Who is it?", "Di", subject="ada", target_true="bo"),  # the first row's fact
        fact("Who else?", "Di", subject="Ada", target_true="Ed"),
        fact("Who was it?", "ann", subject="Ada", target_true="Bo"),  # another wording of the first
        fact("When?", "Flo"),  # what was dropped is no earlier edit
    )
    task = load_task("zsre", [file_of(tmp_path, *rows)])
    assert sorted(ids(task)) == ["zsre-0", "zsre-5", "zsre-6", "zsre-7"]
    assert counts(task) == {"duplicates": 1, "no_op": 1, "contradictory": 2}
    assert task.cleaning["rows"] == 8 and task.cleaning["rule"]
    assert load_task("counterfact", [file_of(tmp_path, rows[2])], protocol="paper").items  # the truth is what it wants
    with pytest.raises(EditError, match=r"task zsre: no edit is left of 1 \(rows\.jsonl\)"):
        load_task("zsre", [file_of(tmp_path, rows[2])])


def test_rephrasings_that_ask_for_two_targets_are_left_out_of_both(tmp_path):
    rows = (
        fact("Who?", "Ann", rephrases=["Shared?", "own one?", "WHO?", "Own One?", "Same?", "Where?"]),
        fact("Where?", "Rome", rephrases=["shared? ", "Mine?"]),
        fact("Who is it?", "ann", rephrases=["Same?"]),
        fact("who?", "Dropped", rephrases=["Mine?"]),
    )
    task = load_task("zsre", [file_of(tmp_path, *rows)])
    items = by_id(task)
    assert items["zsre-0"].rephrases == ("own one?", "Same?")
    assert items["zsre-1"].rephrases == ("Mine?",) and items["zsre-2"].rephrases == ("Same?",)
    assert counts(task) == {"contradictory": 1, "ambiguous_rephrases": 3, "repeated_rephrases": 2}


def test_near_and_far_prompts_that_are_asked_of_an_edit_are_left_out(tmp_path):
    rows = (
        fact("Who was first?", "Ann", rephrases=["Shared?"], near=["where? ", "SHARED?", "When?", "Odd?"]),
        fact("Where?", "Rome", rephrases=["Shared?"], near=["Who was first?"]),
        fact("where?", "Oslo", rephrases=["Odd?"]),
    )
    task = load_task("zsre", [file_of(tmp_path, *rows), file_of(tmp_path, NQ, name="nq.jsonl")])
    assert by_id(task)["zsre-0"].near == ("When?", "Odd?") and by_id(task)["zsre-1"].near == ()
    assert [(far.prompt, far.kind) for far in task.far] == [("who was first", "nq")]
    assert counts(task) == {"contradictory": 1, "ambiguous_rephrases": 2, "ambiguous_near": 3, "ambiguous_far": 1}


def test_the_order_is_the_seeds_and_cases_stay_together(tmp_path):
    path = file_of(tmp_path, *(fact(f"Who is {i}?", f"Name {i}", id=str(i)) for i in range(20)))
    nq = file_of(tmp_path, *({"question": f"q{i}", "answer": ["x"]} for i in range(9)), name="nq.jsonl")
    expected = [str(i) for i in range(20)]
    random.Random(3).shuffle(expected)
    task = load_task("zsre", [path, nq], seed=3)
    assert ids(task) == expected and task == load_task("zsre", [path, nq], seed=3)
    other = load_task("zsre", [path, nq], seed=4)
    assert ids(other) != expected and other.far != task.far and set(other.far) == set(task.far)
    assert load_task("zsre", [nq, path], seed=3).far == task.far
    cases = (case(i, rewrite(), rewrite("{} is from"), rewrite("{} lives in")) for i in range(12))
    task = load_task("mquake", [file_of(tmp_path, *cases)], seed=1)
    groups = [item.group for item in task.items]
    assert groups == [group for group in groups[::3] for _ in range(3)] and groups[::3] != list(range(12))
    assert [item.edit.id[-1] for item in task.items] == list("012") * 12


def test_only_the_first_rephrasings_are_kept(tmp_path):
    path = file_of(tmp_path, fact(rephrases=["who?", "A?", "B?", "C?"]))
    assert load_task("zsre", [path], rephrases=2).items[0].rephrases == ("A?", "B?")
    assert load_task("zsre", [path], rephrases=9).items[0].rephrases == ("A?", "B?", "C?")
    with pytest.raises(EditError, match="rephrases must be at least 1, not 0"):
        load_task("zsre", [path], rephrases=0)


def test_files_are_named_without_their_folders(tmp_path):
    path = file_of(tmp_path, fact(), fact("What?"))
    digest = hashlib.sha256((tmp_path / "rows.jsonl").read_bytes()).hexdigest()
    task = load_task("zsre", [path])
    assert task.files == ({"name": "rows.jsonl", "role": "edits", "sha256": digest, "rows": 2},)
    json.dumps(asdict(task))


@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz", "rows.jsonl", "rows.jsonl.gz"])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_lists_and_gzip_are_read_whatever_the_name(tmp_path, name, listed, packed):
    packed = packed or name.endswith(".gz")
    rows = [MEND, MEND | {"src": "Who?", "subject": "Bo"}]
    text = json.dumps(rows, indent=1) if listed else "\n".join(map(json.dumps, rows))
    data = gzip.compress(text.encode()) if packed else text.encode()
    (tmp_path / name).write_bytes(data)
    task = load_task("zsre", [str(tmp_path / name)])
    assert sorted(ids(task)) == ["zsre-0", "zsre-1"]
    assert (task.files[0]["sha256"], task.files[0]["rows"]) == (hashlib.sha256(data).hexdigest(), 2)


def test_a_list_that_is_not_one(tmp_path):
    path = tmp_path / "rows.json"
    assert load_task("zsre", [file_of(tmp_path, fact(), name="rows.json")]).items  # lines under a list's name
    deep = '[{"prompt": "Who?", "target": ' + "[" * 70 + "]" * 70 + "}]"
    for text, words in (
        ('[{"prompt": "Who?"', "rows.json: not JSON"),
        ("[]", "rows.json: no rows in it"),
        ("[[]]", "rows.json, row 1: expected an object, not list"),
        (deep, "rows.json, row 1: nested more than 64 levels deep"),
        (json.dumps([fact(), fact("What?", "")]), "rows.json, row 2: target must be a non-empty string"),
    ):
        path.write_text(text)
        with pytest.raises(EditError, match=words) as raised:
            load_task("zsre", [str(path)])
        assert "\n" not in str(raised.value)


def test_a_file_of_the_hub_is_fetched(tmp_path, monkeypatch):
    asked = []

    def fetch(**kwargs):
        asked.append(kwargs)
        return file_of(tmp_path, fact())

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    task = load_task("zsre", ["hf://datasets/someone/facts/data/edits.jsonl"])
    assert asked == [{"repo_id": "someone/facts", "filename": "data/edits.jsonl", "repo_type": "dataset"}]
    assert task.files[0]["name"] == "edits.jsonl" and len(task.items) == 1

    def fail(**kwargs):
        raise OSError("no way\n  to the hub")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(EditError, match=r"^hf://datasets/a/b/c: cannot be fetched from the hub \(no way to the hub\)$"):
        load_task("zsre", ["hf://datasets/a/b/c"])
    for path in ("hf://datasets/a/b", "hf://a/b/c", "hf://datasets//b/c"):
        with pytest.raises(EditError, match="is written hf://datasets/OWNER/NAME/FILE"):
            load_task("zsre", [path])


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("zsre", case(1), r"no prompt and no target for task zsre; its fields \(case_id, .*\) fit task mquake"),
        ("zsre", FLAT, r"no target for task zsre; its fields \(.*\) fit task counterfact"),
        ("zsre", FULL, "fit task counterfact"),
        ("counterfact", MEND, "no prompt and no target for task counterfact; .* fit task zsre"),
        ("counterfact", PASSAGE, "no target for task counterfact; .* fit task hallucination"),
        ("mquake", FULL, "no questions and no new_answer for task mquake; .* fit task counterfact"),
        ("scotus", fact(), r"its fields \(prompt, target\) fit task zsre or counterfact"),
        ("mquake", CASE, "fit task scotus"),
        ("mquake", BIO, "fit task hallucination"),
        ("hallucination", KNOWEDIT, "no bio_index for task hallucination; .* fit task zsre"),
        (
            "zsre",
            {"prompt": "Who?", "answer": "x"},
            r"no target for task zsre; its fields \(prompt, answer\) fit no task",
        ),
        ("zsre", {"text": "words", "label": 1}, r"its fields \(text, label\) fit no task"),
        ("zsre", {"prompt": "Who?", "target": None}, "no target for task zsre"),
    ],
)
def test_a_file_that_does_not_fit_says_what_it_lacks_and_what_it_fits(tmp_path, task, row, words):
    with pytest.raises(EditError, match=rf"rows\.jsonl, line 1: .*{words}") as raised:
        load_task(task, [file_of(tmp_path, row)])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("task", "good", "bad", "words"),
    [
        ("zsre", fact(), {"prompt": "Who?"}, r"no target \(fields found: prompt\)"),
        ("zsre", fact(), fact(rephrases="one"), "rephrases must be a list of non-empty strings"),
        ("zsre", fact(), fact(id=1.5), "id must be a non-empty string, not 1.5"),
        ("zsre", fact(), fact(portability=[{"prompt": "Who?"}]), "portability: no answers"),
        ("zsre", fact(), fact(portability=["Who?"]), "portability: expected an object, not str"),
        ("zsre", fact(), fact("\ud800"), "prompt cannot be encoded"),
        ("zsre", MEND, MEND | {"alt": 3}, "alt must be a non-empty string"),
        ("zsre", MEND, MEND | {"answers": []}, "answers is an empty list"),
        ("zsre", MEND, MEND | {"loc": {"a": 1}}, "loc must be a string or a list of strings"),
        ("zsre", KNOWEDIT, KNOWEDIT | {"locality": []}, "locality: expected an object, not list"),
        (
            "zsre",
            KNOWEDIT,
            KNOWEDIT | {"portability": {"Reasoning": [{"ground_truth": "x"}]}},
            r"portability\.Reasoning: no prompt",
        ),
        ("counterfact", FLAT, FLAT | {"rephrase_prompt": [3]}, "rephrase_prompt must be a string or a list"),
        ("counterfact", FULL, FULL | {"requested_rewrite": {}}, "requested_rewrite: no prompt"),
        (
            "counterfact",
            FULL,
            FULL | {"requested_rewrite": FULL["requested_rewrite"] | {"prompt": "Cy speaks"}},
            "requested_rewrite: prompt must hold {} where the subject goes, not 'Cy speaks'",
        ),
        (
            "counterfact",
            FULL,
            FULL | {"requested_rewrite": FULL["requested_rewrite"] | {"target_new": {"id": 1}}},
            "requested_rewrite: target_new: no str",
        ),
        ("mquake", case(1), case(2) | {"requested_rewrite": []}, "requested_rewrite must be a list of rewrites"),
        ("mquake", case(1), case(2, rewrite(), {"subject": "Bo"}), r"requested_rewrite\[1\]: no prompt"),
        ("mquake", case(1), case("2"), "case_id must be a whole number"),
        ("mquake", case(1), case(2, questions=()), "questions is an empty list"),
        ("scotus", CASE, CASE | {"year": "1995"}, "year must be a whole number"),
    ],
)
def test_errors_of_later_rows_name_the_line_and_the_field(tmp_path, task, good, bad, words):
    with pytest.raises(EditError, match=rf"rows\.jsonl, line 2: {words}") as raised:
        load_task(task, [file_of(tmp_path, good, bad)])
    assert "\n" not in str(raised.value)


def test_two_edits_with_one_id(tmp_path):
    path = file_of(tmp_path, fact(id="a"), fact("What?", id="b"), fact("When?", id="a"))
    with pytest.raises(EditError, match=r"rows\.jsonl, line 3: the id 'a' is also that of .*rows\.jsonl, line 1; each"):
        load_task("zsre", [path])


def test_what_is_no_task(tmp_path):
    assert TASKS == ("zsre", "counterfact", "mquake", "scotus", "hallucination")
    with pytest.raises(EditError, match=r"^no task 'zsr' \(known: zsre, counterfact, mquake, scotus, hallucination\)$"):
        load_task("zsr", [])
    nq = file_of(tmp_path, NQ, name="nq.jsonl")
    with pytest.raises(
        EditError, match=r"^task zsre: no edits among the files \(nq\.jsonl\): .* have prompt, target; or"
    ):
        load_task("zsre", [nq])
    with pytest.raises(
        EditError, match=r"no edits among the files \(none\): give one whose rows have case_id, text, is"
    ):
        load_task("scotus", [])
    with pytest.raises(EditError, match="cannot be read"):
        load_task("zsre", [str(tmp_path / "none.jsonl")])
    with pytest.raises(EditError, match="cannot be read"):
        load_task("zsre", [str(tmp_path)])
