"""What the benchmarks of bits print for people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks import zoo
from benchmarks.bits import accuracy, latency, stability, zero_shot
from benchmarks.miniatures.evaluation import Difference
from benchmarks.miniatures.trained import MINIATURES
from tapdot.passes.bit_budgets import amount_text


def table(title: str, headings: Sequence[str]) -> Table:
    """An empty one."""
    made = Table(title=title, title_justify="left")
    for heading in headings:
        made.add_column(heading)
    return made


def met(yes: bool) -> str:
    """Whether a demand is met."""
    return "met" if yes else "NOT met"


def verdict(difference: Difference, least: float) -> str:
    """Whether a difference is as large as asked for, and where it is not, whether chance could be the reason."""
    return met(difference.mean >= least) + (", within noise" if difference.mean < least <= difference.high else "")


def accuracy_tables(results: Sequence[accuracy.Result]) -> Group:
    """Accuracies, then differences with what is asked for, then the choices."""
    settings = results[0].settings
    images = results[0].answers(accuracy.FLOAT).shape[1]
    share = f"{100 * settings.share:g} % of the way from all 4 to all 8"
    rates = table(
        f"Top-1 on {images:,} test images, mean of seeds; activations have 8 bits, weights at {share} in size",
        ("network", "weights' bits", "top-1", "of each seed"),
    )
    differences = table("Paired differences in points, 95 % intervals", ("network", "", "points", "asked for", ""))
    lines: list[Text] = []
    for result in results:
        name = MINIATURES[result.network].title
        rows = [(title, result.answers(title).mean(1)) for title in result.titles]
        random = result.random_accuracies()
        if all(random):
            counts = "/".join(map(str, dict.fromkeys(map(len, random))))
            ways = ((f"best of {counts} random", max), ("mean of them", statistics.fmean), ("worst of them", min))
            rows[4:4] = [(title, np.array([pick(one) for one in random])) for title, pick in ways]
        for place, (title, values) in enumerate(rows):
            seeds = ", ".join(f"{value:.2%}" for value in values)
            cells = (name if place == 0 else "", title, f"{np.mean(values):.2%}", seeds)
            rates.add_row(*cells, end_section=place == len(rows) - 1)
        pairs = result.pairs()
        for place, (ours, theirs, least) in enumerate(pairs):
            difference = result.difference(ours, theirs)
            compared = f"{ours} - {theirs.replace(accuracy.RANDOM, 'best random')}"
            asked = ("", "") if least is None else (f"{least:+.1f} or more", verdict(difference, least))
            differences.add_row(
                name if place == 0 else "", compared, str(difference), *asked, end_section=place == len(pairs) - 1
            )
        for seed, one in zip(result.seeds, result.found, strict=True):
            sizes = f"{amount_text('size', one.size)} of {amount_text('size', one.limit)}"
            lines.append(Text(f"{name}, seed {seed}: {one.bits} by {settings.sensitivity}, {sizes}"))
    return Group(rates, differences, *lines)


def latency_tables(results: Sequence[latency.Latencies]) -> Group:
    """Every assignment, then what is asked for."""
    parts: list[Table | Text] = []
    for result in results:
        title = f"{zoo.find(result.network).title} on {result.device}, {result.rounds} rounds in turns"
        one = table(title, ("bits", "predicted, ms", "measured, ms", "error"))
        for bits, ours, theirs, error in zip(result.bits, result.predicted, result.measured, result.errors, strict=True):
            one.add_row(bits, f"{ours * 1e3:.3f}", f"{theirs * 1e3:.3f}", f"{error:+.1%}")
        errors = statistics.median(map(abs, result.errors))
        parts += [
            one,
            Text(f"Errors: median {errors:.1%}, worst {result.worst:+.1%}: {met(abs(result.worst) <= latency.ASKED_ERROR)}"),
            Text(f"Kendall's tau of the orders: {result.tau:.2f}: {met(result.tau >= latency.ASKED_TAU)}"),
            Text(_beyond_noise(result)),
            *map(Text, result.remarks),
        ]
    return Group(*parts)


def _beyond_noise(result: latency.Latencies) -> str:
    """What the order of those is worth that can be told apart."""
    pairs = math.comb(len(result.bits), 2)
    if not result.differing:
        return f"None of the {pairs} pairs differs beyond the noise of these rounds."
    return f"Over the {len(result.differing)} of {pairs} pairs that differ beyond the noise: {result.tau_beyond_noise:.2f}"


def stability_table(results: Sequence[stability.Stability], seeds: Sequence[int]) -> Table:
    """One row a network, method and candidate."""
    made = table(
        f"Kendall's tau between the orders of layers that {len(seeds)} seeds give; {stability.ASKED} or more is asked for",
        ("network", "method", "bits", "layers", "samples", "least", "mean", ""),
    )
    for one in results:
        name = f"{MINIATURES[one.network].title}, seed {one.trained_seed}"
        figures = (str(one.layers), str(one.samples), f"{one.least:.2f}", f"{one.mean:.2f}")
        made.add_row(name, one.method, one.candidate, *figures, met(one.least >= stability.ASKED))
    return made


def zero_shot_tables(results: Sequence[zero_shot.ZeroShot]) -> Group:
    """Seconds of the parts, and the front's ends."""
    parts: list[Table | Text] = []
    for result in results:
        made = table(f"{zoo.find(result.network).title}, bits without data on {result.threads} threads", ("part", "seconds"))
        for name, seconds in result.seconds.items():
            made.add_row(name, f"{seconds:.1f}")
        made.add_row("together", f"{result.total:.1f}")
        assert result.front is not None
        first, last = result.front.points[0], result.front.points[-1]
        parts += [
            made,
            Text(
                f"{result.layers} layers by {result.method} on {result.samples} of {result.distilled} distilled samples; "
                f"a front of {len(result.front.points)} choices, {amount_text('size', first.costs['size'])} to "
                f"{amount_text('size', last.costs['size'])}."
            ),
            Text(f"Under {zero_shot.ASKED:.0f} s: {met(result.total < zero_shot.ASKED)}."),
        ]
    return Group(*parts)
