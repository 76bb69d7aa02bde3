"""Filter-kernel reorder, FKR (PatDNN, ASPLOS 2020, section 5.2): the order in which kernels visit filters.

Before::

    reorder [0 1 2 3], kernels left in each group [3 5 3 5]

After::

    reorder [1 3 0 2], kernels left in each group [5 5 3 3]

  1. Groups of filters are sorted by how many kernels are left in them, most first, so that groups of equal length follow each
     other and the work of threads can be balanced.
  2. Among groups of equal length, each is followed by the one that is most similar to it: that has most kernels of the same input
     and pattern in common.
  3. Share groups are never split: what is ordered are the groups.
  4. Inside a group, kernels are sorted by pattern, then by input, as :meth:`FKW.compress` leaves them.

Every result is still stored at its own channel's place (``reorder``), so no other node learns of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tapdot.compiler.graph import Graph, Node, unique_name
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.types import TensorType
from tapdot.kernels.fkw import FKW, Structure, smallest_index
from tapdot.passes.adopt_sparsity import SPARSE_FORMS

ARRAYS = slice(1, 7)
"""The operands of a sparse node that are FKW arrays."""
LARGEST_LENGTH_CLASS = 1024
"""Groups of equal length that are ordered by similarity at most, which takes time with the square of their number."""


def visiting_order(structure: Structure) -> NDArray[np.int64]:
    """``[O / share]``: the groups in the order of visits."""
    counts = structure.counts
    order: list[int] = []
    for length in np.unique(counts)[::-1]:  # (1)
        order += _by_similarity(np.asarray(structure.kept), np.flatnonzero(counts == length))  # (2)
    return np.array(order, np.int64)


def _by_similarity(kept: NDArray[np.integer], groups: NDArray[np.intp]) -> list[int]:
    """Each group followed by the most similar one that is left, the first of equals; beginning with the first."""
    if len(groups) < 3 or len(groups) > LARGEST_LENGTH_CLASS or not (kept[groups] >= 0).any():
        return [int(group) for group in groups]
    own = kept[groups]
    common = np.zeros((len(groups), len(groups)), np.float32)
    for pattern in range(int(own.max()) + 1):
        here = (own == pattern).astype(np.float32)
        common += here @ here.T
    places, here = [0], 0
    common[:, 0] = -1
    for _ in range(len(groups) - 1):
        here = int(common[here].argmax())
        places.append(here)
        common[:, here] = -1
    return [int(groups[place]) for place in places]


def reordered(stored: FKW, order: NDArray[np.integer]) -> FKW:
    """The same weights, their groups visited in another order (of original numbers)."""
    place_of = np.argsort(stored.reorder)
    places = place_of[np.asarray(order, np.int64)]
    offset = stored.offset.astype(np.int64)
    kernels = np.concatenate([np.arange(offset[place], offset[place + 1]) for place in places])
    counts = np.diff(offset)[places]
    return replace(
        stored,
        reorder=np.asarray(order).astype(stored.reorder.dtype),
        offset=np.concatenate([[0], np.cumsum(counts)]).astype(smallest_index(len(stored.index))),
        index=stored.index[kernels],
        stride=stored.stride[places],
        weight=stored.weight[kernels],
    )


@dataclass(frozen=True)
class ReorderFilters(Pass):
    """See the module."""

    def run(self, graph: Graph, notes: Notes) -> Graph:
        constants, types = dict(graph.constants), dict(graph.types)
        nodes: list[Node] = []
        changed = 0
        for node in graph.nodes:
            if node.op in SPARSE_FORMS.values():
                stored = arrays_of(graph, node)
                order = visiting_order(stored.structure(int(stored.index.max(initial=0)) + 1))
                if not np.array_equal(order, stored.reorder):
                    changed += 1
                    names = []
                    for name, array in zip(node.inputs[ARRAYS], reordered(stored, order).arrays.values(), strict=True):
                        own = name if len(graph.consumers[name]) == 1 else unique_name(name, types)
                        constants[own], types[own] = array, replace(TensorType.of(array), dtype=types[name].dtype)
                        names.append(own)
                    node = replace(node, inputs=(node.inputs[0], *names, *node.inputs[ARRAYS.stop :]))
            nodes.append(node)
        if not changed:
            return graph
        notes.add(f"Reordered the filters of {changed} layers by kernels left and by similarity of patterns.")
        return graph.replace(nodes=tuple(nodes), constants=constants, types=types).pruned()


def arrays_of(graph: Graph, node: Node) -> FKW:
    """The FKW arrays of a sparse node."""
    return FKW(*(graph.constants[name] for name in node.inputs[ARRAYS]))  # type: ignore[arg-type]
