"""The judge's file: what is written is read, and anything else is refused in one line."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from meloedit.errors import ModelError
from meloedit.judging.weights import FORMAT, read_judge, restored, rounded, write_judge


def test_weights_come_back_as_int8_rounds_them():
    weight = torch.tensor([[1.27, -0.6, 0.014], [0.0, 0.0, 0.0]])
    stored = rounded("w", weight)
    assert stored["w"].dtype == torch.int8 and stored["w"][0].tolist() == [127, -60, 1]
    assert restored(stored)["w"].tolist() == [pytest.approx([1.27, -0.6, 0.01]), [0, 0, 0]]
    assert torch.equal(restored(rounded("b", weight[0]))["b"], weight[0])  # vectors stay


def test_a_file_is_read_as_it_was_written(tiny_file, tiny_model, built_in):
    file = read_judge(tiny_file)
    assert file.near.tolist() == [-1.0, 0.5, 2.0, 3.0] and file.card["config"] == tiny_model[1]
    assert file.tokenizer.get_vocab() == built_in.tokenizer.get_vocab()
    for name, weight in tiny_model[0].state_dict().items():
        assert torch.allclose(file.weights[name], weight, atol=float(weight.abs().max()) / 200), name
    assert file.name == read_judge(tiny_file).name != built_in.name


def test_a_missing_damaged_or_foreign_file_is_refused(tiny_file, tmp_path):
    path = tmp_path / "judge.safetensors"

    def message():
        with pytest.raises(ModelError) as caught:
            read_judge(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        return str(caught.value)

    assert "there is no judge" in message()
    data = bytearray(tiny_file.read_bytes())
    for broken in (b"", data[:100], data[:-7], b"not a judge" * 9):
        path.write_bytes(broken)
        assert "damaged or no judge" in message()
    data[-1000] ^= 1
    path.write_bytes(data)
    assert "checksum" in message()
    tensors = load_file(tiny_file)
    save_file(tensors, path)
    assert f"format None, this version reads {FORMAT}" in message()
    save_file(tensors, path, {"format": "99"})
    assert "format 99" in message()
    save_file({"near": torch.zeros(1)}, path, {"format": FORMAT})
    assert "checksum" in message()
    path.unlink()
    path.mkdir()
    assert "is no file" in message()


@pytest.mark.parametrize(
    "change",
    [
        {"card": {}},
        {"card": {"config": {}}},
        {"card": {"config": {"hidden_size": "x"}}},
        {"tokenizer": b"{}"},
        {"tokenizer": b"\xff"},
        {"near": torch.zeros(0)},
        {"near": torch.tensor([float("nan")])},
        {"weights": {}},
    ],
)
def test_a_whole_file_that_is_no_judge_is_refused_in_one_line(tiny_file, tmp_path, change):
    file, path = read_judge(tiny_file), tmp_path / "judge.safetensors"
    parts = {
        "weights": file.weights,
        "tokenizer": file.tokenizer.to_str().encode(),
        "near": file.near,
        "card": file.card,
    }
    write_judge(path, **parts)
    assert read_judge(path).card == file.card
    write_judge(path, **parts | change)
    with pytest.raises(ModelError, match="is whole, but no judge") as caught:
        read_judge(path)
    assert "\n" not in str(caught.value)
