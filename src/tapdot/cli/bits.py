"""``tapdot pareto``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tapdot.cli.bit_choices import (
    ACTIVATIONS,
    SECONDS,
    SENSITIVITY,
    WIDTHS,
    ActivationsOption,
    MeasuredOption,
    SensitivityOption,
    WidthsOption,
    check_choice,
    choices_of_model,
    choosing_options,
    fixed_bits,
    prediction,
    read_widths,
    refuse_idle,
    standing,
)
from tapdot.cli.checks import check_compilation, check_device, check_writable
from tapdot.cli.options import (
    DataOption,
    ImageDeviationOption,
    ImageMeanOption,
    JsonOption,
    SetOption,
    ShapeOption,
    TargetOption,
    ZeroShotOption,
    parse_images,
    parse_shapes,
)
from tapdot.cli.output import print_json, table_console
from tapdot.cli.progress import Lines, progress

if TYPE_CHECKING:
    from tapdot.passes.assign_bits import Assignment
    from tapdot.passes.bit_budgets import Budget
    from tapdot.passes.bit_candidates import BitChoices
    from tapdot.passes.bit_table import BitTable
    from tapdot.passes.pareto_front import Front

METHOD_NAMES = ("ilp", "dp")
LONGEST = 64
"""Layers whose bits are a column of the front's table; of more, the line is in the JSON."""

BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="KIND=VALUE",
        help="size=50%, size=2.5MB, latency=3.1ms or bops=12G; a share is low + 0.5 * (high - low). May be repeated.",
    ),
]
FixOption = Annotated[
    list[str] | None, typer.Option("--fix", metavar="LAYER=BITS", help="Leaves a layer no choice; may be repeated.")
]


def pareto_command(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL]", help="An .onnx file or a .pt2 file, whose layers are looked at; or --table."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="Layers, candidates, losses and costs, as JSON.")
    ] = None,
    budget: BudgetOption = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="ilp (integer program) or dp (ZeroQ's dynamic program, one budget).")
    ] = "ilp",
    fix: FixOption = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Of cost, for a front without budgets [the table's first].")
    ] = None,
    points: Annotated[
        int, typer.Option("--points", metavar="N", min=2, help="Even budgets at which the front is looked for.")
    ] = 33,
    time_limit: Annotated[
        float,
        typer.Option("--time-limit", metavar="SECONDS", min=0.001, help="For one integer program; then the best found counts."),
    ] = SECONDS,
    data: DataOption = None,
    image_mean: ImageMeanOption = None,
    image_deviation: ImageDeviationOption = None,
    zero_shot: ZeroShotOption = False,
    widths: WidthsOption = WIDTHS,
    activations: ActivationsOption = ACTIVATIONS,
    sensitivity: SensitivityOption = SENSITIVITY,
    device: MeasuredOption = None,
    target: TargetOption = None,
    shape: ShapeOption = None,
    settings: SetOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Writes the table of a model, for --table.")
    ] = None,
    bits: Annotated[
        Path | None,
        typer.Option("--bits", metavar="FILE", help="Writes what was chosen for a model, for `tapdot compile --bits`."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draws front and bits, as .png, .svg or .pdf.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Chooses bit widths by budgets, the chosen bits as the last line, or shows the front of what can be chosen."""
    from tapdot.passes.bit_budgets import BudgetError
    from tapdot.passes.bit_table import KINDS
    from tapdot.passes.bit_table_files import write_table

    budgets = read_budgets(budget)
    if method not in METHOD_NAMES:
        raise typer.BadParameter(f"expected {' or '.join(METHOD_NAMES)}, found {method!r}", param_hint="--method")
    if kind is not None and budgets:
        raise typer.BadParameter("with budgets, the front is of their kinds", param_hint="--kind")
    if (model is None) is (table is None):
        both = "both; choose one" if model is not None else "neither"
        raise typer.BadParameter(f"expected a model or a table (--table FILE), found {both}", param_hint="MODEL")
    if model is None:
        refuse_idle(
            "it is for a model",
            output=output,
            bits=bits,
            data=data,
            image_mean=image_mean,
            image_deviation=image_deviation,
            zero_shot=zero_shot,
            target=target,
            shape=shape,
            set=settings,
            **choosing_options(widths, activations, sensitivity, device),
        )
    if bits is not None and not budgets:
        raise typer.BadParameter("there is a choice to write only where there is a budget (--budget)", param_hint="--bits")
    for path in (output, bits):
        if path is not None:
            check_writable(path)
    if plot is not None:
        check_plot(plot)
    if method == "dp" and len(budgets) > 1:
        raise BudgetError(f"The dynamic program takes one budget, found {len(budgets)}; use --method ilp.")
    choices = None
    if model is not None:
        if kind is not None and kind not in KINDS:
            raise BudgetError(f"Expected a kind of cost ({', '.join(KINDS)}), found {kind!r}.")
        check_choice(activations, sensitivity)
        chosen_widths, fixed = read_widths(widths), fixed_bits(read_fixed(fix))
        shapes, images = parse_shapes(shape), parse_images(image_mean, image_deviation, data)
        check_compilation(model, target, "mixed", data, zero_shot, settings, bits=True)
        if device is not None:
            check_device(device)
        from tapdot.compiler.data import open_data

        choices = choices_of_model(
            model,
            None if data is None else open_data(data, images=images),
            zero_shot,
            widths=chosen_widths,
            activations=activations,
            sensitivity=sensitivity,
            fixed=fixed,
            device=device,
            target=target,
            budgets=budgets,
            kind=kind,
            shapes=shapes,
            settings=settings or (),
        )
        found = choices.table
    else:
        assert table is not None
        found = _read_table(table).fix(read_fixed(fix))
    for note in found.notes:
        progress.print(note, markup=False, soft_wrap=True)
    if output is not None:
        write_table(found, output)
        progress.print(f"Wrote {output}.", markup=False, soft_wrap=True)
    show(
        found,
        budgets,
        method=method,
        kind=kind,
        points=points,
        time_limit=time_limit,
        plot=plot,
        as_json=as_json,
        choices=choices,
        bits=bits,
    )


def _read_table(path: Path) -> BitTable:
    """The table in a file; raises TableError, which tells what to do with sensitivities, a table's other half."""
    from tapdot.passes.bit_table import TableError
    from tapdot.passes.bit_table_files import read_table

    try:
        return read_table(path)
    except TableError as error:
        if not holds_sensitivities(path):
            raise
        raise TableError(
            f"{path} holds sensitivities without costs, as `tapdot sensitivity` writes them; expected a table, as `tapdot pareto "
            "MODEL -o FILE` writes it. In Python, Sensitivity.from_json(...).table(costs, ties) makes one of them."
        ) from error


def holds_sensitivities(path: Path) -> bool:
    """Whether a file is what ``tapdot sensitivity -o`` writes."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("format") == "tapdot sensitivity"


def read_budgets(lines: Sequence[str] | None) -> tuple[Budget, ...]:
    """What ``--budget`` says; text of another form is wrong usage."""
    from tapdot.passes.bit_budgets import BudgetError, parse_budgets

    try:
        return parse_budgets(lines or ())
    except BudgetError as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from error


def read_fixed(lines: Sequence[str] | None) -> dict[str, str]:
    """What ``--fix`` says: labels by layer."""
    fixed: dict[str, str] = {}
    for line in lines or ():
        name, equals, label = line.rpartition("=")
        if not equals or not name or not label or fixed.setdefault(name, label) != label:
            raise typer.BadParameter(f"expected LAYER=BITS, each layer once, found {line!r}", param_hint="--fix")
    return fixed


def check_plot(path: Path) -> None:
    """Raises TapdotError where no picture can be drawn, before anything slow begins."""
    from tapdot.cli.bits_plot import check_matplotlib

    check_writable(path)
    check_matplotlib(path)


def show(
    table: BitTable,
    budgets: Sequence[Budget],
    *,
    method: str = "ilp",
    kind: str | None = None,
    points: int = 33,
    time_limit: float | None = SECONDS,
    plot: Path | None = None,
    as_json: bool = False,
    choices: BitChoices | None = None,
    bits: Path | None = None,
) -> None:
    """Chooses by the budgets, or finds the front where there are none, and prints and draws it: all of the command but its
    reading. ``choices`` are the model's that the table is of; ``bits`` is a file for what was chosen of them."""
    from tapdot.compiler.files import write_text
    from tapdot.passes.assign_bits import assign
    from tapdot.passes.assign_bits_by_dp import assign_by_dp
    from tapdot.passes.bit_budgets import BudgetError
    from tapdot.passes.pareto_front import pareto_front

    if not table.kinds:
        raise BudgetError(
            "The table has no costs, so every layer would take its least sensitive candidate; add size, bops or latency."
        )
    chosen = None
    if budgets:
        chosen = assign_by_dp(table, budgets) if method == "dp" else assign(table, budgets, time_limit=time_limit)
    if choices is not None and chosen is not None:
        if bits is not None:
            write_text(bits, json.dumps(choices.widths(chosen).json(), indent=1) + "\n")
            progress.print(f"Wrote {bits}.", markup=False, soft_wrap=True)
        for line in prediction(choices, chosen):
            progress.print(line, markup=False, soft_wrap=True)
    fronts = []
    if plot is not None or chosen is None:
        with progress.status("Looking for the front") as status:
            lines = Lines(status.update)
            for one in [budget.kind for budget in budgets] or [kind or table.kinds[0]]:
                fronts.append(
                    pareto_front(
                        table,
                        one,
                        budgets,
                        points=points,
                        method=method,
                        time_limit=time_limit,
                        progress=lambda done, total: lines(f"Front: {done} of {total} budgets"),
                    )
                )
    if plot is not None:
        from tapdot.cli.bits_plot import draw_choice

        draw_choice(plot, fronts, chosen)
        for line in (line for front in fronts if chosen is not None for line in _doubts(front)):
            progress.print(f"The front in {plot.name}: {line}", markup=False, soft_wrap=True)
        progress.print(f"Wrote {plot}.", markup=False, soft_wrap=True)
    if as_json:
        print_json(_document(table, fronts, chosen))
    elif chosen is not None:
        _print_chosen(chosen)
    else:
        _print_front(fronts[0])


def _document(table: BitTable, fronts: Sequence[Front], chosen: Assignment | None) -> dict[str, Any]:
    document: dict[str, Any] = {"model": table.model, "layers": [layer.name for layer in table.layers]}
    if chosen is not None:
        document["chosen"] = chosen.json()
    return document | ({"fronts": [front.json() for front in fronts]} if fronts else {})


def _columns(headings: Sequence[str]) -> Table:
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        text = heading in ("layer", "", "bits")
        rows.add_column(heading, justify="left" if text else "right", overflow="fold", no_wrap=heading == "bits")
    return rows


def _print_chosen(chosen: Assignment) -> None:
    from tapdot.passes.bit_budgets import amount_text

    table = chosen.table
    word = "bits" if len(chosen.bits) == len(table.layers) else "choice"
    rows = _columns(["layer", word, "sensitivity", *table.kinds, ""])
    tied = [group for group in table.groups if len(group) > 1]
    ties = {index: f"tie {number}" for number, group in enumerate(tied, 1) for index in group}
    for index, (layer, label) in enumerate(zip(table.layers, chosen.labels, strict=True)):
        candidate = layer.candidate(label)
        remark = ", ".join(word for word in ("fixed" if layer.fixed is not None else "", ties.get(index, "")) if word)
        costs = (amount_text(kind, candidate.costs[kind]) for kind in table.kinds)
        rows.add_row(layer.name, label, f"{candidate.sensitivity:.4g}", *costs, remark)
    table_console().print(rows)
    budgets = {budget.kind: budget for budget in chosen.budgets}
    for kind in table.kinds:
        low, high = table.limits(kind)
        line = f"{kind}: {amount_text(kind, chosen.costs[kind])}"
        if kind in budgets:
            line += f" of {amount_text(kind, budgets[kind].limit(table))} ({budgets[kind]})"
        share = chosen.share(kind)
        where = "" if share is None else f"; {share:.1%} of the way"
        typer.echo(f"{line}{where} from {amount_text(kind, low)} to {amount_text(kind, high)}")
    typer.echo(f"sensitivity: {chosen.sensitivity:.6g}, {standing(chosen)}")
    typer.echo(chosen.text)


def _print_front(front: Front) -> None:
    from tapdot.passes.bit_budgets import amount_text

    table = front.points[0].table
    short = len(table.layers) <= LONGEST
    others = [kind for kind in table.kinds if kind != front.kind]
    rows = _columns([front.kind, "share", "sensitivity", *others, "bits"])
    for point in front.points:
        share = point.share(front.kind)
        costs = [amount_text(kind, point.costs[kind]) for kind in (front.kind, *others)]
        bits = point.text if short else _counts(point)
        rows.add_row(costs[0], "" if share is None else f"{share:.1%}", f"{point.sensitivity:.4g}", *costs[1:], bits)
    table_console().print(rows)
    for line in _doubts(front):
        typer.echo(line)


def _doubts(front: Front) -> Iterator[str]:
    """What a time limit left open."""
    if front.unproved:
        yield f"{front.unproved} of {len(front.points)} points may not be the best (time ran out)"
    if front.missed:
        yield f"no choice was found in time at {front.missed} more of the budgets"


def _counts(point: Assignment) -> str:
    """``"120 x 4, 380 x 8"``."""
    found = dict.fromkeys(candidate.label for layer in point.table.layers for candidate in layer.candidates)
    return ", ".join(f"{point.labels.count(label)} x {label}" for label in found if label in point.labels)
