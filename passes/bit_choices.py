"""A table as arrays: a variable for every candidate of every group of tied layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tapdot.passes.bit_budgets import TOLERANCE
from tapdot.passes.bit_table import BitTable

NOTHING = 1e-300
"""Spans up to this are none: parts of them would leave the normal numbers of float64."""


@dataclass(frozen=True)
class Choices:
    """What is chosen: exactly one variable a group. ``v`` counts variables, group after group; a fixed group has one."""

    table: BitTable
    labels: tuple[str, ...]
    """``[v]``: the candidate's label."""
    starts: NDArray[np.int64]
    """``[groups + 1]``: where each group's variables begin, and their number."""
    sensitivity: NDArray[np.float64]
    """``[v]``: summed over the layers of the group."""
    costs: Mapping[str, NDArray[np.float64]]
    """``[v]``, by kind, summed likewise, in the units of :data:`tapdot.passes.bit_table.KINDS`."""

    @classmethod
    def of(cls, table: BitTable) -> Choices:
        """All of a table's."""
        labels: list[str] = []
        starts, sensitivity = [0], []
        costs: dict[str, list[float]] = {kind: [] for kind in table.kinds}
        for group in table.groups:
            layers = [table.layers[index] for index in group]
            for label in table.allowed(group):
                members = [layer.candidate(label) for layer in layers]
                labels.append(label)
                sensitivity.append(math.fsum(member.sensitivity for member in members))
                for kind in costs:
                    costs[kind].append(math.fsum(member.costs[kind] for member in members))
            starts.append(len(labels))
        arrays = {kind: np.array(column) for kind, column in costs.items()}
        return cls(table, tuple(labels), np.array(starts), np.array(sensitivity), arrays)

    @cached_property
    def group_of(self) -> NDArray[np.int64]:
        """``[v]``: the group of each variable."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def least(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[groups]``: the least of each group's values."""
        return np.asarray(np.minimum.reduceat(values, self.starts[:-1]))

    def above_least(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[v]``: values above the least of their group."""
        return values - self.least(values)[self.group_of]

    def span(self, values: NDArray[np.float64]) -> float:
        """The greatest sum of one a group, less the least; 1 where all choices come to the same."""
        span = math.fsum(np.maximum.reduceat(self.above_least(values), self.starts[:-1]))
        return span if span > NOTHING else 1.0

    def headroom(self, kind: str, limit: float) -> float:
        """What a limit leaves above the cheapest choice, as a part of the span, the tolerance granted."""
        costs = self.costs[kind]
        low = math.fsum(self.least(costs))
        return (limit - low) / self.span(costs) + max(TOLERANCE, 4 * np.finfo(float).eps * low / self.span(costs))

    def layer_labels(self, chosen: NDArray[np.int64]) -> tuple[str, ...]:
        """Labels by layer, from the ``[groups]`` variables that were chosen."""
        labels = [""] * len(self.table.layers)
        for variable, group in zip(chosen, self.table.groups, strict=True):
            for layer in group:
                labels[layer] = self.labels[variable]
        return tuple(labels)

    def settle(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same choice where layers that cannot be told apart are in order: the earlier has the more bits, or costs more."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for group, (first, end) in enumerate(zip(self.starts[:-1], self.starts[1:], strict=True)):
            rows = (self.sensitivity, *self.costs.values())
            alike.setdefault((self.labels[first:end], *(row[first:end].tobytes() for row in rows)), []).append(group)
        settled = chosen.copy()
        for groups in alike.values():
            offsets = [int(chosen[group] - self.starts[group]) for group in groups]
            first = int(self.starts[groups[0]])
            offsets.sort(key=lambda offset: self._order(first + offset))
            settled[groups] = [self.starts[group] + offset for group, offset in zip(groups, offsets, strict=True)]
        return settled

    def _order(self, variable: int) -> tuple[float, ...]:
        label = self.labels[variable]
        return (-float(label) if label.isdecimal() else 0.0, *(-float(costs[variable]) for costs in self.costs.values()))
