"""The commands that ask the model: ask, check, and the demo. Each imports torch when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import EditError
from ...text import counted
from ..loading import open_editor
from ..options import Json, StoreOptions, with_options
from ..show import explain_route, put_check
from ..terminal import note as remark
from ..terminal import one_line, progress_display, put, put_answer, put_json, quoted

if TYPE_CHECKING:
    from ...editor import Editor
    from ...readers import SourcedPrompt
    from ...results import Answer
    from ...types import Form


def demo(
    store: Annotated[
        Path, typer.Option("--store", metavar="STORE", help="The store to make; that of an earlier demo is replaced.")
    ] = Path("demo.melo"),
    facts: Annotated[int | None, typer.Option(min=1, help="Teach so many of the facts alone, the first ones.")] = None,
    as_json: Json = False,
) -> None:
    """Teach a small model facts, and show what changed.

    Twenty facts, with questions before and after; then one fact is taken back.

    Example: meloedit demo --store demo.melo
    """
    from ..demo import run_demo, show_demo

    with progress_display() as progress:
        result = run_demo(store, progress, facts)
    if as_json:
        put_json(result.to_dict())
    else:
        show_demo(result)


@with_options(StoreOptions)
def ask(
    options: StoreOptions,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT...", help="What to ask; - reads one prompt a line from stdin."),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE", help="Prompts, one a line: .txt, or JSONL.")
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--raw", help="Ask as a user's chat turn (default, if the model can), or as is."),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="A system prompt before each.")] = None,
    prefill: Annotated[
        str | None, typer.Option("--prefill", metavar="TEXT", help="How each answer begins; the model goes on with it.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", "-e", help="Say which edit fired, or which came nearest and why it did not.")
    ] = False,
    note: Annotated[
        bool, typer.Option("--note", help="Note prompts that came near an edit, or fired one barely; see `review`.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Length of the longest answer.")] = 32,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Print control characters of answers on a terminal, too, not spelled out.")
    ] = False,
) -> None:
    """Ask the edited model.

    Where no edit fires, the base model answers.

    Example: meloedit ask facts.melo "Who leads Ohm?" --explain
    """
    from ...edit import check_prompt
    from ...readers import read_prompts
    from ..inputs import with_prefill, with_prompt_line, with_system

    sourced: list[SourcedPrompt] = []
    for given in prompts or []:
        sourced += read_prompts("-") if given == "-" else [("", check_prompt(given))]
    sourced += read_prompts(file) if file is not None else []
    if not sourced:
        raise EditError("nothing to ask: give a prompt, - for prompts on stdin, or --file FILE")
    if system is not None:
        if chat is False:
            raise EditError("--system needs the chat template: leave out --raw")
        sourced = [(where, with_system(system, prompt)) for where, prompt in sourced]
    if prefill is not None:
        if chat is False:
            raise EditError("--prefill needs the chat template: leave out --raw")
        sourced = [(where, with_prefill(prefill, prompt)) for where, prompt in sourced]
    with progress_display() as progress, open_editor(options, progress) as editor:
        templated = chat or (chat is None and bool(getattr(editor.tokenizer, "chat_template", None)))
        form: Form = "chat" if templated else "raw"
        texts = [prompt for _, prompt in sourced]
        try:
            answers = editor.ask(texts, form, progress=progress, max_new_tokens=max_new_tokens)
        except EditError as error:
            raise with_prompt_line(error, sourced, lambda prompt: editor.backbone.encode(prompt, form)) from None
        noted = _noted(editor, answers) if note else 0
        edits, key_tokens = {stored.edit.id: stored.edit for stored in editor.edits()}, editor.config.key_tokens
        evidence = editor.evidence(texts, form) if explain else []
    if options.as_json:
        more = [{"evidence": item._asdict() if item else None} for item in evidence] or [{}] * len(answers)
        put_json([answer.to_dict() | extra for answer, extra in zip(answers, more, strict=True)])
        return
    explained = [
        explain_route(answer, edits, key_tokens, item) for answer, item in zip(answers, evidence, strict=False)
    ]
    _put_answers(answers, explained, as_is)
    if noted:
        remark(f"noted {counted(noted, 'prompt')}; go through them with: meloedit review {quoted(options.store)}")


def _noted(editor: Editor, answers: Sequence[Answer]) -> int:
    """Note near misses; where that cannot be done the answers are printed all the same."""
    try:
        return editor.note(answers)
    except EditError as error:
        remark(f"warning: nothing was noted: {error}")
        return 0


def _put_answers(answers: Sequence[Answer], explained: Sequence[Sequence[str]], as_is: bool) -> None:
    for number, answer in enumerate(answers):
        if len(answers) > 1:
            put(f"{'' if number == 0 else chr(10)}> {one_line(answer.prompt)}")
        put_answer(answer.text, as_is)
        if explained:
            put("\n".join(f"  {text}" for text in explained[number]))


@with_options(StoreOptions)
def check(options: StoreOptions) -> None:
    """Ask every edit again, and check the file.

    Lists edits that no longer hold, pairs whose scopes overlap, and damage. Exit code 1 if anything is broken.

    Example: meloedit check facts.melo
    """
    from ...store import verify

    problems = verify(options.store)  # first, because a damaged store does not open
    result: dict[str, Any] = {"checked": 0, "broken": [], "overlaps": [], "problems": problems}
    if not problems:
        with progress_display() as progress, open_editor(options, progress) as editor:
            result = editor.check(progress=progress).to_dict()
    put_check(result, options)
