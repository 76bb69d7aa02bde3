"""``tapdot compile``, and compiling for other commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapdot.cli.bit_choices import (
    ACTIVATIONS,
    SENSITIVITY,
    WIDTHS,
    ActivationsOption,
    MeasuredOption,
    SensitivityOption,
    WidthsOption,
    check_choice,
    choose_for_model,
    choosing_options,
    fixed_bits,
    read_widths,
    refuse_idle,
)
from tapdot.cli.bits import BudgetOption, FixOption, read_budgets, read_fixed
from tapdot.cli.checks import check_compilation, check_data, check_device, check_writable
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
    from tapdot.passes.bit_widths import BitWidths


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
    bits: BitWidths | None = None,
    train: Path | None = None,
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
            bits=bits,
            train=None if train is None else open_data(train, images=images),
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
    bits: Annotated[
        Path | None,
        typer.Option("--bits", metavar="FILE", help="For the recipe mixed: bits by layer, as `tapdot pareto` writes them."),
    ] = None,
    budget: BudgetOption = None,
    fix: FixOption = None,
    widths: WidthsOption = WIDTHS,
    activations: ActivationsOption = ACTIVATIONS,
    sensitivity: SensitivityOption = SENSITIVITY,
    device: MeasuredOption = None,
    train: Annotated[
        Path | None,
        typer.Option("--train", metavar="DATA", help="Samples with labels: weights are trained to live with their codes."),
    ] = None,
) -> None:
    """Compiles a model into a package."""
    from tapdot.cli.precision import SUMMARY_ROWS, gap_table, gap_title
    from tapdot.cli.tables import package_summary

    shapes, images = parse_shapes(shape), parse_images(image_mean, image_deviation, data)
    check_writable(output)
    budgets, fixed, chosen_widths = read_budgets(budget), fixed_bits(read_fixed(fix)), read_widths(widths)
    check_choice(activations, sensitivity)
    if bits is not None and budgets:
        raise typer.BadParameter("with bits by layer there is nothing to choose", param_hint="--budget")
    if budgets and recipe != "mixed":
        raise typer.BadParameter(
            f"the recipe {recipe} has the same bits for all layers; use --recipe mixed", param_hint="--budget"
        )
    if not budgets:
        because = "it says how bits are chosen; there is something to choose only with a budget (--budget)"
        refuse_idle(because, fix=fix, **choosing_options(widths, activations, sensitivity, device))
    check_compilation(model, target, recipe, data, zero_shot, settings, bits is not None or bool(budgets))
    if train is not None:
        check_data(train)
    if device is not None:
        check_device(device)
    if bits is not None:
        from tapdot.passes.bit_widths import BitWidths

        by_layer: BitWidths | None = BitWidths.read(bits)
    elif budgets:
        by_layer = choose_for_model(
            model,
            data,
            images,
            zero_shot,
            widths=chosen_widths,
            activations=activations,
            sensitivity=sensitivity,
            fixed=fixed,
            device=device,
            target=target,
            budgets=budgets,
            shapes=shapes,
            settings=settings or (),
        )
    else:
        by_layer = None
    package = compile_model(
        model, target or "host", recipe, data, images, zero_shot, shapes, settings, dump, check, records, by_layer, train
    )
    package.save(output)
    progress.print(package_summary(package, output), markup=False, soft_wrap=True)
    if records is not None:
        print_tuning_notes(package)
    if package.numeric_gap:
        progress.print(gap_title(package.numeric_gap, SUMMARY_ROWS), soft_wrap=True)
        progress.print(gap_table(package.numeric_gap, SUMMARY_ROWS))
