"""Which layer gets which bits: least total sensitivity under budgets, by integer linear programming.

    minimise    sum_i sensitivity_i(b_i)                    (HAWQ-V3, Yao et al., ICML 2021, section 4)
    subject to  sum_i cost_k,i(b_i) <= limit_k              for every kind k that has a budget: size, BOPs, latency
                b_i = b_j                                   for tied layers
                b_i = what the user said                    for fixed layers, or one of those, where only some may be used

A variable is 1 where a group of tied layers takes a candidate. The optimum is exact to 1e-10 of the span of sensitivities, and
the answer the same in every run: among choices of equal sensitivity, the one of least cost in the budgets' kinds (in all,
without budgets; shares of the span summed); among layers with the same figures, the earlier gets the more bits.

Before: a table whose layers may each be 4 or 8 bits, and ``size=50%``. After: a label for every layer, ``8888888888888884844``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapdot.passes.bit_budgets import Budget, BudgetError, amount_budget, amount_text
from tapdot.passes.bit_choices import Choices
from tapdot.passes.bit_table import BitTable
from tapdot.passes.integer_program import Row, Solution, least_excess, solve

TIE = 1e-10
"""Sensitivities closer than this part of their span are equal."""


@dataclass(frozen=True)
class Assignment:
    """What was chosen."""

    table: BitTable
    labels: tuple[str, ...]
    """A candidate's label for every layer, in the table's order."""
    budgets: tuple[Budget, ...] = ()
    method: str = "ilp"
    gap: float = 0.0
    """The sensitivity is at most so much above the least possible; 0 where it is proved to be the least."""

    @property
    def choice(self) -> dict[str, str]:
        """Labels by the layers' names."""
        return {layer.name: label for layer, label in zip(self.table.layers, self.labels, strict=True)}

    @property
    def bits(self) -> dict[str, int]:
        """Bits by the layers' names, of the layers that chose a bit width."""
        chosen = zip(self.table.layers, self.labels, strict=True)
        found = {layer.name: layer.candidate(label).bits for layer, label in chosen}
        return {name: bits for name, bits in found.items() if bits is not None}

    @property
    def text(self) -> str:
        """One line, ``8888888888888884844``."""
        return self.table.text(self.labels)

    @cached_property
    def sensitivity(self) -> float:
        """Summed over layers."""
        chosen = zip(self.table.layers, self.labels, strict=True)
        return math.fsum(layer.candidate(label).sensitivity for layer, label in chosen)

    @cached_property
    def costs(self) -> Mapping[str, float]:
        """By kind, summed over layers, in the units of :data:`tapdot.passes.bit_table.KINDS`."""
        chosen = [layer.candidate(label) for layer, label in zip(self.table.layers, self.labels, strict=True)]
        return {kind: math.fsum(candidate.costs[kind] for candidate in chosen) for kind in self.table.kinds}

    def share(self, kind: str) -> float | None:
        """Where the cost lies between low (0) and high (1); None where both are the same."""
        low, high = self.table.limits(kind)
        return None if low == high else (self.costs[kind] - low) / (high - low)

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "bits": self.text,
            "method": self.method,
            "sensitivity": self.sensitivity,
            "gap": self.gap,
            "costs": dict(self.costs),
            "shares": {kind: self.share(kind) for kind in self.costs},
            "budgets": {budget.kind: {"budget": str(budget), "limit": budget.limit(self.table)} for budget in self.budgets},
            "layers": self.choice,
        }


def assign(table: BitTable, budgets: Sequence[Budget] = (), *, time_limit: float | None = None) -> Assignment:
    """The choice of least total sensitivity that meets every budget; see above.

    With ``time_limit`` (seconds) the best choice found by then is returned, with its ``gap``. Raises BudgetError where no
    choice meets the budgets (the sentence has the nearest that can be met), and where the time was not enough to find any.
    """
    budgets = tuple(budgets)
    return assign_choices(Choices.of(table), budgets, time_limit=time_limit)


def assign_choices(
    choices: Choices, budgets: tuple[Budget, ...], *, time_limit: float | None = None, prefer: Sequence[str] = ()
) -> Assignment:
    """The same from arrays that are there already, as a sweep has them; ``prefer`` has the kinds that decide between equal
    choices."""
    rows = budget_rows(choices, budgets)
    span = choices.span(choices.sensitivity)
    losses = choices.above_least(choices.sensitivity) / span
    try:
        best = None if any(row.limit < 0 for row in rows) else solve(losses, choices.starts, rows, time_limit)
    except TimeoutError as error:
        raise BudgetError(f"No choice was found within {time_limit:g} s; give the search more time.") from error
    if best is None:
        raise BudgetError(explain_infeasible(choices, budgets, rows))
    kinds = tuple(prefer) or tuple(budget.kind for budget in budgets) or tuple(choices.costs)
    chosen = choices.settle(_cheapest(choices, kinds, rows, losses, best, time_limit))
    assignment = Assignment(choices.table, choices.layer_labels(chosen), budgets, "ilp", best.gap * span)
    for budget, row in zip(budgets, rows, strict=True):
        if _share_above_least(choices, budget.kind, chosen) > row.limit + 2 * TIE:  # HiGHS's tolerance on rows
            raise AssertionError(f"the solution exceeds {budget}")
    return assignment


def budget_rows(choices: Choices, budgets: Sequence[Budget]) -> list[Row]:
    """Budgets as rows over shares of the span above the cheapest choice; a limit below 0 cannot be met."""
    return [
        Row(
            choices.above_least(choices.costs[budget.kind]) / choices.span(choices.costs[budget.kind]),
            choices.headroom(budget.kind, limit),
        )
        for budget, limit in ((budget, budget.limit(choices.table)) for budget in budgets)
    ]


def _cheapest(
    choices: Choices,
    kinds: Sequence[str],
    rows: Sequence[Row],
    losses: NDArray[np.float64],
    best: Solution,
    time_limit: float | None,
) -> NDArray[np.int64]:
    """Among choices as good as the best, the one of least cost; the best itself where that was not proved in time."""
    if best.gap or not kinds:
        return best.chosen
    shares = [choices.above_least(choices.costs[kind]) / choices.span(choices.costs[kind]) for kind in kinds]
    as_good = Row(losses, math.fsum(losses[best.chosen]) + TIE)
    try:
        found = solve(np.sum(shares, axis=0) / len(shares), choices.starts, [*rows, as_good], time_limit)
    except TimeoutError:
        found = None
    return best.chosen if found is None else found.chosen


def _share_above_least(choices: Choices, kind: str, chosen: NDArray[np.int64]) -> float:
    costs = choices.costs[kind]
    return math.fsum(choices.above_least(costs)[chosen]) / choices.span(costs)


def explain_infeasible(choices: Choices, budgets: tuple[Budget, ...], rows: Sequence[Row]) -> str:
    """Why no choice meets the budgets, and the nearest that can be met."""
    table = choices.table
    nearest = Assignment(table, choices.layer_labels(least_excess(choices.starts, rows)))
    can = " ".join(
        str(budget)
        if nearest.costs[budget.kind] <= budget.limit(table)
        else amount_budget(budget.kind, nearest.costs[budget.kind])
        for budget in budgets
    )
    alone = [budget for budget, row in zip(budgets, rows, strict=True) if row.limit < 0]
    because = ""
    if any(layer.is_restricted for layer in table.layers):
        because = " with the layers that are fixed"
    if not alone:
        asked = " and ".join(map(str, budgets))
        return f"No choice meets {asked} together{because}, though each can be met alone; the nearest that can be met: {can}."
    budget = alone[0]
    least = math.fsum(choices.least(choices.costs[budget.kind]))
    return (
        f"No choice meets {budget} ({amount_text(budget.kind, budget.limit(table))}): the least {budget.kind}{because} is "
        f"{amount_text(budget.kind, least)}. The nearest that can be met: {can}."
    )


def fixed_to(table: BitTable, label: str) -> Assignment | None:
    """Every layer at this candidate, fixed or not: what a mixed choice is compared with; None where a layer has no such
    candidate."""
    if any(label not in (candidate.label for candidate in layer.candidates) for layer in table.layers):
        return None
    free = replace(table, layers=tuple(replace(layer, fixed=None, only=()) for layer in table.layers))
    return Assignment(free, (label,) * len(table.layers), (), "uniform")
