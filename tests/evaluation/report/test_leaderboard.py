"""The leaderboard: which runs share a table, what is best, and what is written."""

import json

import pytest
from report_runs import FIGURES, call, figure, figures, make_run

from meloedit.errors import MeloEditError
from meloedit.evaluation.report.leaderboard import make_leaderboard, markdown, to_json, write_leaderboard


def run(path, *names, **changed):
    """A run of some methods, with figures and conditions that can be changed."""
    return make_run(path, observed=False, methods={name: figures(name) for name in names or FIGURES}, **changed)


def board_of(*paths):
    return make_leaderboard(list(paths))


def cells(text, method):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {method} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_one_row_for_each_method_with_the_best_in_bold(tmp_path):
    board = board_of(run(tmp_path / "run"))
    assert board.apart == "" and len(board.boards) == 1
    text = markdown(board)
    assert text.startswith("## zsre, retention, 200 edits on smollm2\n")
    head = cells(text, "method")
    assert head[1:5] == ["edit success", "generality", "same answer, near", "same answer, far"]
    assert head[5:] == ["removal", "bytes per edit", "edits a minute"]  # what nobody measured has no column
    melo, grace, none = (cells(text, name) for name in ("melo", "grace", "none"))
    assert melo[1] == "0.995 • [0.985, 1.005]" and grace[1] == "**1.000** [0.990, 1.010]"
    assert melo[2].startswith("**0.910**") and grace[3].startswith("**0.990**")
    assert none[3].startswith("1.000 ") and none[-1] == "–"  # the unedited model takes no part
    assert (melo[5], grace[5], none[5]) == ("exact", "none", "–") and melo[6] == "**24,576**"
    assert "\n- Edit success: grace is best (1.000), ahead of melo (0.995), and their intervals overlap." in text


def test_runs_that_can_be_compared_share_a_table_and_others_do_not(tmp_path):
    paths = [run(tmp_path / "a", "melo", "none"), run(tmp_path / "b", "grace"), run(tmp_path / "c", "lora", edits=1000)]
    board = board_of(*paths)
    assert [[row.method for row in each.rows] for each in board.boards] == [["melo", "none", "grace"], ["lora"]]
    assert board.apart == "2 tables, since these runs cannot be compared: they differ in edits (200, 1,000)."
    assert markdown(board).startswith(board.apart)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"task": "counterfact"}, "task (zsre, counterfact)"),
        ({"protocol": "single"}, "protocol (retention, single)"),
        ({"model": "t5"}, "model (smollm2, t5), weights"),
        ({"data": [{"name": "zsre.jsonl.gz", "role": "edits", "sha256": "cd" * 32, "rows": 9}]}, "data"),
        ({"provenance": {"configuration": {"seed": 3}}}, "seed (–, 3)"),
        ({"provenance": {"fingerprint": "f3"}}, "weights"),
    ],
)
def test_what_differs_is_named(tmp_path, changed, words):
    board = board_of(run(tmp_path / "a", "melo"), run(tmp_path / "b", "grace", **changed))
    assert len(board.boards) == 2 and board.apart.endswith(f"they differ in {words}.")


def test_the_same_weights_under_two_names_are_one_model(tmp_path):
    same = {"provenance": {"fingerprint": "f3"}}
    board = board_of(run(tmp_path / "a", "melo", **same), run(tmp_path / "b", "lora", model="/x", **same))
    assert len(board.boards) == 1


def test_a_method_of_two_runs_has_two_rows_with_their_folders_and_settings(tmp_path):
    settings = {"provenance": {"configuration": {"settings": {"melo": {"rank": 8}}}}}
    board = board_of(run(tmp_path / "a", "melo"), run(tmp_path / "b", "melo", **settings))
    (table,) = to_json(board)["tables"]
    assert [(row["run"], row["settings"]) for row in table["rows"]] == [("a", {}), ("b", {"rank": 8})]
    assert "| melo (a) |" in markdown(board)


def test_a_result_says_how_edits_are_removed_before_this_package_does(tmp_path):
    details = {"vectors": {"removal": "approximate"}, "grace": {}}
    folder = make_run(
        tmp_path / "run",
        observed=False,
        details=details,
        methods={n: {"edit_success": figure(1.0)} for n in ("vectors", "grace", "other")},
    )
    assert board_of(folder).boards[0].removal == ["approximate", "none", "–"]


def test_times_of_different_machines_and_unfinished_runs_are_noted(tmp_path):
    one = run(tmp_path / "a", "melo", provenance={"threads": 1})
    two = run(tmp_path / "b", "grace", provenance={"threads": 8}, finished=False, growth=None)
    (board,) = board_of(one, two).boards
    assert board.notes[0].endswith("is unfinished: so far grace")
    assert board.notes[1] == "The times are of different machines (threads 1 and 8): compare them with that in mind."


def test_files_and_parts_of_several_protocols_are_read(tmp_path):
    for name in ("retention", "teacher-forced"):
        run(tmp_path / "run" / name, "melo", protocol=name)
    other = run(tmp_path / "other", "grace") / "result.json"
    other.rename(tmp_path / "grace.json")
    board = board_of(tmp_path / "run", tmp_path / "grace.json", tmp_path / "grace.json")
    assert [[row.method for row in each.rows] for each in board.boards] == [["melo", "grace"], ["melo"]]
    assert board.apart.endswith("they differ in protocol (retention, teacher-forced).")


def test_the_three_files_say_the_same(tmp_path):
    board = board_of(run(tmp_path / "run"))
    html, text, data = write_leaderboard(board, tmp_path / "page")
    assert [path.name for path in (html, text, data)] == ["leaderboard.html", "leaderboard.md", "leaderboard.json"]
    page = html.read_text("utf-8")
    assert page.count('<th scope="row">') == 5 and '<b class="best">0.910</b>' in page and ">exact</td>" in page
    assert "<script" not in page and "http:" not in page and "https:" not in page
    (table,) = json.loads(data.read_text("utf-8"))["tables"]
    melo = table["rows"][0]
    assert melo["figures"]["generality"] == {"value": 0.91, "ci": [0.89, 0.93], "n": 200, "mark": "best"}
    assert melo["figures"]["edit_success"]["mark"] == "close" and melo["removal"] == "exact"
    assert table["conditions"]["edits"] == "200" and table["columns"]["bytes_per_edit"]["higher"] is False


def test_what_comes_from_files_is_escaped(tmp_path):
    bad = "<script>|x"
    folder = make_run(
        tmp_path / "run", observed=False, task=bad, methods={bad: {"edit_success": figure(0.5)}}, details={}
    )
    html, text, _ = write_leaderboard(board_of(folder), tmp_path)
    assert "<script" not in html.read_text("utf-8") and "<script" not in text.read_text("utf-8")
    assert "&lt;script>\\|x |" in text.read_text("utf-8")


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    first, second = run(tmp_path / "a", "melo", "lora"), run(tmp_path / "b", "grace", edits=1000)
    got = call(first, second, "--leaderboard", "--out", tmp_path / "page")
    assert got.exit_code == 0, got.output
    assert "zsre, retention, 200 edits on smollm2" in got.stdout and "removal" in got.stdout
    assert "leaderboard.html, leaderboard.md, leaderboard.json" in got.stdout
    assert "they differ in edits (200, 1,000)" in got.stderr
    said = json.loads(call(first, "--leaderboard", "--json").stdout)
    assert [row["method"] for row in said["tables"][0]["rows"]] == ["melo", "lora"]
    assert (first / "leaderboard.md").is_file()


def test_bad_input_is_one_line(tmp_path):
    empty = make_run(tmp_path / "empty", observed=False, methods={})
    routing = run(tmp_path / "routing", "melo", protocol="routing")
    (tmp_path / "torn.json").write_text('{"methods": {')
    for path, words in (
        (tmp_path / "nowhere", "is no run: give a folder"),
        (empty, "no method has figures yet"),
        (routing, "measured routes alone"),
        (tmp_path / "torn.json", "torn.json, line 1: damaged"),
    ):
        with pytest.raises(MeloEditError, match=words) as raised:
            board_of(path)
        assert "\n" not in str(raised.value)
