"""Which layers can be pruned, in a graph and in a torch module, and why the others are not.

A layer is pruned
  1. by patterns where it is a 3x3 convolution of one group without dilation,
  2. by quads of four consecutive inputs where it is a 1x1 convolution of one group, or fully connected,
  3. where its weights are a float constant (of a torch module: a parameter of its own) that nobody computes,
  4. with at least :data:`FEWEST_INPUTS` input channels: the first layer of most networks reads three, holds few weights, and
     every later layer depends on it;
  5. where the user does not say ``skip``, and, for the last fully connected layer, which gives the classes, says ``last_layer``.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup
from tapdot.kernels.fkw import Structure
from tapdot.kernels.patterns import KEPT, TAPS

if TYPE_CHECKING:
    from torch import nn

FEWEST_INPUTS = 4
SHARES = (1, 2, 4, 8)
"""How many consecutive filters may agree on positions and patterns."""


@dataclass(frozen=True)
class SparseLayer:
    """A layer that is pruned: where its weights are and how they are grouped."""

    name: str
    """Of the node, or of the module."""
    weight: str
    """Of the graph's constant, or of the module's parameter."""
    filters: int
    inputs: int
    by_quads: bool
    """By quads of inputs, not by 3x3 patterns."""
    fully_connected: bool = False
    transposed: bool = False
    """Stored ``[inputs, filters]``."""
    share: int = 1

    @property
    def groups(self) -> int:
        """Share groups of filters."""
        return self.filters // self.share

    @property
    def units(self) -> int:
        """Kernels of a filter: input channels, or quads of inputs."""
        return -(-self.inputs // KEPT) if self.by_quads else self.inputs

    @property
    def unit_count(self) -> int:
        """Kernels (or quads) of all share groups, each kept or removed as one."""
        return self.groups * self.units

    @property
    def weights(self) -> int:
        """Weights before pruning."""
        return self.filters * self.inputs * (1 if self.by_quads else TAPS)

    @property
    def kind(self) -> str:
        """For reports."""
        return "fully connected" if self.fully_connected else "1x1" if self.by_quads else "3x3"

    def rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """The stored weights as ``[filters, inputs, 9]``, or ``[filters, inputs]`` for quads; a view where numpy can."""
        matrix = array.T if self.transposed else array
        return matrix.reshape((self.filters, self.inputs) if self.by_quads else (self.filters, self.inputs, TAPS))

    def mask(self, structure: Structure) -> NDArray[np.bool_]:
        """Which weights a structure keeps, in the shape they are stored in."""
        kernel = () if self.fully_connected else (1, 1) if self.by_quads else (3, 3)
        kept = structure.mask((self.filters, self.inputs, *kernel))
        return kept.T if self.transposed else kept


LAST_LAYER = "the last fully connected layer, which gives the answer"
"""The reason why it is skipped."""


@dataclass(frozen=True)
class SkippedLayer:
    """A layer that keeps all its weights."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class Choice:
    """What the user decides about layers."""

    share: int = 1
    shares: Mapping[str, int] | None = None
    """Of single layers, by name."""
    skip: Collection[str] = ()
    """Layers to leave as they are, by name."""
    last_layer: bool = False
    """Whether the last fully connected layer is pruned as the others are."""


Found = tuple[tuple[SparseLayer, ...], tuple[SkippedLayer, ...]]


def graph_layers(graph: Graph, choice: Choice | None = None) -> Found:
    """The layers of a graph that are pruned, and the convolutions and matrix products that are not, in order.

    Raises TapdotError for a share that is not 1, 2, 4 or 8, and for names of layers that are not there.
    """
    found: list[SparseLayer | SkippedLayer] = []
    seen: set[str] = set()
    for node in graph.nodes:
        if node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul") and node.inputs[1] not in seen:
            seen.add(node.inputs[1])
            found.append(_of_node(graph, node))
    return _chosen(found, choice or Choice())


def _of_node(graph: Graph, node: Node) -> SparseLayer | SkippedLayer:
    weight = graph.constants.get(node.inputs[1])
    if weight is None:
        return SkippedLayer(node.name, "its weights are computed, not stored")  # (3)
    if weight.dtype != np.float32:
        return SkippedLayer(node.name, f"its weights are {weight.dtype}, not float32")
    attributes = lookup(node.op).defaults(node.attributes)
    if node.op == "ConvTranspose":
        return SkippedLayer(node.name, "a transposed convolution has no pattern kernel")
    if node.op == "Conv":
        return _of_convolution(node.name, node.inputs[1], weight.shape, attributes["group"], attributes["dilations"] or (1,))
    if weight.ndim != 2:
        return SkippedLayer(node.name, f"its weights are {weight.ndim}-dimensional")
    transposed = not (node.op == "Gemm" and attributes["transB"])
    return _of_matrix(node.name, node.inputs[1], weight.shape[:: -1 if transposed else 1], transposed)


def module_layers(module: nn.Module, choice: Choice | None = None) -> Found:
    """The same of a torch module's ``Conv2d`` and ``Linear`` layers, in the order in which they are registered."""
    from torch import nn

    found: list[SparseLayer | SkippedLayer] = []
    seen: set[int] = set()
    for name, layer in module.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        weight = dict(layer.named_parameters(recurse=False)).get("weight")
        if obstacle := _unusable(weight):  # (3)
            found.append(SkippedLayer(name or "weight", obstacle))
            continue
        assert weight is not None
        if id(weight) in seen:
            continue
        seen.add(id(weight))
        parameter = f"{name}.weight" if name else "weight"
        shape = tuple(weight.shape)
        if isinstance(layer, nn.Linear):
            found.append(_of_matrix(name or "weight", parameter, shape, False))
        else:
            found.append(_of_convolution(name or "weight", parameter, shape, layer.groups, layer.dilation))
    return _chosen(found, choice or Choice())


def _unusable(weight: nn.Parameter | None) -> str:
    """Why a module's parameter cannot be pruned; empty where it can."""
    import torch
    from torch.nn.parameter import is_lazy

    if weight is None:
        return (
            "its weight is computed from others (weight_norm or another parametrization), not a parameter; remove that first "
            "(torch.nn.utils.parametrize.remove_parametrizations, or remove_weight_norm)"
        )
    if is_lazy(weight):
        return "its weight has no shape before the first forward pass"
    if weight.is_meta:
        return "its weight is on the device meta, which holds no values"
    if weight.dtype not in (torch.float32, torch.float64, torch.float16):
        return f"its weights are {str(weight.dtype).removeprefix('torch.')}; prune them as float32 (module.float())"
    return ""


def _of_convolution(
    name: str, weight: str, shape: Sequence[int], group: int, dilations: Iterable[int]
) -> SparseLayer | SkippedLayer:
    filters, inputs, *kernel = shape
    if group > 1:  # (1) (2)
        kind = "depthwise" if inputs == 1 else f"of {group} groups"
        return SkippedLayer(name, f"the convolution is {kind}")
    if kernel not in ([3, 3], [1, 1]):
        return SkippedLayer(name, f"its kernel is {'x'.join(map(str, kernel))}, neither 3x3 nor 1x1")
    if kernel == [3, 3] and set(dilations) != {1}:
        return SkippedLayer(name, "the convolution is dilated")
    if inputs < FEWEST_INPUTS:  # (4)
        return SkippedLayer(name, f"it reads {inputs} input channel{'s' * (inputs > 1)}")
    return SparseLayer(name, weight, filters, inputs, by_quads=kernel == [1, 1])


def _of_matrix(name: str, weight: str, shape: Sequence[int], transposed: bool) -> SparseLayer | SkippedLayer:
    filters, inputs = shape
    if inputs < FEWEST_INPUTS:
        return SkippedLayer(name, f"it reads {inputs} input{'s' * (inputs > 1)}")
    return SparseLayer(name, weight, filters, inputs, by_quads=True, fully_connected=True, transposed=transposed)


def _chosen(found: Sequence[SparseLayer | SkippedLayer], choice: Choice) -> Found:
    """Applies what the user decides (5) and splits the list."""
    names = [layer.name for layer in found]
    shares = choice.shares or {}
    check_names((*choice.skip, *shares), names)
    for share in (choice.share, *shares.values()):
        if share not in SHARES:
            raise TapdotError(f"Expected a share of 1, 2, 4 or 8 filters that agree on positions and patterns, found {share}.")
    dense = [layer for layer in found if isinstance(layer, SparseLayer) and layer.fully_connected]
    last = dense[-1].name if dense and not choice.last_layer else None
    kept: list[SparseLayer] = []
    skipped: list[SkippedLayer] = []
    for layer in found:
        if isinstance(layer, SkippedLayer):
            skipped.append(layer)
        elif layer.name in choice.skip:
            skipped.append(SkippedLayer(layer.name, "left as it is by choice"))
        elif layer.name == last:
            skipped.append(SkippedLayer(layer.name, LAST_LAYER))
        else:
            kept.append(replace(layer, share=_share(layer.filters, shares.get(layer.name, choice.share))))
    return tuple(kept), tuple(skipped)


def _share(filters: int, asked: int) -> int:
    """The largest share up to the one asked for that divides the filters."""
    return next(share for share in reversed(SHARES) if share <= asked and filters % share == 0)


def check_names(asked: Iterable[str], names: Sequence[str]) -> None:
    """Raises TapdotError, with the nearest there is, for the name of a layer that is not there."""
    for name in asked:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.4)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names) or 'none'}."
            raise TapdotError(f"There is no layer {name!r}. {hint}")
