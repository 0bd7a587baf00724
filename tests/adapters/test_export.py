"""Edits as PEFT adapters: the folders, what loads them, what they answer, what is refused."""

import json
import os
import stat
from dataclasses import replace

import pytest
import torch
from adapter_helpers import FOR_EXPORT
from support.prompts import BOOK, CAPITAL, FACTS, OTHERS

from meloedit import Edit
from meloedit.adapters import checking, export_store, read_index
from meloedit.adapters.fusing import always_on, fuse
from meloedit.errors import MeloEditError, ModelError, StoreError

pytest_plugins = ["adapter_fixtures"]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_per_edit_with_an_index(plain, tmp_path):
    made = plain.export(tmp_path / "a")
    assert list(made.adapters) == [fact.id for fact in FACTS] and made.written == 3
    index = read_index(tmp_path / "a")
    assert [(one.edit, one.adapter) for one in index.entries] == [(fact, made.adapters[fact.id]) for fact in FACTS]
    for name in made.adapters.values():
        folder = tmp_path / "a" / name
        assert sorted(os.listdir(folder)) == ["adapter_config.json", "adapter_model.safetensors", "meloedit.json"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["r"] == config["lora_alpha"] and config["target_modules"] == list(plain.config.modules)
    assert stat.S_IMODE((tmp_path / "a" / "index.json").stat().st_mode) == 0o644
    # the same again: the same names and bytes, and nothing is written
    assert plain.export(tmp_path / "a").written == 0
    plain.export(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_peft_gives_the_answers_of_the_editor(make_plain, tmp_path):
    editor = make_plain(FACTS)
    editor.export(tmp_path / "out")
    hooked = editor.model
    compared = editor.check_adapters(tmp_path / "out")
    assert compared.edits == compared.same_edits == 3 and compared.same == compared.asked >= 6 + 20
    assert compared.differ == () and not any("lora" in name for name, _ in hooked.named_modules())


@pytest.mark.slow
def test_an_adapter_that_is_another_edits_is_found(make_plain, tmp_path):
    """The comparison can fail: with the adapters of two edits exchanged it does."""
    editor = make_plain(FACTS)
    made = editor.export(tmp_path / "out")
    wanted, backbone = checking.expected(editor.engine, ("raw", "chat")), editor.backbone
    editor.unload()
    first, second = (tmp_path / "out" / made.adapters[fact.id] for fact in FACTS[:2])
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    compared = checking.compare_with_peft(backbone, tmp_path / "out", wanted)
    assert compared.edits == 3 and compared.same_edits == 1 and len(compared.differ) == 4


def test_a_later_export_follows_the_store(make_plain, tmp_path):
    editor = make_plain(FACTS)
    first = editor.export(tmp_path / "out")
    editor.quiet("book", OTHERS[0])  # the block stays, and so the adapter
    editor.remove("capital")
    editor.disable("legs")
    second = editor.export(tmp_path / "out")
    assert second.adapters == {"book": first.adapters["book"]} and second.disabled == ("legs",) and second.written == 0
    assert sorted(second.removed) == sorted([first.adapters["capital"], first.adapters["legs"]])
    assert [path.name for path in (tmp_path / "out").glob("melo-*")] == [first.adapters["book"]]
    assert read_index(tmp_path / "out").entries[0].edit.quiet == (OTHERS[0],)
    with pytest.raises(StoreError, match="edit 'legs' is disabled"):
        editor.export(tmp_path / "out", ids=["legs"])
    editor.unload()


def test_an_export_that_fails_leaves_the_earlier_one(make_plain, tmp_path, monkeypatch):
    editor = make_plain(FACTS[:1])
    editor.export(tmp_path / "out")
    before = files(tmp_path / "out")
    editor.edit(CAPITAL)
    replacing, done = os.rename, []

    def full(source, target):
        if str(target).endswith(editor_names[-1]):
            raise OSError(28, "No space left on device", str(target))
        done.append(target)
        replacing(source, target)

    editor_names = list(editor.export(tmp_path / "other").adapters.values())
    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(MeloEditError, match=r"cannot be written \(No space left on device\)$"):
        editor.export(tmp_path / "out")
    assert files(tmp_path / "out") == before and not list((tmp_path / "out").glob("*/.*"))
    monkeypatch.undo()
    editor.export(tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "other")
    editor.unload()


def test_what_a_hand_changed_is_put_right_by_the_next_export(plain, tmp_path):
    made = plain.export(tmp_path)
    before = files(tmp_path)
    weights = tmp_path / made.adapters["book"] / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert plain.export(tmp_path).written == 1 and files(tmp_path) == before


def test_other_stores_are_refused_with_the_settings_to_use(make_editor, plain, t5, tmp_path):
    default = make_editor(edits=FACTS[:1])
    with pytest.raises(StoreError, match=r"'book' acts from the end of the prompt on .*reach=answer.* --for-export"):
        default.export(tmp_path / "x")
    with pytest.raises(StoreError, match=r"'book' has inputs for 8 answer positions.* --set answer_positions=0"):
        default.export(tmp_path / "x", "alora")
    default.unload()
    with pytest.raises(StoreError, match=r"'book' acts on every token .*reach=all.*invocation token"):
        plain.export(tmp_path / "x", "alora")
    with pytest.raises(ModelError, match="there is no format 'gguf'"):
        plain.export(tmp_path / "x", "gguf")
    with pytest.raises(StoreError, match="task SEQ_2_SEQ_LM: decoder-only"):
        t5.export(tmp_path / "x")
    assert not (tmp_path / "x").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(MeloEditError, match=r"has other files \('notes.txt'\)"):
        plain.export(tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(MeloEditError, match="is a file, not a folder"):
        plain.export(tmp_path / "file")


@pytest.mark.slow
def test_an_activated_lora_gives_the_answers_of_chats(make_editor, tmp_path):
    editor = make_editor(edits=FACTS, answer_positions=0)
    editor.export(tmp_path / "out", "alora")
    config = json.loads(next((tmp_path / "out").glob("melo-*/adapter_config.json")).read_text())
    (token,) = config["alora_invocation_tokens"]
    assert token == editor.backbone.encode("Anything", "chat").ids[-1]
    compared = editor.check_adapters(tmp_path / "out")
    assert compared.edits == compared.same_edits == 3 and compared.same == compared.asked >= 3 + 20


@pytest.mark.slow
def test_an_activated_lora_is_refused_where_it_is_not_exact(make_editor, make_tokenizer, tmp_path):
    bare = make_editor(edits=FACTS[:1], tokenizer=make_tokenizer(None), answer_positions=0)
    with pytest.raises(ModelError, match="without a chat template"):
        bare.export(tmp_path / "x", "alora")
    bare.unload()
    tokenizer = make_tokenizer()
    end = "{% if add_generation_prompt %}<|im_start|>assistant\n{{ 'a' if messages|length > 1 else 'b' }}{% endif %}"
    tokenizer.chat_template = tokenizer.chat_template.rpartition("{% if add")[0] + end
    chats = [BOOK, replace(CAPITAL, prompt=[{"role": "system", "content": "Be brief."}, *as_chat(CAPITAL)])]
    odd = make_editor(edits=chats, tokenizer=tokenizer, answer_positions=0)
    with pytest.raises(ModelError, match="chats end with different tokens"):
        odd.export(tmp_path / "x", "alora")
    odd.unload()


def as_chat(edit):
    return [{"role": "user", "content": edit.prompt}]


def test_peft_out_of_range_or_missing_is_one_line(monkeypatch):
    for found, words in (("0.19.1", r"PEFT 0.19.1 was not tried .* 'peft>=0.20,<0.22'"), ("1.0", "PEFT 1.0 was not")):
        monkeypatch.setattr(checking, "version", lambda _, found=found: found)
        with pytest.raises(MeloEditError, match=words):
            checking.need_peft()

    def missing(_):
        raise checking.PackageNotFoundError

    monkeypatch.setattr(checking, "version", missing)
    with pytest.raises(MeloEditError, match=r"pip install 'meloedit\[peft\]'"):
        checking.need_peft()


# -- fusing


def random_block(seed, rank, size=(6, 5)):
    generator = torch.Generator().manual_seed(seed)
    return {
        "m.A": torch.randn(rank, size[0], generator=generator),
        "m.B": torch.randn(size[1], rank, generator=generator),
    }


def test_fusing_is_the_best_approximation_of_the_sum():
    blocks = [random_block(seed, 2) for seed in range(2)]
    whole = sum(block["m.B"] @ block["m.A"] for block in blocks)
    fused, lost = fuse(blocks, 4)
    assert torch.allclose(fused["m.B"].float() @ fused["m.A"].float(), whole, atol=2e-2) and lost < 1e-3
    sizes = torch.linalg.svdvals(whole)
    for rank in (1, 2, 3):
        fused, lost = fuse(blocks, rank)
        assert fused["m.A"].shape == (rank, 6) and fused["m.B"].shape == (5, rank)
        best = (sizes[rank:].square().sum() / sizes.square().sum()).sqrt()
        assert abs(lost - best) < 1e-3
        error = (fused["m.B"].float() @ fused["m.A"].float() - whole).norm() / whole.norm()
        assert abs(error - best) < 1e-2
    assert fuse([random_block(s, 2) for s in range(9)], 8)[0]["m.A"].shape == (8, 6)  # more than a module has: zeros


@pytest.mark.slow
def test_one_edit_fused_holds_and_what_it_loses_is_counted(plain, tmp_path):
    made = plain.export_fused(tmp_path, 2, ["book"])
    assert made.rank == made.whole_rank == 2 and made.lost < 1e-3
    assert made.held == made.held_whole == made.asked == 2  # raw and in a chat
    assert made.others == 100 and made.changed > 0  # nothing keeps it quiet any longer
    assert read_index(tmp_path).kind == "fused" and (tmp_path / made.adapter / "adapter_config.json").exists()
    cut = plain.export_fused(tmp_path, 1, ["book", "capital", "legs"])
    assert cut.whole_rank == 6 and 0 < cut.lost < 1 and cut.edits == 3
    assert [path.name for path in tmp_path.glob("*melo-*")] == [cut.adapter]
    with pytest.raises(MeloEditError, match="a rank is between 1 and .* 32, not 33"):
        plain.export_fused(tmp_path, 33)


def test_a_block_that_is_always_on_is_taken_off_again(plain):
    block = plain.store.tensors(["book"])["book"][0]
    with plain.base_model():
        before = plain.ask(BOOK.prompt)[0].text
        with always_on(plain.model, block):
            assert plain.ask(BOOK.prompt)[0].text == "Jorge" != before
        assert plain.ask(BOOK.prompt)[0].text == before


def test_a_thousand_edits_are_named_apart(plain):
    """Names are of the numbers alone: those of edits with the same wordings differ, of the same block do not."""
    from meloedit.adapters import adapter_name

    blocks = [{"m.A": torch.full((1, 2), float(i)).half(), "m.B": torch.ones(2, 1).half()} for i in range(1000)]
    assert len({adapter_name(block) for block in blocks}) == 1000
    assert adapter_name(blocks[3]) == adapter_name(dict(reversed(blocks[3].items()))) != adapter_name(blocks[3], 7)


def test_the_store_alone_is_enough(plain, tmp_path):
    """No model: the command reads the store and writes."""
    assert export_store(plain.store, tmp_path).adapters == plain.export(tmp_path).adapters
    assert plain.config.reach == FOR_EXPORT["reach"] and isinstance(plain.store.get("book").edit, Edit)
