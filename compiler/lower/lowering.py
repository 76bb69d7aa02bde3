"""The lowering: every node becomes one kernel call with packed weights and addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tapdot.compiler.costs import node_macs
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.lower.library import build_library
from tapdot.compiler.memory import CONSTANT, MemoryPlan
from tapdot.compiler.narrow_weights import NarrowArray, packed
from tapdot.compiler.operators import lookup
from tapdot.compiler.program import WEIGHTS, Argument, KernelCall, Program, Tensor
from tapdot.compiler.workloads import computes_nothing, constant_operands, workload_of
from tapdot.kernels.family import Config, Family
from tapdot.kernels.layout import ALIGNMENT, round_up, stored_dtype
from tapdot.kernels.numerics import NARROW_BITS
from tapdot.kernels.registry import select
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Workload

Configure = Callable[[Family, Workload, Target], Config]


def default_configuration(family: Family, workload: Workload, target: Target) -> Config:
    """The family's own default; tuning records may offer another."""
    return family.default_config(workload, target)


@dataclass(frozen=True)
class Lowered:
    """A program, the library with its code, and the arrays of its weights in the order they lie in ``weights.bin``."""

    program: Program
    library: Path
    weights: _Weights
    graph: Graph


@dataclass
class _Weights:
    """The block of packed weights while it grows; equal arrays are stored once."""

    arrays: list[np.ndarray] = field(default_factory=list)
    size: int = 0
    narrow: list[NarrowArray] = field(default_factory=list)
    """Arrays of which the file holds few bits, in order."""
    _places: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, array: np.ndarray, bits: int = 8) -> int:
        """The byte offset of an array, which is added unless an equal one is there; its codes may be of so few bits."""
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, hashlib.sha256(array.view(np.uint8).data if array.size else b"").hexdigest())
        if key not in self._places:
            self._places[key] = self.size
            self.arrays.append(array)
            limit = 2 ** (bits - 1)
            if bits < 8 and array.dtype == np.int8 and array.size and -limit <= array.min() and array.max() < limit:
                found = NarrowArray(self.size, array.size, bits)
                self.narrow += [found] * (found.stored_bytes < found.memory_bytes)
            self.size = round_up(self.size + array.nbytes, ALIGNMENT)
        return self._places[key]

    @property
    def block_bytes(self) -> int:
        """Bytes of the whole block, which is never empty: what is passed to a program must have an address."""
        return max(self.size, ALIGNMENT)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes of the block in the file, piece by piece."""
        bits, offset = {array.offset: array.bits for array in self.narrow}, 0
        for array in self.arrays:
            start, offset = offset, round_up(offset + array.nbytes, ALIGNMENT)
            if start in bits and array.size:
                yield from packed(array, bits[start])
                continue
            yield array.reshape(-1).view(np.uint8).data if array.size else b""
            yield bytes(round_up(array.nbytes, ALIGNMENT) - array.nbytes)
        yield bytes(self.block_bytes - self.size)


def lower(
    graph: Graph,
    plan: MemoryPlan,
    target: Target,
    configure: Configure = default_configuration,
    outputs: Sequence[str] | None = None,
) -> Lowered:
    """Packs weights, builds and links the kernels and the entry function.

    ``graph`` has layouts assigned and ``plan`` says where its values lie; ``outputs`` are the names its outputs have for the
    caller, where a copy for the caller has given the value another. Code is cached by workload, so a model compiled before
    builds nothing, and other weights link nothing.
    """
    weights = _Weights()
    calls: list[KernelCall] = []
    builders: dict[str, Callable[[], object]] = {}
    for node in graph.nodes:
        if node.name in plan.vanished or computes_nothing(graph, node):
            continue
        workload = workload_of(graph, node)
        family = select(workload, target)
        config = configure(family, workload, target)
        symbol = family.symbol(workload, config, target)
        builders[symbol] = _builder(family, workload, config, target, symbol)
        constants = constant_operands(graph, node)
        arrays = family.pack(workload, config, target, constants)
        bits = min((NARROW_BITS[x.dtype] for x in workload.inputs if x and x.dtype in NARROW_BITS), default=8)
        arguments = [Argument(WEIGHTS, 0, weights.add(array, bits), array.size, array.dtype.name) for array in arrays]
        names = [name for index, name in enumerate(node.inputs) if _is_variable(graph, node, index)]
        arguments += [_argument(graph, plan, name) for name in (*names, *filter(None, node.outputs))]
        calls.append(
            KernelCall(
                node.name,
                symbol,
                family.name,
                family.version,
                family.fast,
                workload,
                config,
                tuple(arguments),
                len(arrays),
                {index: node.inputs[index] for index in constants},
                tuple(names),
                tuple(filter(None, node.outputs)),
                node_macs(graph, node),
            )
        )
    program = Program(
        tuple(Tensor(name, graph.type(name).shape, graph.type(name).dtype) for name in graph.inputs),
        tuple(
            Tensor(public, graph.type(name).shape, graph.type(name).dtype)
            for public, name in zip(_public_names(graph, outputs), graph.outputs, strict=True)
        ),
        tuple(calls),
        round_up(max(plan.arena_bytes, 1), ALIGNMENT),
        plan.lower_bound_bytes,
        weights.block_bytes,
    )
    return Lowered(program, build_library(program, builders, target), weights, graph)


def _builder(family: Family, workload: Workload, config: Config, target: Target, symbol: str) -> Callable[[], object]:
    return lambda: family.build(workload, config, target, symbol)


def _public_names(graph: Graph, outputs: Sequence[str] | None) -> list[str]:
    """One name for each output; a value returned twice has its second copy under the graph's own name for that."""
    names: list[str] = []
    for public, own in zip(outputs or graph.outputs, graph.outputs, strict=True):
        names.append(own if public in names else public)
    return names


def _is_variable(graph: Graph, node: Node, index: int) -> bool:
    name = node.inputs[index]
    return bool(name) and name not in graph.constants and not lookup(node.op).is_static(index)


def _argument(graph: Graph, plan: MemoryPlan, value: str) -> Argument:
    place, kind = plan.places[value], graph.type(value)
    assert place.space != CONSTANT
    item = np.dtype(kind.dtype).itemsize
    return Argument(place.space, place.index, place.offset, kind.bytes // item, stored_dtype(kind.dtype, kind.layout))
