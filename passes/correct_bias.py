"""Biases take back by how much quantization moved the mean of each channel.

Before, of a calibrated graph::

    %y = Conv(%x.codes, %w, %b)

After::

    %y = Conv(%x.codes, %w, %b - shift)        shift[c] = E[y_quantized[c]] - E[y_float[c]]

Rounding a channel's weights moves its results by ``(w_q - w) * E[x]`` on average, the same for every image; that costs more
accuracy than noise of the same size, most of all in depthwise convolutions, whose channels have few weights (Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2; here the means are measured).

The float network and the one whose activations and weights are quantized run side by side over the samples, node by node, so
that every layer is corrected behind layers that already are; each value is kept for all samples until its last reader has run.
The weights are those that ``requantize`` will take, found by its own walk: with its options, and none for what stays float.

Legal where
  1. the node is a convolution or matrix product with constant weights that become codes, and its bias is omitted or one constant
     a channel,
  2. the shift is finite.

Runs between ``calibrate`` and ``fuse``. The bias's own rounding to int32 is far below these shifts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.errors import InputError, TapdotError
from tapdot.compiler.graph import Graph, Node, unique_name
from tapdot.compiler.interpreter import to_tensor
from tapdot.compiler.operators import lookup
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.types import TensorType
from tapdot.passes.calibrate import SCALES
from tapdot.passes.code_places import Placement
from tapdot.passes.fuse import Fuse
from tapdot.passes.requantize import Requantize
from tapdot.passes.samples import Feed, feeds

OUTPUT_AXIS = {"Conv": 0, "Gemm": 1}
"""The axis of the weights that runs over output channels."""


@dataclass(frozen=True)
class BiasCorrection(Pass):
    """See the module."""

    data: object
    """Samples, in any form that :func:`tapdot.passes.samples.feeds` reads."""
    samples: int | None = 32
    """How many samples to use; memory grows with them. All, if None."""
    fuse: Fuse = field(default_factory=Fuse)
    requantize: Requantize = field(default_factory=Requantize)
    """The passes that will follow, as they are set: the second decides which weights become codes, and which codes."""

    requires = (SCALES,)
    tolerance = None

    def run(self, graph: Graph, notes: Notes) -> Graph:
        self.requantize.check()
        if self.data is None:
            raise InputError("Biases are corrected over samples: give some (--data DATA), or leave int8.bias_correction away.")
        placement = Placement(graph)
        sums = [node for node in graph.nodes if placement.is_sum(node) and _has_plain_bias(graph, node)]
        if not sums:
            raise TapdotError(
                f"There is no bias to correct in graph {graph.name!r}: it has no convolution and no matrix product with constant "
                "weights. Correct biases after calibrate and before fuse."
            )
        weights = self._weights(graph, sums)  # (1)
        runs = [_SideBySide(graph, feed) for feed in feeds(graph, self.data, self.samples)]
        corrected: list[Node] = []
        types, constants = dict(graph.types), dict(graph.constants)
        largest = 0.0
        with torch.inference_mode():
            for node in graph.nodes:
                shift = _run_node(node, runs, weights.get(node.name))
                if shift is not None and np.isfinite(shift).all() and shift.any():  # (2)
                    old = graph.constants[node.operand(2)].reshape(-1) if node.operand(2) else np.zeros(1, np.float32)
                    name = unique_name(node.operand(2) or f"{node.name}.bias", types)
                    constants[name] = (old.astype(np.float64) - shift).astype(np.float32)
                    types[name] = TensorType.of(constants[name])
                    node = replace(node, inputs=(*node.inputs[:2], name))
                    largest = max(largest, float(np.abs(shift).max()))
                corrected.append(node)
        notes.add(
            f"{len(weights)} biases were corrected over {sum(run.feed.count for run in runs)} samples, by {largest:.3g} at most."
        )
        return graph.replace(nodes=tuple(corrected), types=types, constants=constants).pruned()

    def _weights(self, graph: Graph, sums: Sequence[Node]) -> dict[str, Tensor]:
        """The weights of nodes as their codes give them back, by name, where they become codes."""
        walk = self.requantize.walk(self.fuse(graph))
        walk.run()
        return {node.name: torch.from_numpy(walk.weights[node.name].real()) for node in sums if node.name in walk.weights}


def _has_plain_bias(graph: Graph, node: Node) -> bool:
    bias = node.operand(2)
    channels = graph.type(node.output).shape[1]
    return not bias or graph.type(bias).elements == channels == graph.type(bias).shape[-1]


class _SideBySide:
    """The values of one feed in the float and in the quantized network, as far as somebody still reads them."""

    def __init__(self, graph: Graph, feed: Feed) -> None:
        self.graph, self.feed = graph, feed
        self.real: dict[str, Tensor] = dict(feed.inputs)
        self.quantized: dict[str, Tensor] = dict(feed.inputs)
        self.last_readers = {name: node.name for node in graph.nodes for name in node.inputs}

    def operands(self, node: Node, values: Mapping[str, Tensor]) -> list[Tensor | None]:
        """What a node reads, constants included."""
        entry = lookup(node.op)
        return [
            None
            if not name or entry.is_static(index)
            else values[name]
            if name in values
            else to_tensor(self.graph.constants[name])
            for index, name in enumerate(node.inputs)
        ]

    def evaluate(self, node: Node, weight: Tensor | None) -> None:
        """Runs a node in both; ``weight`` stands for its weights in the quantized one."""
        entry = lookup(node.op)
        if node.op == "FakeQuantize":
            real: Sequence[Tensor] = (self.real[node.inputs[0]],)
        else:
            real = entry.apply(node, self.operands(node, self.real), self.graph.constants)
        operands = self.operands(node, self.quantized)
        if weight is not None:
            operands[1] = weight
        self.real.update(zip(node.outputs, real, strict=False))
        self.quantized.update(zip(node.outputs, entry.apply(node, operands, self.graph.constants), strict=False))

    def free(self, node: Node) -> None:
        """Forgets what nobody reads after ``node``."""
        for name in {*node.inputs, *node.outputs}:
            if self.last_readers.get(name, node.name) == node.name:
                self.real.pop(name, None)
                self.quantized.pop(name, None)


def _run_node(node: Node, runs: Sequence[_SideBySide], weight: Tensor | None) -> np.ndarray | None:
    """Runs a node for all feeds. Where its weights become codes, ``weight`` is what these give back: takes the mean shift of each
    channel away from the quantized results, and returns it."""
    for run in runs:
        run.evaluate(node, weight)
    shift: np.ndarray | None = None
    if weight is not None:
        total, count = np.zeros(()), 0
        for run in runs:
            for sample in range(run.feed.count):
                error = run.quantized[node.output][sample].double() - run.real[node.output][sample].double()
                total = total + error.reshape(error.shape[0], -1).sum(1).numpy()
                count += error[0].numel()
        shift = np.asarray(total / count)
        across = torch.from_numpy(shift.astype(np.float32)).reshape(1, -1, *[1] * (runs[0].real[node.output].ndim - 2))
        for run in runs:
            run.quantized[node.output] = run.quantized[node.output] - across
    for run in runs:
        run.free(node)
    return shift
