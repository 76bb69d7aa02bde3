"""Sums of codes: average pools over windows, and over whole planes. What an average divides by is in the epilogue.

Both are depthwise convolutions whose weights are ones (:mod:`kernels.integer_windows`), so four positions are one dot. The halo
holds the code of a real zero: zero point and offset leave with a constant, whatever a window covers. Max pools are in
:mod:`kernels.pooling`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tapdot.kernels.emit import Registers, Value, argument, loop, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.integer_depthwise_plan import BLOCK, DOT, Plan, Slots, Windows, default_config, settle, space
from tapdot.kernels.integer_epilogue import IntegerEpilogue
from tapdot.kernels.integer_rows import PositionEpilogue
from tapdot.kernels.integer_windows import WindowSums
from tapdot.kernels.isa.integer import IntegerVectors
from tapdot.kernels.isa.tap_gather import TapGather
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.planar_chains import PLANAR, emit_plane_sums, in_planar_rows
from tapdot.kernels.register_tile import segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function
from tapdot.kernels.workload import Operand, Workload

INDEPENDENT_SUMS = 4
"""Sums of one plane in flight, to hide the latency of a dot."""

ARRANGEMENTS: list[Slots] = [tuple(tap if tap < count else None for tap in range(DOT)) for count in range(1, DOT + 1)]
"""Weights of a dot over the first 1, 2, 3 or 4 of its positions."""


def _input(workload: Workload) -> Operand:
    x = workload.inputs[0]
    assert x is not None
    return x


def _serves(workload: Workload, target: Target, op: str) -> bool:
    if workload.op != op or not workload.inputs or workload.inputs[0] is None:
        return False
    x = _input(workload)
    return len(x.shape) == 4 and x.dtype in CODES and not x.constant and IntegerEpilogue(workload, 1, target.isa).served()


def _ones(arrangements: Sequence[Slots], vectors: IntegerVectors) -> np.ndarray:
    """Weights of one wherever an arrangement has a tap, the same for every channel."""
    weights = np.array([[tap is not None for tap in slots] for slots in arrangements], np.int8)
    return vectors.pack_weights(np.repeat(weights[:, np.newaxis], vectors.lanes, axis=1)).reshape(-1)


def _offset(x: Operand, vectors: IntegerVectors) -> int:
    """What the dots multiply, less the codes of the graph."""
    return (0 if x.layout is None else x.layout.code_offset) + vectors.operand_offset(x.stored_dtype)


class _Sums(Family):
    """What both families share: the packed arrays are ones, and what the epilogue wants."""

    def _arrangements(self, workload: Workload, config: Config, target: Target) -> Sequence[Slots]:
        raise NotImplementedError

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        gather = TapGather(target)
        ones = _ones(self._arrangements(workload, config, target), gather.vectors)
        return [*gather.tables, ones, *IntegerEpilogue(workload, 1, target.isa).pack(constants)]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        return IntegerEpilogue(workload, 1, target.isa).unpack(packed[len(TapGather(target).tables) + 1 :])


class IntegerSumPooling(_Sums):
    """``QSumPool`` over four dimensions. Its configuration is that of a depthwise convolution."""

    name = "integer_sum_pooling"

    def serves(self, workload: Workload, target: Target) -> bool:
        return _serves(workload, target, "QSumPool") and min(workload["pads"]) >= 0

    def ports(self, workload: Workload, target: Target) -> Ports:
        extras = IntegerEpilogue(workload, 1, target.isa).ports()
        return Ports((Port((BLOCK,), Windows(workload, target.isa).halo), *extras), (Port((BLOCK,)),))

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        return space(Windows(workload, target.isa))

    def default_config(self, workload: Workload, target: Target) -> Config:
        return default_config(workload, target)

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        return settle(workload, config, target)

    def _arrangements(self, workload: Workload, config: Config, target: Target) -> Sequence[Slots]:
        return Plan.of(workload, config, target).variants

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _WindowSums(workload, config, target, 1).emit()
        return finished[0]


class _WindowSums(WindowSums):
    """Sums over windows: every weight is one, and nothing is added but what zero point and offset ask for."""

    def declare_weights(self) -> None:
        self._ones = argument("ones", len(self.plan.variants) * self.vectors.lanes * DOT, "int8")

    def weights(self, block: Value, tap_row: Value, variant: int, vector: int) -> Any:
        return self.vectors.weights(self._ones, variant * self.vectors.lanes * DOT)

    def first_sum(self, block: Value, vector: int) -> Value:
        zero = self.workload["zero_point"] + _offset(self.geometry.x, self.vectors)
        return self.vectors.number(-self.geometry.taps * zero)


class IntegerGlobalSum(_Sums):
    """``QGlobalSum`` over four dimensions."""

    name = "integer_global_sum"

    def serves(self, workload: Workload, target: Target) -> bool:
        return _serves(workload, target, "QGlobalSum")

    def ports(self, workload: Workload, target: Target) -> Ports:
        extras = IntegerEpilogue(workload, 1, target.isa).ports()
        if any(port is not None for port in extras) or not PositionEpilogue(workload, 1, target.isa).served():
            return Ports((Port((BLOCK,)), *extras), (Port((BLOCK,)),))
        return Ports((Port((BLOCK, PLANAR), behind=True), *extras), (Port((BLOCK, PLANAR)),), uniform=True)

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        if in_planar_rows(_input(workload)):
            return PositionEpilogue(workload, 1, target.isa).pack(constants)
        return super().pack(workload, config, target, constants)

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        if in_planar_rows(_input(workload)):
            return PositionEpilogue(workload, 1, target.isa).unpack(packed)
        return super().unpack(workload, config, target, packed)

    def _arrangements(self, workload: Workload, config: Config, target: Target) -> Sequence[Slots]:
        return ARRANGEMENTS

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            if in_planar_rows(_input(workload)):
                emit_plane_sums(workload, PositionEpilogue(workload, 1, target.isa))
            else:
                _PlaneSums(workload, target).emit()
        return finished[0]


class _PlaneSums:
    """Writes the loops of one sum over whole planes."""

    def __init__(self, workload: Workload, target: Target) -> None:
        self.workload, self.x_operand, self.y_operand = workload, _input(workload), workload.output
        self.taps = TapGather(target)
        self.vectors = self.taps.vectors
        self.epilogue = IntegerEpilogue(workload, 1, target.isa)
        self.x_layout, self.y_layout = self.x_operand.layout or Layout(BLOCK), self.y_operand.layout or Layout(BLOCK)
        self.block_vectors = BLOCK // self.vectors.lanes

    def emit(self) -> None:
        batch, channels, height, width = self.x_operand.shape
        size = self.vectors.lanes * DOT
        load_table = self.taps.declare_table()
        ones = argument("ones", len(ARRANGEMENTS) * size, "int8")
        self.epilogue.declare_constants()
        self.x: Buffer = argument("x", self.x_operand.elements, self.x_operand.stored_dtype)
        self.epilogue.declare_variables()
        self.y: Buffer = argument("y", self.y_operand.elements, self.y_operand.stored_dtype)
        blocks = -(-channels // BLOCK)
        with loop(batch * blocks, parallel=pays(batch * blocks * height * width * self.block_vectors / 2)) as task:
            load_table()
            self.ones = [self.vectors.weights(ones, index * size) for index in range(len(ARRANGEMENTS))]
            self._plane(task // blocks, task % blocks)

    def _plane(self, n: Value, block: Value) -> None:
        _, _, height, width = shape = self.x_operand.shape
        rows, columns = (height, width) if self.x_layout.halo else (1, height * width)
        together = min(INDEPENDENT_SUMS, max(1, columns // DOT))
        sums = Registers(together * self.block_vectors, self.vectors.lanes, "int32")
        zero = self.workload["zero_point"] + _offset(self.x_operand, self.vectors)
        for index in range(sums.count):
            sums[index] = self.vectors.number(-height * width * zero if index < self.block_vectors else 0)
        with loop(rows) as y:
            for start, pieces, dots in segments(columns // DOT, together):
                with loop(pieces) as piece:
                    place = T.Bind(self.x_layout.offset(shape, n, block, y, (start + piece * dots) * DOT))
                    for dot in range(dots):
                        self._dot(sums, dot, [place + (dot * DOT + tap) * BLOCK for tap in range(DOT)], DOT)
            rest = columns % DOT
            if rest:
                place = T.Bind(self.x_layout.offset(shape, n, block, y, columns - rest))
                self._dot(sums, 0, [place + min(tap, rest - 1) * BLOCK for tap in range(DOT)], rest)
        for index in range(self.block_vectors, sums.count):
            total = index % self.block_vectors
            sums[total] = sums[total] + sums[index]
        write_halo(self.y, self.y_layout, self.y_operand.shape, n, block, self.y_operand.stored_dtype, BLOCK)
        values = [T.Bind(sums[v]) for v in range(self.block_vectors)]
        channel = block * BLOCK
        self.epilogue.emit_store(self.epilogue.channels(channel, self.block_vectors), values, self.y, n, channel)

    def _dot(self, sums: Registers, dot: int, offsets: Sequence[Value], count: int) -> None:
        """Adds ``count`` positions, whose codes lie at the first ``offsets``, to one of the sums."""
        quads = self.taps.gather(self.x, offsets, count == DOT, 0, self.block_vectors)
        for v, quad in enumerate(quads):
            register, ones = dot * self.block_vectors + v, self.ones[count - 1]
            if self.taps.separate:
                quad, ones = quad[:count], ones[:count]
            sums[register] = self.vectors.dot(sums[register], quad, ones)
