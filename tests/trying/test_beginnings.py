"""Beginnings of answers that an edit is tried behind."""

import pytest
from support.prompts import CAPITAL, HISTORY, SETTINGS

from meloedit import Edit, Editor, MeloConfig
from meloedit.engine.planning import Planner
from meloedit.trying.beginnings import made_beginning


def test_beginnings_are_of_four_kinds_and_the_same_each_time():
    made = [made_beginning("Who is the mayor of Velmora?", str(seed)) for seed in range(60)]
    assert made == [made_beginning("Who is the mayor of Velmora?", str(seed)) for seed in range(60)]
    kinds = [
        ("<think>" in one, one.startswith("{"), one[-1] in ":>*", one[-1].isalnum() or one[-1] == "s") for one in made
    ]
    assert [sum(column) > 2 for column in zip(*kinds, strict=True)] == [True] * 4
    assert any("Velmora" in one for one in made) and not any("{name}" in one or "{question}" in one for one in made)
    assert "this" in made_beginning("who is it?", "3") or "{name}" not in made_beginning("who is it?", "3")


@pytest.mark.parametrize("edit", [CAPITAL, Edit(HISTORY, "4471 km", id="river")], ids=lambda edit: edit.id)
def test_an_edit_is_tried_behind_one_begun_answer(make_editor, edit):
    editor = make_editor(**{key: value for key, value in SETTINGS.items() if key != "rewordings"}, rewordings=4)
    backbone = editor.backbone
    (item,) = Planner(editor.engine).prepare([edit])
    header = backbone.encode(edit.prompt, "chat").ids
    begun = [
        row for row in item.rows if row.tried and len(row.prompt) > len(header) and row.prompt[: len(header)] == header
    ]
    text = made_beginning(edit.prompt, f"{editor.config.seed}/{edit.id}")
    assert [backbone.decode(row.prompt[len(header) :]) for row in begun] == [text]
    assert backbone.decode(begun[0].target[:-1]).strip() == edit.target
    bare = backbone.begins_bare(begun[0].prompt[len(header) :], begun=True)
    assert begun[0].place == backbone.first_places(edit.target)[bare]
    assert all(row.other == -1 for row in item.rows if row is not begun[0])
    editor.unload()


def test_without_rewordings_and_without_chats_none_is_tried(make_editor, make_tokenizer, make_model):
    editor = make_editor()  # rewordings=0
    assert not any(row.tried for row in Planner(editor.engine).prepare([CAPITAL])[0].rows)
    editor.unload()
    config = MeloConfig(**SETTINGS | {"rewordings": 1})
    with Editor(make_model(), make_tokenizer(None), config) as plain:
        rows = Planner(plain.engine).prepare([CAPITAL])[0].rows
        assert [row.tried for row in rows] == [False, True]
