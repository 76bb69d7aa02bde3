"""On which side values lie, in blocks of channels or in planar rows, so that copies and kernels together cost least.

Kernels for dense weights keep channels in blocks of sixteen, those for sparse weights in planar rows; some, such as pools, take
either, as long as all their operands lie alike, and a layer that is pruned has a kernel on each side. Where a value is read on
another side than it was written on stands a copy, one for all who read there. The assignment of least cost is a minimum cut
(Greig, Porteous and Seheult, 1989), which networkx finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping

import networkx

from tapdot.compiler.errors import ModelError
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.types import TensorType
from tapdot.compiler.workloads import VIEWS, computes_nothing, workload_of
from tapdot.kernels.family import ROW_MAJOR, Port, Ports
from tapdot.kernels.registry import NoFamilyError, select
from tapdot.kernels.target import Target

BLOCKS, PLANES = "blocks", "planes"
"""The sides; what is row-major counts as planes."""


def ports_of(graph: Graph, node: Node, target: Target) -> Ports:
    """What the kernel that serves a node reads and writes; row-major of a view. Raises ModelError where there is no kernel."""
    if node.op in VIEWS or computes_nothing(graph, node):
        return Ports(tuple(ROW_MAJOR for _ in node.inputs), tuple(ROW_MAJOR for _ in node.outputs))
    workload = workload_of(graph, node, layouts=False)
    try:
        return select(workload, target).ports(workload, target)
    except NoFamilyError as error:
        kinds = ", ".join(str(graph.type(name)) for name in node.inputs if name)
        raise ModelError(
            f"No kernel serves the {node.op} node {node.name!r} with operands {kinds} on target {target.name}. "
            "Replace the operator in the model, or report it with the model's graph as `tapdot inspect` prints it."
        ) from error


def choose_sides(
    graph: Graph,
    ports: Mapping[str, Ports],
    copy: Callable[[TensorType], float],
    layers: Mapping[str, tuple[float, float]] | None = None,
) -> Mapping[str, str]:
    """The side of every node, by its name.

    ``ports`` are those of all nodes; ``copy`` is what it costs to copy a value to the other side; ``layers`` are nodes with a
    kernel on each side, and what these cost: in blocks, and in planes. Nodes that could be on either side at the same cost are
    in blocks.
    """
    layers = layers or {}
    cut = networkx.DiGraph()
    cut.add_nodes_from((BLOCKS, PLANES))
    for node in graph.nodes:
        if node.name in layers:
            in_blocks, in_planes = layers[node.name]
            _pay(cut, node.name, PLANES, in_blocks)
            _pay(cut, BLOCKS, node.name, in_planes)
            continue
        sides = {side for port in ports[node.name].outputs[:1] for side in sides_of(port)}
        if sides == {BLOCKS}:
            _pay(cut, BLOCKS, node.name, math.inf)
        elif sides == {PLANES}:
            _pay(cut, node.name, PLANES, math.inf)
    for value, readers in _values(graph, ports, layers):
        producer = graph.producer(value)
        writer = PLANES if producer is None else producer.name
        price = copy(graph.type(value))
        # An artificial node each way, so that one copy serves all readers.
        _pay(cut, writer, f"{value} in {PLANES}", price)
        _pay(cut, f"{value} in {BLOCKS}", writer, price)
        for reader in readers:
            _pay(cut, f"{value} in {PLANES}", reader, math.inf)
            _pay(cut, reader, f"{value} in {BLOCKS}", math.inf)
    _, (_, planes) = networkx.minimum_cut(cut, BLOCKS, PLANES)
    return {node.name: PLANES if node.name in planes else BLOCKS for node in graph.nodes}


def sides_of(port: Port) -> frozenset[str]:
    """Where an operand may lie."""
    return frozenset(PLANES if block == 1 else BLOCKS for block in port.blocks) or frozenset({PLANES})


def _pay(cut: networkx.DiGraph, tail: str, head: str, price: float) -> None:
    """``price`` is paid where ``tail`` is in blocks and ``head`` in planes."""
    if tail in (head, PLANES) or head == BLOCKS or not price:
        return
    before = cut[tail][head].get("capacity", math.inf) if cut.has_edge(tail, head) else 0.0
    attributes = {} if math.isinf(before + price) else {"capacity": before + price}  # networkx: no capacity is an infinite one
    if cut.has_edge(tail, head):
        cut.remove_edge(tail, head)
    cut.add_edge(tail, head, **attributes)


def _values(graph: Graph, ports: Mapping[str, Ports], layers: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """Every value over planes, and its readers that want it on a side: that side, or the node that may be on either."""
    for value, kind in graph.types.items():
        if kind.rank != 4 or value in graph.constants:
            continue
        readers = [PLANES] * graph.outputs.count(value)
        for node in graph.consumers[value]:
            if node.name in layers:
                readers.append(node.name)
                continue
            inputs = ports[node.name].inputs
            index = node.inputs.index(value)
            sides = sides_of(inputs[index] or ROW_MAJOR) if index < len(inputs) else frozenset({PLANES})
            if len(sides) == 1:
                readers += sides
            elif ports[node.name].uniform:
                readers.append(node.name)
        if readers:
            yield value, list(dict.fromkeys(readers))
