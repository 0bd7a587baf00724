"""The commands for an edit's scope: quiet, allow, trial, scan. Nothing is trained; each imports torch when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...edit import check_prompt, quoted
from ...errors import EditError
from ...readers import read_prompts
from ...results import Trial
from ...text import counted, plain
from ..loading import change_since, open_editor, open_store
from ..options import StoreOptions, with_options
from ..show import show_scan, show_trials
from ..terminal import one_line, progress_display, put, put_json, report_if_stopped
from ..terminal import quoted as path_quoted

if TYPE_CHECKING:
    from ...edit import Edit
    from ...results import Answer
    from ...types import Form, Prompt

File = Annotated[
    str | None, typer.Argument(metavar="FILE", help="Edits as JSONL or CSV (.gz too); - is JSONL on stdin.")
]
EditId = Annotated[str, typer.Argument(metavar="ID", help="The edit, as `ls` shows it.")]
Prompts = Annotated[
    list[str], typer.Argument(metavar="PROMPT...", help="One prompt or more; - reads one a line from stdin.")
]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the history.")]


@with_options(StoreOptions)
def quiet(options: StoreOptions, edit_id: EditId, prompts: Prompts, reason: Why = "") -> None:
    """Put a wrong hit right: keep an edit quiet on a prompt.

    And on what asks the same. Nothing is trained.

    Example: meloedit quiet facts.melo 3f2a9c417d55 "Who founded Ohm?"
    """
    _amend(options, edit_id, prompts, reason, "quiet")


@with_options(StoreOptions)
def allow(options: StoreOptions, edit_id: EditId, prompts: Prompts, reason: Why = "") -> None:
    """Put a miss right: let an edit answer a prompt.

    And what asks the same. Nothing is trained, so the answer to the new wording is shown.

    Example: meloedit allow facts.melo 3f2a9c417d55 "the boss of Ohm, who is that"
    """
    _amend(options, edit_id, prompts, reason, "allow")


def _amend(options: StoreOptions, edit_id: str, texts: list[str], reason: str, action: str) -> None:
    prompts: list[Prompt] = []
    for text in texts:
        prompts += [prompt for _, prompt in read_prompts("-")] if text == "-" else [check_prompt(text)]
    opened = open_store(options.store)
    opened.get(edit_id)  # an unknown id is an error before the model is loaded
    before = opened.revision
    with report_if_stopped(lambda: change_since(options.store, before)):
        with progress_display() as progress, open_editor(options, progress, writing=True) as editor:
            change = editor.quiet if action == "quiet" else editor.allow
            revision = change(edit_id, prompts, reason)
            templated = bool(getattr(editor.tokenizer, "chat_template", None))
            answers = editor.ask(prompts, "chat" if templated else "raw")  # as `ask` asks
            edit = editor[edit_id].edit
            (trial,) = editor.trial(edit) if action == "allow" else (Trial(edit_id),)
        _show(options, action, edit, answers, trial, (before, revision))


def _show(
    options: StoreOptions, action: str, edit: Edit, answers: list[Answer], trial: Trial, revisions: tuple[int, int]
) -> None:
    before, after = revisions
    if options.as_json:
        found = {"answers": [answer.to_dict() for answer in answers], "trial": trial.to_dict()}
        put_json({"revision": after, "before": before} | found)
        return
    undo = f" (undo with: meloedit rollback {path_quoted(options.store)} {before})"
    put(f"{counted(len(answers), 'prompt')} given; revision {after}{undo if after != before else ': nothing is new'}")
    for answer in answers:
        put(f"  {quoted(answer.prompt)}: {_remark(answer, edit.id, action, edit.target)}")
    if trial.warned:
        put(f"  look out, the scope is wider now: {trial.sentence}; keep the edit quiet on what it should not answer")


def _remark(answer: Answer, edit_id: str, action: str, target: str) -> str:
    """Return what a prompt gets now, and what is left to do."""
    fired, by = answer.route.edit, f"edit {plain(answer.route.edit or '')} answers"
    if action == "quiet":
        return "the base model answers" if fired is None else f"{by} now" if fired != edit_id else f"still {by}"
    if fired != edit_id:
        return f"{by}, not this one" if fired else "still not answered: the edit is disabled, or quiet on a like prompt"
    if answer.text.strip() == target.strip():
        return f"answered: {one_line(answer.text)}"
    return (
        f"reaches the edit, but is answered: {one_line(answer.text)}; train it on this wording with: meloedit edit "
        "--replace, with the wording as --variant"
    )


@with_options(StoreOptions)
def trial(
    options: StoreOptions,
    file: File = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="What an edit asks.")] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", metavar="TEXT", help="What it must answer.")] = None,
) -> None:
    """Ask edits their likely neighbours, without making them.

    Says which questions would wrongly get an edit's answer.

    Example: meloedit trial facts.melo -p "Who leads Ohm?" -t "Ada Volt"
    """
    from ..inputs import edits_to_make

    sourced = edits_to_make(file, prompt, target, None, None, None)
    with progress_display() as progress, open_editor(options, progress) as editor:
        trials = editor.trial([item.edit for item in sourced])
    if options.as_json:
        put_json([one.to_dict() for one in trials])
    else:
        show_trials(trials, {item.edit.id: item.edit for item in sourced})


@with_options(StoreOptions)
def scan(
    options: StoreOptions,
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help='Past prompts, one a line: .txt, or JSONL of strings, {"prompt"} or {"messages"}; .gz too.',
        ),
    ],
    edits: Annotated[
        str | None, typer.Option(metavar="FILE", help="Edits that are not made yet: what would they answer?")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where every hit is written as it goes (default: LOG.scan.jsonl).",
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page, too.")
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--raw", help="Asked as a user's chat turn (default, if the model can), or as is."),
    ] = None,
    note: Annotated[bool, typer.Option("--note", help="Note prompts near the threshold; see `review`.")] = False,
) -> None:
    """Say which past prompts an edit would answer: a dry run.

    A scan that was stopped goes on where it left off when it is run again.

    Example: meloedit scan facts.melo traffic.jsonl --html scan.html

    Example: meloedit scan facts.melo traffic.jsonl --edits new.jsonl
    """
    from ...readers import read_edits

    unmade = [item.edit for item in read_edits(edits)] if edits is not None else []
    name = log if edits is None else f"{log}.{Path(edits).stem}"  # a dry run of edits has a record of its own
    record = record or Path(f"{name}.scan.jsonl")
    if page is not None:
        _check_page(page, [options.store, log, record, *([Path(edits)] if edits is not None else [])])
    with report_if_stopped(lambda: f"what was scanned is kept in {record}: run the same command to go on"):
        with progress_display() as progress, open_editor(options, progress) as editor:
            form: Form | None = None if chat is None else "chat" if chat else "raw"
            report = editor.scan(log, unmade, record, form, progress, note)
        if page is not None:
            report.write_page(page)
    if options.as_json:
        put_json(report.to_dict())
    else:
        show_scan(report, page)


def _check_page(page: Path, others: list[Path]) -> None:
    """Refuse a name for the page that is another file's, or in no folder: before the scan, which takes long."""
    taken = {path.resolve() for path in others} | {Path(f"{others[0]}.near.jsonl").resolve()}
    if page.resolve() in taken or (page.exists() and page.suffix.lower() not in (".html", ".htm")):
        raise EditError(f"--html {page} would replace another file: give a name that ends in .html")
    if not page.absolute().parent.is_dir():
        raise EditError(f"--html {page}: there is no folder {page.absolute().parent}")
