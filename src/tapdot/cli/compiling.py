"""``tapdot compile``, and compiling for other commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapdot.cli.checks import check_compilation, check_writable
from tapdot.cli.options import (
    CheckOption,
    DataOption,
    DumpOption,
    ImageDeviationOption,
    ImageMeanOption,
    ModelArgument,
    RecipeOption,
    RecordsOption,
    SetOption,
    ShapeOption,
    TargetOption,
    ZeroShotOption,
    parse_images,
    parse_shapes,
)
from tapdot.cli.progress import Lines, progress

if TYPE_CHECKING:
    from tapdot.compiler.images import ImagePreparation
    from tapdot.compiler.package import Package


def compile_model(
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
    records: str | None = None,
) -> Package:
    """Compiles with progress on stderr; what the importer noted is printed there."""
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
            records=records,
            progress=Lines(lambda line: status.update(f"{title}: {line}")),
        )
    for note in package.import_notes:
        progress.print(note, markup=False, soft_wrap=True)
    return package


def print_tuning_notes(package: Package) -> None:
    """What a package compiled with records says of its configurations."""
    from tapdot.runtime.tuning.configured import RECORDS_NOTE

    for note in package.notes:
        if note.startswith(RECORDS_NOTE):
            progress.print(note, markup=False, soft_wrap=True)


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
    records: RecordsOption = None,
) -> None:
    """Compiles a model into a package."""
    from tapdot.cli.precision import SUMMARY_ROWS, gap_table, gap_title
    from tapdot.cli.tables import package_summary

    shapes, images = parse_shapes(shape), parse_images(image_mean, image_deviation, data)
    check_writable(output)
    check_compilation(model, target, recipe, data, zero_shot, settings)
    package = compile_model(model, target or "host", recipe, data, images, zero_shot, shapes, settings, dump, check, records)
    package.save(output)
    progress.print(package_summary(package, output), markup=False, soft_wrap=True)
    if records is not None:
        print_tuning_notes(package)
    if package.numeric_gap:
        progress.print(gap_title(package.numeric_gap, SUMMARY_ROWS), soft_wrap=True)
        progress.print(gap_table(package.numeric_gap, SUMMARY_ROWS))
