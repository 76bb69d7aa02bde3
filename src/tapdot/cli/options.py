"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapdot.passes.recipe_names import CALIBRATED_RECIPES, RECIPE_NAMES

if TYPE_CHECKING:
    from tapdot.compiler.images import ImagePreparation

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx file or a .pt2 file (torch.export).")]
PackageArgument = Annotated[Path, typer.Argument(metavar="PACKAGE", help="A .tapdot file made by `tapdot compile`.")]
TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="NAME", help="What code is generated for; see `tapdot devices --targets`.")
]
RecipeOption = Annotated[str, typer.Option("--recipe", metavar="NAME", help=f"Which passes run: {', '.join(RECIPE_NAMES)}.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help=f"Samples for the recipes {', '.join(CALIBRATED_RECIPES)}: an .npz file with x or an array for each input, or a "
        "folder of folders of images.",
    ),
]
ImageMeanOption = Annotated[
    str | None,
    typer.Option("--image-mean", metavar="M,M,M", help="Of a folder of images: (pixel / 255 - mean) / deviation [ImageNet's]."),
]
ImageDeviationOption = Annotated[
    str | None, typer.Option("--image-deviation", metavar="D,D,D", help="See --image-mean; one number for each channel.")
]
ZeroShotOption = Annotated[
    bool, typer.Option("--zero-shot", help="For the recipe int8, without data: samples are made from the model's batch norms.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="host, emulated, adb, rpc://HOST:PORT, ...; see `tapdot devices`.")
]
ShapeOption = Annotated[
    list[str] | None, typer.Option("--shape", metavar="NAME=1,3,224,224", help="Shape of an input; needed where it is dynamic.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PASS.OPTION=VALUE", help="Sets an option of a pass (see `tapdot recipes`); may be repeated."),
]
DumpOption = Annotated[
    Path | None, typer.Option("--dump", metavar="DIR", help="Writes the graph after every pass to this folder.")
]
CheckOption = Annotated[bool, typer.Option("--check", help="Runs the reference before and after every pass and compares.")]
ThreadsOption = Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Threads the kernels may use.")]
RunsOption = Annotated[int, typer.Option("--runs", metavar="N", min=1, help="Timed inferences.")]
RecordsOption = Annotated[
    str | None, typer.Option("--records", metavar="DB", help="Takes the winners of `tapdot tune` from this database or file.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Prints one JSON document to stdout and nothing else.")]
PerLayerOption = Annotated[bool, typer.Option("--per-layer", help="Times every kernel alone, too.")]
SortOption = Annotated[
    str | None, typer.Option("--sort", metavar="BY", help="Of the table of --per-layer: time, order or limit [time].")
]
TopOption = Annotated[int | None, typer.Option("--top", metavar="N", min=1, help="Rows of the table of --per-layer [all].")]
CoresOption = Annotated[
    str | None,
    typer.Option(
        "--cores",
        metavar="WHICH",
        help="Pins threads: big, little, or numbers such as 4,6-7 [the fastest kind, where there are several].",
    ),
]
SORTS = ("time", "order", "limit")


def parse_images(mean: str | None, deviation: str | None, data: Path | None) -> ImagePreparation | None:
    """How images become inputs, where it is said; wrong text, and saying it of data that is no folder, is wrong usage."""
    if mean is None and deviation is None:
        return None
    from tapdot.compiler.errors import InputError
    from tapdot.compiler.images import ImagePreparation

    hint = "--image-mean" if mean is not None else "--image-deviation"
    if data is None or not data.is_dir():
        found = "there is no --data" if data is None else f"{data} is none"
        raise typer.BadParameter(f"it is for folders of images, and {found}", param_hint=hint)
    usual = ImagePreparation()
    try:
        return ImagePreparation(
            usual.mean if mean is None else _numbers(mean, "--image-mean"),
            usual.deviation if deviation is None else _numbers(deviation, "--image-deviation"),
        )
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from error


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise typer.BadParameter(f"expected numbers with commas between them, found {text!r}", param_hint=option)
    return numbers


def parse_cores(text: str | None) -> str | tuple[int, ...] | None:
    """``"4,6-7"`` as numbers; ``big`` and ``little`` as they are; other text is wrong usage."""
    if text is None or text in ("big", "little"):
        return text
    cores: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) - int(first) not in range(4096):
            raise typer.BadParameter(f"expected big, little, or numbers such as 4,6-7, found {text!r}", param_hint="--cores")
        cores += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(cores))


def check_table(sort: str | None, top: int | None, per_layer: bool) -> None:
    """Choices for a table that is not printed, or that it does not have, are wrong usage."""
    if not per_layer and (sort is not None or top is not None):
        raise typer.BadParameter("it is for --per-layer only", param_hint="--top" if sort is None else "--sort")
    if sort is not None and sort not in SORTS:
        raise typer.BadParameter(f"expected one of {', '.join(SORTS)}, found {sort!r}", param_hint="--sort")


def parse_shapes(lines: list[str] | None) -> dict[str, tuple[int, ...]] | None:
    """``["x=1,3,8,8"]`` as a mapping; wrong text is wrong usage."""
    if not lines:
        return None
    shapes = {}
    for line in lines:
        name, equals, sizes = line.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not equals or not name or not shape or min(shape) < 1:
            raise typer.BadParameter(f"expected NAME=SIZE,SIZE,... with positive sizes, found {line!r}", param_hint="--shape")
        shapes[name] = shape
    return shapes
