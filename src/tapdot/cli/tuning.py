"""``tapdot tune`` and ``tapdot records``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapdot.cli.checks import check_compilation, check_device, check_writable
from tapdot.cli.compiling import compile_model
from tapdot.cli.options import (
    DataOption,
    DeviceOption,
    ImageDeviationOption,
    ImageMeanOption,
    JsonOption,
    RecipeOption,
    SetOption,
    ShapeOption,
    TargetOption,
    ThreadsOption,
    ZeroShotOption,
    parse_images,
    parse_shapes,
)
from tapdot.cli.output import fail, print_json, table_console
from tapdot.cli.progress import progress

if TYPE_CHECKING:
    from tapdot.compiler.package import Package

SAMPLER_NAMES = ("tpe", "genetic", "random", "grid")
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--records", metavar="DB", help="The record database: a file, or a database's URL [tapdot/records.db in ~/.local/share]."
    ),
]


def tune_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL|PACKAGE", help="An .onnx, .pt2 or .tapdot file.")],
    device: DeviceOption = "host",
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=1, help="Configurations to try, those recorded before included.")
    ] = 200,
    records: DatabaseOption = None,
    target: TargetOption = None,
    recipe: RecipeOption = "float",
    data: DataOption = None,
    image_mean: ImageMeanOption = None,
    image_deviation: ImageDeviationOption = None,
    zero_shot: ZeroShotOption = False,
    shape: ShapeOption = None,
    settings: SetOption = None,
    threads: ThreadsOption = 1,
    sampler: Annotated[
        str, typer.Option("--sampler", metavar="NAME", help=f"How configurations are chosen: {', '.join(SAMPLER_NAMES)}.")
    ] = "tpe",
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Makes the sampler's choices repeatable."),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="SECONDS", min=0, help="Starts no trial after so long.")
    ] = None,
    trial_limit: Annotated[
        float, typer.Option("--trial-limit", metavar="SECONDS", min=0.1, help="For running one configuration.")
    ] = 30.0,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="Trials that run at once [one on each device behind the line]."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Finds the fastest configurations of a model's kernels on a device; `tapdot compile --records` uses them."""
    shapes, images = parse_shapes(shape), parse_images(image_mean, image_deviation, data)
    if sampler not in SAMPLER_NAMES:
        raise typer.BadParameter(f"expected {', '.join(SAMPLER_NAMES)}, found {sampler!r}", param_hint="--sampler")
    check_device(device)
    if model.suffix != ".tapdot":
        check_compilation(model, target, recipe, data, zero_shot, settings)
    else:
        given = {"--target": target, "--data": data, "--zero-shot": zero_shot, "--shape": shape, "--set": settings}
        given["--recipe"] = recipe if recipe != "float" else None
        for option, value in given.items():
            if value:
                raise typer.BadParameter(f"it is for models, and {model.name} is a package, compiled already", param_hint=option)
    import tapdot
    from tapdot.cli.tuning_table import Live, result_table
    from tapdot.runtime.tuning.tune import tune_package
    from tapdot.runtime.tuning.tuner import Options

    where = tapdot.connect(device)
    package: Package
    if model.suffix == ".tapdot":
        package = tapdot.load(model)
    else:
        chosen = target or where.default_target()
        package = compile_model(model, chosen, recipe, data, images, zero_shot, shapes, settings)
    options = Options(trials, sampler, seed, time_limit, trial_limit)
    with Live() as live:
        result = tune_package(package, where, options, records=records, threads=threads, workers=workers, watch=live)
    if as_json:
        print_json(result.json())
    else:
        table_console().print(result_table(result))
        typer.echo(str(result))
        for remark in result.remarks:
            typer.echo(f"- {remark}")
    if result.interrupted:
        fail(f"Interrupted; {result.trials} trials are recorded in {result.records}, and the same command goes on from there.")


records_app = typer.Typer(help="Shows and moves tuning records.", no_args_is_help=True, rich_markup_mode=None)


@records_app.command("show")
def show_command(records: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Lists what was tuned: each kernel's default, best and gain, by device."""
    from tapdot.cli.tuning_table import records_tables, summaries
    from tapdot.runtime.tuning.database import default_path
    from tapdot.runtime.tuning.exchange import stale_lines
    from tapdot.runtime.tuning.records import Records

    with Records(records or default_path(), create=False) as opened:
        rows, stale = summaries(opened), stale_lines(opened.find())
    if as_json:
        print_json({"kernels": [row.json() for row in rows], "stale": list(stale)})
        return
    for table in records_tables(rows):
        table_console().print(table)
    for line in stale:
        typer.echo(f"- {line}")


@records_app.command("export")
def export_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file of JSON lines to write.")], records: DatabaseOption = None
) -> None:
    """Writes all records to a file, a line of JSON each."""
    check_writable(file)
    from tapdot.runtime.tuning.database import default_path
    from tapdot.runtime.tuning.exchange import export
    from tapdot.runtime.tuning.records import Records

    with Records(records or default_path(), create=False) as opened:
        progress.print(f"Wrote {export(opened, file)} records to {file}.", markup=False, soft_wrap=True)


@records_app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `tapdot records export` wrote.")],
    records: DatabaseOption = None,
) -> None:
    """Takes over records from a file. Of two about one configuration the one of more runs stays, then the newer."""
    from tapdot.runtime.tuning.database import default_path
    from tapdot.runtime.tuning.exchange import read, take_file
    from tapdot.runtime.tuning.records import Records

    read(file)  # a damaged file leaves no empty database behind
    with Records(records or default_path()) as opened:
        progress.print(str(take_file(opened, file)), markup=False, soft_wrap=True)


@records_app.command("merge")
def merge_command(
    others: Annotated[list[str], typer.Argument(metavar="DB...", help="Record databases, or exported files.")],
    records: DatabaseOption = None,
) -> None:
    """Takes over records from other databases."""
    from tapdot.runtime.tuning.database import default_path
    from tapdot.runtime.tuning.exchange import merge
    from tapdot.runtime.tuning.records import Records

    with Records(records or default_path()) as opened:
        for other in others:
            progress.print(f"{other}: {merge(opened, other)}", markup=False, soft_wrap=True)
