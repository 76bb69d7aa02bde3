"""From a network to the table that bits are chosen from: rows, what each of their candidates costs, and back to bit widths.

A row is what is chosen as one. Which that is, ``activations`` says:

============== ================================= ===========================================================================
activations    a row is                          its candidates
============== ================================= ===========================================================================
``fixed``      a layer                           widths of its weights; activations have 8 bits
``same``       a tensor and who reads it         one width for the codes and all these layers' weights (HAWQ-V3's W4A4, whose
                                                 downsample convolutions are tied for that reason)
``own``        the same                          a width for the codes, and one for each layer's weights
============== ================================= ===========================================================================

Because a tensor's readers stand in its row, every cost is a sum over rows, BOPs too, which are products of both widths::

    size      sum_l ceil(n_l b_w / 8)          bytes of packed weights; biases and scales are the same whatever is chosen
    bops      sum_l MACs_l b_w b_a             (HAWQ-V3, ICML 2021, section 4)
    latency   sum_l of what the layer's kernel takes with weights of b_w bits; codes of all widths lie in bytes and blocks of 16
              channels, so neither copies between layouts nor the kernels depend on b_a

and sensitivities are those of weights plus that of the codes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from tapdot.compiler.costs import node_macs
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.passes.assign_bits import Assignment
from tapdot.passes.bit_table import BitTable, Candidate, TableLayer
from tapdot.passes.bit_widths import WIDTHS, BitWidths, codes_read, layers
from tapdot.passes.code_places import Placement
from tapdot.passes.sensitivity import Sensitivity

Activations = Literal["fixed", "same", "own"]
ACTIVATIONS: tuple[str, ...] = get_args(Activations)
LATENCY, INSTRUCTIONS = "latency", "instructions"
WIDE = 8
"""Bits of activations that nobody chooses."""
MOST_READERS = 8
"""Of a tensor, where each has bits of its own: their candidates multiply."""


@dataclass(frozen=True)
class ModelLayer:
    """A layer that computes with codes."""

    name: str
    reads: str
    """The tensor whose range decides the scale of the codes it reads."""
    macs: int
    weights: int
    """How many."""


def model_layers(graph: Graph) -> tuple[ModelLayer, ...]:
    """The layers of a cleaned-up graph with folded batch norms that ``requantize`` can make integer ones, in order.

    Raises TapdotError where there is none.
    """
    placement = Placement(graph)
    scales = placement.places().scales
    found = []
    for name, node in layers(graph).items():
        source = codes_read(graph, scales, node.inputs[0]) if placement.is_sum(node) else None
        if source is not None:
            found.append(ModelLayer(name, scales[source], node_macs(graph, node), graph.constants[node.inputs[1]].size))
    if not found:
        raise TapdotError(f"There are no bits to choose in graph {graph.name!r}: none of its layers can compute with codes.")
    return tuple(found)


@dataclass(frozen=True)
class Form:
    """One candidate of a row: what it means."""

    label: str
    weights: Mapping[str, int]
    """Bits by layer."""
    activations: int | None
    """Bits of the codes that these layers read; None where they are not part of the choice."""

    @property
    def bits(self) -> int | None:
        """The width, where one is chosen for all."""
        return int(self.label) if self.label.isdecimal() else None


@dataclass(frozen=True)
class Row:
    """What is chosen as one."""

    name: str
    layers: tuple[ModelLayer, ...]
    tensor: str | None
    """Whose codes are part of the choice."""
    forms: tuple[Form, ...]
    fixed: Mapping[str, int] = field(default_factory=dict)
    """Bits that the user chose, of some of the layers. The forms with others stay: shares of costs count them."""

    @property
    def allowed(self) -> tuple[Form, ...]:
        """The forms with the bits that are fixed."""
        return tuple(form for form in self.forms if form.weights.items() >= self.fixed.items())


def rows_of(
    found: Sequence[ModelLayer], widths: Sequence[int], activations: str, fixed: Mapping[str, int] | None = None
) -> tuple[Row, ...]:
    """The rows of a table, in the network's order. ``fixed`` are bits of single layers' weights that the user chose.

    Raises TapdotError for layers that are not there, for bits that are none of ``widths``, and where what is fixed leaves a row
    nothing to be.
    """
    if activations not in ACTIVATIONS:
        raise TapdotError(f"Expected activations to be {', '.join(ACTIVATIONS)}, found {activations!r}.")
    fixed = fixed or {}
    for name, bits in fixed.items():
        if name not in {layer.name for layer in found}:
            known = ", ".join(layer.name for layer in found[:6])
            raise TapdotError(
                f"Expected a layer to fix the bits of, found {name!r}; there are {known}{', ...' * (len(found) > 6)}."
            )
        if bits not in widths:
            raise TapdotError(
                f"There are no {bits} bits to fix layer {name!r} to: the widths to choose from are "
                f"{', '.join(map(str, widths))}; "
                + (
                    f"add {bits} to them (--widths {','.join(map(str, (*widths, bits)))})."
                    if bits in WIDTHS
                    else "fix it to one of them."
                )
            )
    groups: dict[str, list[ModelLayer]] = {}
    for layer in found:
        groups.setdefault(layer.name if activations == "fixed" else layer.reads, []).append(layer)
    rows = []
    for members in groups.values():
        forms = tuple(_forms(members, widths, activations))
        chosen = {layer.name: fixed[layer.name] for layer in members if layer.name in fixed}
        row = Row(members[0].name, tuple(members), None if activations == "fixed" else members[0].reads, forms, chosen)
        if not row.allowed:
            said = ", ".join(f"{name}={bits}" for name, bits in chosen.items())
            raise TapdotError(
                f"Nothing is left to choose where {said} is fixed: the candidates are {', '.join(form.label for form in forms)}"
                " for all layers that read the same tensor."
            )
        rows.append(row)
    return tuple(rows)


def _forms(members: Sequence[ModelLayer], widths: Sequence[int], activations: str) -> list[Form]:
    names = [layer.name for layer in members]
    if activations == "fixed":
        return [Form(str(bits), {names[0]: bits}, None) for bits in widths]
    if activations == "same":
        return [Form(str(bits), dict.fromkeys(names, bits), bits) for bits in widths]
    if len(names) > MOST_READERS:
        raise TapdotError(
            f"{len(names)} layers read {members[0].reads!r}, which makes too many candidates of its own; choose activations=same."
        )
    return [
        Form(f"a{bits} w{'/'.join(map(str, chosen))}", dict(zip(names, chosen, strict=True)), bits)
        for bits in widths
        for chosen in itertools.product(widths, repeat=len(names))
    ]


@dataclass(frozen=True)
class LayerFigures:
    """What layers take on a device: seconds, or instructions where it is emulated."""

    kind: str
    by_layer: Mapping[str, Mapping[int, float]]
    """And bits of the weights."""
    rest: float
    """Of all other kernels together, which no choice of bits changes."""
    device: str


@dataclass(frozen=True)
class BitChoices:
    """A network's rows with their figures; :attr:`table` is what ``assign_bits`` takes, :meth:`widths` reads its answer."""

    rows: tuple[Row, ...]
    weights: Sensitivity
    codes: Sensitivity | None
    """Of activations, where they are part of the choice."""
    figures: LayerFigures | None = None
    """Measured latencies; without them there are sizes and BOPs only."""
    notes: tuple[str, ...] = field(default=())

    @property
    def table(self) -> BitTable:
        """Raises TableError where figures are missing."""
        source = f"sensitivity by {self.weights.method} on {self.weights.samples} samples ({self.weights.source})"
        return BitTable(tuple(map(self._layer, self.rows)), model=self.weights.model, source=source, notes=self.notes)

    def _layer(self, row: Row) -> TableLayer:
        candidates = (Candidate(form.label, self._loss(row, form), self._costs(row, form), form.bits) for form in row.forms)
        labels = tuple(form.label for form in row.allowed)
        fixed = labels[0] if row.fixed and len(labels) == 1 else None
        only = labels if fixed is None and len(labels) < len(row.forms) else ()
        return TableLayer(row.name, tuple(candidates), fixed, only)

    def _loss(self, row: Row, form: Form) -> float:
        loss = math.fsum(self.weights.row(name).values[str(bits)] for name, bits in form.weights.items())
        if self.codes is None or row.tensor is None:
            return loss
        return loss + self.codes.row(row.tensor).values[str(form.activations)]

    def _costs(self, row: Row, form: Form) -> dict[str, float]:
        costs = {"size": 0.0, "bops": 0.0}
        for layer in row.layers:
            bits = form.weights[layer.name]
            costs["size"] += -(-layer.weights * bits // 8)
            costs["bops"] += layer.macs * bits * (form.activations or WIDE)
        if self.figures is not None:
            costs[self.figures.kind] = math.fsum(self.figures.by_layer[name][bits] for name, bits in form.weights.items())
        return costs

    def predicted(self, assignment: Assignment) -> float | None:
        """What the whole network should take with these bits, in seconds or instructions; None where nothing was measured."""
        return None if self.figures is None else assignment.costs[self.figures.kind] + self.figures.rest

    def widths(self, assignment: Assignment) -> BitWidths:
        """What was chosen, as ``--recipe mixed`` takes it."""
        weights: dict[str, int] = {}
        activations: dict[str, int] = {}
        for row in self.rows:
            (form,) = [form for form in row.forms if form.label == assignment.choice[row.name]]
            weights |= form.weights
            if form.activations is not None:
                activations |= dict.fromkeys(form.weights, form.activations)
        return BitWidths(weights, activations, WIDE)
