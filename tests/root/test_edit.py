"""Edits and their files: every kind of bad line is named by its number."""

import gzip
import io
import json
import os
import threading
from pathlib import Path

import pytest

from meloedit import Edit, read_edits
from meloedit.edit import contradiction
from meloedit.errors import EditError
from meloedit.readers import read_prompts

GOOD = {"prompt": "Who wrote it?", "target": "Anna"}
CHAT = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Who?"}]


def write(path, *lines):
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return path


def test_an_edit_fills_in_its_id_from_its_content():
    assert Edit("a?", "b").id == Edit("a?", "b", variants=["c?"]).id
    assert len({Edit("a?", "b").id, Edit("a?", "c").id, Edit("b?", "b").id}) == 3
    assert Edit("a?", "b", id="mine").id == "mine"


def test_content_is_what_the_model_must_learn():
    edit = Edit("a?", "b", metadata={"from": "x"})
    assert edit.content == Edit("a?", "b", id="other").content
    for other in (Edit("a?", "c"), Edit("a?", "b", variants=["d"]), Edit("a?", "b", quiet=["d"]), Edit(CHAT, "b")):
        assert other.content != edit.content


def test_an_edit_survives_json():
    edit = Edit(CHAT, "b", variants=["c?", CHAT[1:]], quiet=["d?"], metadata={"n": [1, None]})
    assert Edit.from_dict(json.loads(json.dumps(edit.to_dict()))) == edit
    assert Edit("a?", "b").to_dict().keys() == {"id", "prompt", "target"}


BAD = {
    "no 'target'|no target": {"prompt": "a?"},
    "no prompt and no target": {"id": "x"},
    "no prompt .fields found: target": {"target": "b", "prompt": None},
    "prompt is empty": {"prompt": " \n", "target": "b"},
    "target must be a non-empty string": {"prompt": "a?", "target": "  "},
    "target must be a non-empty string, not 3.5": {"prompt": "a?", "target": 3.5},
    "prompt must be a string or a non-empty list": {"prompt": 3, "target": "b"},
    "non-empty list of chat messages, not list": {"prompt": [], "target": "b"},
    "a chat message is": {"prompt": [{"role": "user"}], "target": "b"},
    "last chat message must be the user's": {"prompt": [{"role": "assistant", "content": "x"}], "target": "b"},
    "last chat message must be the user's, with": {"prompt": [{"role": "user", "content": " "}], "target": "b"},
    "id must be a string, not 7": {**GOOD, "id": 7},
    "variants must be a list of prompts, not str": {**GOOD, "variants": "one"},
    r"variants\[1\] is empty": {**GOOD, "variants": ["x", ""]},
    r"quiet\[0\] must be a string": {**GOOD, "quiet": [1]},
    "subject must be a string, not 1": {**GOOD, "subject": 1},
    "metadata must be an object, not list": {**GOOD, "metadata": [1]},
    "unknown field 'promt'": {**GOOD, "promt": "x"},
    "quiet: the edit must fire on this prompt": {**GOOD, "quiet": [GOOD["prompt"]]},
    "expected an object with 'prompt' and 'target', not list": [GOOD],
    "cannot be encoded": {"prompt": "a\ud800?", "target": "b"},
    "target .*cannot be encoded": {"prompt": "a?", "target": "b\udfff"},
}


@pytest.mark.parametrize(("message", "values"), BAD.items())
def test_bad_edits_are_refused_with_file_and_line(message, values, tmp_path):
    with pytest.raises(EditError, match=message):
        Edit.from_dict(values)
    path = write(tmp_path / "facts.jsonl", json.dumps(GOOD), "", json.dumps(values))
    with pytest.raises(EditError, match=rf"facts\.jsonl, line 3: .*({message})"):
        read_edits(path)


@pytest.mark.parametrize("line", ["{", "word", '{"prompt": "a"', "[" * 100_000])
def test_a_line_that_is_not_json(line, tmp_path):
    path = write(tmp_path / "facts.jsonl", json.dumps(GOOD), line)
    with pytest.raises(EditError, match=r"facts\.jsonl, line 2: not JSON .*one object per line"):
        read_edits(path)


def test_reasons_in_plain_words(tmp_path):
    for line, said in [
        ("[" * 100_000, "not JSON (nested too deeply); one object per line is expected"),
        (
            "7" * 5000,
            "not JSON (a number has too many digits: at most 4,300 are read); one object per line is expected",
        ),
        (
            "{" + "".join(f'"{i}":1,' for i in range(60_000)) + '"a":1,"a":2}',  # looked through once, not per name
            'not JSON (the name "a" comes twice in one object: keep one of them); one object per line is expected',
        ),
        ('"%s"' % ("x" * 2_000_000), "2,000,003 characters in one line, at most 1,000,000 are read: split it"),
    ]:
        path = write(tmp_path / "facts.jsonl", line)
        for read in (read_edits, read_prompts):
            with pytest.raises(EditError) as caught:
                read(path)
            assert str(caught.value) == f"{path}, line 1: {said}"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.jsonl.gz"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_byte_that_is_not_utf8_is_named_by_its_line(name, end, tmp_path):
    head, row = (b"prompt,target", b"q,\xc3\xbc") if name == "a.csv" else (json.dumps(GOOD).encode(),) * 2
    good = b"\xef\xbb\xbf" + end.join([head, *[row] * 999, b""])
    content = good + b"caf\xff" + end + row
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    said = f"{path}, line 1001: not UTF-8 text (invalid start byte at byte {len(good) + 3})"
    for read in {"a.txt": [read_prompts], "a.csv": [read_edits]}.get(name, [read_edits, read_prompts]):
        with pytest.raises(EditError) as caught:
            read(path)
        assert str(caught.value) == said


def test_a_pipe_that_is_not_utf8_names_no_wrong_byte(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"\n\xff",))
    writer.start()
    with pytest.raises(EditError, match=r"pipe: not UTF-8 text \(invalid start byte\)$"):
        read_prompts(tmp_path / "pipe")
    writer.join()


def test_a_subject_is_kept_and_changes_nothing_that_a_model_learns():
    edit = Edit(**GOOD, subject="it")
    assert Edit.from_dict(edit.to_dict()) == edit and edit.to_dict()["subject"] == "it"
    assert (edit.id, edit.content) == (Edit(**GOOD).id, Edit(**GOOD).content) and "subject" not in Edit(
        **GOOD
    ).to_dict()


def test_metadata_must_be_json():
    for metadata in ({"a": {1, 2}}, {"a": object()}):
        with pytest.raises(EditError, match="metadata must be JSON"):
            Edit("a?", "b", metadata=metadata)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_jsonl_file(suffix, tmp_path):
    rows = [GOOD | {"subject": "x", "rephrases": ["y"]}, {"prompt": CHAT, "target": "Ünï", "metadata": {"a": 1}}]
    text = "\ufeff" + json.dumps(rows[0]) + "\r\n\r\n" + json.dumps(rows[1], ensure_ascii=False)
    path = tmp_path / f"facts{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    found = read_edits(path)
    assert [item.edit for item in found] == [Edit(**GOOD, subject="x"), Edit(CHAT, "Ünï", metadata={"a": 1})]
    assert [item.where for item in found] == [f"{path}, line 1", f"{path}, line 3"]
    assert read_edits(str(path)) == found


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_standard_input(monkeypatch, bom):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bom + json.dumps(GOOD).encode() + b"\n{")))
    with pytest.raises(EditError, match="standard input, line 2: not JSON"):
        read_edits("-")
    stdin = io.TextIOWrapper(io.BytesIO(bom + json.dumps(GOOD).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert [item.edit for item in read_edits("-")] == [Edit(**GOOD)]
    assert not stdin.closed


def test_a_csv_file(tmp_path):
    path = write(
        tmp_path / "facts.csv",
        "\ufeffprompt,target,id,variants,subject",
        '"Who, then?","Anna ""A""",,"[""By whom?""]",x',
        '"two',
        'lines",b,two,,',
    )
    found = read_edits(path)
    assert [item.edit for item in found] == [
        Edit("Who, then?", 'Anna "A"', variants=["By whom?"], subject="x"),
        Edit("two\nlines", "b", id="two"),
    ]
    assert [item.where for item in found] == [f"{path}, line 2", f"{path}, line 3"]
    packed = tmp_path / "facts.CSV.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [item.edit for item in read_edits(packed)] == [item.edit for item in found]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["prompt,target", "a,b", "c,"], r"line 3: no target \(fields found: prompt\)"),
        (["question,answer", "a,b"], r"line 1: .* 'prompt' and no column 'target' \(.* 'question', 'answer'\)$"),
        (["prompt,targt", "a,b"], r"line 1: the header has no column 'target' \(columns found: 'prompt', 'targt'\)$"),
        (["prompt;target", "a;b"], r"line 1: .* \(columns found: 'prompt;target'\): separate them with commas$"),
        (["prompt,target", "a,b,c"], "line 2: more cells than the header"),
        (["prompt,target,variants", "a,b,word"], "line 2: column 'variants' must hold JSON"),
        (["prompt,target,metadata", "a,b,{}", 'c,d,"[1]"'], "line 3: metadata must be an object"),
        (["prompt,target", 'a,"b" c'], "line 2: not CSV"),
        (["prompt,target", "a,b", 'c,"d', "e,f"], r"line 3: not CSV \(a quote is never closed\)"),
        (["prompt,target", "a,b", "", '"c', 'd",e', '"f', 'g",'], "line 6: no target"),
        (["prompt,target", f"a,{'b' * 200_000}"], r"line 2: not CSV .*limit of 131,072 characters: shorten it"),
        (["prompt,target,metadata", f"a,b,{'[' * 50_000}"], r"line 2: .* JSON, .* \(nested too deeply\)$"),
        (["prompt,target,target", "a,b,c"], "line 1: the column 'target' comes twice"),
    ],
)
def test_bad_csv_lines(lines, message, tmp_path):
    path = write(tmp_path / "facts.csv", *lines)
    with pytest.raises(EditError, match=rf"facts\.csv, {message}"):
        read_edits(path)


@pytest.mark.parametrize("name", ["facts.jsonl", "facts.csv"])
def test_an_empty_file_has_no_edits(name, tmp_path):
    assert read_edits(write(tmp_path / name)) == []


def test_files_that_cannot_be_read(tmp_path):
    good = gzip.compress((json.dumps(GOOD) + "\n").encode() * 3)
    broken = good[:10] + b"\xff\xff" + good[12:]
    cases = {
        "missing.jsonl": (None, "cannot be read"),
        "latin.jsonl": (b'{"prompt": "caf\xe9", "target": "b"}', "not UTF-8 text"),
        "latin.csv": (b"prompt,target\ncaf\xe9,b", "not UTF-8 text"),
        "plain.jsonl.gz": (b'{"prompt": "a", "target": "b"}', "not a readable gzip file"),
        "short.jsonl.gz": (good[:-12], "not a readable gzip file"),
        "broken.jsonl.gz": (broken, "not a readable gzip file"),
        "null.csv": (b"prompt,target\na\0,b\xff", "not CSV|not UTF-8"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            Path(tmp_path / name).write_bytes(content)
        with pytest.raises(EditError, match=f"{name}.*({message})"):
            read_edits(tmp_path / name)
    with pytest.raises(EditError, match="cannot be read"):
        read_edits(tmp_path)


def test_contradictions_are_found_and_both_lines_named(tmp_path):
    agree = [Edit("a?", "b"), Edit("a?", "b"), Edit("c?", "b", variants=["a?"])]
    assert contradiction(agree) is None
    assert contradiction([*agree, Edit("d?", "x", variants=["a?"])]) == (0, 3)
    assert contradiction([*agree, Edit(CHAT, "x", id="i"), Edit("e?", "x", id="i")]) == (3, 4)
    path = write(tmp_path / "f.jsonl", json.dumps(GOOD), "", json.dumps(GOOD | {"target": "Otto"}))
    with pytest.raises(EditError, match=r"f\.jsonl, line 3 contradicts .*f\.jsonl, line 1: same prompt"):
        read_edits(path)


def test_an_edit_has_so_many_wordings_and_no_more():
    assert len(Edit("p", "t", variants=[f"v {i}" for i in range(4000)], quiet=[f"q {i}" for i in range(95)]).variants)
    with pytest.raises(EditError, match="an edit has 4,096 wordings and quiet prompts at most, not 4,097"):
        Edit("p", "t", variants=[f"v {i}" for i in range(4096)])


def test_the_fields_of_a_bad_row_are_told_in_one_short_line():
    names = {"a\nb": 1, "\x1b[31m": 1, "x" * 5000: 1, **{f"field {i}": 1 for i in range(50)}}
    with pytest.raises(
        EditError, match=r"no prompt and no target \(fields found: a\\nb, \\x1b\[31m, x+…, field 0"
    ) as error:
        Edit.from_dict(names)
    assert str(error.value).isprintable() and len(str(error.value)) < 400


def test_a_name_of_a_file_that_is_none_is_told_of_in_one_line():
    class Unshowable:
        def __repr__(self):
            raise RuntimeError("no")

        __str__ = __repr__

    for wrong in (Unshowable(), 3, None):
        for read in (read_edits, read_prompts):
            with pytest.raises(EditError, match="^give the name of a file, or - for standard input, not "):
                read(wrong)
