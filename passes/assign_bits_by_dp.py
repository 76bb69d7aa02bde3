"""Which layer gets which bits, by the dynamic program of ZeroQ (Cai et al., CVPR 2020, the section on the Pareto frontier).

ZeroQ takes layers' sensitivities as independent, so that the best choice for the first i layers within a cost follows from the
best for the first i - 1 within less. That needs costs in whole steps: each cost above the cheapest candidate of its layer (or
tied layers) is rounded **up** to 1/10,000 of the span, so that what meets a budget in steps meets it truly. It is exact for the
rounded costs; the true optimum may be a little better. One run gives the choice for every budget at once, of one kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tapdot.passes.assign_bits import TIE, Assignment, budget_rows, explain_infeasible
from tapdot.passes.bit_budgets import Budget, BudgetError
from tapdot.passes.bit_choices import Choices
from tapdot.passes.bit_table import BitTable

STEPS = 10_000
"""Of the span between the cheapest choice and the dearest."""
ROUNDING = 1e-9
"""Of a step: a cost that is whole on paper is not rounded up for its last digit."""


@dataclass(frozen=True)
class Frontier:
    """The best choice within every cost of one kind."""

    choices: Choices
    kind: str
    step: float
    """One step, in the unit of the kind."""
    best: NDArray[np.float64]
    """``[steps + 1]``: the least sensitivity above the least of all within so many steps above the cheapest choice."""
    picks: NDArray[np.int16]
    """``[groups, steps + 1]``: which of a group's candidates that takes, given what is left for it and the groups before."""

    def assignment(self, budget: Budget) -> Assignment:
        """The choice for a budget of this kind; raises BudgetError where none meets it."""
        [row] = budget_rows(self.choices, [budget])
        if row.limit < 0:
            raise BudgetError(explain_infeasible(self.choices, (budget,), [row]))
        left = min(len(self.best) - 1, math.floor(row.limit * self.choices.span(self.choices.costs[self.kind]) / self.step))
        # of equal sums the cheapest: the first of the sums, which only fall, that is as good
        as_good = self.best[left] + TIE * self.choices.span(self.choices.sensitivity)
        left = int(np.searchsorted(-self.best, -as_good))
        steps = _steps(self.choices, self.kind, self.step)
        chosen = np.zeros(len(self.picks), np.int64)
        for group in reversed(range(len(self.picks))):
            chosen[group] = self.choices.starts[group] + self.picks[group, left]
            left -= int(steps[chosen[group]])
        return Assignment(self.choices.table, self.choices.layer_labels(self.choices.settle(chosen)), (budget,), "dp")


def frontier(table: BitTable, kind: str, steps: int = STEPS) -> Frontier:
    """Runs the program over costs of one kind."""
    choices = Choices.of(table)
    step = choices.span(choices.costs[kind]) / steps
    costs = _steps(choices, kind, step)
    losses = choices.above_least(choices.sensitivity)
    width = int(np.maximum.reduceat(costs, choices.starts[:-1]).sum()) + 1
    best = np.zeros(width)
    picks = np.zeros((len(choices.starts) - 1, width), np.int16)
    for group, (first, end) in enumerate(zip(choices.starts[:-1], choices.starts[1:], strict=True)):
        found = np.full(width, np.inf)
        for pick in np.argsort(costs[first:end], kind="stable"):  # of equal sums the cheaper stays
            cost = int(costs[first + pick])
            sums = best[: width - cost] + losses[first + pick]
            better = sums < found[cost:]
            found[cost:][better] = sums[better]
            picks[group, cost:][better] = pick
        best = found
    return Frontier(choices, kind, step, best, picks)


def assign_by_dp(table: BitTable, budgets: Sequence[Budget]) -> Assignment:
    """The choice for one budget; raises BudgetError for none or several, which this method cannot hold apart, and where none
    meets it."""
    if len(budgets) != 1:
        raise BudgetError(
            f"The dynamic program takes one budget, found {len(budgets)}; the integer program (ilp) takes any number."
        )
    budgets[0].limit(table)
    return frontier(table, budgets[0].kind).assignment(budgets[0])


def rounded(table: BitTable, kind: str, steps: int = STEPS) -> BitTable:
    """The table whose costs of one kind are those that the dynamic program counts with; low and high shift as their layers do.

    Tied layers are rounded as one, and the first of them bears the difference.
    """
    choices = Choices.of(table)
    step = choices.span(choices.costs[kind]) / steps
    added_steps = step * _steps(choices, kind, step) - choices.above_least(choices.costs[kind])
    added = dict(zip(zip(choices.group_of.tolist(), choices.labels, strict=True), added_steps.tolist(), strict=True))
    layers = list(table.layers)
    for group, members in enumerate(table.groups):
        layer = layers[members[0]]
        layers[members[0]] = replace(
            layer,
            candidates=tuple(
                replace(one, costs={**one.costs, kind: max(0.0, one.costs[kind] + added.get((group, one.label), 0.0))})
                for one in layer.candidates
            ),
        )
    return replace(table, layers=tuple(layers))


def _steps(choices: Choices, kind: str, step: float) -> NDArray[np.int64]:
    """``[v]``: costs above the cheapest of their group, rounded up to whole steps."""
    return np.ceil(choices.above_least(choices.costs[kind]) / step - ROUNDING).astype(np.int64)
