"""A picture of sensitivities along a network: what each candidate loses, and where that and the weights lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapdot.cli.bits_plot import GREY, LINE, MOST_NAMES, PALETTE
from tapdot.compiler.files import replacing

if TYPE_CHECKING:
    from tapdot.passes.sensitivity import Sensitivity

PALE = "#d5dbdf"


def draw_sensitivity(path: Path, found: Sensitivity) -> None:
    """Draws it into a file, as its suffix says; raises TapdotError where the disk refuses."""
    from matplotlib.figure import Figure

    count = len(found.layers)
    width = max(7.5, min(16.0, 4.0 + 0.17 * count))
    figure = Figure(figsize=(width, 7.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.5, 1.0))
    _draw_values(upper, found)
    _draw_shares(lower, found)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=LINE, labelsize=8)
        axes.set_xlim(-0.7, count - 0.3)
        axes.grid(axis="y", color="#e6e9eb", linewidth=0.7)
        axes.set_axisbelow(True)
    names = [row.name for row in found.layers]
    if count <= MOST_NAMES:
        lower.set_xticks(range(count), labels=names, rotation=90, fontsize=7)
    else:
        lower.set_xlabel(f"{count} {'tensors' if found.of == 'activations' else 'layers'}, in the network's order", fontsize=9)
    what = "tensor's codes" if found.of == "activations" else "layer's weights"
    figure.suptitle(f"{found.model}: sensitivity of each {what}", fontsize=12, fontweight="bold", color=LINE)
    suffix = path.suffix.lower().removeprefix(".")
    with replacing(path) as file:
        metadata: dict[str, Any] = {} if suffix == "png" else {"Date" if suffix == "svg" else "CreationDate": None}
        figure.savefig(file, format=suffix, dpi=160, metadata=metadata)


def _name(label: str) -> str:
    return f"{label} bits" if label.isdecimal() else label.replace("rate ", "").replace(" share ", "x sparse, share ")


def _colours(found: Sensitivity) -> dict[str, str]:
    """Warm for what loses much, cold for what loses little."""
    totals = {label: sum(row.values.get(label, 0.0) for row in found.layers) for label in found.candidates}
    order = sorted(totals, key=lambda label: -totals[label])
    picked = (PALETTE[0], PALETTE[2]) if len(order) == 2 else PALETTE
    return {label: picked[place % len(picked)] for place, label in enumerate(order)}


def _draw_values(axes: Any, found: Sensitivity) -> None:
    """A dot a candidate with its standard error, on a logarithmic axis, joined layer by layer."""
    colours = _colours(found)
    positive = [value for row in found.layers for value in row.values.values() if value > 0]
    for place, row in enumerate(found.layers):
        values = [value for value in row.values.values() if value > 0]
        if len(values) > 1:
            axes.plot([place, place], [min(values), max(values)], color=PALE, linewidth=2.2, zorder=1, solid_capstyle="round")
    for label, colour in colours.items():
        rows = [(place, row) for place, row in enumerate(found.layers) if row.values.get(label, 0) > 0]
        places, values = [place for place, _ in rows], [row.values[label] for _, row in rows]
        # Downwards no further than half way to zero, which a logarithmic axis does not have.
        errors = [row.errors.get(label, 0.0) for _, row in rows]
        below = [min(error, value / 2) for error, value in zip(errors, values, strict=True)]
        axes.errorbar(places, values, yerr=[below, errors], fmt="none", ecolor=colour, elinewidth=1.0, alpha=0.6, zorder=2)
        axes.scatter(places, values, s=30, color=colour, edgecolor="white", linewidth=0.6, zorder=3, label=_name(label))
    if positive and max(positive) > 20 * min(positive):
        axes.set_yscale("log")
    axes.set_ylabel("sensitivity", fontsize=9, color=LINE)
    source = "distilled samples" if found.source == "distilled" else "samples"
    axes.set_title(f"by {found.method}: {found.measure}, {found.samples} {source}", fontsize=9, loc="left", color=LINE)
    axes.legend(
        fontsize=7.5, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(colours), borderaxespad=0.2,
        handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip


def _draw_shares(axes: Any, found: Sensitivity) -> None:
    """Where the sensitivity lies beside where the weights do: much of the one and little of the other wants many bits."""
    worst = found.worst
    total = sum(row.values.get(worst, 0.0) for row in found.layers) or 1.0
    elements = sum(row.elements for row in found.layers) or 1
    places = range(len(found.layers))
    shares = [100 * row.values.get(worst, 0.0) / total for row in found.layers]
    what = "elements" if found.of == "activations" else "weights"
    axes.bar(
        [place + 0.2 for place in places], [100 * row.elements / elements for row in found.layers], 0.4, color=PALE, label=what
    )
    axes.bar([place - 0.2 for place in places], shares, 0.4, color=_colours(found)[worst], label=f"sensitivity at {_name(worst)}")
    axes.set_ylabel("share (%)", fontsize=9, color=LINE)
    axes.set_title(f"where sensitivity lies, and where {what} do", fontsize=9, loc="left", color=LINE)
    axes.legend(
        fontsize=7.5, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2,
        handletextpad=0.5, columnspacing=1.2,
    )  # fmt: skip
