"""Entry point: commands, exit statuses, and errors as sentences.

Exit status: 0 done, 1 the work failed (one or two sentences on stderr, no traceback), 2 wrong usage.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from tapdot.cli.checks import check_compilation, check_device, check_model, check_writable
from tapdot.cli.options import (
    CheckOption,
    DataOption,
    DeviceOption,
    DumpOption,
    ImageDeviationOption,
    ImageMeanOption,
    JsonOption,
    ModelArgument,
    PackageArgument,
    PerLayerOption,
    RecipeOption,
    RunsOption,
    SetOption,
    ShapeOption,
    TargetOption,
    ThreadsOption,
    ZeroShotOption,
    parse_images,
    parse_shapes,
)
from tapdot.cli.progress import Lines, progress
from tapdot.cli.pruning import prune_command

if TYPE_CHECKING:
    from tapdot.cli.inspection import Report
    from tapdot.compiler.images import ImagePreparation
    from tapdot.compiler.package import Package
    from tapdot.runtime.measure import Measurement


class Interrupted(Exception):
    """Ctrl-C during a command."""


class Commands(TyperGroup):
    """The commands; an interruption passes through as an ordinary exception, where typer would leave without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


app = typer.Typer(
    name="tapdot",
    cls=Commands,
    help="Compiles a trained CNN into tuned kernels, verifies them against an exact reference, and measures them on the device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Runs the command line and turns failures a user can act on into sentences and exit status 1."""
    _keep_library_chatter_quiet()
    try:
        app(prog_name="tapdot")
    except (KeyboardInterrupt, Interrupted):
        _fail("Interrupted; nothing was left half-written.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if (sentence := _sentence(error)) is None:
            raise
        _fail(sentence)


def _sentence(error: Exception) -> str | None:
    """What to tell the user, or None for a defect of tapdot, whose traceback must be seen."""
    from tapdot.compiler.errors import TapdotError
    from tapdot.kernels.target import UnknownTargetError

    return str(error) if isinstance(error, TapdotError | UnknownTargetError) else None


def _fail(sentence: str) -> None:
    progress.print(f"tapdot: {sentence}", markup=False, soft_wrap=True)
    raise SystemExit(1)


def _keep_library_chatter_quiet() -> None:
    """Warnings of libraries about their own insides are no business of a user's."""
    import warnings

    warnings.filterwarnings("ignore")
    os.environ.setdefault("TORCH_LOGS", "-all")
    os.environ.setdefault("TVM_LOG_DEBUG", "")


def _output(document: Any) -> None:
    """The one JSON document of a command."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The same plain data with null for what JSON has no number for: an infinite difference, say."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _compile(
    model: Path,
    target: str,
    recipe: str,
    data: Path | None,
    images: ImagePreparation | None,
    zero_shot: bool,
    shapes: Mapping[str, tuple[int, ...]] | None,
    settings: list[str] | None,
    dump: Path | None = None,
    check: bool = False,
) -> Package:
    title = f"Compiling {model.name} for {target}"
    with progress.status(title) as status:
        import tapdot
        from tapdot.compiler.data import open_data

        package = tapdot.compile(
            model,
            target=target,
            recipe=recipe,
            data=None if data is None else open_data(data, images=images),
            zero_shot=zero_shot,
            shapes=shapes,
            settings=settings or (),
            dump=dump,
            check=check,
            progress=Lines(lambda line: status.update(f"{title}: {line}")),
        )
    for note in package.import_notes:
        progress.print(note, markup=False, soft_wrap=True)
    return package


@app.command("compile")
def compile_command(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The package to write.")],
    target: TargetOption = None,
    recipe: RecipeOption = "float",
    data: DataOption = None,
    image_mean: ImageMeanOption = None,
    image_deviation: ImageDeviationOption = None,
    zero_shot: ZeroShotOption = False,
    shape: ShapeOption = None,
    settings: SetOption = None,
    dump: DumpOption = None,
    check: CheckOption = False,
) -> None:
    """Compiles a model into a package."""
    from tapdot.cli.precision import SUMMARY_ROWS, gap_table, gap_title
    from tapdot.cli.tables import package_summary

    shapes, images = parse_shapes(shape), parse_images(image_mean, image_deviation, data)
    check_writable(output)
    check_compilation(model, target, recipe, data, zero_shot, settings)
    package = _compile(model, target or "host", recipe, data, images, zero_shot, shapes, settings, dump, check)
    package.save(output)
    progress.print(package_summary(package, output), markup=False, soft_wrap=True)
    if package.numeric_gap:
        progress.print(gap_title(package.numeric_gap, SUMMARY_ROWS), soft_wrap=True)
        progress.print(gap_table(package.numeric_gap, SUMMARY_ROWS))


app.command("prune")(prune_command)


@app.command()
def run(
    package: PackageArgument,
    inputs: Annotated[Path, typer.Option("--input", metavar="FILE", help="An .npz file with one array for each input, by name.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .npz file to write.")],
    device: DeviceOption = "host",
) -> None:
    """Runs a package once on arrays from a file."""
    import tapdot
    from tapdot.runtime.arrays import names_of_not_finite, read_arrays, write_arrays

    check_writable(output)
    check_device(device)
    loaded = tapdot.load(package)
    arrays = read_arrays(inputs, loaded)
    for name in names_of_not_finite(arrays):
        progress.print(
            f"Note: the input {name!r} holds NaN or infinities; codes have neither, so int8 packages read them as numbers."
        )
    write_arrays(output, tapdot.connect(device).run(loaded, arrays))
    progress.print(f"Wrote {output}")


@app.command()
def verify(package: PackageArgument, device: DeviceOption = "host", as_json: JsonOption = False) -> None:
    """Compares a package with its reference on a device: kernel by kernel, then the whole."""
    import tapdot

    check_device(device)
    loaded = tapdot.load(package)
    with progress.status(f"Verifying on {device}"):
        result = tapdot.connect(device).verify(loaded)
    if as_json:
        _output(result.json())
    else:
        typer.echo(str(result))
    if not result.passed:
        raise SystemExit(1)


@app.command()
def measure(
    package: PackageArgument,
    device: DeviceOption = "host",
    threads: ThreadsOption = 1,
    runs: RunsOption = 20,
    per_layer: PerLayerOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measures a package on a device, after its answer was checked."""
    import tapdot
    from tapdot.cli.tables import measurement_tables

    check_device(device)
    loaded = tapdot.load(package)
    with progress.status(f"Measuring on {device}"):
        result = tapdot.connect(device).measure(loaded, threads=threads, runs=runs, per_layer=per_layer)
    _explain_missing_profile(result, per_layer)
    if as_json:
        _output(result.json())
    else:
        typer.echo(str(result))
        measurement_tables(result, Console(highlight=False))


@app.command()
def bench(
    model: ModelArgument,
    device: DeviceOption = "host",
    target: TargetOption = None,
    recipe: RecipeOption = "float",
    data: DataOption = None,
    image_mean: ImageMeanOption = None,
    image_deviation: ImageDeviationOption = None,
    zero_shot: ZeroShotOption = False,
    shape: ShapeOption = None,
    settings: SetOption = None,
    threads: ThreadsOption = 1,
    runs: RunsOption = 20,
    per_layer: PerLayerOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compiles a model for a device, verifies it there, and measures it."""
    import tapdot
    from tapdot.cli.tables import measurement_tables

    shapes, images = parse_shapes(shape), parse_images(image_mean, image_deviation, data)
    check_device(device)
    check_compilation(model, target, recipe, data, zero_shot, settings)
    where = tapdot.connect(device)
    package = _compile(model, target or where.default_target(), recipe, data, images, zero_shot, shapes, settings)
    with progress.status(f"Verifying on {device}"):
        verification = where.verify(package)
    if not verification.passed:
        _fail(str(verification))
    with progress.status(f"Measuring on {device}"):
        result = where.measure(package, threads=threads, runs=runs, per_layer=per_layer)
    _explain_missing_profile(result, per_layer)
    if as_json:
        _output({"verification": verification.json(), "measurement": result.json()})
    else:
        typer.echo(str(verification))
        typer.echo(str(result))
        measurement_tables(result, Console(highlight=False))


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="MODEL|PACKAGE", help="An .onnx, .pt2 or .tapdot file.")],
    shape: ShapeOption = None,
    graph: Annotated[bool, typer.Option("--graph/--no-graph", help="Print the graph as text.")] = True,
    four_rows: Annotated[
        bool, typer.Option("--four-rows", help="Of a pruned MODEL: dense and sparse, float and int8, measured side by side.")
    ] = False,
    dense: Annotated[
        Path | None,
        typer.Option("--dense", metavar="MODEL", help="For --four-rows: the model before pruning, for the dense rows."),
    ] = None,
    device: DeviceOption = "host",
    data: DataOption = None,
    image_mean: ImageMeanOption = None,
    image_deviation: ImageDeviationOption = None,
    zero_shot: ZeroShotOption = False,
    as_json: JsonOption = False,
) -> None:
    """Shows what a file holds: the graph as text, what runs on which kernels, what was copied or pruned, sizes and memory."""
    from tapdot.cli.inspection import inspect_model, inspect_package

    if four_rows:
        _four_rows(file, dense, device, data, parse_images(image_mean, image_deviation, data), zero_shot, shape, as_json)
    elif dense is not None or data is not None or zero_shot:
        raise typer.BadParameter(
            "it is for --four-rows only", param_hint="--dense" if dense else "--data" if data else "--zero-shot"
        )
    elif file.suffix == ".tapdot":
        import tapdot

        _show(inspect_package(tapdot.load(file)), graph, as_json)
    else:
        shapes = parse_shapes(shape)
        check_model(file)
        _show(inspect_model(file, shapes), graph, as_json)


def _show(report: Report, graph: bool, as_json: bool) -> None:
    if as_json:
        _output(report.json())
    else:
        report.print(Console(highlight=False, soft_wrap=True), graph)


def _four_rows(
    model: Path,
    dense: Path | None,
    device: str,
    data: Path | None,
    images: ImagePreparation | None,
    zero_shot: bool,
    shape: list[str] | None,
    as_json: bool,
) -> None:
    from tapdot.cli.comparison import four_rows, remarks, rows_table
    from tapdot.compiler.data import open_data

    check_device(device)
    check_compilation(model, None, "pattern-int8", data, zero_shot, None)
    if dense is not None:
        check_model(dense)
    opened = None if data is None else open_data(data, images=images)
    rows = four_rows(model, dense_model=dense, device=device, data=opened, zero_shot=zero_shot, shapes=parse_shapes(shape))
    if as_json:
        _output({"model": str(model), "device": device, "rows": [row.json() for row in rows]})
        return
    console = Console(highlight=False)
    console.print(rows_table(rows, device))
    for line in remarks(rows):
        console.print(f"- {line}", markup=False, soft_wrap=True)


@app.command()
def devices(
    targets: Annotated[bool, typer.Option("--targets", help="List targets instead.")] = False, as_json: JsonOption = False
) -> None:
    """Lists what is reachable from here."""
    from tapdot.cli.tables import device_table, target_table

    table = target_table() if targets else device_table()
    if as_json:
        _output(table.rows)
    else:
        Console(highlight=False).print(table.rich())


@app.command()
def recipes(as_json: JsonOption = False) -> None:
    """Lists recipes, and every option of their passes as --set takes it."""
    from tapdot.cli.tables import recipe_rows

    rows = recipe_rows()
    if as_json:
        _output(rows)
        return
    for row in rows:
        typer.echo(f"{row['recipe']}: {row['meaning']}")
        for option in row["options"]:
            typer.echo(f"  --set {option}")


@app.command()
def doctor(device: DeviceOption = "host", as_json: JsonOption = False) -> None:
    """Checks every step of reaching a device and says what to do at the first that fails."""
    check_device(device)
    from tapdot.cli.tables import print_steps, steps_json
    from tapdot.runtime.doctor import doctor as examine

    with progress.status(f"Examining {device}"):
        steps = examine(device)
    if as_json:
        _output(steps_json(steps))
    else:
        print_steps(steps, Console(highlight=False))
    if not all(step.passed for step in steps):
        raise SystemExit(1)


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")],
    architecture: Annotated[
        str, typer.Option("--architecture", help="aarch64 or x86_64: the processor of the device.")
    ] = "aarch64",
) -> None:
    """Writes everything the agent needs on a device into a folder, and says how to start it there."""
    from tapdot.compiler.errors import TapdotError
    from tapdot.runtime.bundle import build_bundle

    if architecture not in ("aarch64", "x86_64"):
        raise typer.BadParameter(f"expected aarch64 or x86_64, found {architecture!r}", param_hint="--architecture")
    if folder.exists():
        raise TapdotError(f"{folder} exists already; give the name of a folder to make.")
    check_writable(folder)
    with progress.status(f"Building the agent for {architecture}"):
        built = build_bundle(architecture)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        shutil.copytree(built.directory, unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    start = " ".join(part.replace(str(built.directory), ".") for part in built.command("tapdot-agent"))
    typer.echo(f"Copy {folder} to the device, then there: cd {folder.name} && TAPDOT_KEY=SECRET {start} --port 9190")
    typer.echo("Here: ssh -N -L 9190:127.0.0.1:9190 DEVICE, or adb forward tcp:9190 tcp:9190")
    typer.echo("Then: TAPDOT_KEY=SECRET tapdot doctor --device rpc://127.0.0.1:9190")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """tapdot."""
    if version:
        import tapdot

        typer.echo(f"tapdot {tapdot.__version__}")
        raise typer.Exit()


def _explain_missing_profile(result: Measurement, asked: bool) -> None:
    if asked and not result.kernels:
        progress.print(f"Kernels are not timed alone on {result.device}: it is emulated, and its clock says nothing of a phone.")
