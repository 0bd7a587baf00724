"""A store on another copy of its model, by the commands: refused with what to do, moved, checked, taken back."""

import pytest
import torch
from cli_helpers import bad, good, good_json, run
from support.gguf_files import write_gguf

pytest_plugins = ["cli_fixtures"]
PERU = "What is the capital of Peru?"


def test_a_store_moves_to_the_gguf_file_of_its_model(full, make_model, tokenizer, tmp_path):
    path = tmp_path / "model-q8.gguf"
    write_gguf(make_model(), tokenizer, path)
    refused = bad("ask", full, PERU, "--model", path)
    assert "full.melo was made for" in refused and "meloedit calibrate STORE --model MODEL --rekey" in refused
    moved = good("calibrate", full, "--model", path, "--rekey").splitlines()
    assert moved[0] == f"moved to {path}; revision 4" and moved[-1].startswith("3 edits asked, 0 broken")
    (answer,) = good_json("ask", full, PERU, "--raw")  # its name is in the store from now on
    assert (answer["text"], answer["route"]["edit"]) == ("Lima", "capital")
    assert good_json("history", full)[-1]["action"] == "move"
    assert good_json("show", full)["model"]["name"] == str(path)
    good("rollback", full, 3)
    assert good_json("ask", full, PERU, "--raw")[0]["route"]["edit"] == "capital"
    assert "--rekey" in bad("ask", full, PERU, "--model", path)


@pytest.mark.slow
def test_edits_that_do_not_hold_on_the_copy_are_named(full, make_model, tokenizer, tmp_path):
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight.flip(0))
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    result = run("calibrate", full, "--model", tmp_path / "other", "--rekey", "--json")
    assert result.exit_code == 1 and '"broken"' in result.stdout
    assert result.stderr.splitlines()[-1] == "error: 3 of 3 edits no longer hold: book, capital, legs"
