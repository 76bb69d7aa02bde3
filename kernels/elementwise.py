"""Element-wise chains that no producer could take: one pass over memory, whatever the number of operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tapdot.kernels import epilogue
from tapdot.kernels.emit import Registers, Value, argument, load, load_partial, loop, splat, store, store_partial, write_halo
from tapdot.kernels.expression import leaves, operators, parse
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.layout import Layout
from tapdot.kernels.operands import FULL, SCALAR, ExtraOperands
from tapdot.kernels.parallel import pays
from tapdot.kernels.register_tile import segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, function
from tapdot.kernels.workload import Operand, Workload

ROW = "row"
"""An operand that repeats along the leading axes: its shape is that of the trailing ones."""
UNROLLED_VECTORS = 4
"""Vectors in the body of the innermost loop."""


def leaf_names(workload: Workload) -> list[str]:
    """What the expression calls the operands: ``acc``, ``r0``, ``r1``, ..."""
    return ["acc", *(f"r{index}" for index in range(len(workload.inputs) - 1))]


def flat_kind(operand: Operand, shape: tuple[int, ...]) -> str | None:
    """How an operand broadcasts over row-major memory of ``shape``: full, row, scalar, or None (not served)."""
    own = (1,) * (len(shape) - len(operand.shape)) + operand.shape
    if int(np.prod(own)) == 1:
        return SCALAR
    if own == shape:
        return FULL
    axes = [axis for axis, extent in enumerate(own) if extent != 1]
    return ROW if own[axes[0] :] == shape[axes[0] :] else None


@dataclass(frozen=True)
class FlatOperands:
    """The operands of a chain over row-major tensors of any rank; constants of any of the three kinds are packed as they are."""

    workload: Workload

    @property
    def kinds(self) -> list[str | None]:
        shape = self.workload.output.shape
        return [None if operand is None else flat_kind(operand, shape) for operand in self.workload.inputs]

    @property
    def rows(self) -> set[int]:
        """The lengths at which row operands repeat."""
        return {
            int(np.prod(operand.shape))
            for operand, kind in zip(self.workload.inputs, self.kinds, strict=True)
            if operand is not None and kind == ROW
        }

    def served(self) -> bool:
        """Whether every operand and every operator of the expression can be emitted."""
        tree = parse(self.workload["expression"])
        return (
            all(operand is not None and operand.dtype == "float32" for operand in self.workload.inputs)
            and None not in self.kinds
            and len(self.rows) <= 1
            and set(operators(tree)) <= epilogue.supported_operators()
            and set(leaves(tree)) <= set(leaf_names(self.workload))
        )


class ElementwiseChain(Family):
    """``Elementwise``: an expression over operands that broadcast to the result.

    Four-dimensional tensors are processed in channel vectors, where operands may be full, one number a channel, or scalar. Other
    ranks, and operands that repeat along leading axes, are processed in row-major order.
    """

    name = "elementwise"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "Elementwise" or not workload.inputs or any(operand is None for operand in workload.inputs):
            return False
        if workload.output.dtype != "float32" or all(operand.constant for operand in workload.inputs if operand):
            return False
        return self._in_vectors(workload) or FlatOperands(workload).served()

    @staticmethod
    def _in_vectors(workload: Workload) -> bool:
        """Whether the chain runs over channel vectors."""
        if len(workload.output.shape) != 4:
            return False
        operands = _channel_operands(workload)
        return operands.served() and FULL in operands.kinds

    def ports(self, workload: Workload, target: Target) -> Ports:
        lanes = target.isa.lanes
        if self._in_vectors(workload):
            return Ports(tuple(_channel_operands(workload).ports(lanes)), (Port((lanes,)),))
        return Ports(tuple(None if operand is None or operand.constant else Port() for operand in workload.inputs), (Port(),))

    # -- constants ----------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        if self._in_vectors(workload):
            return _channel_operands(workload).pack(constants, target.isa.lanes)
        return [np.asarray(constants[index], np.float32).reshape(-1) for index in sorted(constants)]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        if self._in_vectors(workload):
            return _channel_operands(workload).unpack(packed)
        return super().unpack(workload, config, target, packed)

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            if self._in_vectors(workload):
                _VectorEmitter(workload, target).emit()
            else:
                _FlatEmitter(workload, target).emit()
        return finished[0]


def _channel_operands(workload: Workload) -> ExtraOperands:
    return ExtraOperands(workload, 0, leaf_names(workload), "expression")


def _cycles(workload: Workload, target: Target) -> float:
    """Roughly what a chain costs: a few cycles an operator and vector."""
    return workload.output.elements / target.isa.lanes * 2 * (1 + len(operators(parse(workload["expression"]))))


class _VectorEmitter:
    """Writes a chain over channel vectors."""

    def __init__(self, workload: Workload, target: Target) -> None:
        self.workload, self.isa = workload, target.isa
        self.operands = _channel_operands(workload)
        self.expression = parse(workload["expression"])
        self.layout = workload.output.layout or Layout(target.isa.lanes)
        self.parallel = pays(_cycles(workload, target))

    def emit(self) -> None:
        lanes, result, layout = self.isa.lanes, self.workload.output, self.layout
        self.operands.declare_constants(lanes)
        self.operands.declare_variables()
        y = argument("y", result.elements, "float32")
        batch, channels, height, width = result.shape
        blocks = layout.blocks(channels)
        with loop(batch * blocks, parallel=self.parallel) as task:
            n, block = task // blocks, task % blocks
            write_halo(y, layout, result.shape, n, block, "float32", lanes)
            rows, columns = (1, height * width) if self._dense() else (height, width)
            with loop(rows) as row:
                for start, pieces, count in segments(columns, UNROLLED_VECTORS):
                    with loop(pieces) as piece:
                        for index in range(count):
                            column = start + piece * count + index
                            operands = self.operands.load(n, block, row, column, lanes)
                            value = epilogue.emit(self.expression, operands, self.isa, lanes)
                            store(y, layout.offset(result.shape, n, block, row, column), value, lanes)

    def _dense(self) -> bool:
        """Whether no full operand and not the result has a halo, so that a plane is one row."""
        full = [operand for operand, kind in zip(self.operands.operands, self.operands.kinds, strict=True) if kind == FULL]
        return not any(operand.layout and operand.layout.halo for operand in (*full, self.workload.output))


class _FlatEmitter:
    """Writes a chain over row-major memory."""

    def __init__(self, workload: Workload, target: Target) -> None:
        self.workload, self.isa = workload, target.isa
        self.expression = parse(workload["expression"])
        flat = FlatOperands(workload)
        self.kinds = flat.kinds
        self.length = next(iter(flat.rows), workload.output.elements)
        self.repeats = workload.output.elements // self.length
        self.parallel = pays(_cycles(workload, target))

    def emit(self) -> None:
        lanes, vectors = self.isa.lanes, self.length // self.isa.lanes
        operands = list(enumerate(self.workload.inputs))
        ordered = sorted(operands, key=lambda pair: not (pair[1] and pair[1].constant))
        buffers = {index: argument(f"x{index}", operand.elements, "float32") for index, operand in ordered if operand}
        self.buffers: list[Buffer] = [buffers[index] for index, _ in operands]
        self.y = argument("y", self.workload.output.elements, "float32")
        with loop(self.repeats, parallel=self.parallel) as repeat:
            base = repeat * self.length
            for start, pieces, count in segments(vectors, UNROLLED_VECTORS):
                with loop(pieces, parallel=self.parallel and self.repeats == 1) as piece:
                    for index in range(count):
                        self._vector(base, (start + piece * count + index) * lanes, lanes)
            if self.length % lanes:
                self._vector(base, vectors * lanes, self.length % lanes)

    def _vector(self, base: Value, place: Value, count: int) -> None:
        """``count`` elements from ``place`` on in the repetition that starts at ``base``; up to one vector."""
        lanes = self.isa.lanes
        operands = {}
        for name, buffer, kind in zip(leaf_names(self.workload), self.buffers, self.kinds, strict=True):
            if kind == SCALAR:
                operands[name] = splat(buffer[0], lanes)
                continue
            start = place if kind == ROW else base + place
            operands[name] = (
                load(buffer, start, lanes) if count == lanes else load_partial(Registers(1, lanes), buffer, start, count)
            )
        value = epilogue.emit(self.expression, operands, self.isa, lanes)
        if count == lanes:
            store(self.y, base + place, value, lanes)
        else:
            store_partial(Registers(1, lanes), self.y, base + place, value, count)
