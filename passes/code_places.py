"""Which tensors of a float graph will be codes: where calibration puts FakeQuantize. See ``passes.calibrate`` for the rules.

Terms: a *sum* is a convolution or matrix product with constant weights, whose result is an int32 accumulator. A *move* gives
elements new places. A *function* is an expression of one tensor, whatever its shape: with codes it is a table. A *linear*
element-wise operator works on accumulators as it does on reals, so a chain of them needs codes at its end only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tapdot.compiler.editor import Value
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup
from tapdot.passes.fuse import may_be_extra
from tapdot.passes.movement import MAXIMA, MOVES, POOLS

SUMS = ("Conv", "Gemm")
LINEAR = ("Add", "Sub", "Relu", "Clip", "Max", "Min")
ARITHMETIC = (*LINEAR, "Mul", "PRelu")
"""Element-wise operators that integers can do with several tensors, or constants by channel."""
NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softplus", "Exp", "Abs", "Sqrt", "Softmax", "GlobalLpPool", "LpPool")
SIGN_KEEPING = (*POOLS, *MAXIMA, *MOVES, "Concat", "Add", "Mul", "Sum", "Mean", "HardSwish", "LeakyRelu", "LRN")
"""Operators that make nothing negative of what never is."""


@dataclass(frozen=True)
class Function:
    """A value as an expression of one tensor."""

    source: str
    curved: bool
    """Whether integers need a table for it."""
    inner: frozenset[str] = frozenset()
    """Values between source and result, which nobody else reads."""


@dataclass(frozen=True)
class Places:
    """The answer."""

    scales: Mapping[str, str]
    """For each value that gets codes, in order, the value whose range decides its scale: itself, or the result of a Concat."""


def operands(node: Node) -> tuple[str, ...]:
    """Operands that take part in the computation, constants included; shapes and bounds left out."""
    entry = lookup(node.op)
    return tuple(name for index, name in enumerate(node.inputs) if name and not entry.is_static(index))


class Placement:
    """Works the answer out; the methods are the steps."""

    def __init__(self, graph: Graph, *, sums_at_the_end: bool = False) -> None:
        self.graph = graph
        self.sums_at_the_end = sums_at_the_end
        """Whether sums that no integer node reads get codes as well (rule 8)."""

    def places(self) -> Places:
        """Every value that gets codes."""
        quantized = [name for name in self._in_order() if self._is_place(name)]
        scales = {name: name for name in quantized}
        for node in reversed(self.graph.nodes):  # a Concat that feeds another one knows its scale before its branches do
            if node.op == "Concat" and node.output in scales:
                for operand in node.inputs:
                    if (branch := self._origin_for(operand, node)) in scales:
                        scales[branch] = scales[node.output]
        return Places(scales)

    def _in_order(self) -> Iterator[str]:
        yield from self.graph.inputs
        for node in self.graph.nodes:
            yield from (name for name in node.outputs if name)

    # -- questions of one node or value ------------------------------------------------------------------------------------

    def is_real(self, name: str) -> bool:
        """Whether a value is a float tensor computed at run time."""
        return bool(name) and name not in self.graph.constants and self.graph.type(name).dtype == "float32"

    def is_sum(self, node: Node) -> bool:
        """Whether a node is a convolution or matrix product with constant weights."""
        known = all(name in self.graph.constants for name in node.inputs[1:] if name)
        plain = node.op != "Gemm" or not node.attributes
        return node.op in SUMS and known and plain and self.is_real(node.inputs[0]) and self.is_real(node.output)

    def is_move(self, node: Node) -> bool:
        """Whether a node only gives elements of its first operand new places, or zeros beside them."""
        if node.op == "Pad":
            return pads_with_zeros(self.graph, node)
        if node.op == "Resize":
            given = lookup("Resize").defaults(node.attributes)
            return bool(given["mode"] == "nearest" and given["coordinate_transformation_mode"] != "tf_crop_and_resize")
        if node.op == "Gather":
            return node.inputs[1] in self.graph.constants
        return node.op in MOVES

    def is_elementwise(self, node: Node) -> bool:
        """Whether a node computes floats element by element."""
        return lookup(node.op).elementwise and node.op != "Identity" and self.is_real(node.output)

    def tensors(self, node: Node) -> tuple[str, ...]:
        """Operands computed at run time, each once."""
        return tuple(dict.fromkeys(name for name in node.inputs if name and name not in self.graph.constants))

    def is_read_only_by(self, name: str, node: Node) -> bool:
        """Whether nobody else, nor the caller, sees a value."""
        return name not in self.graph.outputs and all(reader is node for reader in self.graph.consumers[name])

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.graph.type(name).shape

    # -- functions of one tensor -------------------------------------------------------------------------------------------

    @cached_property
    def functions(self) -> Mapping[str, Function]:
        """Results of element-wise nodes that are functions of one tensor (rule 3)."""
        found: dict[str, Function] = {}
        for node in self.graph.nodes:
            if self.is_elementwise(node) and (function := self._function(node, found)) is not None:
                found[node.output] = function
        return found

    def _function(self, node: Node, found: Mapping[str, Function]) -> Function | None:
        constants = self.graph.constants
        numbers = [constants[name] for name in operands(node) if name in constants]
        tensors = self.tensors(node)
        if not tensors or any(array.size != 1 for array in numbers):
            return None
        if any(not self.is_real(name) or self._shape(name) != self._shape(node.output) for name in tensors):
            return None
        first = tensors[0]
        if len(tensors) == 1:
            known = found.get(first)
            if known is not None and known.curved and self.is_read_only_by(first, node):
                return Function(known.source, True, known.inner | {first})
            is_linear = node.op in LINEAR or (node.op == "Mul" and bool(numbers))
            turned = node.op == "Sub" and node.inputs[0] in constants
            return Function(first, not is_linear or turned)
        ways = [dict(self._way_back(name, node, found)) for name in tensors]
        source = next((name for name in ways[0] if all(name in way for way in ways)), None)
        if source is None:
            return None
        return Function(source, True, frozenset().union(*(way[source] for way in ways)))

    def _way_back(self, name: str, reader: Node, found: Mapping[str, Function]) -> Iterator[tuple[str, frozenset[str]]]:
        """The values that ``name`` is a function of, nearest first, each with what lies between it and ``reader``."""
        inner: frozenset[str] = frozenset()
        yield name, inner
        while name in found and self.is_read_only_by(name, reader):
            inner |= {name} | found[name].inner
            reader, name = self.graph.producers[name], found[name].source
            yield name, inner

    @cached_property
    def inner(self) -> frozenset[str]:
        """Values inside functions: never codes."""
        return frozenset().union(*(function.inner for function in self.functions.values()))

    def is_curved(self, name: str) -> bool:
        """Whether a value is the result of a table."""
        return name in self.functions and self.functions[name].curved

    # -- who can compute with integers -------------------------------------------------------------------------------------

    def _is_arithmetic(self, node: Node) -> bool:
        """Whether a node computes element by element, and integers can do it given codes."""
        if not self.is_elementwise(node) or node.output in self.functions:
            return self.is_elementwise(node)
        return node.op in ARITHMETIC and all(self.is_real(name) for name in self.tensors(node))

    @cached_property
    def integer(self) -> frozenset[str]:
        """Values that integers have come into: what sums and pools make, and what is made of that."""
        found: set[str] = set()
        for node in self.graph.nodes:
            passes = node.op in MAXIMA or self.is_move(node) or node.op == "Concat"
            passes = passes or self._is_arithmetic(node)
            if self.is_sum(node) or self._is_pool(node) or (passes and any(name in found for name in node.inputs)):
                found.update(name for name in node.outputs if self.is_real(name))
        return frozenset(found)

    def _is_pool(self, node: Node) -> bool:
        return node.op in POOLS and self.is_real(node.output)

    @cached_property
    def wanted(self) -> frozenset[str]:
        """Values that some integer node wants as codes, directly or moved."""
        found: set[str] = set()
        for node in reversed(self.graph.nodes):
            result = node.output
            is_wanted = any(name in found for name in node.outputs)
            if self.is_sum(node) or self._is_pool(node):
                found.add(node.inputs[0])
            elif node.op == "Concat" or self.is_move(node):
                found.update(self.tensors(node) if is_wanted else ())
            elif node.op in MAXIMA:
                found.update(self.tensors(node) if is_wanted or result in self.integer else ())
            elif (is_wanted or result in self.integer) and self._is_arithmetic(node) and result not in self.inner:
                is_table = self.is_curved(result)
                found.update([self.functions[result].source] if is_table else self._operands_with_codes(node))
        return frozenset(name for name in found if self.is_real(name))

    def _operands_with_codes(self, node: Node) -> Iterator[str]:
        """What an element-wise node reads as codes: all but the operand whose accumulator it goes on with (rule 2)."""
        goes_on = self._goes_on_with(node)
        return (name for name in self.tensors(node) if name != goes_on)

    # -- chains on accumulators --------------------------------------------------------------------------------------------

    def _goes_on_with(self, node: Node) -> str | None:
        """The operand that joins a linear node without codes; where several could, the one that ``fuse`` joins (rule 2)."""
        if node.op not in LINEAR or self.is_curved(node.output) or node.output in self.inner:
            return None
        shape, constants = self._shape(node.output), self.graph.constants
        candidates = []
        for name in self.tensors(node):
            hosted = name in self.hosted
            others = [Value(n, self.graph.type(n), constants.get(n)) for n in operands(node) if n != name]
            joins = not hosted or all(may_be_extra(value, shape) for value in others)
            if self._shape(name) == shape and self.is_read_only_by(name, node) and joins:
                candidates.append((hosted, self._positions[name], name))
        _, _, last = max(candidates, default=(False, 0, None))
        producer = None if last is None else self.graph.producer(last)
        if producer is None or last in self.inner or self.is_curved(last or ""):
            return None
        is_chain = self._is_arithmetic(producer)
        return last if self.is_sum(producer) or is_chain else None

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        positions = {name: index for index, node in enumerate(self.graph.nodes) for name in node.outputs}
        return {**dict.fromkeys(self.graph.inputs, -1), **positions}

    @cached_property
    def hosted(self) -> frozenset[str]:
        """Values that a sum computes in its epilogue after ``fuse``."""
        found: set[str] = set()
        for node in self.graph.nodes:
            if self.is_sum(node):
                found.add(node.output)
            elif self.is_elementwise(node):
                function = self.functions.get(node.output)
                inside = {node.output, *function.inner} if function else {node.output}
                for name in (function.source,) if function else self.tensors(node):
                    readers = {reader.output for reader in self.graph.consumers[name]}
                    same = self._shape(name) == self._shape(node.output) and name not in self.graph.outputs
                    if name in found and same and readers <= inside:
                        found.add(node.output)
        return frozenset(found)

    # -- the decision ------------------------------------------------------------------------------------------------------

    def _is_place(self, name: str) -> bool:
        if not self.is_real(name) or name in self.inner:
            return False
        node = self.graph.producer(name)
        if node is not None and (self.is_move(node) or node.op in MAXIMA):  # (4)
            return False
        if name in self.wanted or node is None:
            return name in self.wanted
        if self.is_sum(node):
            return self.sums_at_the_end and not self._is_chained(name)  # (8)
        if self._is_pool(node):
            return True
        return self.is_elementwise(node) and name in self.integer and not self._is_chained(name)

    def _is_chained(self, name: str) -> bool:
        """Whether the only reader goes on with the value's accumulator."""
        readers = self.graph.consumers[name]
        return name not in self.graph.outputs and bool(readers) and self._goes_on_with(readers[0]) == name

    def _origin_for(self, name: str, reader: Node) -> str | None:
        """The value whose codes are moved into ``reader`` and nowhere else; None where somebody else reads them."""
        while self.is_read_only_by(name, reader):
            producer = self.graph.producer(name)
            if producer is None or not (self.is_move(producer) or producer.op in MAXIMA) or len(producer.outputs) > 1:
                return name
            reader, name = producer, producer.inputs[0]
        return None


def pads_with_zeros(graph: Graph, node: Node) -> bool:
    """Whether a Pad adds zeros or elements of its operand."""
    fill = graph.constants.get(node.operand(2), np.zeros(1))
    return node.attributes.get("mode", "constant") != "constant" or not np.any(fill)


def never_negative(graph: Graph, inputs: Sequence[str]) -> frozenset[str]:
    """Values that cannot be negative where ``inputs`` of the graph never are, whatever calibration happened to see."""
    found = set(inputs)
    for node in graph.nodes:
        reads = operands(node)
        known = [bool(np.all(graph.constants[n] >= 0)) if n in graph.constants else n in found for n in reads]
        if node.op in NEVER_NEGATIVE or (node.op == "Mul" and reads[0] == reads[1]):
            is_known = True
        elif node.op in ("Pad", "Resize"):  # a cubic interpolation overshoots
            plain = pads_with_zeros(graph, node) if node.op == "Pad" else node.attributes.get("mode") != "cubic"
            is_known = plain and all(known)
        elif node.op == "Clip":
            low = graph.constants.get(node.operand(1))
            is_known = any(known) or (low is not None and bool(np.all(low >= 0)))
        elif node.op == "Max":
            is_known = any(known)
        else:
            is_known = (node.op in SIGN_KEEPING or node.op == "Min") and all(known)
        if is_known:
            found.update(node.outputs)
    return frozenset(found)
