"""Choosing bits for a model: the options that `tapdot pareto MODEL` and `tapdot compile --recipe mixed` share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapdot.cli.progress import Lines, progress
from tapdot.passes.recipe_names import SENSITIVITY_METHODS, ContradictionError, check_sensitivity

if TYPE_CHECKING:
    from tapdot.compiler.images import ImagePreparation
    from tapdot.passes.assign_bits import Assignment
    from tapdot.passes.bit_budgets import Budget
    from tapdot.passes.bit_candidates import BitChoices
    from tapdot.passes.bit_widths import BitWidths

ACTIVATION_NAMES = ("fixed", "same", "own")
TIMED = ("latency", "instructions")
"""Kinds of cost that are measured on a device."""
SECONDS = 60.0
"""For one integer program, unless told otherwise."""
WIDTHS, ACTIVATIONS, SENSITIVITY = "8,4", "fixed", "kl"
"""Unless told otherwise."""

WidthsOption = Annotated[str, typer.Option("--widths", metavar="B,B", help="Bits to choose from, for a model: 8, 4, 2.")]
ActivationsOption = Annotated[
    str,
    typer.Option(
        "--activations",
        metavar="HOW",
        help="fixed: activations have 8 bits; same: those of the layer that reads them; own: chosen too.",
    ),
]
SensitivityOption = Annotated[
    str,
    typer.Option("--sensitivity", metavar="NAME", help=f"How what bits lose is measured: {', '.join(SENSITIVITY_METHODS)}."),
]
MeasuredOption = Annotated[
    str | None,
    typer.Option("--device", metavar="DEVICE", help="Measures what layers take there; host, where a budget asks for it."),
]


def read_widths(text: str) -> tuple[int, ...]:
    """``"8,4"``; other text is wrong usage."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part in ("2", "4", "8") for part in parts) or len(set(parts)) != len(parts):
        raise typer.BadParameter(f"expected some of 8, 4 and 2 with commas between them, found {text!r}", param_hint="--widths")
    return tuple(map(int, parts))


def check_choice(activations: str, sensitivity: str) -> None:
    """Names that are none are wrong usage."""
    if activations not in ACTIVATION_NAMES:
        raise typer.BadParameter(f"expected {', '.join(ACTIVATION_NAMES)}, found {activations!r}", param_hint="--activations")
    if sensitivity not in SENSITIVITY_METHODS:
        raise typer.BadParameter(f"expected {', '.join(SENSITIVITY_METHODS)}, found {sensitivity!r}", param_hint="--sensitivity")
    try:
        check_sensitivity(activations, sensitivity)
    except ContradictionError as error:
        raise typer.BadParameter(str(error), param_hint="--sensitivity") from error


def refuse_idle(because: str, **given: object) -> None:
    """Options that would change nothing are wrong usage. ``given`` are values by the options' names, false where not given."""
    for name, value in given.items():
        if value:
            raise typer.BadParameter(because, param_hint=f"--{name.replace('_', '-')}")


def choosing_options(widths: str, activations: str, sensitivity: str, device: str | None) -> dict[str, object]:
    """Those that say how the bits of a model are chosen, for :func:`refuse_idle`."""
    return {
        "widths": widths != WIDTHS,
        "activations": activations != ACTIVATIONS,
        "sensitivity": sensitivity != SENSITIVITY,
        "device": device,
    }


def fixed_bits(fixed: Mapping[str, str]) -> dict[str, int]:
    """What ``--fix`` says, for layers of a model."""
    for name, label in fixed.items():
        if label not in ("2", "4", "8"):
            raise typer.BadParameter(f"expected 8, 4 or 2 bits for {name}, found {label!r}", param_hint="--fix")
    return {name: int(label) for name, label in fixed.items()}


def choices_of_model(
    model: Path,
    data: object,
    zero_shot: bool,
    *,
    widths: Sequence[int],
    activations: str,
    sensitivity: str,
    fixed: Mapping[str, int],
    device: str | None,
    target: str | None,
    budgets: Sequence[Budget],
    kind: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    settings: Sequence[str] = (),
) -> BitChoices:
    """What can be chosen, with progress on stderr; layers are measured where a device is named or a budget is in its terms."""
    title = f"Bits of {model.name}"
    kinds = [budget.kind for budget in budgets] + ([] if kind is None else [kind])
    if device is None and not set(kinds).isdisjoint(TIMED):
        device = "host"
    with progress.status(title) as status:
        import tapdot

        found: Any = tapdot.bit_choices(
            model,
            data=data,
            zero_shot=zero_shot,
            device=device,
            target=target,
            bits=widths,
            activations=activations,
            method=sensitivity,
            fixed=fixed,
            kinds=kinds,
            shapes=shapes,
            settings=settings,
            progress=Lines(lambda line: status.update(f"{title}: {line}")),
        )
    return found  # type: ignore[no-any-return]


def choose_for_model(
    model: Path,
    data: Path | None,
    images: ImagePreparation | None,
    zero_shot: bool,
    *,
    budgets: Sequence[Budget],
    **options: Any,
) -> BitWidths:
    """The best bits within the budgets; what was chosen and what it should cost is printed to stderr."""
    from tapdot.compiler.data import open_data
    from tapdot.passes.assign_bits import assign

    opened = None if data is None else open_data(data, images=images)
    choices = choices_of_model(model, opened, zero_shot, budgets=budgets, **options)
    chosen = assign(choices.table, budgets, time_limit=SECONDS)
    for line in (*choices.notes, *told(choices, chosen)):
        progress.print(line, markup=False, soft_wrap=True)
    return choices.widths(chosen)


def told(choices: BitChoices, chosen: Assignment) -> Iterator[str]:
    """What was chosen, in a line each for the bits, every kind of cost and the sensitivity, and :func:`prediction`'s."""
    from tapdot.passes.bit_budgets import amount_text

    budgets = {budget.kind: budget for budget in chosen.budgets}
    yield f"Bits, layer by layer: {chosen.text}"
    for kind in chosen.table.kinds:
        low, high = (amount_text(kind, end) for end in chosen.table.limits(kind))
        asked = f", asked for {budgets[kind]}" if kind in budgets else ""
        yield f"{kind}: {amount_text(kind, chosen.costs[kind])}, between {low} and {high}{asked}"
    yield f"sensitivity: {chosen.sensitivity:.6g}, {standing(chosen)}"
    yield from prediction(choices, chosen)


def standing(chosen: Assignment) -> str:
    """How good the choice is known to be."""
    if chosen.method == "dp":
        return "by the dynamic program, with costs rounded up to 1/10,000 of their span"
    return "the least possible" if not chosen.gap else f"at most {chosen.gap:.3g} above the least possible (time ran out)"


def prediction(choices: BitChoices, chosen: Assignment) -> Iterator[str]:
    """What the whole network should take, in a line, where its layers were measured."""
    from tapdot.passes.bit_budgets import amount_text

    if (predicted := choices.predicted(chosen)) is not None and choices.figures is not None:
        yield f"Predicted for the whole network on {choices.figures.device}: {amount_text(choices.figures.kind, predicted)}"
