"""The commands that repeat the paper's ablations; torch and matplotlib are imported once one of them runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ... import files
from ...errors import ModelError
from ...evaluation import drawing
from ...evaluation.ablations import facts as inputs
from ...evaluation.ablations import plots
from ...evaluation.ablations.runs import Runs
from ...text import plain
from ..loading import load
from ..options import Device, DtypeName, Json
from ..terminal import count as counted
from ..terminal import progress, put, put_json, saying, shell, table

if TYPE_CHECKING:
    from ...evaluation.ablations.bench import Bench
    from ..terminal import Column

ablate = typer.Typer(
    help="Repeat the paper's ablations on your model.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelGiven = Annotated[
    str, typer.Option("--model", "-m", metavar="MODEL", help="A folder, a hub name, or smollm2 (the demo's model).")
]
EditsFile = Annotated[
    Path,
    typer.Option("--edits", metavar="FILE", help="Facts as JSONL (.gz too): prompt, target and rephrases a line."),
]
Count = Annotated[int | None, typer.Option("--count", metavar="N", min=1, help="Take the first N facts of the file.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where data and drawing go; finished runs there are not repeated.")
]
Preset = Annotated[str | None, typer.Option("--preset", metavar="NAME", help="Start from one of the paper's settings.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting of MeloConfig's paper mode; repeatable."),
]
PromptLookup = Annotated[
    int, typer.Option("--wordings", metavar="N", min=1, help="Wordings of a fact that are taken, its prompt first.")
]
OUT = Path("ablations")


@ablate.command()
def radius(
    model: ModelGiven,
    edits: EditsFile,
    radii: Annotated[
        str, typer.Option(metavar="R,R", help="Initial radii; auto: five, at quantiles of the keys' distances.")
    ] = "auto",
    wordings: PromptLookup = 5,
    count: Count = None,
    out: Out = OUT,
    preset: Preset = None,
    settings: Settings = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Clusters, conflicts, forgotten edits by radius (Figure 3).

    Every wording of every fact is an edit; their keys are put into an index in a seeded order. No block is trained.

    Example: meloedit ablate radius --model DIR --edits facts.jsonl --radii 1,2,5
    """
    given = None if radii.strip() == "auto" else inputs.read_numbers("--radii", radii, float, ", or auto")
    with _bench(model, edits, count, out, preset, settings, device, dtype) as bench:
        from ...evaluation.ablations.keys import radius as ablation

        data = ablation(bench, given, wordings)
    names = ["clusters", "keys", "conflicts", "forgotten"]
    rows = [{"radius": run["radius"]} | point for run in data["runs"] for point in run["curve"]]
    _write(out, data, model, ["radius", "edits", *names], rows)
    last = [[f"{run['radius']:g}", *(f"{run['curve'][-1][name]:,}" for name in names)] for run in data["runs"]]
    said = ""
    if stated := data["radii_from"]:
        at = ", ".join(f"{quantile:g}" for quantile in stated["quantiles"])
        said = f"the radii are the quantiles {at} of {stated['of']}; those of 0 and repeated ones are left out"
    _show(out, data, as_json, ["initial radius", *names], last, said)


@ablate.command()
def keys(
    model: ModelGiven,
    edits: EditsFile,
    targets: Annotated[
        int, typer.Option(metavar="N", min=1, help="Targets whose keys are drawn: the most frequent.")
    ] = 8,
    wordings: PromptLookup = 5,
    count: Count = None,
    out: Out = OUT,
    preset: Preset = None,
    settings: Settings = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """A map of the keys, coloured by target (Figure 3c).

    Two principal components of the keys of the most frequent targets' facts, in several wordings.

    Example: meloedit ablate keys --model DIR --edits facts.jsonl --targets 8
    """
    with _bench(model, edits, count, out, preset, settings, device, dtype) as bench:
        from ...evaluation.ablations.keys import key_map

        data = key_map(bench, targets, wordings)
    _write(out, data, model, ["fact", "wording", "target", "x", "y"], data["points"])
    number = {name: sum(point["target"].strip() == name for point in data["points"]) for name in data["targets"]}
    one, two = (100 * share for share in data["share_of_variance"])
    said = f"the two components hold {one:.1f} % and {two:.1f} % of the keys' variance"
    _show(out, data, as_json, ["target", "keys"], [(plain(name), size) for name, size in number.items()], said)


@ablate.command()
def rank(
    model: ModelGiven,
    edits: EditsFile,
    ranks: Annotated[str, typer.Option(metavar="N,N", help="Ranks of a block.")] = "1,2,4,8",
    count: Count = None,
    out: Out = OUT,
    preset: Preset = None,
    settings: Settings = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Edit success and generality by rank (Figure 4).

    All edits are made, and then asked as they are and in a rephrasing that was never trained.

    Example: meloedit ablate rank --model DIR --edits facts.jsonl --ranks 1,2,4
    """
    given = inputs.read_numbers("--ranks", ranks, int)
    with _bench(model, edits, count, out, preset, settings, device, dtype) as bench:
        from ...evaluation.ablations.edits import rank as ablation

        data = ablation(bench, given)
    _write_runs(out, data, model, "rank", as_json)


@ablate.command("key-layer")
def key_layer(
    model: ModelGiven,
    edits: EditsFile,
    key_layers: Annotated[str, typer.Option(metavar="A,B", help="Names of modules whose outputs give the keys.")],
    negatives: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Questions that no edit should answer, as JSONL (.gz too): question a line."),
    ] = None,
    count: Count = None,
    out: Out = OUT,
    preset: Preset = None,
    settings: Settings = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Edit success and activation by key layer (Figure 5).

    As ablate rank; and the share of other questions that reach an edit, asked as given and with a capital and a
    question mark. The initial radius is the same in every layer.

    Example: meloedit ablate key-layer --model DIR --edits facts.jsonl --key-layers A,B
    """
    layers = [name.strip() for name in key_layers.split(",") if name.strip()]
    if not layers:
        raise ModelError("--key-layers is empty: give names of modules, separated by commas")
    questions = inputs.read_questions(negatives) if negatives else None
    with _bench(model, edits, count, out, preset, settings, device, dtype) as bench:
        from ...evaluation.ablations.edits import key_layer as ablation

        data = ablation(bench, list(dict.fromkeys(layers)), questions)
    _write_runs(out, data, model, "key_layer", as_json)


@ablate.command()
def efficiency(
    model: ModelGiven,
    edits: EditsFile,
    count: Count = None,
    out: Out = OUT,
    preset: Preset = None,
    settings: Settings = None,
    device: Device = None,
    dtype: DtypeName = None,
    as_json: Json = False,
) -> None:
    """Parameters, time and memory of an edit (Table 3).

    Parameters per 1,000 edits are computed (Equation 11), beside those of GRACE; time and memory are measured.

    Example: meloedit ablate efficiency --model DIR --edits facts.jsonl --count 200
    """
    with _bench(model, edits, count, out, preset, settings, device, dtype) as bench:
        from ...evaluation.ablations.edits import efficiency as ablation

        data = ablation(bench)
    rows = [{"name": name, "value": value} for part in ("parameters", "measured") for name, value in data[part].items()]
    _write(out, data, model, ["name", "value"], rows)
    per = data["parameters"]["per_edits"]
    shown = [[row["name"].replace("_", " "), f"{row['value']:,.10g}"] for row in rows if row["name"] != "per_edits"]
    _show(out, data, as_json, [f"parameters per {per:,} edits; measured", ""], shown)


@contextmanager
def _bench(
    model: str,
    edits: Path,
    count: int | None,
    out: Path,
    preset: str | None,
    settings: list[str] | None,
    device: str | None,
    dtype: str | None,
) -> Iterator[Bench]:
    """Read, check and load what an ablation works with, and say after Ctrl-C what is finished."""
    drawing.check_plots()
    configure, facts = inputs.paper_settings(preset, settings or []), inputs.read_facts(edits, count)
    files.make_folder(out)
    opened: list[Runs] = []

    def finished() -> str:
        number = sum(runs.finished for runs in opened)
        return f"{counted(number, 'finished run')} kept in {shell(out)}; run the same command again for the rest"

    with saying(finished), progress() as tell:
        loaded, tokenizer = load(model, device, dtype, tell)
        from ... import __version__
        from ...backbones import open_backbone
        from ...editor import Editor
        from ...evaluation.ablations.bench import Bench, model_identity

        facts = facts.named(open_backbone(loaded, tokenizer))
        read = {"facts_sha256": facts.sha256, "facts": len(facts.items)}
        shared = {"meloedit": __version__, "model": model_identity(loaded), **read}
        opened.append(Runs(out, shared))
        yield Bench(loaded, tokenizer, facts, opened[0], configure, partial(Editor, loaded, tokenizer), tell)


def _write(out: Path, data: dict[str, Any], model: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write an ablation's data, and draw it."""
    data["model"] = model
    name = data["ablation"]
    files.write_json(out / f"{name}.json", data)
    files.write_csv(out / f"{name}.csv", columns, rows)
    plots.draw(data, out / f"{name}.png")


def _write_runs(out: Path, data: dict[str, Any], model: str, varied: str, as_json: bool) -> None:
    """Write and print runs that differ in one setting; all of them have the same figures."""
    columns = list(data["runs"][0])
    _write(out, data, model, columns, data["runs"])
    shown = [name for name in _HEADINGS if name in columns]
    names, common = plots.short_names([str(run[varied]) for run in data["runs"]])
    rows = [[name, *(f"{run[figure]:.4g}" for figure in shown)] for name, run in zip(names, data["runs"], strict=True)]
    headings = [varied.replace("_", " "), *(_HEADINGS[name] for name in shown)]
    _show(out, data, as_json, headings, rows, f"key layers: {plain(common)}" if common else "")


_HEADINGS = {
    "edit_success": "edits right",
    "edit_f1": "F1",
    "edit_reached": "routed",
    "rephrase_success": "rephrased right",
    "rephrase_f1": "F1",
    "rephrase_reached": "routed",
    "activation": "others routed",
}


def _show(
    out: Path,
    data: dict[str, Any],
    as_json: bool,
    columns: Sequence[Column],
    rows: Sequence[Sequence[object]],
    said: str = "",
) -> None:
    """Print an ablation's data as JSON, or the main of it as a table, and where it was written."""
    if as_json:
        put_json(data)
        return
    table(columns, rows)
    put("")
    if data["reference_quirks"]:
        put("with reference_quirks: the released code's departures from the paper")
    if said:
        put(said)
    files = ", ".join(f"{data['ablation']}.{suffix}" for suffix in ("json", "csv", "png"))
    put(f"{counted(data['facts'], 'fact')} of {plain(data['facts_file'])}; in {shell(out)}: {files}")
