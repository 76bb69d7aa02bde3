"""What a choice of bit widths is made from: layers, their candidates, what each loses and what each costs.

The table knows nothing of graphs. A *layer* is whatever takes one of several forms (a layer's weights, a tensor's codes), a
*candidate* is one of these forms: normally a bit width, or any other form with a label, such as ``rate 4 share 2`` of pruning.
A *cost* is additive over layers and is of one of the kinds in :data:`KINDS`. Tied layers take the same candidate; a fixed layer
takes the one it is fixed to; of some layers only some candidates may be used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tapdot.compiler.errors import TapdotError

KINDS: Mapping[str, str] = {"size": "bytes", "bops": "bit operations", "latency": "seconds", "instructions": "instructions"}
"""Kinds of cost and the unit each is stored in. BOPs are multiply-accumulates times both operands' bits (HAWQ-V3, section
4)."""
MOST_BITS = 32
LARGEST = 1e200
"""Of figures: their sums and products stay far from the end of float64."""


class TableError(TapdotError):
    """A table of layers and candidates contradicts itself, or a file holds none."""


@dataclass(frozen=True)
class Candidate:
    """One form a layer can take."""

    label: str
    """``"8"`` for 8 bits."""
    sensitivity: float
    """What the network loses by it, from 0; additive over layers, in any unit."""
    costs: Mapping[str, float]
    """By kind, in the units of :data:`KINDS`."""
    bits: int | None = None
    """Where the candidate is a bit width."""

    @classmethod
    def of_bits(cls, bits: int, sensitivity: float, costs: Mapping[str, float]) -> Candidate:
        """A bit width, whose label it is."""
        return cls(str(bits), sensitivity, costs, bits)


@dataclass(frozen=True)
class TableLayer:
    """A layer and what it can be."""

    name: str
    candidates: tuple[Candidate, ...]
    fixed: str | None = None
    """Label of the only candidate to be used."""
    only: tuple[str, ...] = ()
    """Labels of the candidates that may be used; () for all."""

    def candidate(self, label: str) -> Candidate:
        """The candidate of this label; raises TableError where there is none."""
        for candidate in self.candidates:
            if candidate.label == label:
                return candidate
        labels = ", ".join(candidate.label for candidate in self.candidates)
        raise TableError(f"Layer {self.name!r} has no candidate {label!r}; it has {labels}.")

    @property
    def allowed(self) -> tuple[Candidate, ...]:
        """All of them, or those that may be used, or the one it is fixed to."""
        if self.fixed is not None:
            return (self.candidate(self.fixed),)
        return tuple(one for one in self.candidates if one.label in self.only) if self.only else self.candidates

    @property
    def is_restricted(self) -> bool:
        """Whether some of its candidates may not be used."""
        return len(self.allowed) < len(self.candidates)

    def cheapest(self, kind: str) -> Candidate:
        """What the low end of a share is counted from: the fewest bits, or the least cost where there are no bits."""
        return min(self.candidates, key=lambda candidate: self._rank(candidate, kind))

    def dearest(self, kind: str) -> Candidate:
        """The high end: the most bits, or the greatest cost."""
        return max(self.candidates, key=lambda candidate: self._rank(candidate, kind))

    def _rank(self, candidate: Candidate, kind: str) -> float:
        return candidate.costs[kind] if any(one.bits is None for one in self.candidates) else float(candidate.bits or 0)


@dataclass(frozen=True)
class BitTable:
    """Layers, candidates, costs, ties. Raises TableError where they contradict each other; everything in one is consistent."""

    layers: tuple[TableLayer, ...]
    ties: tuple[tuple[str, ...], ...] = ()
    """Names of layers that take the same candidate: a downsample convolution and the one that shares its input."""
    model: str = "model"
    source: str = ""
    """Where the figures are from."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What the user should know of how a file was read."""

    def __post_init__(self) -> None:
        if not self.layers:
            raise TableError("The table has no layers; there is nothing to choose.")
        names: set[str] = set()
        for layer in self.layers:
            if layer.name in names:
                raise TableError(f"The table names layer {layer.name!r} twice; every layer is listed once.")
            names.add(layer.name)
            _check_layer(layer, self.kinds)
        for tie in self.ties:
            _check_tie(tie, {layer.name: layer for layer in self.layers})
        for group in self.groups:
            fixed = {layer.fixed: layer.name for layer in (self.layers[index] for index in group) if layer.fixed is not None}
            if len(fixed) > 1:
                (one, first), (other, second) = list(fixed.items())[:2]
                raise TableError(
                    f"Layers {first!r} and {second!r} are tied and fixed to different candidates, {one} and {other}; fix "
                    "both to the same one, or untie them."
                )
            if not self.allowed(group):
                raise TableError(
                    f"Layers {_some([self.layers[index].name for index in group])} are tied, and no candidate may be used by "
                    "all of them; allow one, or untie them."
                )

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of cost the table has, in the order of :data:`KINDS`."""
        found = {kind for layer in self.layers for candidate in layer.candidates for kind in candidate.costs}
        if unknown := sorted(found - set(KINDS)):
            raise TableError(f"Expected costs of the kinds {', '.join(KINDS)}, found {unknown[0]!r}.")
        return tuple(kind for kind in KINDS if kind in found)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Indices of layers that take the same candidate, each layer in one group, by first layer; ties that meet are one."""
        index = {layer.name: place for place, layer in enumerate(self.layers)}
        first = list(range(len(self.layers)))

        def find(place: int) -> int:
            while first[place] != place:
                place = first[place]
            return place

        for tie in self.ties:
            for name in tie[1:]:
                one, other = sorted((find(index[tie[0]]), find(index[name])))
                first[other] = one
        groups: dict[int, list[int]] = {}
        for place in range(len(self.layers)):
            groups.setdefault(find(place), []).append(place)
        return tuple(tuple(group) for group in groups.values())

    def allowed(self, group: Iterable[int]) -> tuple[str, ...]:
        """Labels that all layers of a group may take, in the order of the first one's candidates."""
        first, *others = (self.layers[index] for index in group)
        shared = [{candidate.label for candidate in layer.allowed} for layer in others]
        return tuple(one.label for one in first.allowed if all(one.label in labels for labels in shared))

    def limits(self, kind: str) -> tuple[float, float]:
        """``(low, high)``: the cost with every listed layer at its fewest bits, and at its most.

        Layers that are fixed or may not use all candidates are no exception, so that a share means the same whatever is
        fixed.
        """
        low = math.fsum(layer.cheapest(kind).costs[kind] for layer in self.layers)
        return low, math.fsum(layer.dearest(kind).costs[kind] for layer in self.layers)

    def fix(self, choices: Mapping[str, str]) -> BitTable:
        """The same table with layers fixed to candidates, by name and label; raises TableError for others than it has."""
        names = [layer.name for layer in self.layers]
        for name, label in choices.items():
            if name not in names:
                raise TableError(f"The table has no layer {name!r} to fix; it has {_some(names)}.")
            layer = self.layers[names.index(name)]
            layer.candidate(label)
            if layer.only and label not in layer.only:
                raise TableError(f"Layer {name!r} may only be one of {', '.join(layer.only)}; it cannot be fixed to {label!r}.")
        layers = tuple(replace(layer, fixed=choices.get(layer.name, layer.fixed)) for layer in self.layers)
        return replace(self, layers=layers)

    def text(self, labels: Iterable[str]) -> str:
        """A choice as one line: a character a layer where every label is one, else with commas between."""
        short = all(len(candidate.label) == 1 for layer in self.layers for candidate in layer.candidates)
        return ("" if short else ",").join(labels)


def number(value: Any, what: str) -> float:
    """A number of a file, from 0 to LARGEST, or TableError."""
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        found = math.inf
    if not 0 <= found <= LARGEST:
        raise TableError(f"Expected a number from 0 on as {what}, found {short(value)}{_beyond(found)}.")
    return found


def short(value: Any) -> str:
    """What was found in a file, as JSON, not more than a few words of it."""
    text = json.dumps(value, default=str)
    return "nothing" if value is None else text if len(text) <= 60 else f"{text[:57]}..."


def _beyond(value: float) -> str:
    return f", which is beyond {LARGEST:g}" if value > LARGEST else ""


def _check_layer(layer: TableLayer, kinds: tuple[str, ...]) -> None:
    if not layer.name:
        raise TableError("The table has a layer without a name.")
    if not layer.name.isprintable():
        raise TableError(f"Expected names of layers of printable characters, found {layer.name!r}.")
    if not layer.candidates:
        raise TableError(f"Layer {layer.name!r} has no candidates; give it one at least.")
    labels: set[str] = set()
    for candidate in layer.candidates:
        if candidate.label in labels:
            raise TableError(f"Layer {layer.name!r} has candidate {candidate.label!r} twice.")
        if not candidate.label or "," in candidate.label or not candidate.label.isprintable():
            raise TableError(
                f"Expected labels of printable characters without commas at layer {layer.name!r}, found {candidate.label!r}; "
                "write 'rate 4 share 2', say."
            )
        if candidate.bits is not None and not 1 <= candidate.bits <= MOST_BITS:
            raise TableError(f"Expected 1 to {MOST_BITS} bits at layer {layer.name!r}, found {candidate.bits}.")
        labels.add(candidate.label)
        for what, value in (("sensitivity", candidate.sensitivity), *((kind, candidate.costs.get(kind)) for kind in kinds)):
            if value is None:
                raise TableError(
                    f"Candidate {candidate.label} of layer {layer.name!r} has no {what}, which others have; a table says "
                    "every cost of every candidate."
                )
            if not 0 <= value <= LARGEST:
                raise TableError(
                    f"Expected a number from 0 on as the {what} of candidate {candidate.label} of layer {layer.name!r}, found "
                    f"{value}{_beyond(value)}."
                )
    for label in (*layer.only, *(() if layer.fixed is None else (layer.fixed,))):
        layer.candidate(label)
    if layer.only and layer.fixed is not None and layer.fixed not in layer.only:
        raise TableError(
            f"Layer {layer.name!r} is fixed to {layer.fixed!r}, and may only be one of {', '.join(layer.only)}; fix it to one "
            "of these."
        )


def _check_tie(tie: tuple[str, ...], layers: Mapping[str, TableLayer]) -> None:
    for name in tie:
        if name not in layers:
            raise TableError(f"A tie names layer {name!r}, which the table does not list.")
    labels = [{candidate.label for candidate in layers[name].candidates} for name in tie]
    for name, found in zip(tie, labels, strict=True):
        if found != labels[0]:
            raise TableError(
                f"Layers {tie[0]!r} and {name!r} are tied, and their candidates differ: {', '.join(sorted(labels[0]))} and "
                f"{', '.join(sorted(found))}. Tied layers need the same candidates."
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
