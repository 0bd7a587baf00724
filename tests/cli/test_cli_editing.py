"""The commands init, edit and calibrate: what they print and store."""

import gzip
import json
import os
from pathlib import Path

from cli_helpers import FACTS, SETTINGS, bad, good, good_json, run, write

from meloedit import Editor

pytest_plugins = ["cli_fixtures"]


def test_init_makes_a_calibrated_store(folder, tmp_path):
    path = tmp_path / "new.melo"
    out = good_json("init", path, "--model", folder, *SETTINGS, "--layers", 2, "--rank", 1, "--reach", "all")
    assert out["config"]["modules"] == ["model.layers.3.mlp.down_proj", "model.layers.4.mlp.down_proj"]
    assert (out["config"]["rank"], out["config"]["reach"], out["config"]["lr"]) == (1, "all", 0.1)
    assert out["calibration"] == {"source": "built-in grammar", "prompts": 200, "keys": 468}  # 34 have sentences
    assert [item["action"] for item in good_json("history", path)] == ["init", "calibrate"]
    assert good("ls", path) == f'no edits; add one with: meloedit edit {path} --prompt "..." --target "..."\n'


def test_paper_mode_shares_blocks_and_counts_clusters(folder, tmp_path):
    path, file = tmp_path / "paper.melo", write(tmp_path / "facts.jsonl", *FACTS)
    quick = ("--set", "edits_per_block=2", "--set", "radius=0.5", "--set", "lr=0.1", "--rank", 4)
    out = good("init", path, "--model", folder, "--paper", *quick)
    assert "paper mode: 2 edits to a block of rank 4, radius 0.5" in out
    assert bad("edit", path, file, "--edits-per-block", 3).startswith("3 edits are more than a block is declared for")
    assert bad("calibrate", path) == "paper mode takes keys as they are: there is nothing to calibrate"
    facts = [{name: value for name, value in fact.items() if name != "quiet"} for fact in FACTS]
    made = good_json("edit", path, write(tmp_path / "plain.jsonl", *facts))
    keys = sum(1 + len(fact.get("variants", [])) for fact in facts)
    assert made["index"] == {"clusters": keys, "keys": keys, "conflicts": 0, "forgotten": 0}
    assert made["revision"] == 4  # init, keys taken as they are, two batches
    assert good("edit", path, tmp_path / "plain.jsonl").splitlines()[-1].startswith(f"index: {keys} clusters, ")
    assert good("ask", path, facts[0]["prompt"], "--raw").strip() == facts[0]["target"]
    line = bad("init", tmp_path / "x.melo", "--model", folder, "--preset", "no")
    assert line.startswith("no preset 'no'; there are: ")
    line = bad("init", tmp_path / "x.melo", "--model", folder, "--preset", "scotus-bert")
    assert line.startswith("preset 'scotus-bert' does not fit LlamaForCausalLM: no linear module 'bert.encoder.")


def test_init_knows_a_relative_folder_from_everywhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    good("init", tmp_path / "new.melo", "--model", folder.name, *SETTINGS)
    monkeypatch.chdir(tmp_path)
    assert good("ask", "new.melo", "Is it late?", "--max-new-tokens", 1)


def test_init_leaves_nothing_behind_when_interrupted(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Editor, "prepare", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    result = run("init", "new.melo", "--model", folder, *SETTINGS)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "interrupted: nothing was changed\n"
    assert os.listdir() == []


def test_init_never_overwrites(full, folder):
    before = full.read_bytes()
    assert bad("init", full, "--model", folder) == (
        "full.melo exists already and is left as it is: choose another name, or delete it first"
    )
    assert full.read_bytes() == before
    said = bad("init", "no/new.melo", "--model", folder)
    assert said == f"no/new.melo cannot be made: there is no folder {Path('no').absolute()}; make it first"


def test_edit_one_and_ask_in_both_forms(empty):
    out = good("edit", empty, "--prompt", "Who leads Ohm?", "--target", "Ada", "--id", "ohm", "-v")
    assert "ohm" in out and "stored" in out and out.splitlines()[-1].startswith("1 stored in ")
    for form in ([], ["--raw"], ["--chat"]):
        assert good("ask", empty, "Who leads Ohm?", *form) == "Ada\n"


def test_edit_takes_variants_and_quiet_prompts(empty):
    given = ["--prompt", "Who leads Ohm?", "--target", "Ada", "--variant", "Name the head of Ohm.", "--variant", "Ohm?"]
    good("edit", empty, *given, "--quiet", "Where is the town of Ohm?", "--id", "ohm")
    shown = good_json("show", empty, "ohm")
    assert shown["variants"] == ["Name the head of Ohm.", "Ohm?"]
    assert shown["quiet"] == ["Where is the town of Ohm?"]
    assert good("ask", empty, "Ohm?") == "Ada\n"


def test_edit_reads_files_and_skips_what_is_there(empty, tmp_path):
    rows = [json.dumps(fact) for fact in FACTS]
    first = good_json("edit", empty, write(tmp_path / "one.jsonl", rows[0]))
    assert [(r["id"], r["status"], r["holds"]) for r in first["reports"]] == [("book", "stored", True)]
    (tmp_path / "two.csv").write_text("id,prompt,target\ncapital,What is the capital of Peru?,Lima\n")
    assert good("edit", empty, tmp_path / "two.csv").startswith("1 stored in ")
    with gzip.open(tmp_path / "three.jsonl.gz", "wt") as stream:
        stream.write("\n".join(rows))
    assert good("edit", empty, tmp_path / "three.jsonl.gz").splitlines()[-1].startswith("1 stored, 2 skipped in ")
    assert good("edit", empty, "-", stdin="\n".join(rows)) == "0 stored, 3 skipped; revision 5\n"
    assert [item["id"] for item in good_json("ls", empty)] == ["book", "capital", "legs"]


def test_edit_replaces_on_request(full):
    change = ["--id", "legs", "--prompt", "How many legs has a spider?", "--target", "six"]
    assert bad("edit", full, *change) == (
        "edit 'legs' is in the store with other content: use replace (--replace) to change it, or another id"
    )
    good("edit", full, *change, "--replace")
    assert good("ask", full, "How many legs has a spider?") == "six\n"


def test_an_edit_that_does_not_hold_is_an_error_and_not_stored(folder, tmp_path):
    path = tmp_path / "weak.melo"
    weak = ["--set", "steps=1", "--set", "max_rank=2", "--set", "lr=1e-6"]
    good("init", path, "--model", folder, "--set", "calibration_prompts=200", "--false-activation", "0.02", *weak)
    result = run("edit", path, "--prompt", "Who leads Ohm?", "--target", "Ada", "--id", "ohm", "--json")
    assert result.exit_code == 1
    (report,) = json.loads(result.stdout)["reports"]
    assert (report["status"], report["holds"]) == ("failed", False)
    assert result.stderr == "error: 1 of 1 edit not stored, as they do not hold: ohm\n"
    result = run("edit", path, "--prompt", "Who leads Ohm?", "--target", "Ada", "--id", "ohm")
    assert "does not hold after 1 steps" in " ".join(result.stdout.split())
    assert good_json("ls", path) == []


def test_calibrate_on_given_traffic(full, tmp_path):
    prompts = [f"Tell me about item {i} of the list, please" for i in range(60)]
    out = good("calibrate", full, "--prompts", write(tmp_path / "traffic.jsonl", *map(json.dumps, prompts)))
    assert out.startswith(
        f"calibrated on 60 prompts ({tmp_path / 'traffic.jsonl'}): an edit fires at a distance below "
    )
    assert "; revision 4\n" in out
    assert good_json("calibrate", full, "--prompts", "-", stdin="\n".join(prompts))["calibration"]["prompts"] == 60
    assert good_json("calibrate", full)["calibration"]["source"] == "built-in grammar"
    out = good("calibrate", full, "--min-similarity", "0.99")
    assert "(similarity above 0.990)" in out
    assert "that is min_similarity: these prompts alone would let edits fire" in out
    assert good_json("calibrate", full, "--false-activation", "0.2")["calibration"]["min_similarity"] == 0.99
    assert bad("calibrate", full, "--min-similarity", "2") == "min_similarity must be None or between -1 and 1, not 2.0"
    assert good("ask", full, "Who wrote the book of sand?") == "Jorge\n"


def test_too_few_prompts_to_calibrate_on(empty):
    result = run("calibrate", empty, "--prompts", write(Path("t.txt"), "Who?", "Where?"))
    assert result.stderr.endswith(
        "error: 2 different prompts cannot calibrate a false-activation rate of 0.02: give at least 50 that no edit "
        "asks (2,000 or more make it steady)\n"
    )
    assert good_json("history", empty)[-1]["revision"] == 2


def test_json_stands_alone_on_stdout_beside_bars(full, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stderr for a terminal
    done = run("edit", full, "-p", "Who leads Ohm?", "-t", "Ada", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["reports"][0]["status"] == "stored"
    assert "\x1b[" in done.stderr and "editing" in done.stderr and "Loading weights" not in done.stderr
