"""The Pareto front of bit widths: choices such that none costs less and loses less.

The integer program is solved for budgets at even distances between the cheapest choice and the dearest (ZeroQ, Cai et al., CVPR
2020, draws its frontier likewise, by its dynamic program). A choice that leaves room is the answer to every budget down to its
own cost, and is not asked for again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.passes.assign_bits import TIE, Assignment, assign_choices
from tapdot.passes.assign_bits_by_dp import frontier
from tapdot.passes.bit_budgets import TOLERANCE, Budget, BudgetError
from tapdot.passes.bit_choices import Choices
from tapdot.passes.bit_table import BitTable

METHODS = ("ilp", "dp")
POINTS = 33


@dataclass(frozen=True)
class Front:
    """Choices none of which is better than another in both cost and sensitivity."""

    kind: str
    points: tuple[Assignment, ...]
    """By rising cost and falling sensitivity."""
    budgets: tuple[Budget, ...] = ()
    """Of other kinds, which all of them meet."""
    missed: int = 0
    """Budgets at which the time ran out before any choice was found."""

    @property
    def unproved(self) -> int:
        """Points that may not be the best of their cost: the time ran out."""
        return sum(1 for point in self.points if point.gap)

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": self.kind,
            "budgets": [str(budget) for budget in self.budgets],
            "missed": self.missed,
            "points": [
                {
                    "bits": point.text,
                    "sensitivity": point.sensitivity,
                    "costs": dict(point.costs),
                    "share": point.share(self.kind),
                    "gap": point.gap,
                }
                for point in self.points
            ],
        }


def pareto_front(
    table: BitTable,
    kind: str,
    budgets: Sequence[Budget] = (),
    *,
    points: int = POINTS,
    method: str = "ilp",
    time_limit: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Front:
    """The front in one kind of cost at ``points`` even budgets, fewer where choices repeat or none meets a budget.

    ``budgets`` are of other kinds and hold at every point (``ilp`` only); ``time_limit`` (seconds) is for each point; where it
    ends before a choice is found, the next budget is looked at. Raises BudgetError where the table has no such cost, where no
    choice meets ``budgets``, and where the time was not enough for any point.
    """
    if method not in METHODS:
        raise BudgetError(f"Expected one of the methods {', '.join(METHODS)}, found {method!r}.")
    if points < 2:
        raise BudgetError(f"Expected a front of 2 points or more, found {points}.")
    others = tuple(budget for budget in budgets if budget.kind != kind)
    if others and method == "dp":
        raise BudgetError(
            "The dynamic program knows one kind of cost; a front under budgets of other kinds needs the integer program (ilp)."
        )
    Budget(kind, share=1.0).limit(table)
    choices = Choices.of(table)
    costs = choices.costs[kind]
    least = math.fsum(choices.least(costs))
    greatest = least + math.fsum(np.maximum.reduceat(choices.above_least(costs), choices.starts[:-1]))
    ready = frontier(table, kind) if method == "dp" else None
    found: list[Assignment] = []
    missed: list[BudgetError] = []
    for done, limit in enumerate(np.linspace(greatest, least, points)):
        progress(done, points)
        if found and found[-1].costs[kind] <= limit:
            continue
        budget = Budget(kind, amount=float(limit))
        try:
            if ready is not None:
                found.append(ready.assignment(budget))
            else:
                found.append(assign_choices(choices, (budget, *others), time_limit=time_limit, prefer=(kind,)))
        except BudgetError as error:
            if isinstance(error.__cause__, TimeoutError):
                missed.append(error)
                continue
            if not found and not missed:
                raise
            break  # nor does a tighter one
    progress(points, points)
    if not found:
        raise missed[0]
    return Front(kind, _not_dominated(found, kind, choices), others, len(missed))


def _not_dominated(found: Sequence[Assignment], kind: str, choices: Choices) -> tuple[Assignment, ...]:
    """By rising cost; of those that cost the same or lose the same, one."""
    loss = TIE * choices.span(choices.sensitivity)
    cost = TOLERANCE * choices.span(choices.costs[kind])
    kept: list[Assignment] = []
    for point in sorted(found, key=lambda point: (point.costs[kind], point.sensitivity)):
        if kept and point.sensitivity >= kept[-1].sensitivity - loss:
            continue
        if kept and point.costs[kind] <= kept[-1].costs[kind] + cost:
            kept.pop()
        kept.append(point)
    return tuple(kept)
