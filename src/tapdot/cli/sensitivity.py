"""``tapdot sensitivity``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tapdot.cli.bits import check_plot
from tapdot.cli.checks import check_data, check_model, check_writable
from tapdot.cli.options import (
    ImageDeviationOption,
    ImageMeanOption,
    JsonOption,
    ModelArgument,
    SetOption,
    ShapeOption,
    parse_images,
    parse_shapes,
)
from tapdot.cli.output import print_json, table_console
from tapdot.cli.progress import Lines, progress
from tapdot.passes.recipe_names import SENSITIVITY_METHODS

if TYPE_CHECKING:
    from tapdot.passes.sensitivity import Sensitivity

BAR = 12
"""Characters of the longest bar."""


def sensitivity_command(
    model: ModelArgument,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DATA", help="Samples: an .npz file with x (and y), or a folder of folders of images."),
    ] = None,
    image_mean: ImageMeanOption = None,
    image_deviation: ImageDeviationOption = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Without data: samples are made from the model's batch norms.")
    ] = False,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help=f"How it is measured: {', '.join(SENSITIVITY_METHODS)}.")
    ] = "kl",
    bits: Annotated[str, typer.Option("--bits", metavar="B,B", help="Candidates: widths from 2 to 8, or none.")] = "8,4",
    sparse: Annotated[
        str | None,
        typer.Option("--sparse", metavar="R:S,R:S", help="More candidates: layers pruned at rate R, S filters alike [none]."),
    ] = None,
    activations: Annotated[
        bool, typer.Option("--activations", help="Of the bits of tensors instead of weights (kl and prediction).")
    ] = False,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", min=1, help="How many of the data to use [16 to 256, by their cost].")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of everything random.")] = 0,
    shape: ShapeOption = None,
    settings: SetOption = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Writes the JSON document.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draws it, as .png, .svg or .pdf.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measures how much the answers change with each layer's bits or sparsity: what a choice of bit widths is made of."""
    shapes, images = parse_shapes(shape), parse_images(image_mean, image_deviation, data)
    candidates = [*_read_bits(bits), *_read_sparse(sparse)]
    if method not in SENSITIVITY_METHODS:
        raise typer.BadParameter(f"expected {', '.join(SENSITIVITY_METHODS)}, found {method!r}", param_hint="--method")
    if not candidates:
        raise typer.BadParameter("with none of these there have to be others (--sparse)", param_hint="--bits")
    if (data is None) is not zero_shot:
        both = "both; choose one" if zero_shot else "neither"
        raise typer.BadParameter(
            f"expected samples (--data) or inputs distilled without any (--zero-shot), found {both}", param_hint="--data"
        )
    if output is not None:
        check_writable(output)
    if plot is not None:
        check_plot(plot)
    check_model(model)
    if data is not None:
        check_data(data)
    title = f"Sensitivity of {model.name}"
    with progress.status(title) as status:
        import tapdot
        from tapdot.compiler.data import open_data

        found = tapdot.sensitivity(
            model,
            data=None if data is None else open_data(data, images=images),
            zero_shot=zero_shot,
            method=method,
            candidates=candidates,
            of="activations" if activations else "weights",
            samples=samples,
            seed=seed,
            shapes=shapes,
            settings=settings or (),
            progress=Lines(lambda line: status.update(f"{title}: {line}")),
        )
    if output is not None:
        from tapdot.compiler.files import write_text

        write_text(output, json.dumps(found.json(), indent=1, allow_nan=False) + "\n")
        progress.print(f"Wrote {output}.", markup=False, soft_wrap=True)
    if plot is not None:
        from tapdot.cli.sensitivity_plot import draw_sensitivity

        draw_sensitivity(plot, found)
        progress.print(f"Wrote {plot}.", markup=False, soft_wrap=True)
    if as_json:
        print_json(found.json())
        return
    table_console().print(sensitivity_table(found))
    for line in summary(found):
        typer.echo(line)


def _read_bits(text: str) -> list[str]:
    """``"8,4"``; text of another form is wrong usage."""
    if text.strip() == "none":
        return []
    widths = [part.strip() for part in text.split(",")]
    if any(not width.isdecimal() or not 2 <= int(width) <= 8 for width in widths) or len({*widths}) < len(widths):
        raise typer.BadParameter(
            f"expected different widths from 2 to 8 with commas between them, or none, found {text!r}", param_hint="--bits"
        )
    return widths


def _read_sparse(text: str | None) -> list[str]:
    """``"4:2,8"`` as labels of candidates; text of another form is wrong usage."""
    found = []
    for part in text.split(",") if text else ():
        rate, colon, share = part.strip().partition(":")
        try:
            fits = float(rate) > 1 and (not colon or int(share) in (1, 2, 4, 8))
        except ValueError:
            fits = False
        if not fits:
            raise typer.BadParameter(
                f"expected rates above 1, each with a share of 1, 2, 4 or 8, such as 4:2, found {part!r}", param_hint="--sparse"
            )
        found.append(f"rate {rate} share {share or 1}")
    return found


def sensitivity_table(found: Sensitivity) -> Table:
    """A row a layer in the network's order; rank, error and bar are of the candidate that costs most."""
    worst = found.worst
    ranks = {name: place + 1 for place, name in enumerate(found.order(worst))}
    largest = max((row.values.get(worst, 0.0) for row in found.layers), default=0.0)
    has_errors = any(worst in row.errors for row in found.layers)
    table = Table(box=None, pad_edge=False, header_style="bold")
    elements = "elements" if found.of == "activations" else "weights"
    headings = ["tensor" if found.of == "activations" else "layer", "", elements, *map(_heading, found.candidates)]
    for heading in [*headings, *(["+-"] if has_errors else []), "rank", ""]:
        text = heading in ("layer", "tensor", "")
        justify: Any = "left" if text else "right"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading not in ("layer", "tensor"))
    for row in found.layers:
        values = [f"{row.values[label]:.3g}" if label in row.values else "" for label in found.candidates]
        value, error = row.values.get(worst), row.errors.get(worst)
        share = "" if error is None or not value else f"{error / value:.0%}"
        length = round(8 * BAR * value / largest) if value and largest else 0
        bar = "\u2588" * (length // 8) + ("" if length % 8 == 0 else chr(0x2590 - length % 8))
        rank = str(ranks[row.name]) if row.name in ranks else ""
        table.add_row(row.name, row.kind, f"{row.elements:,}", *values, *([share] if has_errors else []), rank, bar)
    return table


def _heading(label: str) -> str:
    return f"{label} bits" if label.isdecimal() else label.replace("rate ", "").replace(" share ", "x share ")


def summary(found: Sensitivity) -> list[str]:
    """What the numbers are, as lines."""
    source = "distilled samples" if found.source == "distilled" else "samples of the data"
    lines = [f"Sensitivity by {found.method}: {found.measure}, on {found.samples} {source} (seed {found.seed})."]
    errors = any(found.worst in row.errors for row in found.layers)
    lines.append(f"Rank{', standard error (+-)' if errors else ''} and bar are those of {_heading(found.worst)}.")
    return [*lines, *(f"- {remark}" for remark in found.remarks)]
