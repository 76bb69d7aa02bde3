"""Pools over whole planes: the mean or the maximum of every channel; maxima also of codes. In channel vectors or planar rows."""

from __future__ import annotations

import numpy as np

from tapdot.kernels.emit import Registers, Value, argument, constant, load, loop, store, store_partial, when, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.pooling import channel_lanes, greater, smallest, stored
from tapdot.kernels.register_tile import segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function, tirx
from tapdot.kernels.workload import Workload

ACCUMULATORS = 8
"""Independent sums, enough to hide the latency of an addition."""


class GlobalPooling(Family):
    """``GlobalAveragePool`` and ``GlobalMaxPool`` over four dimensions, from channel vectors or planar rows.

    The result ``[N, C, 1, 1]`` lies in channel vectors or in planar order, which without a halo is the row-major ``[N, C]``.
    """

    name = "global_pooling"

    def serves(self, workload: Workload, target: Target) -> bool:
        x = workload.inputs[0] if workload.inputs else None
        return (
            workload.op in ("GlobalAveragePool", "GlobalMaxPool")
            and x is not None
            and not x.constant
            and len(x.shape) == 4
            and (x.dtype == "float32" or (x.dtype in CODES and workload.op == "GlobalMaxPool"))
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        lanes = channel_lanes(workload, target)
        return Ports((Port((lanes, 1), behind=True),), (Port((lanes, 1)),))

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            x = workload.inputs[0]
            assert x is not None
            planar = x.layout is None or x.layout.channel_block == 1
            (_PlanarEmitter if planar else _Emitter)(workload, target).emit()
        return finished[0]


class _Emitter:
    """Writes the loops of one global pool."""

    def __init__(self, workload: Workload, target: Target) -> None:
        x = workload.inputs[0]
        assert x is not None
        self.x_operand, self.y_operand, self.isa = x, workload.output, target.isa
        self.lanes = channel_lanes(workload, target)
        self.x_layout = x.layout or Layout()
        self.y_layout = workload.output.layout or Layout()
        self.average = workload.op == "GlobalAveragePool"

    def emit(self) -> None:
        lanes = self.lanes
        self.x = argument("x", self.x_operand.elements, self.x_operand.stored_dtype)
        self.y = argument("y", self.y_operand.elements, self.y_operand.stored_dtype)
        batch, channels, height, width = self.x_operand.shape
        whole, rest = divmod(channels, lanes)
        for first, count, filled in ((0, whole, lanes), (whole, 1 if rest else 0, rest)):
            if count:
                with loop(batch * count, parallel=pays(batch * count * height * width)) as task:
                    self._block(task // count, first + task % count, filled)

    def _block(self, n: Value, block: Value, filled: int) -> None:
        """One vector of channels, of which ``filled`` exist."""
        lanes, dtype = self.lanes, self.y_operand.stored_dtype
        value = self._plane(n, block)
        if self.average:
            _, _, height, width = self.x_operand.shape
            value = T.Bind(value * constant(1 / (height * width), lanes))
        value = stored(value, self.x_operand, self.y_operand, lanes)
        shape, layout = self.y_operand.shape, self.y_layout
        if layout.channel_block == lanes:
            write_halo(self.y, layout, shape, n, block, dtype, lanes)
            store(self.y, layout.offset(shape, n, block, 0, 0), value, lanes)
            return
        scratch = Registers(1, lanes, dtype)
        if not layout.halo:
            store_partial(scratch, self.y, n * shape[1] + block * lanes, value, filled)
        else:
            scratch[0] = value
            for lane in range(filled):
                channel = block * lanes + lane
                write_halo(self.y, layout, shape, n, channel, dtype, lanes)
                T.buffer_store(self.y, scratch.lane(lane), [layout.offset(shape, n, channel, 0, 0)])

    def _plane(self, n: Value, block: Value) -> Value:
        """The sum or the maximum of a plane, before any scaling."""
        lanes, shape = self.lanes, self.x_operand.shape
        rows, columns = shape[2:] if self.x_layout.halo else (1, shape[2] * shape[3])
        together = min(columns, ACCUMULATORS)
        registers = Registers(together, lanes, self.x_operand.stored_dtype)
        for index in range(together):
            registers[index] = constant(0.0, lanes) if self.average else smallest(self.x_operand, lanes)
        with loop(rows) as y:
            for start, pieces, count in segments(columns, together):
                with loop(pieces) as piece:
                    place = T.Bind(self.x_layout.offset(shape, n, block, y, start + piece * count))
                    for index in range(count):
                        registers[index] = self._merge(registers[index], load(self.x, place + index * lanes, lanes))
        values = [registers[index] for index in range(together)]
        while len(values) > 1:
            paired = [T.Bind(self._merge(a, b)) for a, b in zip(values[::2], values[1::2], strict=False)]
            values = paired + values[len(values) // 2 * 2 :]
        return T.Bind(values[0])

    def _merge(self, a: Value, b: Value) -> Value:
        return a + b if self.average else greater(a, b, self.x_operand, self.isa)


class _PlanarEmitter(_Emitter):
    """One plane of planar rows after the other: vectors of positions, merged at the end."""

    def __init__(self, workload: Workload, target: Target) -> None:
        super().__init__(workload, target)
        self.lanes = target.isa.lanes * 4 // np.dtype(self.x_operand.dtype).itemsize

    def emit(self) -> None:
        self.x = argument("x", self.x_operand.elements, self.x_operand.stored_dtype)
        self.y = argument("y", self.y_operand.elements, self.y_operand.stored_dtype)
        batch, channels, height, width = self.x_operand.shape
        shape, layout, kind = self.y_operand.shape, self.y_layout, self.y_operand.stored_dtype
        block, zero = layout.channel_block, tirx.const(layout.zero, kind)
        with loop(batch * channels, parallel=pays(batch * channels * (20 + height * width / self.lanes))) as plane:
            n, channel = plane // channels, plane % channels
            with when(channel % block == 0, block > 1):
                write_halo(self.y, layout, shape, n, channel // block, kind, block)
            value = stored(self._plane(n, channel), self.x_operand, self.y_operand, self.lanes)
            lanes = self.lanes
            while lanes > 1:
                lanes //= 2
                halves = [T.Shuffle([value], list(range(first, first + lanes))) for first in (0, lanes)]
                value = T.Bind(self._merge_results(*halves))
            if self.average:
                value = value * T.float32(1 / (height * width))
            T.buffer_store(self.y, value, [layout.offset(shape, n, channel // block, 0, 0) + channel % block])
        missing = -channels % block
        if missing:
            with loop(batch) as n, loop(missing) as lane:
                place = layout.offset(shape, n, channels // block, 0, 0) + channels % block + lane
                T.buffer_store(self.y, zero, [place])

    def _plane(self, n: Value, block: Value) -> Value:
        shape, lanes = self.x_operand.shape, self.lanes
        rows, columns = shape[2:] if self.x_layout.halo else (1, shape[2] * shape[3])
        together = min(max(1, columns // lanes), ACCUMULATORS)
        registers = Registers(together, lanes, self.x_operand.stored_dtype)
        neutral = constant(0.0, lanes) if self.average else smallest(self.x_operand, lanes)
        for index in range(together):
            registers[index] = neutral
        whole, rest = divmod(columns, lanes)
        with loop(rows) as y:
            place = T.Bind(self.x_layout.offset(shape, n, block, y, 0))
            for start, pieces, count in segments(whole, together):
                with loop(pieces) as piece:
                    for index in range(count):
                        value = load(self.x, place + (start + piece * count + index) * lanes, lanes)
                        registers[index] = self._merge(registers[index], value)
            if rest:
                value = load(self.x, place + whole * lanes, lanes)
                kept = T.Shuffle([value, neutral], [lane if lane < rest else lanes for lane in range(lanes)])
                registers[0] = self._merge(registers[0], kept)
        values = [registers[index] for index in range(together)]
        while len(values) > 1:
            paired = [T.Bind(self._merge(a, b)) for a, b in zip(values[::2], values[1::2], strict=False)]
            values = paired + values[len(values) // 2 * 2 :]
        return T.Bind(values[0])

    def _merge_results(self, a: Value, b: Value) -> Value:
        """Merges values as the result stores them."""
        return a + b if self.average else T.max(a, b)
