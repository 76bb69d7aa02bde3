"""``tapdot measure`` and ``tapdot bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapdot.cli.checks import check_compilation, check_device
from tapdot.cli.compiling import compile_model
from tapdot.cli.options import (
    CoresOption,
    DataOption,
    DeviceOption,
    ImageDeviationOption,
    ImageMeanOption,
    JsonOption,
    ModelArgument,
    PerLayerOption,
    RecipeOption,
    RecordsOption,
    RunsOption,
    SetOption,
    ShapeOption,
    SortOption,
    TargetOption,
    ThreadsOption,
    TopOption,
    ZeroShotOption,
    check_table,
    parse_cores,
    parse_images,
    parse_shapes,
)
from tapdot.cli.output import fail, print_json, table_console
from tapdot.cli.progress import progress

if TYPE_CHECKING:
    from tapdot.runtime.measure import Measurement

RUNS, ROUNDS = 20, 50
"""Of one package, and of several in turns."""


def measure_command(
    packages: Annotated[
        list[Path], typer.Argument(metavar="PACKAGE...", help="A .tapdot file; several are measured in turns and compared.")
    ],
    device: DeviceOption = "host",
    threads: ThreadsOption = 1,
    cores: CoresOption = None,
    runs: Annotated[
        int | None,
        typer.Option("--runs", metavar="N", min=1, help=f"Timed inferences of each [{RUNS}; {ROUNDS} where there are several]."),
    ] = None,
    per_layer: PerLayerOption = False,
    sort: SortOption = None,
    top: TopOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measures a package on a device, or several in turns and compares them, after their answers were checked."""
    import tapdot

    chosen = parse_cores(cores)
    check_table(sort, top, per_layer)
    check_device(device)
    if per_layer and len(packages) > 1:
        raise typer.BadParameter("it is for one package; measure them one by one", param_hint="--per-layer")
    loaded = [tapdot.load(package) for package in packages]
    where = tapdot.connect(device)
    with progress.status(f"Measuring on {device}"):
        if len(loaded) == 1:
            found, lost = _as_far_as_it_goes(
                lambda: where.measure(loaded[0], threads=threads, runs=runs or RUNS, per_layer=per_layer, cores=chosen)
            )
        else:
            found, lost = _as_far_as_it_goes(lambda: where.compare(loaded, threads=threads, runs=runs or ROUNDS, cores=chosen))
    if as_json:
        print_json({**found.json(), **({"interrupted": lost} if lost else {})})
    else:
        typer.echo(str(found))
        if len(loaded) == 1:
            _show_profile(found, per_layer and not lost, sort, top)
    if lost:
        fail(lost)


def bench_command(
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
    records: RecordsOption = None,
    threads: ThreadsOption = 1,
    cores: CoresOption = None,
    runs: RunsOption = RUNS,
    per_layer: PerLayerOption = False,
    sort: SortOption = None,
    top: TopOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compiles a model for a device, verifies it there, and measures it."""
    import tapdot

    shapes, images = parse_shapes(shape), parse_images(image_mean, image_deviation, data)
    chosen = parse_cores(cores)
    check_table(sort, top, per_layer)
    check_device(device)
    check_compilation(model, target, recipe, data, zero_shot, settings)
    where = tapdot.connect(device)
    package = compile_model(
        model, target or where.default_target(), recipe, data, images, zero_shot, shapes, settings, records=records
    )
    with progress.status(f"Verifying on {device}"):
        verification = where.verify(package)
    if not verification.passed:
        fail(str(verification))
    with progress.status(f"Measuring on {device}"):
        found, lost = _as_far_as_it_goes(
            lambda: where.measure(package, threads=threads, runs=runs, per_layer=per_layer, cores=chosen)
        )
    if as_json:
        print_json({"verification": verification.json(), "measurement": found.json(), **({"interrupted": lost} if lost else {})})
    else:
        typer.echo(str(verification))
        typer.echo(str(found))
        _show_profile(found, per_layer and not lost, sort, top)
    if lost:
        fail(lost)


def _as_far_as_it_goes(measure: Callable[[], Any]) -> tuple[Any, str | None]:
    """What was measured, and a sentence where the device failed before the end."""
    from tapdot.runtime.measure import DeviceLostError

    try:
        return measure(), None
    except DeviceLostError as error:
        return error.partial, str(error)


def _show_profile(found: Measurement, asked: bool, sort: str | None, top: int | None) -> None:
    from tapdot.cli.profile_table import print_profile

    if found.profile is not None:
        print_profile(found.profile, table_console(), sort or "time", top)
    elif asked:
        progress.print(f"Kernels are not timed alone on {found.device}: it is emulated, and its clock says nothing of a phone.")
