"""The commands that run the model; torch is imported once one of them runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import EditError, MeloEditError, StoreError
from ...text import some
from ..loading import change_since, check_new, lasting_name, load, open_store, opened
from ..options import Device, DtypeName, Json, ModelName, Reach, StorePath
from ..show import explained, show_check, show_reports, similarity
from ..terminal import count, line, progress, put, put_json, saying, shell

if TYPE_CHECKING:
    from ...results import EditReport
    from ...types import Form


def demo(
    store: Annotated[
        Path, typer.Option("--store", metavar="STORE", help="The store to make; that of an earlier demo is replaced.")
    ] = Path("demo.melo"),
    as_json: Json = False,
) -> None:
    """Teach a small model facts, and show what changed.

    Twenty facts, with questions before and after; then one fact is taken back.

    Example: meloedit demo --store demo.melo
    """
    from ..demo import run_demo, show_demo

    with progress() as tell:
        result = run_demo(store, tell)
    if as_json:
        put_json(result.to_dict())
    else:
        show_demo(result)


def init(
    store: StorePath,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="A folder, a hub name, or smollm2 (the demo's model).")
    ],
    modules: Annotated[
        str | None, typer.Option(metavar="A,B", help="Names of the linear modules to edit, separated by commas.")
    ] = None,
    layers: Annotated[int | None, typer.Option(metavar="N", help="Edit the last N layers instead of 3.")] = None,
    key_layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="The module whose output gives the keys.")
    ] = None,
    rank: Annotated[int | None, typer.Option(metavar="N", help="Rank of a new block.")] = None,
    reach: Annotated[
        Reach | None, typer.Option(help="Where a block acts: from the end of the prompt on, or on every token.")
    ] = None,
    false_activation: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of unrelated prompts that may reach an edit.")
    ] = None,
    min_similarity: Annotated[
        float | None,
        typer.Option(metavar="COSINE", help="Similarity below which no edit fires, however few there are."),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Paper mode: the method as published.")] = False,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Paper mode with the settings of a published experiment.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of MeloConfig; repeatable."),
    ] = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Make a store for a model, calibrated on built-in prompts.

    Example: meloedit init facts.melo --model smollm2
    """
    given = {
        "modules": [name.strip() for name in modules.split(",")] if modules is not None else None,
        "layers": layers,
        "key_layer": key_layer,
        "rank": rank,
        "reach": reach and reach.value,
        "false_activation": false_activation,
        "min_similarity": min_similarity,
    }
    from ...settings import read_config

    config = read_config(given, settings or [], paper or preset is not None, preset)
    check_new(store)
    name = lasting_name(model)
    with saying(lambda: f"made {store}" if store.exists() else "nothing was changed"):
        with progress() as tell:
            loaded, tokenizer = load(name, device, dtype, tell)
            from ...editor import Editor

            with Editor(loaded, tokenizer, config, name=name) as editor:
                editor.prepare(tell)
                editor.save(store)  # at the end and whole, so that nothing half made is left behind
                made, used = editor.calibration, editor.config
        calibrated = made.info if made else {}
        if as_json:
            put_json({"store": str(store), "model": name, "config": used.to_dict(), "calibration": calibrated})
            return
        put(f"made {store} for {name}")
        put(f"edited modules: {', '.join(used.modules or ())}; keys from: {used.key_layer}")
        if used.mode == "paper":
            put(f"paper mode: {used.edits_per_block} edits to a block of rank {used.rank}, radius {used.radius:g}")
        elif calibrated.get("scope") == "near-exact":
            put(
                f"no documents to calibrate on: near-exact repeats of a text (similarity {used.document_similarity:g}) "
                "alone reach its edit; see: meloedit calibrate --prompts FILE"
            )
        else:
            put(f"calibrated on {count(calibrated['prompts'], 'prompt')} ({calibrated['source']})")
        put(f'next: meloedit edit {shell(store)} --prompt "..." --target "..."')


def edit(
    store: StorePath,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Edits as JSONL or CSV (.gz too); - is JSONL on stdin.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="What the model is asked.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", metavar="TEXT", help="What it must answer.")] = None,
    edit_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The edit's id; made from its content if left out.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Another wording of the prompt; repeatable.")
    ] = None,
    quiet: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A prompt on which the edit must not fire; repeatable.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let an edit take the place of one with its id and other content.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Paper mode: edits that share a block, if fewer than declared.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every edit, not only the remarkable.")] = False,
    model: ModelName = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Teach the model one edit, or a file of edits.

    Edits are trained and stored 64 at a time (the setting train_batch_size). What is stored is kept if the command is
    interrupted; run again, it skips what the store has already.

    Example: meloedit edit facts.melo -p "Who leads Ohm?" -t "Ada Volt"

    Example: meloedit edit facts.melo edits.jsonl
    """
    from ..inputs import read_wanted, with_place

    wanted = read_wanted(file, prompt, target, edit_id, variant, quiet)
    before = {stored.record for stored in open_store(store).edits()}
    reports: list[EditReport] = []

    def kept() -> tuple[int, str]:
        number = sum(stored.record not in before for stored in open_store(store).edits())
        more = "" if number == len(wanted) else "; run the same command again for the rest"
        return number, f"{number} of {count(len(wanted), 'edit')} stored in this run{more}"

    with saying(lambda: kept()[1]):
        try:
            with progress() as tell, opened(store, model, device, dtype, tell, writing=True) as editor:
                for part in editor.edit_in_parts([item.edit for item in wanted], replace, tell, batch):
                    reports += part
                revision, state = editor.store.revision, editor.index_counts
        except EditError as error:
            raise with_place(error, wanted) from None
        except StoreError as error:
            number, said = kept()
            raise StoreError(f"{error}; {said}" if number else str(error)) from None
        if as_json:
            put_json({"revision": revision, "index": state, "reports": [report.to_dict() for report in reports]})
        else:
            show_reports(reports, {item.edit.id: item.edit for item in wanted}, revision, verbose)
            if "clusters" in state:
                put("index: " + ", ".join(f"{number} {name}" for name, number in state.items()))
    if failed := [report.id for report in reports if report.status == "failed"]:
        raise MeloEditError(
            f"{len(failed)} of {count(len(reports), 'edit')} not stored, as they do not hold: {some(failed)}"
        )


def ask(
    store: StorePath,
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
    explain: Annotated[
        bool, typer.Option("--explain", "-e", help="Say which edit fired, or which came nearest and why it did not.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Length of the longest answer.")] = 32,
    model: ModelName = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Ask the edited model.

    What no edit answers, the base model does.

    Example: meloedit ask facts.melo "Who leads Ohm?" --explain
    """
    from ...edit import check_prompt
    from ...readers import SourcedPrompt, read_prompts
    from ..inputs import with_line, with_system

    asked: list[SourcedPrompt] = []
    for given in prompts or []:
        asked += read_prompts("-") if given == "-" else [("", check_prompt(given))]
    asked += read_prompts(file) if file is not None else []
    if not asked:
        raise EditError("nothing to ask: give a prompt, - for prompts on stdin, or --file FILE")
    if system is not None:
        if chat is False:
            raise EditError("--system needs the chat template: leave out --raw")
        asked = [(where, with_system(system, item)) for where, item in asked]
    with progress() as tell, opened(store, model, device, dtype, tell) as editor:
        templated = chat or (chat is None and bool(getattr(editor.tokenizer, "chat_template", None)))
        form: Form = "chat" if templated else "raw"
        try:
            answers = editor.ask([item for _, item in asked], form, progress=tell, max_new_tokens=max_new_tokens)
        except EditError as error:
            raise with_line(error, asked, lambda item: editor.backbone.encode(item, form)) from None
        known, key_tokens = {stored.edit.id: stored.edit for stored in editor.edits()}, editor.config.key_tokens
        found = editor.evidence([item for _, item in asked], form) if explain else []
    if as_json:
        more = [{"evidence": own._asdict() if own else None} for own in found] or [{}] * len(answers)
        put_json([answer.to_dict() | own for answer, own in zip(answers, more, strict=True)])
        return
    for number, answer in enumerate(answers):
        if len(answers) > 1:
            put(f"{'' if number == 0 else chr(10)}> {line(answer.prompt)}")
        put(answer.text)
        if explain:
            put("\n".join(f"  {text}" for text in explained(answer, known, key_tokens, found[number])))


def check(
    store: StorePath,
    model: ModelName = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Ask every edit again, and check the file.

    Lists edits that no longer hold, pairs whose scopes overlap, and damage. Exit code 1 if anything is broken.

    Example: meloedit check facts.melo
    """
    problems = open_store(store).verify()  # first: a damaged store may not open on its model
    found: dict[str, Any] = {"checked": 0, "broken": [], "overlaps": [], "problems": problems}
    if not problems:
        with progress() as tell, opened(store, model, device, dtype, tell) as editor:
            found = editor.check(progress=tell).to_dict()
    if as_json:
        put_json(found)
    else:
        show_check(found)
    if found["problems"]:
        raise StoreError(f"{store} is damaged ({count(len(found['problems']), 'problem')}); restore it from a copy")
    if found["broken"]:
        ids = list(dict.fromkeys(item["id"] for item in found["broken"]))
        raise MeloEditError(f"{len(ids)} of {count(found['checked'], 'edit')} no longer hold: {some(ids)}")


def calibrate(
    store: StorePath,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts", metavar="FILE", help="Your traffic, one prompt a line: .txt, JSONL, or - for text on stdin."
        ),
    ] = None,
    false_activation: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Stated share of such prompts that fires, from now on.")
    ] = None,
    min_similarity: Annotated[
        float | None, typer.Option(metavar="COSINE", help="Cosine below which no edit fires, from now on.")
    ] = None,
    model: ModelName = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Set anew how near a prompt must come to fire.

    On built-in prompts, or better, on your own traffic: prompts that no edit should answer. With a share or a
    similarity alone, keys and prompts stay as they are, and no edit is trained again.

    Example: meloedit calibrate facts.melo --prompts traffic.jsonl

    Example: meloedit calibrate facts.melo --min-similarity 0.7
    """
    from ...readers import read_prompts
    from ...routing.index import NeuronIndex
    from ..inputs import with_line

    sourced = read_prompts(prompts) if prompts is not None else []
    traffic = [prompt for _, prompt in sourced] or None
    source = "standard input" if prompts == "-" else str(prompts)
    before = open_store(store).revision
    with saying(lambda: change_since(store, before)):
        with progress() as tell, opened(store, model, device, dtype, tell, writing=True) as editor:
            try:
                revision = editor.calibrate(traffic, source, tell, false_activation, min_similarity)
            except EditError as error:
                raise with_line(error, sourced, editor.backbone.forms) from None
            info, threshold, index = (
                editor.calibration.info if editor.calibration else {},
                editor.threshold,
                editor.index,
            )
            alone, used = (index.calibrated, index.similarity) if isinstance(index, NeuronIndex) else (-1.0, -1.0)
        if as_json:
            put_json({"revision": revision, "threshold": threshold, "calibration": info})
            return
        put(
            f"calibrated on {count(info['prompts'], 'prompt')} ({info['source']}): an edit fires at a distance below "
            f"{threshold:.3f} (similarity above {similarity(threshold):.3f}); revision {revision}"
        )
        if -1 < alone < used:
            put(
                f"that is min_similarity: these prompts alone would let edits fire at a similarity above {alone:.3f}, "
                "and fewer of them fire than stated"
            )
        if info.get("scope") == "near-exact":
            put("no documents were given: near-exact repeats of a text alone reach its edit; see --prompts")
