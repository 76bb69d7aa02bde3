"""Max and average pools over windows, in channel vectors or planar rows of floats; max pools also over codes.

The halo of the input is never read: it holds zeros, which are no neutral element of a maximum and do not count in an average.
Windows are clipped instead. Rows are clipped when the kernel runs, by the bounds of the loop over the window's rows; columns when
it is compiled, because only the first and the last few are ever clipped and the run between them is one loop without a check.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tapdot.kernels.emit import Registers, Value, argument, constant, load, loop, splat, store, when, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays, row_splits
from tapdot.kernels.planar_blocks import Plane
from tapdot.kernels.planar_pooling import PlanarWindows, Runs
from tapdot.kernels.register_tile import segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function, tirx
from tapdot.kernels.vector_math import statements
from tapdot.kernels.vector_math.arithmetic import lanes_of
from tapdot.kernels.window_axis import Axis, axes
from tapdot.kernels.workload import Operand, Workload

FLOAT_BYTES = 4
UNROLLED_TAPS = 8
"""Up to that many taps of a row are written out, so that neighbouring windows share the inputs they load."""


class Pooling(Family):
    """``MaxPool`` and ``AveragePool`` with explicit pads over four dimensions; the output's shape says how ``ceil_mode`` rounded.

    Configuration: ``columns`` of windows computed together and ``splits`` of the output rows among threads. A maximum over a NaN
    is NaN only if no number follows it in the window. The order of codes is that of what is stored, whatever the offset.
    """

    name = "pooling"

    def serves(self, workload: Workload, target: Target) -> bool:
        x = workload.inputs[0] if workload.inputs else None
        options: Mapping[str, Any] = workload.options
        return (
            workload.op in ("MaxPool", "AveragePool")
            and x is not None
            and not x.constant
            and len(x.shape) == 4
            and (x.dtype == "float32" or (x.dtype in CODES and workload.op == "MaxPool"))
            and len(workload.outputs) == 1
            and options.get("auto_pad", "NOTSET") in ("NOTSET", "")
            and min(options.get("pads", (0,))) >= 0
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        blocks = (channel_lanes(workload, target), 1)
        return Ports((Port(blocks, behind=_runs(workload, target).reach > 0),), (Port(blocks),), uniform=True)

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        _, _, height, width = workload.output.shape
        return {
            "columns": [c for c in (1, 2, 4, 6, 7, 8, 12, 14) if c <= width],
            "splits": [s for s in (1, 2, 4, 8, 16) if s <= height],
        }

    def default_config(self, workload: Workload, target: Target) -> Config:
        _, columns = axes(workload)
        first, stop = columns.interior
        batch, channels, height, _ = workload.output.shape
        blocks = batch * -(-channels // channel_lanes(workload, target))
        usual = min(8, target.isa.registers - 4, max(1, stop - first))
        pieces = -(-(stop - first) // usual)
        even = -(-(stop - first) // pieces) if pieces else 1
        return {"columns": even, "splits": row_splits(blocks, height, target.cores)}

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            planar = workload.output.layout is None or workload.output.layout.channel_block == 1
            (_PlanarEmitter if planar else _Emitter)(workload, config, target).emit()
        return finished[0]


CODE_BLOCK = 16
"""Channels of a block of codes, one vector."""


def channel_lanes(workload: Workload, target: Target) -> int:
    """Channels of a vector, which is one block."""
    return CODE_BLOCK if workload.output.dtype in CODES else target.isa.lanes


def smallest(operand: Operand, lanes: int) -> Value:
    """A vector that changes no maximum with what is stored of an operand."""
    if operand.dtype not in CODES:
        return constant(-math.inf, lanes)
    return splat(tirx.const(int(np.iinfo(operand.stored_dtype).min), operand.stored_dtype), lanes)


def greater(a: Value, b: Value, operand: Operand, isa: Isa) -> Value:
    """The maximum of two vectors of what is stored of an operand."""
    return T.max(a, b) if operand.dtype in CODES else statements(isa).maximum(a, b)


def stored(value: Value, source: Operand, into: Operand, lanes: int) -> Value:
    """A value of one operand as another stores it: a code with an offset more or less has its highest bit inverted."""
    if source.stored_dtype == into.stored_dtype:
        return value
    highest = tirx.const(128 if source.stored_dtype == "uint8" else -128, source.stored_dtype)
    return T.reinterpret(value ^ splat(highest, lanes), dtype=f"{into.stored_dtype}x{lanes}")


class _Emitter:
    """Writes the loops of one pool."""

    def __init__(self, workload: Workload, config: Config, target: Target) -> None:
        self.workload, self.config, self.isa = workload, config, target.isa
        self.rows, self.columns = axes(workload)
        x = workload.inputs[0]
        assert x is not None
        self.x_operand, self.y_operand = x, workload.output
        self.lanes = channel_lanes(workload, target)
        self.x_layout = x.layout or Layout(self.lanes)
        self.y_layout = workload.output.layout or Layout(self.lanes)
        self.average = workload.op == "AveragePool"
        self.include_pad = bool(workload.options.get("count_include_pad", 0))

    def emit(self) -> None:
        self.x = argument("x", self.x_operand.elements, self.x_operand.stored_dtype)
        self.y = argument("y", self.y_operand.elements, self.y_operand.stored_dtype)
        batch, channels, height, width = self.y_operand.shape
        blocks, splits = self.y_layout.blocks(channels), self.config["splits"]
        share = -(-height // splits)
        cycles = batch * blocks * height * width * self.rows.kernel * self.columns.kernel
        with loop(batch * blocks * splits, parallel=pays(cycles)) as task:
            n, block, split = task // (splits * blocks), task // splits % blocks, task % splits
            with when(split == 0, splits > 1):
                write_halo(self.y, self.y_layout, self.y_operand.shape, n, block, self.y_operand.stored_dtype, self.lanes)
            with loop(share) as index:
                y = split * share + index
                with when(y < height, share * splits > height):
                    self._row(n, block, y)

    def _row(self, n: Value, block: Value, y: Value) -> None:
        """One row of windows: the clipped ones at both ends one by one, those between in runs."""
        first, stop = self.columns.interior
        for x in range(first):
            self._windows(n, block, y, x, 1, self.columns.taps(x))
        for start, pieces, count in segments(stop - first, self.config["columns"]):
            with loop(pieces) as piece:
                self._windows(n, block, y, first + start + piece * count, count, (0, self.columns.kernel))
        for x in range(stop, self.columns.outputs):
            self._windows(n, block, y, x, 1, self.columns.taps(x))

    def _windows(self, n: Value, block: Value, y: Value, x: Value, count: int, taps: tuple[int, int]) -> None:
        """``count`` windows side by side from ``x`` on, over the same taps of a row."""
        lanes, (first, stop) = self.lanes, taps
        registers = Registers(count, lanes, self.x_operand.stored_dtype)
        for index in range(count):
            registers[index] = constant(0.0, lanes) if self.average else smallest(self.x_operand, lanes)
        with self._tap_rows(y) as tap_row:
            row = y * self.rows.stride - self.rows.begin + tap_row * self.rows.dilation
            start = T.Bind(
                self.x_layout.offset(self.x_operand.shape, n, block, row, x * self.columns.stride - self.columns.begin)
            )
            if stop - first <= UNROLLED_TAPS:
                self._unrolled(registers, start, count, range(first, stop))
            else:
                with T.serial(first, stop) as tap:
                    for index in range(count):
                        self._merge(
                            registers, index, self._input(start, index * self.columns.stride + tap * self.columns.dilation)
                        )
        place = T.Bind(self.y_layout.offset(self.y_operand.shape, n, block, y, x))
        scale = self._scale(y, x) if self.average else None
        for index in range(count):
            value = registers[index] if scale is None else registers[index] * scale
            store(self.y, place + index * lanes, stored(value, self.x_operand, self.y_operand, lanes), lanes)

    def _unrolled(self, registers: Registers, start: Value, count: int, taps: range) -> None:
        """Every input column is loaded once and goes to each window that sees it."""
        readers: dict[int, list[int]] = {}
        for index in range(count):
            for tap in taps:
                readers.setdefault(index * self.columns.stride + tap * self.columns.dilation, []).append(index)
        for column in sorted(readers):
            value = self._input(start, column)
            for index in readers[column]:
                self._merge(registers, index, value)

    def _input(self, start: Value, column: Value) -> Value:
        return load(self.x, start + column * self.lanes, self.lanes)

    def _merge(self, registers: Registers, index: int, value: Value) -> None:
        if self.average:
            registers[index] = registers[index] + value
        else:
            registers[index] = greater(registers[index], value, self.x_operand, self.isa)

    @contextmanager
    def _tap_rows(self, y: Value) -> Iterator[Value]:
        """The loop over the rows of the windows at output row ``y`` that fall on the input."""
        if not self.rows.clipped:
            with loop(self.rows.kernel) as tap_row:
                yield tap_row
            return
        first, stop = self.rows.taps(y)
        with T.serial(first, stop) as tap_row:
            yield tap_row

    def _scale(self, y: Value, x: Value) -> Value:
        """One over the number of elements that count in the windows at ``(y, x)``; it is the same for a run of whole windows."""
        counted = Axis.counted if self.include_pad else Axis.taps
        columns = self.columns.kernel
        if isinstance(x, int):
            first, stop = counted(self.columns, x)
            columns = max(1, stop - first)
        if not self.rows.clipped:
            return constant(1 / (self.rows.kernel * columns), self.lanes)
        first, stop = counted(self.rows, y)
        count = (max(1, stop - first) if isinstance(y, int) else T.max(1, stop - first)) * columns
        scale = T.float32(1 / count) if isinstance(count, int) else T.float32(1) / T.Cast("float32", count)
        return T.Bind(splat(scale, self.lanes))


def _runs(workload: Workload, target: Target, room: int = sys.maxsize) -> Runs:
    """How rows of windows are cut, with ``room`` elements behind the planes of the result."""
    item = np.dtype(workload.output.dtype).itemsize
    return Runs.of(axes(workload)[1], item, target.isa.lanes * FLOAT_BYTES, room)


class _PlanarEmitter(PlanarWindows):
    """Writes the loops of one pool over planar rows."""

    def __init__(self, workload: Workload, config: Config, target: Target) -> None:
        x = workload.inputs[0]
        assert x is not None
        self.workload, self.target, self.isa, self.x, self.y = workload, target, target.isa, x, workload.output
        self.rows, self.columns = axes(workload)
        self.average = workload.op == "AveragePool"
        self.counted = Axis.counted if workload.options.get("count_include_pad", 0) else Axis.taps

    def emit(self) -> None:
        source, into = self.x.layout or Layout(), self.y.layout or Layout()
        x = argument("x", self.x.elements, self.x.stored_dtype)
        y = argument("y", self.y.elements, self.y.stored_dtype)
        item = np.dtype(self.x.stored_dtype).itemsize
        runs = _runs(self.workload, self.target, into.room_behind(self.y.shape))
        batch, channels, height, width = self.y.shape
        cycles = batch * channels * height * width * self.rows.kernel * self.columns.kernel * item / self.isa.lanes
        with loop(batch * channels, parallel=pays(cycles)) as plane:
            n, channel = plane // channels, plane % channels
            made = Plane(y, into, self.y.shape, n, channel)
            self.emit_plane(Plane(x, source, self.x.shape, n, channel), made, runs)
            write_halo(y, into, self.y.shape, n, channel, self.y.stored_dtype, self.isa.lanes * FLOAT_BYTES // item)

    def neutral(self, lanes: int) -> Value:
        return constant(0.0, lanes) if self.average else smallest(self.x, lanes)

    def merge(self, a: Value, b: Value) -> Value:
        return a + b if self.average else greater(a, b, self.x, self.isa)

    def finish(self, value: Value, y: Value, start: int | None) -> Value:
        lanes = lanes_of(value)
        if not self.average:
            return stored(value, self.x, self.y, lanes)
        first, stop = self.counted(self.rows, y) if self.rows.clipped else (0, self.rows.kernel)
        rows = T.Cast("float32", T.max(1, stop - first)) if self.rows.clipped else T.float32(self.rows.kernel)
        columns = []
        for lane in range(lanes):
            begin, end = (0, self.columns.kernel) if start is None else self.counted(self.columns, start + lane)
            columns.append(float(max(1, end - begin)))
        if len(set(columns)) == 1:
            return value * splat(T.float32(1) / (rows * T.float32(columns[0])), lanes)
        counts = T.Shuffle([T.float32(count) for count in columns], list(range(lanes)))
        return value / (counts * splat(rows, lanes))
