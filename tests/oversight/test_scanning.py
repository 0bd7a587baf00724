"""Scans of traffic: what is listed fires, what is not does not; stopped scans go on; bad logs are named."""

import gzip
import json

import pytest
from support.prompts import EDITS, FACTS, OTHERS

from meloedit import Edit
from meloedit.errors import EditError
from meloedit.oversight import near_misses, scanning

JUDGED = {"judge": "built-in", "min_similarity": 0.0}
TRAFFIC = [
    *OTHERS,
    "Who is the author of the book of sand?",
    {"prompt": FACTS[1].prompt, "id": 7},
    {"messages": [{"role": "user", "content": FACTS[2].prompt}, {"role": "assistant", "content": "Six."}]},
    [{"role": "user", "content": [{"type": "text", "text": FACTS[0].prompt}]}],
    OTHERS[0],
    FACTS[1].prompt,
]


def write_log(path, lines):
    opened = gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w")
    with opened as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    return path


@pytest.fixture(scope="module")
def editor(make_editor):
    made = make_editor(edits=FACTS, **JUDGED)
    yield made
    made.unload()


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_what_is_listed_fires_and_nothing_else(editor, tmp_path, name):
    report = editor.scan(write_log(tmp_path / name, TRAFFIC))
    assert (report.lines, report.prompts, report.fired) == (9, 9, 5)
    lines = sorted(one.line for hits in report.edits for one in hits.listed)
    assert lines == [4, 5, 6, 7]  # line 9 repeats line 5
    for hits in report.edits:
        assert {answer.route.edit for answer in editor.ask([one.prompt for one in hits.listed], "chat")} == {hits.id}
    assert [answer.route.edit for answer in editor.ask(OTHERS, "chat")] == [None] * 3
    assert {hits.id: hits.count for hits in report.edits} == {"capital": 2, "book": 2, "legs": 1}
    assert [json.loads(line) for line in open(report.record)][0]["scan"]["revision"] == editor.store.revision
    json.dumps(report.to_dict())


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_stopped_scan_goes_on_to_the_same_report(editor, tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(scanning, "LINES_AT_ONCE", 2)
    log = write_log(tmp_path / "log.jsonl", TRAFFIC)
    whole = editor.scan(log, record=tmp_path / "whole.jsonl").to_dict()
    done = []

    def stop(what, number, total):
        done.append(number)
        if len(done) == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        editor.scan(log, record=tmp_path / "part.jsonl", progress=stop)
    with open(tmp_path / "part.jsonl", "a") as record:
        record.write('{"line": 3, "prompt": "cut')  # killed while it wrote
    again = editor.scan(log, record=tmp_path / "part.jsonl", progress=lambda what, number, total: done.append(number))
    assert done[stop_after] == 2 * (stop_after + 1)
    assert again.to_dict() | {"record": ""} == whole | {"record": ""}
    with open(log, "a") as stream:
        stream.write(json.dumps(FACTS[2].prompt) + "\n")
    assert editor.scan(log, record=tmp_path / "part.jsonl").fired == whole["fired"] + 1  # a log that grew


def test_edits_are_scanned_for_before_they_are_made(editor, tmp_path):
    log = write_log(tmp_path / "log.jsonl", ["Which river is the longest of all?", *TRAFFIC])
    before = editor.route([FACTS[0].prompt, *OTHERS])
    new = Edit("What is the longest river?", "the Nile", id="river")
    report = editor.scan(log, edits=[new], record=tmp_path / "new.jsonl")
    assert next(hits for hits in report.edits if hits.id == "river").listed[0].line == 1
    assert editor.route([FACTS[0].prompt, *OTHERS]) == before
    assert editor.route(new.prompt)[0].edit is None and "river" not in editor


def test_near_misses_are_counted_apart(editor, tmp_path, monkeypatch):
    monkeypatch.setattr(near_misses, "NEAR_ODDS", 1e9)
    report = editor.scan(write_log(tmp_path / "log.jsonl", ["What colour is the sand of the book?", *TRAFFIC]))
    assert report.fired == 5 and sum(hits.count for hits in report.near) >= 1
    page = tmp_path / "scan.html"
    report.write_page(page)
    assert "5 of 10 prompts would be answered" in page.read_text()


def test_without_a_judge_keys_decide(make_editor, tmp_path):
    editor = make_editor(edits=EDITS[:3])
    report = editor.scan(write_log(tmp_path / "log.jsonl", TRAFFIC))
    assert {hits.id for hits in report.edits} == {"book", "capital", "legs"} and report.least_score is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'"Is it late?"\n{"text": "x"}\n', "log.jsonl, line 2: no prompt"),
        (b'"Is it late?"\n\n{"prompt": ""}\n', "log.jsonl, line 3: prompt is empty"),
        (b'"Is it late?"\n{"messages": []}\n', "log.jsonl, line 2"),
        (b'"Is it late?"\n{"messages": [{"role": "assistant", "content": "x"}]}\n', "log.jsonl, line 2"),
        (b'"Is it late?"\nnot json\n', "log.jsonl, line 2: not JSON"),
        ('"Wie spät ist es, bitte sehr?"\n'.encode("utf-16"), "log.jsonl, line 1: not UTF-8"),
        ('"Is it late?"\n"Wie sp\xe4t?"\n'.encode("latin-1"), "log.jsonl, line 2: not UTF-8"),
        (b"", "holds no prompts"),
        (b"\n\n", "holds no prompts"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(editor, tmp_path, content, words):
    (tmp_path / "log.jsonl").write_bytes(content)
    with pytest.raises(EditError, match=words):
        editor.scan(tmp_path / "log.jsonl")


def test_records_of_other_scans_are_refused(editor, tmp_path):
    log = write_log(tmp_path / "log.jsonl", TRAFFIC)
    editor.scan(log)
    record = tmp_path / "log.jsonl.scan.jsonl"
    with pytest.raises(EditError, match=r"another scan \(form was 'chat', is 'raw'\)"):
        editor.scan(log, form="raw")
    write_log(log, ["changed", *TRAFFIC])
    with pytest.raises(EditError, match="changed since"):
        editor.scan(log)
    for damage in (b"not a record\n", b"[1]\n", b"\xff\xfe\n"):
        record.write_bytes(damage)
        with pytest.raises(EditError, match="no record of a scan"):
            editor.scan(log)
        assert record.read_bytes() == damage
    with pytest.raises(EditError, match="cannot be read"):
        editor.scan(tmp_path / "none.jsonl")
    for name in ("zero \0", "half \ud800"):
        with pytest.raises(EditError, match="it is no name of a file"):
            editor.scan(name)
    with pytest.raises(EditError, match="give a file"):
        editor.scan("-")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('{"scan": []}', "no record of a scan"),
        ("garbage\n{done}", "damaged at line 2"),
        ('{"line": 1, "fires": true}\n{done}', "damaged at line 2"),
        ('{"done": {"lines": "x"}}\n{done}', "damaged at line 2"),
    ],
)
def test_a_damaged_record_is_named(editor, tmp_path, lines, words):
    log, record = write_log(tmp_path / "log.jsonl", TRAFFIC), tmp_path / "r.jsonl"
    editor.scan(log, record=record)
    head, *_, done = record.read_text().splitlines()
    text = lines if lines.startswith('{"scan"') else f"{head}\n{lines.replace('{done}', done)}"
    record.write_text(text + "\n")
    with pytest.raises(EditError, match=words):
        editor.scan(log, record=record)
    assert record.read_text() == text + "\n"


def test_a_log_or_a_store_that_is_another_one_is_named(editor, make_editor, tmp_path):
    log, record = write_log(tmp_path / "log.jsonl", TRAFFIC), tmp_path / "r.jsonl"
    editor.scan(log, record=record)
    for lines in (TRAFFIC[:1], ["other", "x", *TRAFFIC[2:]], [*TRAFFIC[:8], "other"]):
        write_log(log, lines)
        with pytest.raises(EditError, match="changed since"):
            editor.scan(log, record=record)
    log.write_text("\n".join(json.dumps(line) for line in TRAFFIC))  # no end of line after the last one
    before = editor.scan(log, record=record).fired
    with log.open("a") as stream:
        stream.write("\n" + json.dumps(FACTS[0].prompt))
    assert editor.scan(log, record=record).fired == before + 1
    other = make_editor(edits=FACTS, **JUDGED)
    assert (other.store.path.name, other.store.revision) == (editor.store.path.name, editor.store.revision)
    with pytest.raises(EditError, match="the store was made or changed otherwise"):
        other.scan(log, record=record)
    other.unload()


def test_what_stands_before_a_bad_line_is_done(editor, tmp_path):
    log, done = tmp_path / "log.jsonl", []
    log.write_text("".join(json.dumps(line) + "\n" for line in TRAFFIC) + '{"nothing": 1}\n')
    with pytest.raises(EditError, match="line 10: no prompt"):
        editor.scan(log, progress=lambda what, number, total: done.append(number))
    assert done == [9]


def test_a_pipe_is_no_log(editor, tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EditError, match="is no file"):
        editor.scan(tmp_path / "pipe")
