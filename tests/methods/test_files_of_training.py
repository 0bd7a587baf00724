"""The files that methods read beside the edits: all readers take the same files, and refuse the same ones alike."""

import gzip
import json

import pytest

from meloedit.errors import MeloEditError
from meloedit.methods import method_class
from meloedit.methods.data_files import TrainingEdit, read_questions, read_texts, read_training_edits

ROW = {"prompt": "Who painted it?", "target": "Ada"}
READERS = {
    "texts": read_texts,
    "questions": lambda path: read_questions(path, 9),
    "training edits": lambda path: read_training_edits(path, 9),
}
METHODS = {
    "rome": ("text", {}),
    "tpatcher": ("text", {}),
    "cmr": ("upstream", {"depth": 0.5}),
    "ike": ("train", {}),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_file_may_have_a_row_on_each_line_or_be_one_list_and_be_gzipped(read, tmp_path):
    rows = [ROW, ROW | {"prompt": "Who sang it?"}]
    lines = "\n\n".join(map(json.dumps, rows))
    files = {"a.jsonl": lines, "b.json": json.dumps(rows, indent=2), "c.jsonl.gz": lines, "d.json.gz": json.dumps(rows)}
    found = []
    for name, text in files.items():
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        found.append(read(str(tmp_path / name)))
    assert found[0] == found[1] == found[2] == found[3] and len(found[0]) == 2


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_cannot_be_read_is_the_same_line_from_all_readers(read, tmp_path):
    whole = gzip.compress(json.dumps(ROW).encode())
    for name, data, words in (
        ("cut.jsonl.gz", whole[:-9], "not a readable gzip file (Compressed file ended before"),
        ("flipped.jsonl.gz", whole[:14] + b"\xff" * 6 + whole[20:], "not a readable gzip file (Error -3 while"),
        ("bytes.jsonl", json.dumps(ROW).encode() + b"\n\xff\n", "line 2: not UTF-8 text (invalid start byte at byte"),
        ("words.jsonl", json.dumps(ROW).encode() + b"\nhello\n", "line 2: not JSON ("),
        ("number.jsonl", json.dumps(ROW).encode() + b"\n7\n", "line 2: expected a t"),
        ("fields.json", json.dumps([ROW, {"name": "x"}]).encode(), "row 2: expected a t"),
        ("list.json", b'[{"prompt": "x"', "not JSON ("),
        ("empty.jsonl", b"\n\n", "no "),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(MeloEditError) as raised:
            read(str(path))
        said = str(raised.value).removeprefix(str(path)).lstrip(":, ")
        assert said.startswith(words) and "\n" not in said
    with pytest.raises(MeloEditError, match=r"none\.jsonl: cannot be read \(No such file or directory\)$"):
        read(str(tmp_path / "none.jsonl"))
    with pytest.raises(MeloEditError, match=r": cannot be read \(Is a directory\)$"):
        read(str(tmp_path))
    with pytest.raises(MeloEditError, match="not from standard input"):
        read("-")


@pytest.mark.parametrize("name", METHODS)
def test_a_damaged_file_is_said_before_any_work(name, make_model, tokenizer, tiny_encoder, tmp_path):
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode())[:-9])
    setting, others = METHODS[name]
    others = others | ({"encoder": tiny_encoder} if name == "ike" else {})
    with pytest.raises(MeloEditError, match=r"cut\.jsonl\.gz: not a readable gzip file \("):
        method_class(name)(make_model("llama"), tokenizer, others | {setting: str(tmp_path / "cut.jsonl.gz")}).check()


def rows_of(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_training_edits(str(path), 9)


def test_rows_of_counterfact_and_of_this_package_are_read(tmp_path):
    rewrite = {"prompt": "{} is in", "subject": "Oslo", "target_new": {"str": "Peru"}, "target_true": {"str": "Norway"}}
    full = {"requested_rewrite": rewrite, "paraphrase_prompts": ["Oslo lies in"]}
    own = {"prompt": "Oslo is in", "target": "Peru"}
    read = rows_of(
        tmp_path,
        full | {"neighborhood_prompts": ["Bergen is in"]},
        own | {"rephrases": ["Oslo lies in"], "near": ["Bergen is in"]},
        own | {"variants": ["Oslo lies in"], "quiet": ["Bergen is in"]},
    )
    plain = TrainingEdit("Oslo is in", "Peru", ("Oslo lies in",))  # near prompts of the package's have no answers
    assert read == [TrainingEdit("Oslo is in", "Peru", ("Oslo lies in",), (("Bergen is in", "Norway"),)), plain, plain]
    for target in ("Peru", {"str": 3}, None):
        with pytest.raises(MeloEditError, match=r"line 1: .* \(ROME\); target_new\.str is missing or no text$"):
            rows_of(tmp_path, full | {"requested_rewrite": rewrite | {"target_new": target}})


def test_rows_of_mend_may_lack_a_rephrasing_and_those_without_a_target_are_left_out(tmp_path):
    row = {"src": "Where is it?", "alt": "Rome"}
    assert rows_of(tmp_path, row, row | {"alt": ""}) == [TrainingEdit("Where is it?", "Rome")]
    for target in (None, 5, " "):
        with pytest.raises(MeloEditError, match=r"line 1: expected a training edit .*; alt is missing or no text$"):
            rows_of(tmp_path, row | {"alt": target})


def test_a_near_prompt_keeps_its_own_answer_where_another_lacks_one(tmp_path):
    row = {
        "src": "Where is it?",
        "alt": "Rome",
        "loc": ["nq question: who", "when", "why"],
        "loc_ans": ["Bo", "", "so"],
    }
    assert rows_of(tmp_path, row)[0].near == (("who", "Bo"), ("why", "so"))


def test_only_the_first_rows_are_read(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW) + "\nnot JSON\n")
    assert len(read_training_edits(str(path), 2)) == len(read_questions(str(path), 2)) == 2


def test_a_question_has_at_most_one_answer_and_a_text_may_be_a_line(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "Who?", "answer": ["Ada", "Bo"]}\n"Why?"\n{"text": "How?"}\n')
    assert read_questions(str(path), 9) == [("Who?", "Ada"), ("Why?", None), ("How?", None)]
    assert read_texts(str(path)) == ["Who?", "Why?", "How?"]
    (tmp_path / "lines.txt").write_text("One.\n\n {2} \n")
    assert read_texts(str(tmp_path / "lines.txt")) == ["One.", "{2}"]
    assert read_questions(str(tmp_path / "lines.txt"), 1) == [("One.", None)]
