"""Pictures of bit widths: the front with the choice on it, and the bits along the network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.files import replacing

if TYPE_CHECKING:
    from tapdot.passes.assign_bits import Assignment
    from tapdot.passes.pareto_front import Front

SUFFIXES = (".png", ".svg", ".pdf")
PALETTE = ("#c8553d", "#e9b44c", "#2a6f97", "#1b3a4b", "#7a9e7e", "#6d597a")
"""From few bits to many; apart in lightness too, for those who see no colours."""
LINE, GREY = "#3b4a54", "#8a949b"
UNITS = {"size": ("MiB", 2.0**20), "bops": ("GBOPs", 1e9), "latency": ("ms", 1e-3), "instructions": ("million", 1e6)}
TITLES = {"size": "weights", "bops": "bit operations", "latency": "latency", "instructions": "instructions"}
MOST_NAMES = 70
"""Layers named on the axis; of more, the number stands there."""
LONGEST_NAME = 30
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Metadata by which equal pictures are equal files."""


def check_matplotlib(path: Path) -> None:
    """Raises TapdotError where matplotlib is missing, or for a name that ends in no kind of picture."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise TapdotError("Plots need matplotlib; install it with: pip install 'tapdot[examples]'.") from error
    if path.suffix.lower() not in SUFFIXES:
        raise TapdotError(f"Expected a picture's name that ends in {', '.join(SUFFIXES)}, found {path.name!r}.")


def draw_choice(path: Path, fronts: Sequence[Front], chosen: Assignment | None) -> None:
    """Draws a panel for each front, and below them the chosen bits along the network, or every point's where nothing was
    chosen.

    Raises TapdotError where the disk refuses.
    """
    from matplotlib.figure import Figure

    table = fronts[0].points[0].table
    count = len(table.layers)
    width = max(5.2 * len(fronts), min(15.0, 5.5 + 0.16 * count), 7.5)
    names = 0.075 * max(len(_short_name(layer.name)) for layer in table.layers) if count <= MOST_NAMES else 0.2
    figure = Figure(figsize=(width, 7.2 + names), layout="constrained")
    upper, lower = list(figure.subfigures(2, 1, height_ratios=(3.9, 3.3 + names), squeeze=False).flat)
    for front, axes in zip(fronts, upper.subplots(1, len(fronts), squeeze=False)[0], strict=True):
        _draw_front(axes, front, chosen)
    if chosen is not None:
        _draw_bits(lower, chosen)
    else:
        _draw_map(lower, fronts[0])
    upper.suptitle(f"{table.model}: what bits cost, and what they lose", fontsize=12, fontweight="bold", color=LINE)
    suffix = path.suffix.lower().removeprefix(".")
    with replacing(path) as file:
        figure.savefig(
            file,
            format=suffix,
            dpi=160,
            metadata=_UNDATED.get(suffix),
        )


def _labels(table: Any) -> list[str]:
    """Every candidate's label, from few bits to many, labels without bits in the table's order."""
    found = {candidate.label: candidate.bits for layer in table.layers for candidate in layer.candidates}
    return sorted(found, key=lambda label: found[label] or 0)


def _colours(labels: Sequence[str]) -> dict[str, str]:
    picked = (PALETTE[0], PALETTE[2]) if len(labels) == 2 else PALETTE
    return {label: picked[place % len(picked)] for place, label in enumerate(labels)}


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=LINE, labelsize=8)


def _draw_front(axes: Any, front: Front, chosen: Assignment | None) -> None:
    from tapdot.passes.assign_bits import fixed_to
    from tapdot.passes.bit_budgets import amount_text

    kind = front.kind
    unit, factor = UNITS[kind]
    table = front.points[0].table
    points = _with_chosen(front, chosen)
    costs = [point.costs[kind] / factor for point in points]
    losses = [point.sensitivity for point in points]
    axes.plot(costs, losses, color=LINE, linewidth=1.2, drawstyle="steps-post", alpha=0.55, zorder=2)
    axes.scatter(costs, losses, s=16, color=LINE, zorder=3, label="Pareto front")
    labels = _labels(table)
    colours = _colours(labels)
    uniform = [(label, one) for label in labels if (one := fixed_to(table, label)) is not None]
    for label, one in uniform:
        name = f"all at {label} bits" if label in {str(bits) for bits in one.bits.values()} else f"all {label}"
        axes.scatter(one.costs[kind] / factor, one.sensitivity, s=46, marker="D", color=colours[label], zorder=4, label=name)
        losses.append(one.sensitivity)
    if chosen is not None:
        losses.append(chosen.sensitivity)
        axes.scatter(
            chosen.costs[kind] / factor,
            chosen.sensitivity,
            s=170,
            marker="*",
            color="#e07a1f",
            edgecolor="white",
            linewidth=0.8,
            zorder=5,
            label=f"chosen: {amount_text(kind, chosen.costs[kind])}, loses {chosen.sensitivity:.3g}",
        )
        for budget in chosen.budgets:
            if budget.kind == kind:
                axes.axvline(
                    budget.limit(table) / factor,
                    color="#e07a1f",
                    linestyle=":",
                    linewidth=1.2,
                    zorder=1,
                    label=f"budget {budget}",
                )
    if min(losses) > 0 and max(losses) > 20 * min(losses):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    under = f", under {' and '.join(map(str, front.budgets))}" if front.budgets else ""
    axes.set_xlabel(f"{TITLES[kind]} ({unit}){under}", fontsize=9, color=LINE)
    axes.set_ylabel("total sensitivity", fontsize=9, color=LINE)
    axes.grid(color="#e6e9eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(fontsize=7.5, frameon=False)
    _plain(axes)


def _with_chosen(front: Front, chosen: Assignment | None) -> list[Assignment]:
    """The front's points, and the chosen one where it lies between them, so that steps pass through it."""
    if chosen is None:
        return list(front.points)
    kept: list[Assignment] = []
    for point in sorted((*front.points, chosen), key=lambda point: (point.costs[front.kind], point.sensitivity)):
        if not kept or point.sensitivity < kept[-1].sensitivity:
            kept.append(point)
    return kept


def _draw_bits(figure: Any, chosen: Assignment) -> None:
    """A bar a layer as high as its bits, and below it what the layer loses, within what it could."""
    table = chosen.table
    labels = _labels(table)
    colours = _colours(labels)
    bits, loss = figure.subplots(2, 1, sharex=True, height_ratios=(0.8, 1.0))
    places = range(len(table.layers))
    by_bits = len(chosen.bits) == len(table.layers)
    heights = [float(label) if by_bits else labels.index(label) + 1.0 for label in chosen.labels]
    bits.bar(places, heights, color=[colours[label] for label in chosen.labels], width=0.82)
    for group in table.groups:
        for one, other in pairwise(group):
            top = max(heights[one : other + 1]) + 0.06 * max(heights)
            bits.plot([one, one, other, other], [heights[one], top, top, heights[other]], color=GREY, linewidth=0.9)
    bits.set_yticks([float(label) if by_bits else place + 1.0 for place, label in enumerate(labels)], labels=labels)
    bits.set_ylim(0, 1.18 * max(heights))
    bits.set_ylabel("bits" if by_bits else "choice", fontsize=9, color=LINE)
    bits.set_title("chosen, in the network's order (lines join tied layers)", fontsize=9, loc="left", color=LINE)
    most = [max(candidate.sensitivity for candidate in layer.candidates) for layer in table.layers]
    least = [min(candidate.sensitivity for candidate in layer.candidates) for layer in table.layers]
    now = [layer.candidate(label).sensitivity for layer, label in zip(table.layers, chosen.labels, strict=True)]
    positive = [value for value in (*most, *least) if value > 0]
    if positive and max(positive) > 20 * min(positive):
        loss.set_yscale("log")
        floor = min(positive) / 2
        loss.set_ylim(floor / 1.5, 2 * max(positive))
        least = [max(value, floor) for value in least]
        now = [max(value, floor) for value in now]
    loss.vlines(places, least, most, color="#d3d9dd", linewidth=5, zorder=2, capstyle="round")
    loss.scatter(places, now, s=34, color=[colours[label] for label in chosen.labels], zorder=3)
    loss.set_ylabel("sensitivity", fontsize=9, color=LINE)
    loss.set_title(
        "what each layer loses as chosen; grey: from its least to its most sensitive choice", fontsize=9, loc="left", color=LINE
    )
    loss.grid(axis="y", color="#e6e9eb", linewidth=0.7)
    loss.set_axisbelow(True)
    _name_layers(loss, [layer.name for layer in table.layers])
    for axes in (bits, loss):
        _plain(axes)
        axes.margins(x=0.01)


def _draw_map(figure: Any, front: Front) -> None:
    """Rows are points of the front, columns layers."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    from tapdot.passes.bit_budgets import amount_text

    table = front.points[0].table
    labels = _labels(table)
    colours = _colours(labels)
    axes = figure.subplots()
    rows = [[labels.index(label) for label in point.labels] for point in front.points]
    axes.imshow(
        rows,
        aspect="auto",
        interpolation="nearest",
        origin="lower",
        cmap=ListedColormap(list(colours.values())),
        vmin=-0.5,
        vmax=len(labels) - 0.5,
    )
    step = max(1, len(rows) // 8)
    ticks = list(range(0, len(rows), step))
    axes.set_yticks(ticks, labels=[amount_text(front.kind, front.points[tick].costs[front.kind]) for tick in ticks])
    axes.set_title("bits of every layer at every point of the front", fontsize=9, loc="left", color=LINE)
    axes.legend(
        handles=[Patch(color=colours[label], label=label) for label in labels],
        fontsize=7.5,
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(labels),
    )
    _name_layers(axes, [layer.name for layer in table.layers])
    _plain(axes)


def _name_layers(axes: Any, names: Sequence[str]) -> None:
    if len(names) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), labels=map(_short_name, names), rotation=90, fontsize=7)
    else:
        axes.set_xlabel(f"{len(names)} layers, in the table's order", fontsize=9, color=LINE)


def _short_name(name: str) -> str:
    """A long name without its middle."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}…{name[-LONGEST_NAME // 2 + 1 :]}"
