"""IKE with a tiny encoder: which demonstrations stand before a prompt and in what order; its files; room; removal."""

import json

import pytest
import torch

from meloedit import Edit
from meloedit.errors import MeloEditError
from meloedit.methods import free_memory, method_class
from meloedit.methods.data_files import TrainingEdit, read_training_edits
from meloedit.methods.in_context.demonstrations import COPY, Demonstrations, parts_of

EDITS = [
    Edit("Who wrote the book of sand?", "Jorge", id="book"),
    Edit("What is the capital of Peru?", "Lima", id="capital"),
]
ROWS = [
    {
        "prompt": "Who painted it?",
        "target_new": "Ada",
        "rephrase_prompt": "It was painted by",
        "locality_prompt": "Is it late?",
        "locality_ground_truth": "No",
    },
    {
        "prompt": "What is the capital of Chile?",
        "target_new": "Lota",
        "rephrase_prompt": "Chile's capital:",
        "locality_prompt": "Who sings?",
        "locality_ground_truth": "Nobody",
    },
    {
        "src": "Where is the tower?",
        "alt": "Rome",
        "rephrase": "The tower is in",
        "loc": "nq question: who sang",
        "loc_ans": "Bo",
    },
]


class Letters:
    """An encoder that counts letters: what is near can be worked out by hand."""

    device = torch.device("cpu")
    size = 26

    def embed(self, texts):
        counts = torch.tensor([[float(text.lower().count(chr(97 + i))) for i in range(26)] for text in texts])
        return torch.nn.functional.normalize(counts, dim=-1)


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


@pytest.fixture
def open_ike(make_model, make_source, tokenizer, tmp_path, train):
    encoder, reader = make_source("bert")
    encoder.save_pretrained(tmp_path / "encoder")
    reader.save_pretrained(tmp_path / "encoder")
    settings = {"encoder": str(tmp_path / "encoder"), "train": train, "k": 3}
    return lambda **more: method_class("ike")(make_model("llama"), tokenizer, settings | more)


def text_of(method, prompt):
    return method.backbone.decode(method.encode([prompt])[0].ids)


def test_a_training_edit_is_shown_as_copy_update_and_retain(train):
    rows = read_training_edits(train, 9)
    assert rows[2] == TrainingEdit("Where is the tower?", "Rome", ("The tower is in",), (("who sang", "Bo"),))
    assert parts_of(rows[0], every=False) == (
        "New Fact: Who painted it? Ada\nPrompt: Who painted it? Ada\n\n",
        ("New Fact: Who painted it? Ada\nPrompt: It was painted by Ada\n\n",),
        ("New Fact: Who painted it? Ada\nPrompt: Is it late? No\n\n",),
    )


def test_the_nearest_demonstrations_are_those_of_greatest_cosine(train, tmp_path, monkeypatch):
    monkeypatch.setenv("MELOEDIT_CACHE", str(tmp_path / "cache"))
    encoder, shown = Letters(), Demonstrations(read_training_edits(train, 9), Letters(), "letters", among_facts=False)
    assert len(shown.texts) == 9
    query = "New Fact: What is the capital of Peru? Lima\nPrompt: What is the capital of Peru?\n\n"
    cosines = encoder.embed(shown.texts) @ encoder.embed([query])[0]
    wanted = [shown.texts[i] for i in cosines.argsort(descending=True)[:4].tolist()]
    assert shown.chosen(["What is the capital of Peru?"], ["Lima"], 4, seed=0) == [wanted]
    assert wanted[0].startswith("New Fact: What is the capital of Chile?")
    (kept,) = (tmp_path / "cache" / "demonstrations").iterdir()
    vectors, made = shown._vectors, []
    embed = Letters.embed
    monkeypatch.setattr(Letters, "embed", lambda self, texts: made.append(len(texts)) or embed(self, texts))
    Demonstrations(read_training_edits(train, 9), encoder, "letters", among_facts=False)
    assert made == [1] and kept.exists()  # a second time they are read; one shows that the encoder is the same
    monkeypatch.setattr(Letters, "embed", lambda self, texts: embed(self, texts).flip(1))
    again = Demonstrations(read_training_edits(train, 9), encoder, "letters", among_facts=False)
    assert torch.equal(again._vectors, vectors.flip(1))  # of another encoder they are made anew


def test_vectors_of_an_encoder_of_another_width_are_made_anew(train, tmp_path, monkeypatch):
    monkeypatch.setenv("MELOEDIT_CACHE", str(tmp_path / "cache"))
    edits = read_training_edits(train, 9)
    first = Demonstrations(edits, Letters(), "letters", among_facts=False)

    class Short(Letters):
        size = 5

        def embed(self, texts):
            return torch.nn.functional.normalize(super().embed(texts)[:, :5] + 1, dim=-1)

    other = Demonstrations(edits, Short(), "letters", among_facts=False)  # the folder holds another encoder now
    assert first._vectors.shape == (9, 26) and other._vectors.shape == (9, 5)


def test_among_facts_each_gets_a_kind_and_the_nearest_comes_last(train, tmp_path, monkeypatch):
    monkeypatch.setenv("MELOEDIT_CACHE", str(tmp_path / "cache"))
    rows = [TrainingEdit(f"Is {'a' * i}b?", "c", (f"re {i}",), ((f"near {i}", "d"),)) for i in range(16)]
    shown = Demonstrations(rows, Letters(), "letters", among_facts=True)
    assert len(shown.texts) == 16
    (texts,) = shown.chosen(["Is aaaab?"], ["c"], 16, seed=3)
    assert texts[-1] == "New Fact: Is aaaab? c\nPrompt: Is aaaab? c\n\n"
    nearest = shown.nearest(["New Fact: Is aaaab? c\nPrompt: Is aaaab?\n\n"], 16)[0]
    assert [text.split("\n")[0] for text in texts[:-1]] == [shown.texts[i].split("\n")[0] for i in reversed(nearest)]
    kinds = ["re " in text or 2 * ("near " in text) for text in texts[:-1]]
    assert (kinds.count(False), kinds.count(True), kinds.count(2)) == (2, 6, 8)  # 1 : 3 : 4
    assert shown.chosen(["Is aaaab?"], ["c"], 16, seed=3) == [texts]
    assert shown.chosen(["Is aaaab?"], ["c"], 16, seed=4) != [texts]
    bare = Demonstrations([TrainingEdit("Is it?", "no")] * 3, Letters(), "letters", among_facts=True)
    assert set(bare.chosen(["Is it?"], ["no"], 3, seed=0)[0]) == {bare.parts[0][COPY]}


def test_the_nearest_edit_stands_before_the_prompt_behind_its_demonstrations(open_ike):
    ike = open_ike()
    unedited = text_of(ike, EDITS[1].prompt)
    ike.edit(EDITS)
    read = text_of(ike, EDITS[1].prompt)
    fact = "New Fact: What is the capital of Peru? Lima\nPrompt: What is the capital of Peru?"
    assert read == "".join(ike._shown["capital"]) + fact and len(ike._shown["capital"]) == 3
    assert ike.route([EDITS[1].prompt])[0].edit == "capital"
    answers = ike.answer([EDITS[0].prompt, "Is it late?"], max_new_tokens=4)
    assert all("\n" not in answer.text for answer in answers)
    assert ike.size().nbytes > ike.size().parameters * 4 + sum(map(len, ike._shown["book"]))
    ike.remove(["capital"])
    assert text_of(ike, EDITS[1].prompt).startswith(ike._shown["book"][0])
    ike.reset()
    assert text_of(ike, EDITS[1].prompt) == unedited and ike.size().nbytes == 0


@pytest.mark.parametrize("name", ["ike", "rag"])
def test_an_edit_that_is_made_anew_takes_the_place_of_the_old_one(open_ike, tiny_encoder, make_model, tokenizer, name):
    method = (
        open_ike() if name == "ike" else method_class(name)(make_model("llama"), tokenizer, {"encoder": tiny_encoder})
    )
    method.edit(EDITS)
    method.edit([Edit("Who sings?", "Bo", id="book")])
    assert method._edit_ids == list(method.edits) == ["capital", "book"] and len(method._keys) == 2
    assert "Who sings? Bo" in text_of(method, "Who sings?")
    assert "sand" not in text_of(method, "Who sings?")


def test_without_room_the_farthest_demonstrations_go_first(open_ike):
    for choose, gone in (("demonstrations", slice(None, 1)), ("facts", slice(-1, None))):
        ike = open_ike(choose=choose)
        ike.edit(EDITS[:1])
        texts = list(ike.texts("Hm?", ["book"]))
        shown = ike._shown["book"]
        assert texts[-2].startswith("".join(shown[gone])) and texts[-1].startswith("New Fact: Who wrote")
        assert len(texts) == len(shown) + 1
        ike.backbone.max_length = len(ike.backbone.encode(texts[1]).ids) + 2
        assert text_of(ike, "Hm?") in texts[1:]


def test_a_restored_ike_writes_the_same(open_ike):
    ike = open_ike()
    ike.edit(EDITS)
    read, noted = text_of(ike, EDITS[0].prompt), ike.checkpoint()
    ike.restore(noted, EDITS)
    assert text_of(ike, EDITS[0].prompt) == read


def test_what_ike_cannot_use_is_one_line(open_ike, tmp_path):
    with pytest.raises(MeloEditError, match=r"needs training edits .* set ike.train to a file of them, or ike.k to 0"):
        open_ike(train="")
    with pytest.raises(MeloEditError, match="choose must be demonstrations or facts, not 'all'"):
        open_ike(choose="all")
    with pytest.raises(MeloEditError, match="k must not be negative"):
        open_ike(k=-1)
    (tmp_path / "bad.jsonl").write_text('{"question": "who"}\n')
    with pytest.raises(MeloEditError, match=r"bad.jsonl, line 1: expected a training edit .*; prompt is missing"):
        open_ike(train=str(tmp_path / "bad.jsonl")).check()
    with pytest.raises(MeloEditError, match="ike cannot serve task scotus"):
        method_class("ike").check_task("scotus", "document")
    alone = open_ike(train="", k=0)
    alone.edit(EDITS)
    assert text_of(alone, "Hm?").startswith("New Fact: ")


def test_vectors_without_room_are_said_before_any_work(open_ike, monkeypatch):
    monkeypatch.setattr(free_memory, "free_bytes", lambda device: 100)
    with pytest.raises(MeloEditError, match=r"^method ike needs about \S+ \S+ for the vectors of 9 demonstrations"):
        open_ike().check()
