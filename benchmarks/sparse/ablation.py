"""What each idea adds to a pruned layer, one after the other.

``none``: filters in their own order, share 1, and the smallest tile: what is loaded serves one vector of positions. Then filters
in FKR's order; then tiles in which loads serve many positions (PatDNN's load redundancy elimination, at the level of kernels);
then shares, whose filters use one gather together (at the level of filters); at last the configuration that measures fastest.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.sparse.layers import Form, Kernel, Prepared, Shape
from benchmarks.sparse.timing import Series, interleave, repeated
from tapdot.kernels.family import Config
from tapdot.kernels.target import Target

MOST_CONFIGURATIONS = 24
"""That are tried where a space is large."""
SMALLEST = {"blocks": 1, "strip": 1, "rows": 1, "vectors": 1, "columns": 0, "packed": 0}
"""Of the fields of a configuration, the value that shares least; ``columns`` only where it is a switch."""


@dataclass
class Step:
    """One step: its kernel, and how it did."""

    title: str
    kernel: Kernel
    series: Series
    share_of_limit: float = 0.0

    def json(self, first: Step) -> dict[str, Any]:
        """Plain data; ``gain`` is against the first step."""
        return {
            "step": self.title,
            "layer": self.kernel.shape.title,
            "share": self.kernel.form.share,
            "config": dict(self.kernel.config),
            "microseconds": self.series.median * 1e6,
            "share_of_limit": self.share_of_limit,
            "gain": 1 / self.series.ratio_to(first.series),
        }


def smallest(kernel: Kernel) -> Config:
    """The configuration in which loads serve least; every field keeps to what the family allows."""
    space = kernel.family.space(kernel.workload, kernel.target)
    config = dict(kernel.config)
    for field, value in SMALLEST.items():
        if field in config and value in space.get(field, ()):
            config[field] = value
    return config


def configurations(kernel: Kernel, most: int, seed: int = 0) -> Iterator[Config]:
    """The default, its neighbours in one field, then others at random."""
    space = {field: list(values) for field, values in kernel.family.space(kernel.workload, kernel.target).items()}
    default = dict(kernel.config)
    near = [{**default, field: value} for field, values in space.items() for value in values if field in default]
    everything = list(itertools.islice(itertools.product(*space.values()), 4096))
    others = [{**default, **dict(zip(space, values, strict=True))} for values in everything]
    random.Random(seed).shuffle(others)
    seen: list[Config] = []
    for config in itertools.chain([default], near, others):
        if config not in seen and len(seen) < most:
            seen.append(config)
            yield config


def ready(kernel: Kernel) -> Prepared:
    """The kernel's code, after its answer was found right."""
    prepared = kernel.prepare()
    kernel.check(prepared)
    return prepared


def tuned(kernel: Kernel, report: Callable[[str], object]) -> Kernel:
    """The kernel in the configuration that is fastest here; ones that cannot be built are passed over."""
    tried: list[tuple[Kernel, Series]] = []
    for config in configurations(kernel, MOST_CONFIGURATIONS):
        candidate = replace(kernel, config=config)
        try:
            tried.append((candidate, Series(str(config), ready(candidate).timer)))
        except (AssertionError, KeyError, ValueError, RuntimeError) as error:
            report(f"  {config}: {error}")
    interleave([series for _, series in tried], 3)
    return min(tried, key=lambda pair: min(pair[1].seconds))[0]


def measure_ablation(
    shape: Shape,
    rate: float,
    shares: Sequence[int],
    precision: str,
    target: Target,
    rounds: int,
    limit: tuple[Callable[[], object], int],
    report: Callable[[str], object] = lambda line: None,
) -> list[Step]:
    """All steps, timed in turns."""

    def kernel(share: int, reorder: bool = True) -> Kernel:
        return Kernel.of(shape, Form(rate, share, reorder), precision, target)

    report(f"{shape.title}, {precision}: building")
    natural, ordered = kernel(1, reorder=False), kernel(1)
    made = [
        ("none", replace(natural, config=smallest(natural))),
        ("+ reorder", replace(ordered, config=smallest(ordered))),
        ("+ redundancy elimination", ordered),
    ]
    for share in shares:
        if share > 1:
            made.append((f"+ share {share}", kernel(share)))
    report(f"{shape.title}, {precision}: tuning")
    made.append(("+ tuned configuration", tuned(made[-1][1], report)))
    steps = [Step(title, one, Series(title, ready(one).timer)) for title, one in made]
    run, work = limit
    machine = Series("limit", repeated(run))
    interleave([machine, *(step.series for step in steps)], rounds)
    for step in steps:
        step.share_of_limit = step.kernel.macs / step.series.median / (work / machine.median)
    return steps
