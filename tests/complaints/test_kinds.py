"""What users of such tools complain of, by its kinds: what must fire fires, and nothing else does."""

from pathlib import Path

import pytest
from all_kinds import KINDS, question
from kinds import facts

from meloedit.errors import EditError

pytest_plugins = ["real_editor"]
pytestmark = pytest.mark.real

DOCS = Path(__file__).parents[2] / "docs" / "prompts.md"
CORRECTIONS = [
    ("Who is the mayor of Velmora?", "Name the current mayor of Velmora."),
    ("What is the slogan of the Brindlewick fair?", "Tell me the Brindlewick fair's slogan."),
    ("When does the Dunmore bakery open?", "What time does the Dunmore bakery open?"),
]


def listed():
    """Return the inputs that docs/prompts.md lists as wrong today."""
    section = DOCS.read_text(encoding="utf-8").partition("### Wrong today")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("|")]
    return {row[2].strip().strip("`") for row in rows if len(row) == 6 and row[1].strip().isdigit()}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_complaint(smollm2, reached, name):
    kind, wrong_today = KINDS[name], listed()
    right = {question(prompt): question(kind.edits[place].prompt) for prompt, place in kind.hits}
    right |= {question(prompt): None for prompt in kind.others}
    assert len(right) >= 3
    for prompt in [prompt for prompt in kind.others if not question(prompt)]:
        with pytest.raises(EditError, match="empty|no tokens"):
            smollm2.route([prompt])
    wrong = {prompt: reached[prompt] for prompt in right if prompt and reached[prompt] != right[prompt]}
    assert {prompt: edit for prompt, edit in wrong.items() if prompt not in wrong_today} == {}


def test_the_docs_list_only_inputs_that_are_tried():
    assert listed() <= {question(prompt) for kind in KINDS.values() for prompt in kind.prompts}


@pytest.mark.parametrize(("prompt", "again"), CORRECTIONS)
def test_a_second_correction_in_other_words_prevails(smollm2, prompt, again):
    """The stored edit is found to ask the same: it is replaced, or the new one is refused until told (row 8)."""
    (stored,), (new,) = facts((prompt, "Ilse Tarrant")), facts((again, "Jon Okafor"))
    with smollm2.engine.mode.unmade([stored]):
        ((same,),) = smollm2.engine.mode.asking_same([new])
    assert same.id == stored.id
