"""One arena for everything between the first kernel and the last, planned from liveness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.memory import ARENA, CONSTANT, INPUT, OUTPUT, MemoryPlan, Place
from tapdot.compiler.types import DTYPES, TensorType
from tapdot.compiler.workloads import VIEWS
from tapdot.kernels.layout import ALIGNMENT, READ_SLACK, Layout, round_up
from tapdot.passes.assign_layouts import is_channel_concat


@dataclass
class _Buffer:
    """Values that share storage: a root and others at byte offsets inside it."""

    root: str
    size: int
    members: dict[str, int]
    first: int = 0
    last: int = 0


def plan_memory(graph: Graph) -> MemoryPlan:
    """Plans storage for a graph whose layouts are assigned.

    1. A view's result is its operand.
    2. A branch of a channel concatenation is a slice of the result where layouts are equal, the branch fills whole channel
       blocks, it begins at a whole vector of channels, it is no input, constant or output of the graph, and it is not already a
       slice of another buffer.
    3. An output of the graph that is a kernel's result is written by that kernel into the caller's buffer.
    4. Two buffers overlap only if no value of one is alive while a value of the other is. A kernel's operands and results are
       alive together.
    5. ``READ_SLACK`` bytes behind every buffer of the arena belong to the arena: other buffers, or what follows the last.

    Placement is greedy by size: each buffer, largest first, goes to the lowest gap that fits among those alive with it.
    """
    buffers, vanished = _share(graph)
    order = {node.name: step for step, node in enumerate(graph.nodes)}
    outputs = {value: index for index, value in enumerate(graph.outputs)}
    inputs = {value: index for index, value in enumerate(graph.inputs)}
    places: dict[str, Place] = {name: Place(CONSTANT, 0, 0) for name in graph.constants}
    planned: list[_Buffer] = []
    for buffer in buffers:
        outside = [value for value in buffer.members if value in outputs]
        if buffer.root in inputs:
            _put(places, buffer, INPUT, inputs[buffer.root], 0)
        elif outside:
            _put(places, buffer, OUTPUT, outputs[outside[0]], 0)  # (3)
        else:
            steps = [order[producer.name] for value in buffer.members if (producer := graph.producer(value))]
            steps += [order[node.name] for value in buffer.members for node in graph.consumers[value]]
            buffer.first, buffer.last = min(steps), max(steps)
            planned.append(buffer)
    arena = 0
    placed: list[tuple[_Buffer, int]] = []
    for buffer in sorted(planned, key=lambda candidate: (-candidate.size, candidate.first)):
        together = sorted(
            (offset, offset + other.size) for other, offset in placed if other.first <= buffer.last and buffer.first <= other.last
        )
        offset = 0
        for start, stop in together:
            if offset + buffer.size <= start:
                break
            offset = max(offset, stop)
        placed.append((buffer, offset))
        _put(places, buffer, ARENA, 0, offset)
        arena = max(arena, offset + buffer.size)
    alive = [sum(b.size for b in planned if b.first <= step <= b.last) for step in range(len(graph.nodes))]
    slack = READ_SLACK if placed else 0  # (5)
    return MemoryPlan(places, arena + slack, max(alive, default=0) + slack, vanished)


def _put(places: dict[str, Place], buffer: _Buffer, space: str, index: int, offset: int) -> None:
    for value, inside in buffer.members.items():
        places[value] = Place(space, index, offset + inside)


def _share(graph: Graph) -> tuple[list[_Buffer], frozenset[str]]:
    """Buffers after views and concatenations have been folded into each other, and the nodes that vanished."""
    buffers = {
        name: _Buffer(name, round_up(max(kind.bytes, 1), ALIGNMENT), {name: 0})
        for name, kind in graph.types.items()
        if name not in graph.constants
    }
    vanished: set[str] = set()
    fixed = set(graph.inputs) | set(graph.outputs)

    def merge(value: str, into: str, offset: int) -> None:
        inner, outer = buffers[value], buffers[into]
        for member, inside in inner.members.items():
            outer.members[member] = outer.members[into] + offset + inside - inner.members[value]
            buffers[member] = outer

    for node in graph.nodes:
        if node.op in VIEWS and node.inputs[0] not in graph.constants:
            whole, part = buffers[node.inputs[0]], buffers[node.output]
            ends = [value for value in (*whole.members, *part.members) if value in fixed]
            if len(ends) <= 1 or whole is part:
                merge(node.output, node.inputs[0], 0)  # (1)
                vanished.add(node.name)
    for node in graph.nodes:
        if is_channel_concat(graph, node) and _in_slices(graph, node, buffers, fixed):
            offset = 0
            for value in node.inputs:
                merge(value, node.output, offset)  # (2)
                offset += _slice_bytes(graph, value)
            vanished.add(node.name)
    return list({id(buffer): buffer for buffer in buffers.values()}.values()), frozenset(vanished)


def _slice_bytes(graph: Graph, value: str) -> int:
    """Bytes that a branch takes in the result of a concatenation."""
    kind = graph.type(value)
    return kind.bytes if kind.layout is not None else kind.elements * DTYPES[kind.dtype].itemsize


def _in_slices(graph: Graph, node: Node, buffers: Mapping[str, _Buffer], fixed: set[str]) -> bool:
    """Legality of placing all branches inside the result (2)."""
    result = graph.type(node.output)
    block = (result.layout or Layout()).channel_block
    offset = 0
    for index, value in enumerate(node.inputs):
        kind, buffer = graph.type(value), buffers[value]
        last = index == len(node.inputs) - 1
        if kind.layout != result.layout or (kind.shape[1] % block and not last) or node.inputs.count(value) > 1:
            return False
        if buffer.root != value or fixed.intersection(buffer.members) or offset % _alignment(result):
            return False
        offset += _slice_bytes(graph, value)
    return True


def _alignment(kind: TensorType) -> int:
    """Bytes at whose multiples a slice may begin: no vector of channels lies across a cache line then."""
    if kind.layout is None or kind.layout.channel_block == 1:
        return ALIGNMENT
    return min(ALIGNMENT, kind.layout.channel_block * DTYPES[kind.dtype].itemsize)
