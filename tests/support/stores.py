"""What a store has, to be compared bit by bit."""


def contents(editor):
    """Return a store's edits with their ranks, their blocks and their keys, every tensor as bytes."""
    stored = editor.edits()
    edits = [(one.edit.to_dict(), one.record, one.holder, one.rank, one.places, one.enabled) for one in stored]
    tensors = []
    for read, records in (
        (editor.store.block_stacks, sorted({one.holder for one in stored})),
        (editor.store.key_stacks, [one.record for one in stored]),
    ):
        for numbers, named in read(records):
            tensors.append((numbers, {name: tensor.numpy().tobytes() for name, tensor in named.items()}))
    return edits, tensors
