"""Sparse measurements as Markdown, and as pictures where a folder is given for them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf
from pathlib import Path
from typing import Any

from benchmarks.sparse.ablation import Step
from benchmarks.sparse.accuracy import HOW, Accuracies
from benchmarks.sparse.networks import NetworkResult
from benchmarks.sparse.sweep import LIMITS, LayerResult


def layers_table(results: Sequence[LayerResult], accuracies: Accuracies) -> str:
    """One table a layer: dense first, then every share and rate, with what the same rate and share cost in accuracy."""
    lines: list[str] = []
    for result in results:
        limit = f"{LIMITS[result.precision]}, {result.limit / 1e9:.0f} GMAC/s"
        lines += [
            f"### {result.shape.title}, {result.precision}; limit: {limit}",
            "",
            "| form | us | middle half | useful MACs, share of limit | times our dense | accuracy, points |",
            "|---|---|---|---|---|---|",
        ]
        for point in result.points:
            form, (low, high) = point.kernel.form, point.series.quartiles
            cost = accuracies.text(form.rate, form.share) if form.share else ""
            lines.append(
                f"| {form.title} | {point.series.median * 1e6:.1f} | {low * 1e6:.1f} to {high * 1e6:.1f} "
                f"| {point.share_of_limit:.0%} | {point.speedup:.2f} | {cost} |"
            )
        lines += ["", break_even_line(result), *(f"- {title}: {why}" for title, why in result.absent.items()), ""]
    return "\n".join([*lines, *accuracy_note(accuracies)])


def break_even_line(result: LayerResult) -> str:
    """From which rate each share is faster than dense."""
    told = []
    for share in sorted({point.kernel.form.share for point in result.points} - {0}):
        rate = result.break_even(share)
        lowest = min(point.kernel.form.rate for point in result.points if point.kernel.form.share == share)
        if rate is None or isinf(rate):
            told.append(f"share {share}: at no rate measured")
        else:
            told.append(f"share {share}: {'already ' if rate <= lowest else ''}at {rate:.2f}x")
    return f"Faster than our dense kernel: {'; '.join(told)}."


def ablation_table(results: dict[str, list[Step]], precision: str, rate: float) -> str:
    """One row a step, one column a layer: share of the limit, and times the first step."""
    layers = list(results)
    titles = list(dict.fromkeys(step.title for steps in results.values() for step in steps))
    lines = [
        f"### What each idea adds, {precision}, {rate:g}x: useful MACs as a share of the limit (times the first step)",
        "",
        "| | " + " | ".join(layers) + " |",
        "|---" * (len(layers) + 1) + "|",
    ]
    for title in titles:
        cells = []
        for layer in layers:
            steps = results[layer]
            step = next(step for step in steps if step.title == title)
            cells.append(f"{step.share_of_limit:.0%} ({1 / step.series.ratio_to(steps[0].series):.2f})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def networks_table(results: Sequence[NetworkResult], accuracies: Accuracies) -> str:
    """One table a network; ratios say how many times faster than the best other engine a row is."""
    lines: list[str] = []
    for result in results:
        rates = []
        if result.rates.rate > 1:
            rates.append(f"3x3 layers {result.rates.rate:g}x")
        if result.rates.quad_rate > 1:
            rates.append(f"1x1 and fully connected layers {result.rates.quad_rate:g}x")
        lines += [f"### {result.title}: {', '.join(rates)}; {result.rates.allocation} allocation", ""]
        lines += ["| | ms | middle half | best | times faster than best int8 peer | than best float peer | accuracy, points |"]
        lines += ["|---|---|---|---|---|---|---|"]
        peers = {precision: result.best_peer(precision) for precision in ("int8", "float")}
        for one, timing in result.timings.items():
            low, high = timing.quartiles
            ratios = ["-" if peer is None else f"{peer[1].ratio_to(timing):.2f}" for peer in peers.values()]
            rate = max(result.rates.rate, result.rates.quad_rate)
            cost = accuracies.text(rate, one.pruned.share) if one.pruned is not None and not one.pruned.dense else ""
            lines.append(
                f"| {one.title} | {timing.median * 1e3:.2f} | {low * 1e3:.2f} to {high * 1e3:.2f} | {timing.best * 1e3:.2f} "
                f"| {' | '.join(ratios)} | {cost} |"
            )
        lines += ["", *(f"- {one.title}: {why}" for one, why in result.absent.items()), ""]
    return "\n".join([*lines, *accuracy_note(accuracies)])


def accuracy_note(accuracies: Accuracies) -> list[str]:
    """What the last column is, or how to fill it."""
    if accuracies.rows:
        allocations = " and ".join(sorted({str(row.get("allocation", "energy")) for row in accuracies.rows}))
        return [
            f"Accuracy: miniature networks as integers, pruned by ADMM at the same rate and share ({allocations} allocation), "
            "against dense ones trained as long; differences in points.",
        ]
    return [f"Accuracy at the same rates and shares: `{HOW}`, then `--accuracy accuracy.json`."]


def draw_layers(results: Sequence[LayerResult], folder: Path) -> list[Path]:
    """Two pictures: times our dense kernel over the rate, and useful work as a share of the limit."""
    return [
        _draw(results, folder / "speedup.png", "speedup", "times our dense kernel", 1.0),
        _draw(results, folder / "share_of_limit.png", "share_of_limit", "useful MACs, share of the limit", None),
    ]


def _draw(results: Sequence[LayerResult], path: Path, value: str, title: str, line: float | None) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(3.4 * columns, 2.8 * rows), squeeze=False, sharex=True)
    for axis, result in zip(axes.flat, results, strict=False):
        for share in sorted({point.kernel.form.share for point in result.points} - {0}):
            points = sorted((p.kernel.form.rate, getattr(p, value)) for p in result.points if p.kernel.form.share == share)
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"share {share}")
        if line is not None:
            axis.axhline(line, color="grey", linewidth=0.8)
        axis.set_title(f"{result.shape.title}, {result.precision}", fontsize=9)
        axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_xticks([2, 4, 8, 12], labels=["2", "4", "8", "12"])
        axis.minorticks_off()
    for axis in list(axes.flat)[len(results) :]:
        axis.set_visible(False)
    axes[0][0].legend(fontsize=8)
    figure.supxlabel("weights before over weights kept")
    figure.supylabel(title)
    figure.tight_layout()
    return _saved(figure, path)


def draw_networks(results: Sequence[NetworkResult], folder: Path) -> list[Path]:
    """Times of every contender, a group of bars a network."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(4.5 * len(results), 4.5), squeeze=False)
    for axis, result in zip(axes.flat, results, strict=True):
        ordered = sorted(result.timings.items(), key=lambda pair: -pair[1].median)
        colours = ["tab:blue" if one.engine == "tapdot" else "tab:grey" for one, _ in ordered]
        axis.barh([one.title for one, _ in ordered], [timing.median * 1e3 for _, timing in ordered], color=colours)
        axis.set_title(result.title, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("ms")
    figure.tight_layout()
    return [_saved(figure, folder / "networks.png")]


def _saved(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)
    return path
