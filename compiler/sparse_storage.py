"""The layerwise representation of a lowered graph: from its sparse nodes and the kernels that were chosen for them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tapdot.compiler.costs import node_macs
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators.sparse import WEIGHT
from tapdot.compiler.program import KernelCall, Program
from tapdot.compiler.sparsity import LayerStructure, Storage, StoredArray
from tapdot.kernels.fkw import FKW, csr_extra_bytes
from tapdot.kernels.patterns import picture

SPARSE_OPERATORS = frozenset({"SparseConv", "QSparseConv", "SparseGemm", "QSparseGemm"})
ARRAYS = slice(1, 7)
"""The operands that are FKW arrays."""


def layer_structures(graph: Graph, program: Program) -> tuple[LayerStructure, ...]:
    """Of every sparse node of a graph that was lowered to a program."""
    calls = {call.node: call for call in program.calls}
    return tuple(_of_node(graph, node, calls[node.name]) for node in graph.nodes if node.op in SPARSE_OPERATORS)


def _of_node(graph: Graph, node: Node, call: KernelCall) -> LayerStructure:
    stored = FKW(*(graph.constants[name] for name in node.inputs[ARRAYS]))  # type: ignore[arg-type]
    inputs = graph.type(node.inputs[0]).shape[1]
    kernel: tuple[int, ...] = node.attributes.get("kernel_shape", ())  # type: ignore[assignment]
    units = stored.groups * (-(-inputs // 4) if stored.by_quads else inputs)
    weights = stored.filters * inputs * math.prod(kernel)
    kinds = [graph.type(name) for name in node.inputs[ARRAYS]]
    kind = kinds[WEIGHT - ARRAYS.start]
    macs = node_macs(graph, node)
    return LayerStructure(
        node.name,
        node.op,
        "x".join(map(str, kernel)) or "fully connected",
        stored.filters,
        inputs,
        tuple(node.attributes.get("strides", ())),  # type: ignore[arg-type]
        stored.share,
        stored.kernels,
        units,
        () if stored.by_quads else tuple(picture(row) for row in stored.patterns.tolist()),
        {name: StoredArray(array.dtype, array.shape, array.bytes) for name, array in zip(stored.arrays, kinds, strict=True)},
        storage(stored, replace(kind, shape=(weights,)).bytes, kind.bytes),
        macs,
        macs // math.prod(graph.type(node.inputs[WEIGHT]).shape) * weights,
        call.family,
        dict(call.config),
    )


def storage(stored: FKW, dense_bytes: int, weight_bytes: int | None = None) -> Storage:
    """The bytes of one layer's arrays beside what other forms would take for the same weights.

    ``weight_bytes`` are those of the weights where they take less than their array: as many as a package's file has of them.
    """
    count = int(np.prod(stored.weight.shape))
    return Storage(
        dense_bytes,
        stored.weight.nbytes if weight_bytes is None else weight_bytes,
        stored.extra_bytes,
        csr_extra_bytes(count, stored.filters, 4),
        csr_extra_bytes(count, stored.filters, 2),
    )
