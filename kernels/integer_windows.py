"""Sums over windows of codes, channel by channel: the loops that depthwise convolutions and pools share.

Sums never leave registers; the epilogue turns a row of outputs into codes as soon as its last input row has been read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from tapdot.kernels.emit import Registers, Value, argument, loop, prefetch, when, write_halo
from tapdot.kernels.family import Config
from tapdot.kernels.integer_depthwise_plan import BLOCK, DOT, Gather, Plan, Slots, Strip
from tapdot.kernels.integer_epilogue import IntegerEpilogue
from tapdot.kernels.isa.tap_gather import TapGather
from tapdot.kernels.layout import Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.register_tile import segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import T
from tapdot.kernels.workload import Workload

Weights = Mapping[tuple[int, Slots], Sequence[Any]]
"""Operands of dots, a vector each, by row of the window and arrangement of the row's taps."""


class WindowSums(ABC):
    """Writes the loops of one kernel; ``extras`` is the index of the workload's first operand that belongs to the epilogue."""

    def __init__(self, workload: Workload, config: Config, target: Target, extras: int) -> None:
        self.workload = workload
        self.plan = Plan.of(workload, config, target)
        self.geometry = self.plan.geometry
        self.taps = TapGather(target)
        self.vectors = self.taps.vectors
        self.epilogue = IntegerEpilogue(workload, extras, target.isa)
        self.x_layout, self.y_layout = self.plan.layout, workload.output.layout or Layout(BLOCK)

    @abstractmethod
    def declare_weights(self) -> None:
        """Declares the packed arrays that stand before the constants of the epilogue."""

    @abstractmethod
    def weights(self, block: Value, tap_row: Value, variant: int, vector: int) -> Any:
        """The weights of one vector of a block, for one row of the window, as an operand of dots."""

    @abstractmethod
    def first_sum(self, block: Value, vector: int) -> Value:
        """What the sums of one vector of a block start from: the bias, with zero point and offset folded in."""

    @property
    def block_vectors(self) -> int:
        """int32 vectors of a block of channels."""
        return BLOCK // self.vectors.lanes

    def emit(self) -> None:
        """The whole kernel."""
        plan, geometry = self.plan, self.geometry
        load_table = self.taps.declare_table()
        self.declare_weights()
        self.epilogue.declare_constants()
        self.x = argument("x", geometry.x.elements, geometry.x.stored_dtype)
        self.epilogue.declare_variables()
        self.y = argument("y", self.workload.output.elements, self.workload.output.stored_dtype)
        cycles = geometry.batch * plan.blocks * geometry.height * geometry.width * (geometry.taps / DOT + 3) * self.block_vectors
        with loop(geometry.batch * plan.blocks * plan.splits, parallel=pays(cycles)) as task:
            load_table()
            self._plane(task // (plan.splits * plan.blocks), task // plan.splits % plan.blocks, task % plan.splits)

    def _plane(self, n: Value, block: Value, split: Value) -> None:
        """The rows of one block of channels that fall into one split."""
        plan, shape = self.plan, self.workload.output.shape
        with when(split == 0, plan.splits > 1):
            write_halo(self.y, self.y_layout, shape, n, block, self.workload.output.stored_dtype, BLOCK)
        for first in range(0, self.block_vectors, plan.vectors):
            self._part(n, block, split, first)

    def _part(self, n: Value, block: Value, split: Value, first: int) -> None:
        """Some int32 vectors of a block, from ``first`` on."""
        plan = self.plan
        starts = [self.first_sum(block, first + v) for v in range(plan.vectors)]
        operands = self.epilogue.channels(T.Bind(block * BLOCK + first * self.vectors.lanes), plan.vectors)
        for y_start, y_pieces, rows in segments(self.geometry.height, plan.rows):
            share = -(-y_pieces // plan.splits)
            with loop(share) as y_index:
                y_piece = split * share + y_index
                with when(y_piece < y_pieces, share * plan.splits > y_pieces):
                    y = y_start + y_piece * rows
                    for strip in plan.strips:
                        tile = _Tile(self, n, block, first, rows, strip, starts, operands)
                        kept = tile.load_weights(0) if plan.unrolled else None
                        with loop(strip.pieces) as piece:
                            tile.emit(y, strip.start + piece * strip.columns, kept)


class _Tile:
    """``rows`` by a strip's columns of outputs, some vectors of channels deep."""

    def __init__(
        self, sums: WindowSums, n: Value, block: Value, first: int, rows: int, strip: Strip, starts: list[Value], operands: Any
    ) -> None:
        self.sums, self.n, self.block, self.first = sums, n, block, first
        self.rows, self.strip, self.starts, self.operands = rows, strip, starts, operands
        self.plan, self.geometry = sums.plan, sums.geometry
        size = strip.columns * self.plan.vectors
        self.registers = [Registers(size, sums.vectors.lanes, "int32") for _ in range(rows)]
        """The sums of every row: those of all columns for the first vector, then those for the next."""

    def load_weights(self, tap_row: Value) -> Weights:
        """The weights of the window's row ``tap_row``; of all rows from there on, where they are written out."""
        used = list(dict.fromkeys(slots for served in self.strip.dots.values() for _, slots in served))
        rows = range(self.geometry.kernel[0] if self.plan.unrolled else 1)
        return {
            (row, slots): [
                self.sums.weights(self.block, tap_row + row, self.plan.variants.index(slots), self.first + v)
                for v in range(self.plan.vectors)
            ]
            for row, slots in product(rows, used)
        }

    def emit(self, y: Value, x: Value, kept: Weights | None) -> None:
        """The tile whose first output is at ``(y, x)``."""
        for row in range(self.rows):
            self._start(row)
        (height, _), (stride, stride_x) = self.geometry.kernel, self.geometry.strides
        dilation, _ = self.geometry.dilations
        if kept is None:
            with loop(height) as tap_row:
                weights = self.load_weights(tap_row)
                for row in range(self.rows):
                    self._dots(self._input(y, x, row * stride + tap_row * dilation), weights, [(row, 0)])
            for row in range(self.rows):
                self._finish(row, y, x)
            return
        for input_row in range((self.rows - 1) * stride + (height - 1) * dilation + 1):
            readers = [
                (row, tap_row)
                for row in range(self.rows)
                for tap_row in range(height)
                if row * stride + tap_row * dilation == input_row
            ]
            if readers:
                start = self._input(y, x, input_row)
                # Also a fence: LLVM would else load all rows of the patch first, and spill.
                prefetch(self.sums.x, start + self.strip.columns * stride_x * BLOCK)
                self._dots(start, kept, readers)
            for row, tap_row in readers:
                if tap_row == height - 1:
                    self._finish(row, y, x)

    def _start(self, row: int) -> None:
        for v, start in enumerate(self.starts):
            for column in range(self.strip.columns):
                self.registers[row][v * self.strip.columns + column] = start

    def _input(self, y: Value, x: Value, input_row: Value) -> Value:
        """Where the patch's first column lies in memory, in one of the rows the patch reads."""
        geometry = self.geometry
        (top, left), (stride_y, stride_x) = geometry.pads[:2], geometry.strides
        row, column = y * stride_y - top + input_row, x * stride_x - left
        return T.Bind(self.sums.x_layout.offset(geometry.x.shape, self.n, self.block, row, column))

    def _dots(self, start: Value, weights: Weights, readers: Sequence[tuple[int, int]]) -> None:
        """Gives one row of inputs to the (output row, row of the window) pairs that read it."""
        vectors, count = self.sums.vectors, self.plan.vectors
        for gather, served in self.strip.dots.items():
            quads = self._gather(gather, start)
            for (row, tap_row), (column, slots) in product(readers, served):
                for v in range(count):
                    codes, factors = quads[v], weights[tap_row, slots][v]
                    if self.sums.taps.separate:
                        codes, factors = (
                            [tap for tap, slot in zip(taps, slots, strict=True) if slot is not None] for taps in (codes, factors)
                        )
                    index = v * self.strip.columns + column
                    self.registers[row][index] = vectors.dot(self.registers[row][index], codes, factors)

    def _gather(self, gather: Gather, start: Value) -> list[Any]:
        present = next(column for column in gather.columns if column is not None)
        offsets = [start + (present if column is None else column) * BLOCK for column in gather.columns]
        return self.sums.taps.gather(self.sums.x, offsets, gather.start is not None, self.first, self.plan.vectors)

    def _finish(self, row: int, y: Value, x: Value) -> None:
        """Stores one row of the tile."""
        sums = self.sums
        channel = self.block * BLOCK + self.first * sums.vectors.lanes
        places = [(0, column) for column in range(self.strip.columns)]
        sums.epilogue.emit_tile(self.operands, self.registers[row], places, sums.y, self.n, channel, y + row, x)
