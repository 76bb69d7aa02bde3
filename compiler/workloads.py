"""From nodes of a graph to workloads of kernels: the one place where the two worlds meet."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup
from tapdot.kernels.workload import Operand, Scalar, Workload

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""Operators that only rename the elements of a row-major tensor; they become addresses, not kernels."""


def workload_of(graph: Graph, node: Node, layouts: bool = True) -> Workload:
    """What a kernel for this node has to compute.

    The values of static operands (shapes, axes, ...) become attributes ``static_<index>``: they are part of the code, and no
    argument of the kernel. ``layouts`` False leaves the physical types out, for asking which families could serve.
    """
    operator = lookup(node.op)
    attributes: dict[str, Scalar] = dict(node.attributes)  # type: ignore[arg-type]
    inputs: list[Operand | None] = []
    for index, name in enumerate(node.inputs):
        if not name:
            inputs.append(None)
            continue
        kind = graph.type(name)
        if operator.is_static(index) and not operator.is_stored(index):
            attributes[f"static_{index}"] = tuple(graph.constants[name].reshape(-1).tolist())
            inputs.append(Operand(kind.shape, kind.dtype, None, constant=True))
            continue
        inputs.append(Operand(kind.shape, kind.dtype, kind.layout if layouts else None, name in graph.constants))
    kinds = [graph.type(name) for name in node.outputs if name]
    outputs = tuple(Operand(kind.shape, kind.dtype, kind.layout if layouts else None) for kind in kinds)
    return Workload(node.op, tuple(inputs), outputs, tuple(sorted(attributes.items())))


def computes_nothing(graph: Graph, node: Node) -> bool:
    """Whether no result of a node has elements, so that it needs no kernel."""
    return all(graph.type(name).elements == 0 for name in node.outputs if name)


def constant_operands(graph: Graph, node: Node) -> Mapping[int, np.ndarray]:
    """Arrays of the node's constant, non-static operands by index: what its family packs."""
    operator = lookup(node.op)
    return {
        index: graph.constants[name]
        for index, name in enumerate(node.inputs)
        if name in graph.constants and (operator.is_stored(index) or not operator.is_static(index))
    }
