"""Equal computations on equal operands are done once.

Before::

    %a = Relu(%x)
    %b = Relu(%x)
    %c = Add(%a, %b)

After::

    %a = Relu(%x)
    %c = Add(%a, %a)

Constants of equal type and bytes count as equal operands, so that equal convolutions with weights stored twice meet too. They
stay separate constants: layers that only start out equal must not be tied together by training.

Legal where
  1. operators, operands and attributes agree, a default written out or not; operands of Add and Mul in either order,
  2. the second's results are no outputs of the graph, which needs each of its outputs made under its own name,
  3. the operator is a function: given the same operands it makes the same results, as every entry of the table does,
  4. the first names every result that the second does: an optional result left out is not there to be read.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.rewrite import COMMUTATIVE


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """See the module."""

    tolerance = 0.0

    def run(self, graph: Graph, notes: Notes) -> Graph:
        same = equal_constants(graph.constants)
        merged: dict[str, str] = {}
        outputs = set(graph.outputs)
        first: dict[Hashable, Node] = {}
        kept: list[Node] = []
        for node in graph.nodes:
            node = replace(node, inputs=tuple(merged.get(name, name) for name in node.inputs))
            twin = first.setdefault(_key(node, same), node)  # (1)
            if twin is not node and outputs.isdisjoint(node.outputs) and _makes(twin, node):  # (2), (4)
                merged.update((mine, its) for mine, its in zip(node.outputs, twin.outputs, strict=False) if mine)
            else:
                kept.append(node)
        if not merged:
            return graph
        return graph.replace(nodes=tuple(kept)).pruned()


def _makes(twin: Node, node: Node) -> bool:
    """Criterion 4."""
    its = (*twin.outputs, *("",) * len(node.outputs))
    return all(name for name, wanted in zip(its, node.outputs, strict=False) if wanted)


SAMPLE = 256
"""Elements looked at before whole arrays are compared."""


def equal_constants(constants: Mapping[str, np.ndarray]) -> dict[str, str]:
    """For every constant that repeats an earlier one, the earlier one's name."""
    alike: dict[Hashable, list[str]] = {}
    same: dict[str, str] = {}
    for name, array in constants.items():
        flat = array.reshape(-1)
        key = (array.dtype.str, array.shape, flat[:: max(1, flat.size // SAMPLE)].tobytes())
        earlier = alike.setdefault(key, [])
        twin = next((other for other in earlier if _same_bytes(constants[other], array)), None)
        if twin is None:
            earlier.append(name)
        else:
            same[name] = twin
    return same


def _same_bytes(left: np.ndarray, right: np.ndarray) -> bool:
    """Equality that tells 0.0 from -0.0 and finds NaN equal to itself."""
    return left is right or bool((left.reshape(-1).view(np.uint8) == right.reshape(-1).view(np.uint8)).all())


def _key(node: Node, same: Mapping[str, str]) -> Hashable:
    """Equal for nodes that compute the same."""
    inputs = tuple(same.get(name, name) for name in node.inputs)
    if node.op in COMMUTATIVE and len(inputs) == 2:
        inputs = tuple(sorted(inputs))
    settings = lookup(node.op).defaults(node.attributes)
    return node.op, inputs, tuple(sorted(settings.items()))
