"""Teach a model a table of questions and answers, and keep them in a store that the next run opens again."""

from pathlib import Path

from meloedit import Editor, read_edits

FAQ = Path(__file__).with_name("faq.csv")
STORE = Path("faq.melo")
REPHRASED = {
    "Who is the director of the Marlow Observatory?": "director",
    "What is the price of a ticket to the Marlow Observatory?": "ticket",
    "Who was the founder of the Marlow Observatory?": "founder",
    "Where does the Marlow Observatory stand?": "place",
    "Who invented the telephone?": None,
}


def main() -> None:
    """Run the example; run it twice to see the second run open the store and skip what is there."""
    editor = Editor.from_pretrained(STORE) if STORE.exists() else Editor.create("smollm2", store=STORE)
    with editor:
        for report in editor.edit(read_edits(FAQ)):
            print(f"{report.id:<10} {report.status:<8} holds: {report.holds}  {report.seconds:.1f} s")
        print(f"{len(editor)} edits in {STORE}, {STORE.stat().st_size / 1e6:.1f} MB")
        right = 0
        for answer in editor.ask(list(REPHRASED), form="chat", max_new_tokens=16):
            expected = REPHRASED[str(answer.prompt)]
            right += answer.route.edit == expected
            print(f"{answer.prompt}\n  {' '.join(answer.text.split())!r} from {answer.route.edit or 'the base model'}")
        print(f"{right} of {len(REPHRASED)} questions in other words reached the right edit, or none")


if __name__ == "__main__":
    main()
