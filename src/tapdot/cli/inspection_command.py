"""``tapdot inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tapdot.cli.checks import check_compilation, check_device, check_model
from tapdot.cli.options import (
    DataOption,
    DeviceOption,
    ImageDeviationOption,
    ImageMeanOption,
    JsonOption,
    ShapeOption,
    ZeroShotOption,
    parse_images,
    parse_shapes,
)
from tapdot.cli.output import print_json, table_console

if TYPE_CHECKING:
    from tapdot.cli.inspection import Report
    from tapdot.compiler.images import ImagePreparation


def inspect_command(
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
        print_json(report.json())
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
        print_json({"model": str(model), "device": device, "rows": [row.json() for row in rows]})
        return
    console = table_console()
    console.print(rows_table(rows, device))
    for line in remarks(rows):
        console.print(f"- {line}", markup=False, soft_wrap=True)
