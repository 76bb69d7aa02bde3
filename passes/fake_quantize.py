"""Weights as their codes give them back, in a module that can be trained: the other half of what ``calibrate`` simulates.

After ``calibrate`` a graph rounds its activations (FakeQuantize) and computes with its weights as they are. Here every layer that
``requantize`` will make an integer one computes with what its codes stand for, and its gradient passes the rounding as if it were
not there (the straight-through estimator of Bengio et al., 2013; HAWQ-V3, ICML 2021, section 3)::

    forward    W' = S round(W / S),  S[c] = max|W[c]| / (2^(b-1) - 1)        b' = S S_x round(b / (S S_x))
    backward   dL/dW = dL/dW'                                                dL/db = dL/db'

Codes and scales come from ``integer_weights``, the function that ``requantize`` calls, so what was trained is what is compiled.
Weights that pruning made zero stay zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import GraphModule, to_array
from tapdot.compiler.pipeline import Notes
from tapdot.compiler.types import Quant
from tapdot.passes.fuse import Fuse
from tapdot.passes.integer_weights import IntegerWeights, integer_weights
from tapdot.passes.requantize import Requantize

PRUNED = 0.25
"""A layer with such a share of zeros was pruned, and its zeros are no coincidence."""


@dataclass(frozen=True)
class SimulatedLayer:
    """A layer whose weights will be codes."""

    name: str
    weight: str
    bias: str
    """The constant's name; empty where there is none."""
    axis: int
    """Of the output channels."""
    bits: int
    input_scale: float
    per_channel: bool
    pruned: bool

    def integers(self, weight: Tensor, bias: Tensor | None) -> IntegerWeights:
        """What ``requantize`` would make of these."""
        return integer_weights(
            self.name,
            to_array(weight),
            None if bias is None else to_array(bias),
            self.input_scale,
            axis=self.axis,
            bits=self.bits,
            per_channel=self.per_channel,
        )


def simulated_layers(graph: Graph, requantize: Requantize | None = None) -> tuple[SimulatedLayer, ...]:
    """The layers of a calibrated graph that become integer ones.

    Raises TapdotError where two of them share weights but not what their codes follow from.
    """
    requantize = requantize or Requantize()
    fused = Fuse().run(graph, Notes())
    walk = requantize.walk(fused)
    walk.run()
    nodes = {node.name: node for node in fused.nodes}
    found: list[SimulatedLayer] = []
    by_weight: dict[str, SimulatedLayer] = {}
    for name, integers in walk.weights.items():
        if integers.adopted:
            continue
        weight, bias = nodes[name].inputs[1], nodes[name].operand(2)
        zeros = 1 - np.count_nonzero(graph.constants[weight]) / graph.constants[weight].size
        layer = SimulatedLayer(
            name, weight, bias, integers.axis, integers.bits, integers.input_scale, requantize.per_channel, bool(zeros >= PRUNED)
        )
        found.append(layer)
        other = by_weight.setdefault(weight, layer)
        if (other.bits, other.axis) != (layer.bits, layer.axis):
            raise TapdotError(
                f"Expected layers that share weights to share their codes, but {other.name!r} and {name!r} read {weight!r} with "
                f"{other.bits} and {layer.bits} bits; give both the same, or export the model with a copy for each."
            )
    return tuple(found)


class FakeQuantizedModule(GraphModule):
    """A calibrated graph as a torch module that computes with what codes stand for; parameters stay as precise as they are.

    ``layers`` are those whose weights will be codes; by default all that ``requantize`` at its defaults would take.
    :meth:`quantized_graph` brings back the graph that the codes give.
    """

    def __init__(self, graph: Graph, layers: Sequence[SimulatedLayer] | None = None) -> None:
        super().__init__(graph)
        self.layers = simulated_layers(graph) if layers is None else tuple(layers)
        self._by_constant = {name: layer for layer in reversed(self.layers) for name in (layer.weight, layer.bias) if name}
        self._kept = {layer.weight: torch.from_numpy(graph.constants[layer.weight] != 0) for layer in self.layers if layer.pruned}

    def operand(self, name: str) -> Tensor:
        """What a node computes with: codes' reals where the constant is a layer's, else the parameter or buffer itself."""
        layer, value = self._by_constant.get(name), self.constant(name)
        if layer is None:
            return value
        integers = self._integers(layer)
        real = torch.from_numpy(np.asarray(integers.real() if name == layer.weight else integers.real_bias()))
        moved = value - value.detach()  # zero, with the gradient of the value
        return real + (moved * self._kept[name] if name in self._kept else moved)

    def _integers(self, layer: SimulatedLayer) -> IntegerWeights:
        return layer.integers(self.constant(layer.weight), self.constant(layer.bias) if layer.bias else None)

    def quantized_graph(self) -> Graph:
        """The graph with weights and biases as their codes give them, and in the weights' types the scales, which later
        passes keep."""
        constants, types = {**self.graph.constants, **self.weights()}, dict(self.graph.types)
        for layer in reversed(self.layers):
            integers = self._integers(layer)
            constants[layer.weight] = integers.real()
            scales = tuple(float(scale) for scale in integers.scales)
            quant = Quant(layer.bits, scales, (0,) * len(scales), layer.axis)
            types[layer.weight] = replace(types[layer.weight], quant=quant)
            if layer.bias:
                constants[layer.bias] = np.asarray(integers.real_bias())
        return self.graph.replace(constants=constants, types=types)
