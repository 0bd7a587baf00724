"""The commands ``ablate ...``, which repeat the paper's ablations. Torch and matplotlib are imported when one runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ... import files
from ...errors import ModelError
from ...evaluation import drawing
from ...evaluation.ablations import plots
from ...evaluation.ablations.facts import paper_settings, read_facts, read_numbers, read_questions
from ...evaluation.ablations.runs import Runs
from ...text import counted, plain
from ..loading import load
from ..options import Device, DtypeName, Json, NewModelName, split_names, with_options
from ..terminal import progress_display, put, put_json, put_table, quoted, report_if_stopped

if TYPE_CHECKING:
    from ...evaluation.ablations.bench import Bench
    from ..terminal import Column

ablate = typer.Typer(
    help="Repeat the paper's ablations on your model.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True)
class AblationOptions:
    """The options of every ablation: the model, the facts, the settings, and where the results go."""

    model: NewModelName
    edits: Annotated[
        Path,
        typer.Option("--edits", metavar="FILE", help="Facts as JSONL (.gz too): prompt, target and rephrases a line."),
    ]
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="Take the first N facts of the file.")
    ] = None
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Where data and drawing go; finished runs there are not repeated."),
    ] = Path("ablations")
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="Start from one of the paper's settings.")
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting of MeloConfig's paper mode; repeatable."),
    ] = None
    device: Device = None
    dtype: DtypeName = None
    as_json: Json = False


Wordings = Annotated[
    int, typer.Option("--wordings", metavar="N", min=1, help="Wordings of a fact that are taken, its prompt first.")
]


@ablate.command()
@with_options(AblationOptions)
def radius(
    options: AblationOptions,
    radii: Annotated[
        str, typer.Option(metavar="R,R", help="Initial radii; auto: five, at quantiles of the keys' distances.")
    ] = "auto",
    wordings: Wordings = 5,
) -> None:
    """Clusters, conflicts, forgotten edits by radius (Figure 3).

    Every wording of every fact is an edit. The keys enter an index in a seeded order; no block is trained.

    Example: meloedit ablate radius --model DIR --edits facts.jsonl --radii 1,2,5
    """
    values = None if radii.strip() == "auto" else read_numbers("--radii", radii, float, ", or auto")
    with _open_bench(options) as bench:
        from ...evaluation.ablations.keys import radius as ablation

        data = ablation(bench, values, wordings)
    names = ["clusters", "keys", "conflicts", "forgotten"]
    rows = [{"radius": run["radius"]} | point for run in data["runs"] for point in run["curve"]]
    _write(options, data, ["radius", "edits", *names], rows)
    last = [[f"{run['radius']:g}", *(f"{run['curve'][-1][name]:,}" for name in names)] for run in data["runs"]]
    note = ""
    if stated := data["radii_from"]:
        at = ", ".join(f"{quantile:g}" for quantile in stated["quantiles"])
        note = f"the radii are the quantiles {at} of {stated['of']}; those of 0 and repeated ones are left out"
    _show(options, data, ["initial radius", *names], last, note)


@ablate.command()
@with_options(AblationOptions)
def keys(
    options: AblationOptions,
    targets: Annotated[
        int, typer.Option(metavar="N", min=1, help="Targets whose keys are drawn: the most frequent.")
    ] = 8,
    wordings: Wordings = 5,
) -> None:
    """A map of the keys, coloured by target (Figure 3c).

    Two principal components of the keys of the most frequent targets' facts, in several wordings.

    Example: meloedit ablate keys --model DIR --edits facts.jsonl --targets 8
    """
    with _open_bench(options) as bench:
        from ...evaluation.ablations.keys import key_map

        data = key_map(bench, targets, wordings)
    _write(options, data, ["fact", "wording", "target", "x", "y"], data["points"])
    number = {name: sum(point["target"].strip() == name for point in data["points"]) for name in data["targets"]}
    one, two = (100 * share for share in data["share_of_variance"])
    note = f"the two components hold {one:.1f} % and {two:.1f} % of the keys' variance"
    _show(options, data, ["target", "keys"], [(plain(name), size) for name, size in number.items()], note)


@ablate.command()
@with_options(AblationOptions)
def rank(
    options: AblationOptions,
    ranks: Annotated[str, typer.Option(metavar="N,N", help="Ranks of a block.")] = "1,2,4,8",
) -> None:
    """Edit success and generality by rank (Figure 4).

    All edits are stored first. Then each is asked as it stands and in a rephrasing that was never trained.

    Example: meloedit ablate rank --model DIR --edits facts.jsonl --ranks 1,2,4
    """
    values = read_numbers("--ranks", ranks, int)
    with _open_bench(options) as bench:
        from ...evaluation.ablations.edits import rank as ablation

        data = ablation(bench, values)
    _write_runs(options, data, "rank")


@ablate.command("key-layer")
@with_options(AblationOptions)
def key_layer(
    options: AblationOptions,
    key_layers: Annotated[str, typer.Option(metavar="A,B", help="Names of modules whose outputs give the keys.")],
    negatives: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Questions that no edit should answer, as JSONL (.gz too): question a line."),
    ] = None,
) -> None:
    """Edit success and activation by key layer (Figure 5).

    As ablate rank, and the share of other questions that reach an edit: asked as they stand, and with a capital and a
    question mark. The initial radius is the same in every layer.

    Example: meloedit ablate key-layer --model DIR --edits facts.jsonl --key-layers A,B
    """
    layers = split_names(key_layers)
    if not layers:
        raise ModelError("--key-layers is empty: give names of modules, separated by commas")
    questions = read_questions(negatives) if negatives else None
    with _open_bench(options) as bench:
        from ...evaluation.ablations.edits import key_layer as ablation

        data = ablation(bench, list(dict.fromkeys(layers)), questions)
    _write_runs(options, data, "key_layer")


@ablate.command()
@with_options(AblationOptions)
def efficiency(
    options: AblationOptions,
) -> None:
    """Parameters, time and memory of an edit (Table 3).

    Parameters per 1,000 edits are computed (Equation 11) for MELO and GRACE; time and memory are measured.

    Example: meloedit ablate efficiency --model DIR --edits facts.jsonl --count 200
    """
    with _open_bench(options) as bench:
        from ...evaluation.ablations.edits import efficiency as ablation

        data = ablation(bench)
    rows = [{"name": name, "value": value} for part in ("parameters", "measured") for name, value in data[part].items()]
    _write(options, data, ["name", "value"], rows)
    per = data["parameters"]["per_edits"]
    shown = [[row["name"].replace("_", " "), f"{row['value']:,.10g}"] for row in rows if row["name"] != "per_edits"]
    _show(options, data, [f"parameters per {per:,} edits; measured", ""], shown)


@contextmanager
def _open_bench(options: AblationOptions) -> Iterator[Bench]:
    """Read, check and load what an ablation works with, and say after Ctrl-C which runs are finished."""
    drawing.check_plots()
    configure = paper_settings(options.preset, options.settings or [])
    facts = read_facts(options.edits, options.count)
    files.make_folder(options.out)
    opened: list[Runs] = []

    def finished() -> str:
        number = sum(runs.finished for runs in opened)
        where = f"{counted(number, 'finished run')} kept in {quoted(options.out)}"
        return f"{where}; run the same command again for the rest"

    with report_if_stopped(finished), progress_display() as progress:
        model, tokenizer = load(options.model, options.device, options.dtype, progress)
        from ... import __version__
        from ...backbones import open_backbone
        from ...editor import Editor
        from ...evaluation.ablations.bench import Bench, model_identity

        facts = facts.named(open_backbone(model, tokenizer))
        read = {"facts_sha256": facts.sha256, "facts": len(facts.items)}
        shared = {"meloedit": __version__, "model": model_identity(model), **read}
        opened.append(Runs(options.out, shared))
        yield Bench(model, tokenizer, facts, opened[0], configure, partial(Editor, model, tokenizer), progress)


def _write(
    options: AblationOptions, data: dict[str, Any], columns: Sequence[str], rows: Sequence[dict[str, Any]]
) -> None:
    """Write an ablation's data as JSON and CSV, and draw it."""
    data["model"] = options.model
    name = data["ablation"]
    files.write_json(options.out / f"{name}.json", data)
    files.write_csv(options.out / f"{name}.csv", columns, rows)
    plots.draw(data, options.out / f"{name}.png")


def _write_runs(options: AblationOptions, data: dict[str, Any], varied: str) -> None:
    """Write and print runs that differ in one setting and have the same figures."""
    columns = list(data["runs"][0])
    _write(options, data, columns, data["runs"])
    shown = [name for name in _HEADINGS if name in columns]
    names, common = plots.short_names([str(run[varied]) for run in data["runs"]])
    rows = [[name, *(f"{run[figure]:.4g}" for figure in shown)] for name, run in zip(names, data["runs"], strict=True)]
    headings = [varied.replace("_", " "), *(_HEADINGS[name] for name in shown)]
    _show(options, data, headings, rows, f"key layers: {plain(common)}" if common else "")


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
    options: AblationOptions,
    data: dict[str, Any],
    columns: Sequence[Column],
    rows: Sequence[Sequence[object]],
    note: str = "",
) -> None:
    """Print an ablation's data as JSON; or as a table, with a note and where the data were written."""
    if options.as_json:
        put_json(data)
        return
    put_table(columns, rows)
    put("")
    if data["reference_quirks"]:
        put("with reference_quirks: the released code's departures from the paper")
    if note:
        put(note)
    names = ", ".join(f"{data['ablation']}.{suffix}" for suffix in ("json", "csv", "png"))
    put(f"{counted(data['facts'], 'fact')} of {plain(data['facts_file'])}; in {quoted(options.out)}: {names}")
