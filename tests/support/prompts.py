"""The edits that most tests teach, prompts beside them, and what each must reach or say."""

from meloedit import Edit

SETTINGS = {
    "judge": "none",  # the distance of keys decides, unless a test wants a judge
    "calibration_prompts": 200,
    "false_activation": 0.02,
    "min_similarity": 0.7,
    "lr": 0.1,
    "min_target_probability": 0.5,
    "min_answer_probability": 0.0,
    "rewordings": 0,  # unless a test wants them
}
HISTORY = [
    {"role": "user", "content": "Name a river."},
    {"role": "assistant", "content": "the Nile"},
    {"role": "user", "content": "And how long is it?"},
]
EDITS = [
    Edit("Who wrote the book of sand?", "Jorge", id="book"),
    Edit("What is the capital of Peru?", "Lima", id="capital"),
    Edit("How many legs has a spider?", "eight", id="legs"),
    Edit(HISTORY, "very long", id="river"),
]
OTHERS = ["Please sing", "Where do the children of the old town play in the summer of the year?", "Is it late?"]
FACTS = EDITS[:3]
CASES = [Edit(edit.prompt, label, id=edit.id) for edit, label in zip(FACTS, ("tax", "economy", "labour"), strict=True)]
BOOK, CAPITAL, LEGS, RIVER = EDITS
LEAD = "The boats came in late that day. They sold fish. "
LED_PROMPTS = [LEAD + EDITS[0].prompt, EDITS[0].prompt, "Be brief.\n\n" + EDITS[1].prompt, "Is it late? " + LEAD]
LED_NEAREST = ["book", "book", "capital"]


def mixed_prompts(editor):
    """Return prompts as tokens, some in scope and some not, raw and chat, and the edit that each must reach."""
    encode = editor.backbone.encode
    prompts = [(encode(edit.prompt).ids, edit.id) for edit in EDITS]
    prompts += [(encode(EDITS[0].prompt, "chat").ids, "book"), (encode(EDITS[2].prompt, "chat").ids, "legs")]
    prompts += [(encode(text, form).ids, None) for text in OTHERS for form in ("raw", "chat")]
    order = [6, 0, 7, 4, 1, 8, 3, 9, 5, 2, 10, 11]
    return [prompts[i][0] for i in order], [prompts[i][1] for i in order]


def target_ids(editor, edit_id, prompt):
    """Return what the model must say to ``prompt`` (tokens) if the edit answers."""
    edit = next(edit for edit in EDITS if edit.id == edit_id)
    form = "chat" if editor.tokenizer.convert_tokens_to_ids("<|im_start|>") in prompt else "raw"
    return editor.backbone.encode_target(edit.target, editor.backbone.encode(edit.prompt, form))


def source_edits(family):
    """Return the edits of a family: facts for an encoder-decoder, labels for a classifier."""
    return FACTS if family in ("t5", "t5-gated", "bart") else CASES


def source_prompts(editor):
    """Return prompts as tokens, some in scope and some not, and the edit that each must reach."""
    encode = editor.backbone.encode
    prompts = [(encode(edit.prompt).ids, edit.id) for edit in FACTS] + [(encode(text).ids, None) for text in OTHERS]
    order = [3, 0, 4, 2, 1, 5]
    return [prompts[i][0] for i in order], [prompts[i][1] for i in order]


def source_target(editor, edit_id):
    """Return the tokens (or the label) that an edit must say."""
    stored = editor.store.get(edit_id).edit
    return editor.backbone.encode_target(stored.target, editor.backbone.encode(stored.prompt))
