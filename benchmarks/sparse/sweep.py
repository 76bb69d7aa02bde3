"""Rate by share by layer: times, useful work as a share of the machine's limit, and where pruning begins to pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, log
from typing import Any

from benchmarks.sparse.layers import Form, Kernel, Shape
from benchmarks.sparse.timing import Series, interleave, repeated
from tapdot.compiler.errors import TapdotError
from tapdot.kernels.target import Target

LIMITS = {"float": "float32 multiply-add", "int8": "int8 dot"}
"""What each precision is held against, by the names of `benchmarks.limits`."""
SHAPES = (
    Shape(64, 64, 56),
    Shape(128, 128, 28),
    Shape(256, 256, 14),
    Shape(512, 512, 7),
    Shape(256, 256, 56),
    Shape(64, 128, 56, 2),
    Shape(256, 1024, 14, 1, 1),
)
RATES = (2.25, 3.0, 4.4, 6.0, 8.1, 12.0)
SHARES = (1, 2, 4)
PATTERNS_ONLY = 2.25


@dataclass
class Point:
    """One form of one layer, timed."""

    kernel: Kernel
    series: Series
    share_of_limit: float = 0.0
    speedup: float = 1.0
    """Times faster than our dense kernel."""

    def json(self) -> dict[str, Any]:
        """Plain data."""
        form, shape = self.kernel.form, self.kernel.shape
        low, high = self.series.quartiles
        return {
            "layer": shape.title,
            "rate": form.rate if form.share else 1.0,
            "rate_of_weights": self.kernel.rate,
            "share": form.share,
            "family": self.kernel.family.name,
            "config": dict(self.kernel.config),
            "microseconds": self.series.median * 1e6,
            "quartiles_us": [low * 1e6, high * 1e6],
            "useful_macs": self.kernel.macs,
            "share_of_limit": self.share_of_limit,
            "speedup": self.speedup,
        }


@dataclass
class LayerResult:
    """All forms of a layer, the dense one first."""

    shape: Shape
    precision: str
    limit: float
    """Multiply-adds a second."""
    points: list[Point]
    absent: dict[str, str] = field(default_factory=dict)
    """Forms that could not be made, and why."""

    def break_even(self, share: int) -> float | None:
        """The rate from which a share is faster than dense; infinite where no rate was.

        Between two rates of the sweep, a line through the logarithms; None where the share was not measured.
        """
        found = sorted((point.kernel.form.rate, point.speedup) for point in self.points if point.kernel.form.share == share)
        return break_even(found)

    def json(self) -> dict[str, Any]:
        """Plain data."""
        shares = sorted({point.kernel.form.share for point in self.points} - {0})
        return {
            "layer": self.shape.title,
            "precision": self.precision,
            "limit_macs_per_second": self.limit,
            "points": [point.json() for point in self.points],
            "break_even": {str(share): self.break_even(share) for share in shares},
            "absent": self.absent,
        }


def break_even(rates: Sequence[tuple[float, float]]) -> float | None:
    """From (rate, speedup) by rising rate: where the speedup reaches 1. The first rate where that is fast enough already."""
    if not rates:
        return None
    if rates[0][1] >= 1:
        return rates[0][0]
    for (rate, speedup), (next_rate, next_speedup) in pairwise(rates):
        if next_speedup >= 1:
            part = -log(speedup) / (log(next_speedup) - log(speedup))
            return exp(log(rate) + part * (log(next_rate) - log(rate)))
    return float("inf")


def forms(shape: Shape, rates: Sequence[float], shares: Sequence[int]) -> list[Form]:
    """The dense form, and every rate at every share; 1x1 layers have no patterns, so any rate above 1 is fine."""
    return [Form(), *(Form(rate, share) for share in shares for rate in rates if shape.kernel == 1 or rate >= PATTERNS_ONLY)]


def measure_layer(
    shape: Shape,
    chosen: Sequence[Form],
    precision: str,
    target: Target,
    rounds: int,
    limit: tuple[Callable[[], object], int],
    report: Callable[[str], object] = lambda line: None,
) -> LayerResult:
    """Every form checked against the reference, then all timed in turns; ``limit`` is a loop and the work that it does."""
    points: list[Point] = []
    absent: dict[str, str] = {}
    for form in chosen:
        report(f"{shape.title}, {precision}: {form.title}")
        try:
            kernel = Kernel.of(shape, form, precision, target)
        except TapdotError as error:
            absent[form.title] = str(error)
            continue
        prepared = kernel.prepare()
        kernel.check(prepared)
        points.append(Point(kernel, Series(form.title, prepared.timer)))
    run, work = limit
    machine = Series("limit", repeated(run))
    interleave([machine, *(point.series for point in points)], rounds)
    rate = work / machine.median
    dense = next((point for point in points if not point.kernel.form.share), None)
    for point in points:
        point.share_of_limit = point.kernel.macs / point.series.median / rate
        point.speedup = 1 / point.series.ratio_to(dense.series) if dense is not None else float("nan")
    return LayerResult(shape, precision, rate, points, absent)
