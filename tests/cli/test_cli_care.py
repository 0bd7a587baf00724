"""The commands verify and repair."""

from pathlib import Path

from cli_helpers import bad, good, good_json, run
from support.store_cases import sql

pytest_plugins = ["cli_fixtures"]


def test_verify_checks_the_file_and_asks_a_sample(full, empty):
    assert good("verify", full, "--answers", 0) == "full.melo is sound: 3 edits, revision 3\n"
    assert good("verify", empty) == "empty.melo is sound: 0 edits, revision 2\n"
    out = good("verify", full, "--answers", 2).splitlines()
    assert out == [
        "full.melo is sound: 3 edits, revision 3",
        "2 edits asked, in every wording and form: all hold",
    ]
    found = good_json("verify", full)
    assert found == {"problems": [], "edits": 3, "revision": 3, "asked": 3, "broken": []}


def test_a_damaged_store_is_refused_verified_and_repaired(full):
    sql(full, "UPDATE records SET block = zeroblob(LENGTH(block)) WHERE edit_id = 'book'")
    result = run("verify", full)
    assert result.exit_code == 1
    assert result.stdout == "  edit 'book' (record 1): does not match its checksum\n"
    assert result.stderr == (
        "error: full.melo is damaged (1 problem); "
        "restore it from a copy, or save what can be: meloedit repair full.melo --to NEW\n"
    )
    assert "edit 'book' does not match its checksum" in bad("ask", full, "Who wrote the book of sand?")
    out = good("repair", full, "--to", "saved.melo").splitlines()
    assert out[0] == "2 edits saved in saved.melo"
    assert "  lost: edit 'book': make it again, its text is whole" in out and "  lost: the history" in out
    assert out[-1].endswith("again: meloedit edit saved.melo saved.melo.again.jsonl")
    assert good("verify", "saved.melo").endswith("2 edits asked, in every wording and form: all hold\n")
    good("edit", "saved.melo", "saved.melo.again.jsonl")
    assert good("ask", "saved.melo", "Who wrote the book of sand?") == "Jorge\n"


def test_a_damaged_schema_costs_nothing(full):
    sql(full, "CREATE TRIGGER t BEFORE INSERT ON changes BEGIN SELECT RAISE(IGNORE); END")
    for args in (["ls"], ["rm", "book"], ["ask", "x"]):
        assert "full.melo is damaged (its trigger 't' is foreign)" in bad(args[0], full, *args[1:])
    found = good_json("repair", full, "--to", "saved.melo")
    assert found == {"store": "saved.melo", "edits": 3, "whole": True, "lost": [], "again": None}
    assert good("verify", "saved.melo", "--answers", 0) == "saved.melo is sound: 3 edits, revision 3\n"


def test_what_cannot_be_repaired_or_verified(full):
    assert "no store at no.melo" in bad("repair", "no.melo", "--to", "new.melo")
    assert "no store at no.melo" in bad("verify", "no.melo")
    assert "full.melo exists already" in bad("repair", full, "--to", full)
    Path("text.melo").write_text("hello")
    assert "text.melo cannot be repaired: its settings" in bad("repair", "text.melo", "--to", "new.melo")
    result = run("verify", "text.melo")
    assert result.exit_code == 1 and "is not a meloedit store" in result.stdout
