"""Correct one answer of a small model, ask in other words, and take the correction back."""

from meloedit import Editor

QUESTION = "Who is the mayor of Velmora?"
PROMPTS = [QUESTION, "Who serves as mayor of Velmora?", "What is the capital of France?"]


def show(editor: Editor, title: str) -> None:
    """Print the answer to each prompt, and the edit that gave it."""
    print(title)
    for answer in editor.ask(PROMPTS, form="chat", max_new_tokens=16):
        source = f"edit {answer.route.edit}" if answer.route.edit else "base model"
        print(f"  {answer.prompt:<34} {' '.join(answer.text.split())!r}  ({source})")


def main() -> None:
    """Run the example."""
    # A folder or a hub name works as well as "smollm2". Without a store= path the edits are gone with the editor.
    with Editor.create("smollm2") as editor:
        show(editor, "before")
        (report,) = editor.edit({"prompt": QUESTION, "target": "Ilse Tarrant", "id": "mayor"})
        print(f"{report.id}: {report.status}, holds: {report.holds}, rank {report.rank}, {report.steps} steps")
        show(editor, "with the edit")
        editor.remove("mayor")
        show(editor, "after its removal: the first answers, bit for bit")


if __name__ == "__main__":
    main()
