"""The commands on a tiny model: what they print, how they end, and what bad input and interruptions leave behind."""

import gzip
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from meloedit import Editor
from meloedit.cli.app import app
from meloedit.cli.terminal import line
from meloedit.settings import read_config
from meloedit.store import Record, Store
from meloedit.text import size, some

SETTINGS = ["--false-activation", "0.02", "--min-similarity", "0.7", "--set", "calibration_prompts=200"]
SETTINGS += ["--set", "lr=0.1", "--set", "min_target_probability=0.5"]
FACTS = [
    {"id": "book", "prompt": "Who wrote the book of sand?", "target": "Jorge"},
    {"id": "capital", "prompt": "What is the capital of Peru?", "target": "Lima"},
    {"id": "legs", "prompt": "How many legs has a spider?", "target": "eight", "metadata": {"source": "zoo"}},
]
MELOEDIT = [sys.executable, "-c", "from meloedit.cli.app import main; main()"]
COMMANDS = "demo init edit ask ls show rm enable disable history rollback check calibrate".split()
MEASURING = ("report", "harness", "eval")


def run(*args, stdin=None):
    return CliRunner().invoke(app, [str(arg) for arg in args], input=stdin, prog_name="meloedit")


def good(*args, stdin=None):
    """Run a command that must succeed, and return what it printed."""
    result = run(*args, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def good_json(*args, stdin=None):
    return json.loads(good(*args, "--json", stdin=stdin))


def bad(*args, stdin=None):
    """Run a command that must fail with one line on stderr, and return that line."""
    result = run(*args, stdin=stdin)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("error: ").rstrip("\n")


def write(path, *lines):
    path.write_text("".join(f"{text if isinstance(text, str) else json.dumps(text)}\n" for text in lines))
    return path


@pytest.fixture(scope="module")
def folder(make_model, tokenizer, tmp_path_factory):
    """A tiny model as save_pretrained writes it."""
    path = tmp_path_factory.mktemp("model")
    make_model("llama").save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """An empty and a filled store, never changed: tests work on copies."""
    home = tmp_path_factory.mktemp("made")
    good("init", home / "empty.melo", "--model", folder, *SETTINGS)
    shutil.copy(home / "empty.melo", home / "full.melo")
    good("edit", home / "full.melo", write(home / "facts.jsonl", *FACTS))
    return home


@pytest.fixture
def empty(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(made / "empty.melo", "empty.melo"))


@pytest.fixture
def full(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(made / "full.melo", "full.melo"))


# -- the commands


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
    assert bad("edit", path, file, "--batch", 3).startswith("a batch of 3 edits is larger than a block is declared for")
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
    monkeypatch.setattr(Editor, "calibrate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    result = run("init", "new.melo", "--model", folder, *SETTINGS)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "interrupted: nothing was changed\n"
    assert os.listdir() == []


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
    assert [(r["id"], r["status"], r["held"]) for r in first["reports"]] == [("book", "stored", True)]
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
    assert (report["status"], report["held"]) == ("failed", False)
    assert result.stderr == "error: 1 of 1 edit not stored, as they do not hold: ohm\n"
    result = run("edit", path, "--prompt", "Who leads Ohm?", "--target", "Ada", "--id", "ohm")
    assert "does not hold after 1 steps" in " ".join(result.stdout.split())
    assert good_json("ls", path) == []


def test_ask_explains_each_route(full):
    (fired,) = good_json("ask", full, "Who wrote the book of sand?")
    assert (fired["text"], fired["route"]["edit"], fired["route"]["reason"]) == ("Jorge", "book", "fired")
    out = good("ask", full, "Who wrote the book of sand?", "--explain").splitlines()
    assert out[0] == "Jorge"
    assert out[1].startswith('  fired: book ("Who wrote the book of sand?"); distance 0.0')
    assert out[2] == "  key: the user's words"
    assert out[3].startswith("  evidence: 100% of the edit's names (")
    assert out[3].endswith("), what is asked 1.000, all that is said 1.000")
    (row,) = good_json("ask", full, "Who wrote the book of sand?", "--explain")
    assert row["evidence"]["named"] == 1 and all(heard for _, heard in row["evidence"]["names"].values())
    far = good("ask", full, "Please sing", "-e", "--max-new-tokens", 1).splitlines()
    assert far[-3].startswith("  no edit fired; nearest: ") and ", threshold 0." in far[-3]
    assert far[-1].startswith("  evidence: 0% of the edit's names (not ")
    good("disable", full, "book", "capital", "legs")
    off = good("ask", full, "Please sing", "-e", "--max-new-tokens", 1)
    assert off.endswith("  no edit fired; the store has none that are enabled\n")


def test_ask_says_when_a_quiet_prompt_keeps_an_edit_from_firing(empty):
    good("edit", empty, "-p", "Who leads Ohm?", "-t", "Ada", "--quiet", "Who leads Ohm now?", "--id", "ohm")
    out = good("ask", empty, "Who leads Ohm now?", "--explain", "--max-new-tokens", 1)
    assert '  no edit fired; ohm ("Who leads Ohm?") is kept quiet by one of its quiet prompts; distance ' in out


def test_ask_reads_prompts_from_stdin_and_files(full, tmp_path):
    lines = "Who wrote the book of sand?\n\nWhat is the capital of Peru?\n"
    wanted = "> Who wrote the book of sand?\nJorge\n\n> What is the capital of Peru?\nLima\n"
    assert good("ask", full, "-", stdin=lines) == wanted
    assert good("ask", full, "--file", write(tmp_path / "asked.txt", lines)) == wanted
    messages = [{"role": "user", "content": "What is the capital of Peru?"}]
    rows = ["Who wrote the book of sand?", {"prompt": messages}]
    asked = good_json("ask", full, "--file", write(tmp_path / "asked.jsonl", *map(json.dumps, rows)))
    assert [answer["text"] for answer in asked] == ["Jorge", "Lima"]


def test_ask_puts_a_system_prompt_before(full):
    (answer,) = good_json("ask", full, "What is the capital of Peru?", "--system", "You are a poet.")
    assert [message["role"] for message in answer["prompt"]] == ["system", "user"]
    assert answer["route"]["nearest"] == "capital" and answer["route"]["words_known"]
    assert bad("ask", full, "Hm?", "--raw", "--system", "x") == "--system needs the chat template: leave out --raw"


def test_ask_takes_the_model_from_elsewhere(full, folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert good("ask", full, "What is the capital of Peru?", "--model", moved, "--device", "cpu") == "Lima\n"
    assert good("ask", full, "Is it late?", "--dtype", "bfloat16", "--max-new-tokens", 1)


def test_ls_and_show(full):
    out = good("ls", full)
    assert [row.split()[0] for row in out.splitlines()[2:]] == ["book", "capital", "legs"]
    assert [row["enabled"] for row in good_json("ls", full)] == [True] * 3
    assert good_json("ls", full, "--at", 2) == []
    shown = good("show", full, "legs")
    assert "prompt           How many legs has a spider?\n" in shown and "metadata.source  zoo\n" in shown
    assert good_json("show", full, "legs")["history"][0]["action"] == "edit"
    assert good_json("show", full)["edits"] == 3
    assert "model.fingerprint " in good("show", full)


def test_rm_disable_enable_rollback_and_history(full):
    out = good("rm", full, "book", "legs")
    assert out == "2 edits removed; revision 4 (undo with: meloedit rollback full.melo 3)\n"
    assert good("disable", full, "capital").startswith("1 edit changed; revision 5 ")
    assert good("disable", full, "capital") == "nothing to change; revision 5\n"
    assert good_json("ls", full)[0]["enabled"] is False
    assert good("enable", full, "capital").startswith("1 edit changed; revision 6 ")
    back = good_json("rollback", full, 3)
    assert back == {"revision": 7, "before": 6, "removed": [], "added": ["book", "legs"], "changed": []}
    assert good("ask", full, "Who wrote the book of sand?") == "Jorge\n"
    actions = [item["action"] for item in good_json("history", full)]
    assert actions == ["init", "calibrate", "edit", "remove", "disable", "enable", "rollback"]
    assert [item["action"] for item in good_json("history", full, "legs")] == ["edit", "remove", "rollback"]
    out = good("history", full, "--limit", 1).splitlines()
    assert (
        len(out) == 3 and out[-1].split()[0] == "7" and out[-1].endswith("rollback to 3   +book, +legs".ljust(40)[:0])
    )
    assert "rollback to 3" in out[-1] and "+book, +legs" in out[-1]


def test_commands_on_the_store_do_not_need_the_model(full, tmp_path):
    code = "import sys; from meloedit.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
    code += "; assert not {'torch', 'transformers'} & sys.modules.keys(), 'torch was imported'"
    for args in (["ls"], ["show"], ["history"], ["disable", "book"], ["rm", "book"], ["rollback", "3"]):
        subprocess.run([sys.executable, "-c", code, args[0], str(full), *args[1:]], check=True, capture_output=True)


def test_check_finds_what_no_longer_holds(full):
    out = good("check", full)
    assert out.endswith("3 edits asked, 0 broken, 0 overlaps, 0 problems in the file\n")
    with Editor.load(full) as editor:  # a block of another edit, as if training had gone wrong
        (wrong, right) = (editor.store.tensors()[name] for name in ("book", "legs"))
        stored = editor.store.get("book")
        editor.store.put([Record(stored.edit, stored.rank, stored.reach, {}, right[0], wrong[1])])
    result = run("check", full)
    assert result.exit_code == 1
    assert "book" in result.stdout and "3 edits asked, 1 broken" in result.stdout
    assert result.stderr.endswith("error: 1 of 3 edits no longer hold: book\n")
    assert {item["id"] for item in json.loads(run("check", full, "--json").stdout)["broken"]} == {"book"}


def test_check_reports_damage(full):
    with sqlite3.connect(full) as db:
        db.execute("UPDATE records SET report = '{}' WHERE edit_id = 'legs'")
    result = run("check", full, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == ["edit 'legs' (record 3): does not match its checksum"]
    assert result.stderr == "error: full.melo is damaged (1 problem); restore it from a copy\n"


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


# -- bad input: one clear line, and nothing lost


@pytest.mark.parametrize(
    "command", ["ls", "history", "check", "calibrate", "show", "rm", "enable", "rollback", "ask", "edit"]
)
def test_a_store_that_is_not_there(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = {"rm": ["x"], "enable": ["x"], "rollback": [1], "ask": ["x"], "edit": ["-p", "x", "-t", "y"]}
    assert bad(command, "no.melo", *more.get(command, [])) == (
        "no store at no.melo; make one with: meloedit init no.melo --model MODEL"
    )
    assert os.listdir() == []


def test_a_file_that_is_not_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("x.melo"), "hello " * 100)
    for args in (["ls", "x.melo"], ["edit", "x.melo", "-p", "x", "-t", "y"], ["ask", "x.melo", "x"]):
        assert bad(*args) == "x.melo is not a meloedit store (it is no SQLite file, or its head is damaged)"
    assert bad("ls", ".") == ". is a folder, not a store: give the path of a store's file"


def test_a_truncated_store(full):
    data = full.read_bytes()
    full.write_bytes(data[: len(data) // 2])
    assert "full.melo is damaged (" in bad("ls", full)
    full.write_bytes(b"")
    assert bad("ls", full) == "full.melo is not a meloedit store (it is empty, or another program's SQLite file)"


def test_a_store_of_a_newer_format(full):
    with sqlite3.connect(full) as db:
        db.execute("PRAGMA user_version = 99")
    for args in (["ls"], ["ask", "x"], ["rm", "x"]):
        assert bad(args[0], full, *args[1:]) == (
            "full.melo has format 99, this meloedit reads format 2: upgrade meloedit"
        )


def test_a_store_that_another_process_is_writing(full):
    before = full.read_bytes()
    with Store.open(full).writing():
        for args in (["rm", "book"], ["edit", "-p", "x", "-t", "y"], ["calibrate"], ["rollback", 2]):
            said = bad(args[0], full, *args[1:])
            assert said == "full.melo is being written by another process; try again when it is done"
        assert good("ask", full, "What is the capital of Peru?") == "Lima\n"  # readers are not kept out
    assert full.read_bytes() == before


def test_a_store_of_another_model(full, make_model, tokenizer, tmp_path):
    other = tmp_path / "other"
    make_model("llama", intermediate_size=64).save_pretrained(other)
    tokenizer.save_pretrained(other)
    fingerprint = good_json("show", full)["model"]["fingerprint"]
    said = bad("ask", full, "x", "--model", other)
    assert said.startswith("full.melo was made for ") and f"fingerprint {fingerprint}" in said and str(other) in said


def test_a_model_that_is_not_there(full, tmp_path):
    new, nowhere = tmp_path / "new.melo", tmp_path / "nowhere"
    said = f"no model at {nowhere}: give a folder written by save_pretrained, a hub name, or 'smollm2'"
    assert bad("init", new, "--model", nowhere) == said
    assert bad("ask", full, "x", "--model", nowhere) == said
    assert not new.exists()
    empty_folder = tmp_path / "void"
    empty_folder.mkdir()
    assert f"cannot load model '{empty_folder}' (" in bad("init", new, "--model", empty_folder)


def test_a_model_that_has_moved(made, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good("init", "moved.melo", "--model", shutil.copytree(folder, "here"), *SETTINGS)
    shutil.rmtree("here")
    said = bad("ask", "moved.melo", "x")
    assert said.startswith("no model at ") and said.endswith(
        "; if the model of moved.melo has moved, say where with --model"
    )


def test_a_device_that_is_not_there(full):
    said = bad("ask", full, "x", "--device", "abacus")
    assert said.startswith("cannot use device 'abacus': ") and "--model" not in said


LINES = [
    ('{"prompt" "x"}', "not JSON (Expecting ':' delimiter); one object per line is expected"),
    ('["x", "y"]', "expected an object with 'prompt' and 'target', not list"),
    ('{"prompt": "x"}', "no target (fields found: prompt)"),
    ('{"target": "x"}', "no prompt (fields found: target)"),
    ('{"prompt": " ", "target": "x"}', "prompt is empty: give the text that the model is asked"),
    ('{"prompt": "x", "target": ""}', "target must be a non-empty string, not ''"),
    ('{"prompt": "x", "target": "y", "quite": []}', "unknown field 'quite' (known: prompt, target, id, variants, "
     "quiet, metadata; put other data into 'metadata')"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), LINES)
def test_a_line_that_is_no_edit(empty, text, said):
    before = empty.read_bytes()
    assert bad("edit", empty, write(Path("bad.jsonl"), FACTS[0], "", text, FACTS[1])) == f"bad.jsonl, line 3: {said}"
    assert bad("edit", empty, "-", stdin=f"\n{text}\n") == f"standard input, line 2: {said}"
    assert empty.read_bytes() == before


def test_lines_that_contradict_each_other(empty):
    other = FACTS[0] | {"target": "Luis", "id": "other"}
    assert bad("edit", empty, write(Path("two.jsonl"), FACTS[0], FACTS[1], other)) == (
        "two.jsonl, line 3 contradicts two.jsonl, line 1: same prompt or id, other target; keep one of them"
    )


def test_edits_that_do_not_fit_name_their_line(full):
    long = {"id": "long", "prompt": "very " * 300, "target": "x"}
    said = bad("edit", full, write(Path("long.jsonl"), FACTS[0], long))
    assert said.startswith("long.jsonl, line 2: edit 'long': the prompt has ") and "the model takes 256" in said
    mute = {"id": "mute", "prompt": "Say it", "target": "<|im_end|>"}
    said = bad("edit", full, write(Path("mute.jsonl"), mute))
    assert said.startswith("mute.jsonl, line 1: edit 'mute': the target '<|im_end|>' has ")
    other = FACTS[2] | {"target": "six"}
    said = bad("edit", full, write(Path("other.jsonl"), FACTS[0], other))
    assert said == (
        "other.jsonl, line 2: edit 'legs' is in the store with other content: use replace (--replace) to change it, "
        "or another id"
    )
    assert len(good_json("ls", full)) == 3


def test_a_target_of_no_tokens(full, folder):
    deaf = Path(shutil.copytree(folder, "deaf"))
    tokenizer = json.loads((deaf / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "#"}, "content": ""}
    (deaf / "tokenizer.json").write_text(json.dumps(tokenizer))
    said = bad("edit", full, "-p", "Who?", "-t", "##", "--id", "mute", "--model", deaf)
    assert said.startswith("edit 'mute': ") and "the target '##'" in said and "this model's vocabulary" in said


def test_wrong_combinations_of_arguments(empty):
    assert bad("edit", empty) == "give a file of edits, or --prompt and --target"
    assert bad("edit", empty, "--prompt", "x") == "give a file of edits, or --prompt and --target"
    assert bad("edit", empty, "x.jsonl", "--prompt", "x") == "give a file or --prompt, not both"
    assert bad("edit", empty, "x.jsonl", "--quiet", "x") == "give a file or --quiet, not both"
    assert bad("edit", empty, "x.jsonl") == "x.jsonl: cannot be read (No such file or directory)"
    assert bad("edit", empty, write(Path("none.jsonl"))) == "none.jsonl holds no edits"
    assert bad("ask", empty) == "nothing to ask: give a prompt, - for prompts on stdin, or --file FILE"
    assert bad("ask", empty, " ") == "prompt is empty: give the text that the model is asked"
    assert run("ls").exit_code == run("bogus").exit_code == run("ls", empty, "--bogus").exit_code == 2


def test_prompts_that_are_none(empty):
    for text, said in [
        ("{", "not JSON (Expecting property name enclosed in double quotes); one object per line is expected"),
        ('{"text": "x"}', "no prompt (fields found: text)"),
        ('""', "prompt is empty: give the text that the model is asked"),
        ("7", "prompt must be a string or a non-empty list of chat messages, not int"),
    ]:  # fmt: skip
        path = write(Path("traffic.jsonl"), '"Who?"', text)
        assert bad("calibrate", empty, "--prompts", path) == f"traffic.jsonl, line 2: {said}"
    assert bad("calibrate", empty, "--prompts", write(Path("t.txt"))) == (
        "t.txt holds no prompts: one per line is expected"
    )
    Path("t.txt").write_bytes(b"\xff\xfe")
    assert bad("calibrate", empty, "--prompts", "t.txt") == "t.txt: not UTF-8 text (invalid start byte at byte 0)"


def test_too_few_prompts_to_calibrate_on(empty):
    result = run("calibrate", empty, "--prompts", write(Path("t.txt"), "Who?", "Where?"))
    assert result.stderr.endswith(
        "error: 2 different prompts cannot calibrate a false-activation rate of 0.02: give at least 50 that no edit "
        "asks (2,000 or more make it steady)\n"
    )
    assert good_json("history", empty)[-1]["revision"] == 2


def test_settings_that_do_not_exist(folder, tmp_path):
    def said(*more):
        return bad("init", tmp_path / "new.melo", "--model", folder, *more)

    assert said("--modules", "lm_heat").startswith("no linear module 'lm_heat' in LlamaForCausalLM; it has: ")
    assert "model.layers.{0..4}.mlp.down_proj" in said("--modules", "model.layers.4.mlp.down_proj,lm_heat")
    assert said("--key-layer", "x") == ("no module 'x' to take keys from; layers: model.layers.0 to .4")
    assert said("--rank", 0).startswith("rank must be a positive integer, not 0")
    assert said("--set", "colour=red").startswith("unknown setting 'colour'; the settings are: modules, layers, ")
    assert said("--set", "lr") == "--set lr: give NAME=VALUE"
    assert said("--set", "lr=high") == "lr must be positive and finite, not 'high'"
    assert os.listdir(tmp_path) == []


def test_init_never_overwrites(full, folder):
    before = full.read_bytes()
    assert bad("init", full, "--model", folder) == (
        "full.melo exists already and is left as it is: choose another name, or delete it first"
    )
    assert full.read_bytes() == before
    said = bad("init", "no/new.melo", "--model", folder)
    assert said == f"no/new.melo cannot be made: there is no folder {Path('no').absolute()}; make it first"


def test_ids_and_revisions_that_do_not_exist(full):
    for command in ("rm", "enable", "disable"):
        assert bad(command, full, "book", "leg") == "full.melo has no edit 'leg'; did you mean 'legs'?"
    assert bad("show", full, "zzz") == "full.melo has no edit 'zzz'; see them with: meloedit ls"
    assert bad("history", full, "capitol") == "full.melo has no edit 'capitol'; did you mean 'capital'?"
    assert bad("rollback", full, 9) == "full.melo has no revision 9: it has 1 to 3"
    assert bad("ls", full, "--at", 0) == "full.melo has no revision 0: it has 1 to 3"
    assert good_json("history", full)[-1]["revision"] == 3


def _without_a_weight(path):
    weights = load_file(path / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, path / "model.safetensors", {"format": "pt"})


def _with_a_wrong_shape(path):
    weights = load_file(path / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"][:-1].clone()
    save_file(weights, path / "model.safetensors", {"format": "pt"})


def _change_config(path, **changes):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


BROKEN_MODELS = [
    (_without_a_weight, "lacks the weight 'model.norm.weight'"),
    (_with_a_wrong_shape, "the weight 'model.norm.weight' has another shape than config.json says"),
    (lambda path: _change_config(path, hidden_size=64), "has another shape than config.json says"),
    (lambda path: _change_config(path, num_attention_heads="four"), "cannot load model"),
    (lambda path: (path / "model.safetensors").write_bytes(b"\xff" * 99), "cannot load model"),
    (lambda path: (path / "tokenizer.json").write_text('{"model": 7}'), "cannot load model"),
]


@pytest.mark.parametrize(("spoil", "said"), BROKEN_MODELS)
def test_a_model_folder_that_is_broken(folder, tmp_path, spoil, said):
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    spoil(broken)
    assert said in bad("init", tmp_path / "new.melo", "--model", broken, *SETTINGS)
    assert not (tmp_path / "new.melo").exists()


def test_names_and_settings_that_are_odd(full, folder, tmp_path):
    new = tmp_path / "new.melo"
    for args in (["init", new], ["ask", full, "x"]):
        assert bad(*args, "--model", "").startswith("--model is empty: ")
    assert bad("ask", full, "x", "--device", "meta") == "cannot use device 'meta': nothing is computed there"
    assert bad("init", new, "-m", folder, "--set", "lr=" + "[" * 10**5) == "--set lr: the value is nested too deeply"
    said = bad("init", new, "-m", folder, "--false-activation", "1e-320")
    assert said == "false_activation must be at least 1e-09 and below 1, not 1e-320"
    own = read_config({}, ["places=None", "train_with_lead_in=True"])
    assert own.places is None and own.train_with_lead_in is True
    assert read_config({"rank": 16}, []).max_rank == 16 and read_config({"rank": 1}, []).max_rank == 8


def test_files_that_are_odd(empty):
    for args in (["ask", empty, "-f"], ["calibrate", empty, "--prompts"]):
        whole = gzip.compress(b"Who?\n" * 1000)
        Path("t.txt.gz").write_bytes(whole[:12] + b"\xff" * 9 + whole[21:])
        assert bad(*args, "t.txt.gz").startswith("t.txt.gz: cannot be read (")
        path = write(Path("t.txt"), "Who?", "x" * 1_000_001)
        assert bad(*args, path).startswith("t.txt, line 2: 1,000,002 characters in one line, at most 1,000,000 are ")
    deep = '{"prompt": "x", "target": "y", "metadata": {"a": %s}}'
    for levels, said in [(70, "nested more than 64 levels deep"), (900, "nested more than 64"), (50_000, "not JSON (")]:
        path = write(Path("deep.jsonl"), FACTS[0], deep % ("[" * levels + "]" * levels))
        assert bad("edit", empty, path).startswith(f"deep.jsonl, line 2: {said}")
        Path("deep.csv").write_text(f"prompt,target,metadata\nx,y,{'[' * levels}{']' * levels}\n")
        assert bad("edit", empty, "deep.csv").startswith("deep.csv, line 2: column 'metadata' ")
    for number in ("NaN", "1e999"):
        said = bad("edit", empty, write(Path("nan.jsonl"), deep % number))
        assert said.startswith("nan.jsonl, line 1: metadata must be JSON: ")
    said = bad("edit", empty, write(Path("one.csv"), "Who leads Ohm?,Ada"))
    assert said == (
        "one.csv, line 1: the header has no column 'prompt' and no column 'target' "
        "(columns found: 'Who leads Ohm?', 'Ada')"
    )


def test_a_prompt_that_is_too_long_names_its_line(full):
    path = write(Path("t.txt"), *(f"Who is number {number}?" for number in range(60)), "very " * 300)
    for args in (["calibrate", full, "--prompts", path], ["ask", full, "-f", path]):
        result = run(*args)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith("error: t.txt, line 61: the prompt has "), result.stderr


def test_control_characters_are_spelled_out(empty):
    good("edit", empty, "-p", "Who leads \x1b[31mOhm?", "-t", "Ada", "--id", "a\x1b[2J\nb", "-v")
    for args in (["ls"], ["show"], ["show", "a\x1b[2J\nb"], ["history"]):
        assert "\x1b" not in (out := good(args[0], empty, *args[1:])), out
    assert "a\\x1b[2J\\nb" in good("history", empty)
    assert "\x1b" not in bad("show", empty, "\x1b[2J")


# -- interruptions, as the shell sees them


def test_ctrl_c_after_the_change_says_that_it_is_stored(full, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "diff", stop)
        result = run("rm", full, "book")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "interrupted: the change is stored: full.melo is at revision 4\n"
    with monkeypatch.context() as patch:
        patch.setattr("meloedit.cli.commands.model.show_reports", stop)
        result = run("edit", full, "-p", "Who leads Ohm?", "-t", "Ada")
    assert result.stderr.splitlines()[-1] == "interrupted: 1 of 1 edit stored in this run"
    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", stop)
        assert run("rm", full, "legs").stderr == "interrupted: nothing was changed\n"


def test_ctrl_c_before_the_command_begins(full):
    start = "import meloedit.cli.app as c\ndef stop(**_): raise KeyboardInterrupt\nc.app = stop\nc.main()"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_full_output_says_what_is_stored(full):
    for args, said in [
        (["edit", full, "-p", "Who leads Ohm?", "-t", "Ada"], "1 of 1 edit stored in this run; then: "),
        (["rm", full, "book"], "the change is stored: full.melo is at revision 5; then: "),
    ]:
        with open("/dev/full", "w") as out:
            done = subprocess.run([*MELOEDIT, *args], stdout=out, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == f"error: {said}[Errno 28] No space left on device"


def test_closed_streams(full):
    def shell(command):
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100)

    program = f"{sys.executable} -m meloedit"
    for redirected in (">&-", "2>&-", ">&- 2>&- <&-"):
        done = shell(f"{program} ls {full} {redirected}")
        assert (done.returncode, done.stderr) == (0, ""), redirected
    done = shell(f"{program} edit {full} - <&-")
    assert (done.returncode, done.stderr) == (1, "error: standard input holds no edits\n")


@pytest.fixture
def slow(folder, tmp_path, monkeypatch):
    """A store that commits edits one by one, and a file of many."""
    monkeypatch.chdir(tmp_path)
    good("init", "slow.melo", "--model", folder, *SETTINGS, "--set", "train_batch_size=1")
    names = ["north", "south", "east", "west", "upper", "lower", "inner", "outer", "old", "new"]
    rows = [{"id": f"{a}-{b}", "prompt": f"Who leads the {a} {b} town?", "target": b} for a in names for b in names[:2]]
    write(Path("many.jsonl"), *rows)
    return Path("slow.melo"), len(rows)


def stop_midway(path, number):
    """Start editing, send a signal once some edits are stored, and return the finished process and how many are."""
    process = subprocess.Popen(
        [*MELOEDIT, "edit", str(path), "many.jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )
    deadline = time.monotonic() + 60
    while len(Store.open(path).edits()) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err, len(Store.open(path).edits())


def test_ctrl_c_keeps_what_is_finished_and_a_second_run_skips_it(slow):
    path, total = slow
    code, out, err, kept = stop_midway(path, signal.SIGINT)
    assert (code, out) == (130, "") and 2 <= kept < total
    assert err.splitlines()[-1] == (
        f"interrupted: {kept} of {total} edits stored in this run; run the same command again for the rest"
    )
    assert "Traceback" not in err
    counts = [report["status"] for report in good_json("edit", path, "many.jsonl")["reports"]]
    assert (counts.count("skipped"), counts.count("stored")) == (kept, total - kept)
    assert Store.open(path).verify() == []


def test_kill_leaves_a_sound_store(slow):
    path, total = slow
    code, _, _, kept = stop_midway(path, signal.SIGKILL)
    assert code == -signal.SIGKILL and 2 <= kept < total
    assert Store.open(path).verify() == []
    good("rm", path, good_json("ls", path)[0]["id"])  # the lock went with the process
    assert len(good_json("ls", path)) == kept - 1


def test_a_full_disk_keeps_what_was_stored(slow):
    path, total = slow
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The largest file that this process may write stands in for the disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40_000, most))
    try:
        done = run("edit", path, "many.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    kept = len(Store.open(path).edits())
    said = f"; {kept} of {total} edits stored in this run; run the same command again for the rest"
    assert (done.exit_code, done.stdout) == (1, "") and 0 < kept < total
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {path} cannot ") and last.endswith(said), done.stderr
    assert Store.open(path).verify() == []
    assert good("edit", path, "many.jsonl").splitlines()[-1].startswith(f"{total - kept} stored, {kept} skipped in ")


def test_a_closed_pipe_and_a_full_output_end_quietly(full):
    for args in (["ls", "--json"], ["ls"], ["history"]):
        read, write_end = os.pipe()
        os.close(read)
        done = subprocess.run([*MELOEDIT, args[0], str(full), *args[1:]], stdout=write_end, stderr=subprocess.PIPE)
        os.close(write_end)
        assert (done.returncode, done.stderr) == (1, b"")
    with open("/dev/full", "w") as out:
        done = subprocess.run([*MELOEDIT, "ls", str(full)], stdout=out, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")


def test_json_stands_alone_on_stdout_beside_bars(full, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stderr for a terminal
    done = run("edit", full, "-p", "Who leads Ohm?", "-t", "Ada", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["reports"][0]["status"] == "stored"
    assert "\x1b[" in done.stderr and "editing" in done.stderr and "Loading weights" not in done.stderr


# -- help


def test_every_command_and_option_is_explained():
    group = typer.main.get_command(app)
    assert list(group.commands) == [*COMMANDS, *MEASURING, "ablate"]
    commands = {name: command for name, command in group.commands.items() if name != "ablate"}
    commands |= {f"ablate {name}": command for name, command in group.commands["ablate"].commands.items()}
    for name, command in commands.items():
        assert command.help and len(command.help.splitlines()[0]) <= 62, name
        without = name in ("demo", "eval", "report") or name.startswith("ablate")
        assert without or command.params[0].metavar == "STORE"
        assert any(parameter.opts == ["--json"] for parameter in command.params), name
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)
        for flag in ("-h", "--help"):
            assert f"Usage: meloedit {name} " in good(*name.split(), flag)
    assert all(f"\n  {name} " in good("--help") for name in (*COMMANDS, *MEASURING))
    assert "..." not in good("--help").split("Commands:")[1]  # no summary is cut off


def test_version():
    assert good("--version") == "meloedit 0.1.0\n"


def test_help_does_not_pay_for_torch():
    """Processor time, since other tests may be running beside this one."""

    def best(*command):
        def once():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        return min(once() for _ in range(7))

    assert best(*MELOEDIT, "--help") <= 3 * best(sys.executable, "-c", "import typer, rich")


# -- small things


def test_words():
    assert line("a\n\tb\x1b[31m\udcff") == "a b\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}"
    assert line([{"role": "system", "content": "x"}, {"role": "user", "content": "y\nz"}]) == "y z"
    assert (size(999), size(2.5e6)) == ("1.0 kB", "2.5 MB")
    assert some(list("abcdefg")) == "a, b, c, d, e and 2 more"
