from hypothesis import given, settings
from hypothesis import strategies as st

from meloedit import Edit
from meloedit.edit import prompt_key
from meloedit.following.lookup import PromptLookup

PROMPTS = ["Who wrote it?", " Who wrote it? ", "Where is it?", [{"role": "user", "content": "Who wrote it?"}], "When?"]
picks = st.lists(st.integers(0, len(PROMPTS) - 1), min_size=1, max_size=3)
changes = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.one_of(st.none(), picks), min_size=1, max_size=3), max_size=12
)


def edit_of(name, picks):
    first, *others = (PROMPTS[pick] for pick in picks)
    others = [other for other in others if prompt_key(other) != prompt_key(first)]
    return Edit(first, "x", id=name, variants=tuple(others))


@settings(max_examples=80, deadline=None)
@given(changes)
def test_any_stream_of_changes_finds_what_a_look_at_all_edits_finds(stream):
    wordings, literal = PromptLookup(), {}
    for step in stream:
        changed = {name: None if own is None else edit_of(name, own) for name, own in step.items()}
        wordings.follow(changed)
        for name, edit in changed.items():
            literal.pop(name, None)
            if edit is not None:
                literal[name] = edit
        assert wordings.ids == set(literal)
        for prompt in PROMPTS:
            asked = prompt_key(prompt)
            sharing = [e.id for e in literal.values() if asked in {prompt_key(p) for p in e.prompts}]
            asking = [e.id for e in literal.values() if asked == prompt_key(e.prompt)]
            assert sorted(e.id for e in wordings.sharing(prompt)) == sorted(sharing)
            assert sorted(e.id for e in wordings.asking(prompt)) == sorted(asking)
