"""Undo wrong edits in three ways: keep one quiet on a neighbour, disable it, or roll the store back."""

from meloedit import Editor

AUTHOR = {"prompt": "Who wrote The Glass Orchard?", "target": "Imre Vadas", "id": "author"}
NEIGHBOUR = "Who wrote the music of The Glass Orchard?"


def answer(editor: Editor, prompt: str) -> str:
    """Ask one prompt; return the answer and the edit behind it."""
    (result,) = editor.ask(prompt, form="chat", max_new_tokens=12)
    return f"{' '.join(result.text.split())!r} ({result.route.edit or 'base model'}, {result.route.reason})"


def main() -> None:
    """Run the example."""
    with Editor.create("smollm2") as editor:
        editor.edit(AUTHOR)
        good = editor.store.revision
        print("neighbour, edited:      ", answer(editor, NEIGHBOUR))

        # 1. The edit answers a question that it should not: keep it quiet on that question. Nothing is trained.
        editor.quiet("author", NEIGHBOUR, reason="asks for the composer")
        print("neighbour, quiet:       ", answer(editor, NEIGHBOUR))
        print("author, quiet neighbour:", answer(editor, AUTHOR["prompt"]))

        # 2. The answer is in doubt: switch the edit off until somebody has checked it.
        editor.disable("author")
        print("author, disabled:       ", answer(editor, AUTHOR["prompt"]))
        editor.enable("author")

        # 3. A wrong target went in: go back to a revision before it. That is a new revision, so it can be undone too.
        editor.edit({"prompt": AUTHOR["prompt"], "target": "Nobody Inparticular", "id": "wrong"})
        print("author, wrong target:   ", answer(editor, AUTHOR["prompt"]))
        editor.rollback(good)
        print("author, rolled back:    ", answer(editor, AUTHOR["prompt"]))

        for revision in editor.history():
            changes = ", ".join(("-" if change.record is None else "+") + change.edit_id for change in revision.changes)
            print(f"revision {revision.revision:>2}  {revision.action:<10} {changes}")


if __name__ == "__main__":
    main()
