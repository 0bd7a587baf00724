"""The commands that make and change a store with its model: init, edit, calibrate. Each imports torch when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import EditError, MeloEditError, StoreError
from ...text import counted, join_names, plain
from ..loading import change_since, check_new, lasting_name, load, open_editor, open_store
from ..options import (
    Device,
    DtypeName,
    Json,
    KeepBoth,
    NewModelName,
    Reach,
    Replace,
    StoreOptions,
    StorePath,
    WorkedOptions,
    with_options,
)
from ..show import put_check, show_new_store, show_reports, similarity
from ..terminal import progress_display, put, put_json, report_if_stopped

if TYPE_CHECKING:
    from ...results import EditReport


def init(
    store: StorePath,
    model: NewModelName,
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
    false_neighbour: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of near questions that may reach an edit.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="FILE", help="What decides: built-in (the default), none, or a judge's file.")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Paper mode: the method as published.")] = False,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Paper mode with the settings of a published experiment.")
    ] = None,
    for_export: Annotated[
        bool,
        typer.Option("--for-export", help="Edits that `export` can write as adapters: reach=all, answer_positions=0."),
    ] = False,
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
        "modules": None if modules is None else [name.strip() for name in modules.split(",")],
        "layers": layers,
        "key_layer": key_layer,
        "rank": rank,
        "reach": reach and reach.value,
        "false_activation": false_activation,
        "min_similarity": min_similarity,
        "false_neighbour": false_neighbour,
        "judge": judge,
    }
    from ...settings import read_config

    if for_export:
        from ..inputs import for_export_settings

        given |= for_export_settings(given, settings or [], paper or preset is not None)
    config = read_config(given, settings or [], paper or preset is not None, preset)
    check_new(store)
    name = lasting_name(model)
    with report_if_stopped(lambda: f"made {store}" if store.exists() else "nothing was changed"):
        with progress_display() as progress:
            loaded, tokenizer = load(name, device, dtype, progress)
            from ...editor import Editor

            with Editor(loaded, tokenizer, config, name=name) as editor:
                editor.prepare(progress)
                editor.save(store)  # only now: an interruption before this leaves no file
                calibration, config = editor.calibration, editor.config
        info = calibration.info if calibration else {}
        if as_json:
            put_json({"store": str(store), "model": name, "config": config.to_dict(), "calibration": info})
        else:
            show_new_store(store, name, config, info)


@with_options(WorkedOptions)
def edit(
    options: WorkedOptions,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Edits as JSONL or CSV (.gz too); - is JSONL on stdin.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="What the model is asked.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", metavar="TEXT", help="What it must answer.")] = None,
    edit_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The edit's id; left out, it comes from the content.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Another wording of the prompt; repeatable.")
    ] = None,
    quiet: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A prompt on which the edit must not fire; repeatable.")
    ] = None,
    from_log: Annotated[
        Path | None, typer.Option(metavar="LOG", help="Take the prompt from a log; needs --line and --target.")
    ] = None,
    line: Annotated[
        int | None, typer.Option(metavar="N", help="The line of the log, from 1 on: the prompt is what it asked.")
    ] = None,
    over_tools: Annotated[
        bool, typer.Option("--over-tools", help="Let it answer also behind a tool's result, whatever that says.")
    ] = False,
    replace: Replace = False,
    keep_both: KeepBoth = False,
    trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Ask each edit its likely neighbours first.")
    ] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="Do not store an edit that likely neighbours would reach.")
    ] = False,
    edits_per_block: Annotated[
        int | None, typer.Option(metavar="N", help="Paper mode: edits that share a block, if fewer than declared.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every edit, not only the remarkable.")] = False,
) -> None:
    """Teach the model one edit, or a file of edits.

    Edits are trained and stored 64 at a time (the setting train_batch_size). An interrupted command keeps the edits
    that it stored; run again, it skips them and does the rest. Workers (--executor) train several such parts at once;
    what is stored is the same.

    Example: meloedit edit facts.melo -p "Who leads Ohm?" -t "Ada Volt"

    Example: meloedit edit facts.melo edits.jsonl

    Example: meloedit edit facts.melo --from-log chats.jsonl --line 12 -t "Ada Volt"

    Example: meloedit edit facts.melo edits.jsonl --executor spawn --workers 4
    """
    from ..inputs import edits_to_make, with_edit_line

    executor = options.chosen()
    sourced = edits_to_make(file, prompt, target, edit_id, variant, quiet, from_log, line, over_tools)
    before = {stored.record for stored in open_store(options.store).edits()}
    reports: list[EditReport] = []

    def stored_so_far() -> tuple[int, str]:
        number = sum(stored.record not in before for stored in open_store(options.store).edits())
        more = "" if number == len(sourced) else "; run the same command again for the rest"
        return number, f"{number} of {counted(len(sourced), 'edit')} stored in this run{more}"

    with report_if_stopped(lambda: stored_so_far()[1]):
        try:
            with progress_display() as progress, open_editor(options, progress, writing=True) as editor:
                edits = [item.edit for item in sourced]
                how = (replace, progress, edits_per_block, keep_both, trial, strict, executor)
                for part in editor.edit_in_parts(edits, *how):
                    reports += part
                revision, index = editor.store.revision, editor.engine.policy.counts
        except EditError as error:
            raise with_edit_line(error, sourced) from None
        except StoreError as error:
            number, summary = stored_so_far()
            raise StoreError(f"{error}; {summary}" if number else str(error)) from None
        if options.as_json:
            put_json({"revision": revision, "index": index, "reports": [report.to_dict() for report in reports]})
        else:
            show_reports(reports, {item.edit.id: item.edit for item in sourced}, revision, verbose)
            if "clusters" in index:
                put("index: " + ", ".join(f"{number} {name}" for name, number in index.items()))
    if failed := [report for report in reports if report.status == "failed"]:
        why = ["they do not hold"] + ["neighbours would reach them"] * strict
        why += ["their workers were lost"] * any(report.trial is None for report in failed)
        raise MeloEditError(
            f"{len(failed)} of {counted(len(reports), 'edit')} not stored, as {' or '.join(why)}: "
            f"{join_names([report.id for report in failed])}"
        )


@with_options(StoreOptions)
def calibrate(
    options: StoreOptions,
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
    false_neighbour: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Stated share of near questions that fires, from now on.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="FILE", help="What decides from now on: built-in, none, or a judge's file.")
    ] = None,
    rekey: Annotated[
        bool, typer.Option("--rekey", help="Move the store to --model, another copy of its model; check every edit.")
    ] = False,
) -> None:
    """Set how near a prompt must come to an edit to fire it.

    The scope is calibrated on built-in prompts or, better, on your traffic: prompts that no edit should answer. With
    --false-activation, --false-neighbour, --min-similarity or --judge alone, keys and prompts stay as they are. No
    edit is trained again.

    Example: meloedit calibrate facts.melo --prompts traffic.jsonl

    A store answers on the copy of its model that it was made on. --rekey moves it to another one, quantised, say, or
    read from a GGUF file: the keys are made again there, and every edit is asked. Exit code 1 if one no longer holds.

    Example: meloedit calibrate facts.melo --min-similarity 0.7

    Example: meloedit calibrate facts.melo --model model-q8.gguf --rekey
    """
    from ...readers import read_prompts, source_name
    from ...routing.index import NeuronIndex
    from ..inputs import with_prompt_line

    sourced = read_prompts(prompts) if prompts is not None else []
    traffic = [prompt for _, prompt in sourced] or None
    before = open_store(options.store).revision
    with report_if_stopped(lambda: change_since(options.store, before)):
        with progress_display() as progress, open_editor(options, progress, True, judge, rekey) as editor:
            given = (traffic, false_activation, min_similarity, false_neighbour, judge)
            try:
                source, revision = source_name(str(prompts)), editor.store.revision
                if not rekey or given != (None,) * 5:  # moving it calibrates it
                    revision = editor.calibrate(
                        traffic, source, progress, false_activation, min_similarity, false_neighbour, judge
                    )
            except EditError as error:
                raise with_prompt_line(error, sourced, editor.backbone.forms) from None
            info, threshold = editor.calibration.info if editor.calibration else {}, editor.threshold
            index = editor.index
            calibrated, used = (index.calibrated, index.similarity) if isinstance(index, NeuronIndex) else (-1.0, -1.0)
            least_score = editor.least_score
            checked, name = editor.check(progress=progress).to_dict() if rekey else {}, editor.store.model["name"]
        if rekey:
            put_check(checked | {"revision": revision}, options, f"moved to {plain(name)}; revision {revision}")
            return
        if options.as_json:
            put_json({"revision": revision, "threshold": threshold, "least_score": least_score, "calibration": info})
            return
        if least_score is not None:
            put(
                f"calibrated on {counted(info['prompts'], 'prompt')} ({info['source']}): the judge reads edits with a "
                f"similarity above {similarity(threshold):.3f}, which fire at a score above {least_score:.3f}; "
                f"revision {revision}"
            )
            return
        put(
            f"calibrated on {counted(info['prompts'], 'prompt')} ({info['source']}): an edit fires at a distance below "
            f"{threshold:.3f} (similarity above {similarity(threshold):.3f}); revision {revision}"
        )
        if -1 < calibrated < used:
            put(
                "that is min_similarity: these prompts alone would let edits fire at a similarity above "
                f"{calibrated:.3f}, and fewer of them fire than stated"
            )
        if info.get("scope") == "near-exact":
            put("no documents were given: near-exact repeats of a text alone reach its edit; see --prompts")
