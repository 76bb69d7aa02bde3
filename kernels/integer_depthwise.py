"""Depthwise convolution on codes: one filter a channel, four taps a dot.

A dot product sums four products a lane, and nothing is summed over channels here: so a lane is a channel and its four products are
four taps of a row of the window (:mod:`kernels.integer_depthwise_plan`). Sums never leave registers; the epilogue turns a row of
outputs into codes as soon as its last input row has been read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.convolution_plan import Geometry
from tapdot.kernels.emit import Registers, Value, argument, load, loop, prefetch, when, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.integer_depthwise_plan import BLOCK, DOT, Gather, Plan, Slots, Strip, default_config, space
from tapdot.kernels.integer_epilogue import IntegerEpilogue
from tapdot.kernels.isa.tap_gather import TapGather
from tapdot.kernels.layout import Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.register_tile import segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function
from tapdot.kernels.workload import Workload


class IntegerDepthwise(Family):
    """``QConv`` with as many groups as input channels and as filters, constant weights, four dimensions.

    Configuration: ``rows`` and ``columns`` of the tile, ``vectors`` of int32 it holds of a block of channels, ``unrolled`` (whether
    the rows of the window are written out), ``splits`` of the output rows among threads.
    """

    name = "integer_depthwise"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "QConv" or any(operand is None for operand in workload.inputs[:2]):
            return False
        x, w = workload.inputs[0], workload.inputs[1]
        assert x is not None and w is not None
        return (
            len(x.shape) == 4
            and x.dtype in ("int8", "uint8")
            and not x.constant
            and w.constant
            and workload["group"] == x.shape[1] == w.shape[0]
            and all(operand is None or operand.constant for operand in workload.inputs[2:3])
            and min(workload["pads"]) >= 0
            and IntegerEpilogue(workload, 3, target.isa).served()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        inputs: list[Port | None] = [Port((BLOCK,), Geometry(workload, target.isa).halo), None]
        if len(workload.inputs) > 2:
            inputs.append(None)
        return Ports((*inputs, *IntegerEpilogue(workload, 3, target.isa).ports()), (Port((BLOCK,)),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        return space(Geometry(workload, target.isa))

    def default_config(self, workload: Workload, target: Target) -> Config:
        return default_config(workload, target)

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan, gather = Plan.of(workload, config, target), TapGather(target)
        height, _ = plan.geometry.kernel
        filters, lanes = plan.geometry.filters, gather.vectors.lanes
        packed = np.zeros((plan.blocks * BLOCK, height, len(plan.variants), DOT), np.int8)
        for variant, slots in enumerate(plan.variants):
            for slot, tap in enumerate(slots):
                if tap is not None:
                    packed[:filters, :, variant, slot] = constants[1][:, 0, :, tap]
        weights = packed.reshape(plan.blocks, BLOCK, height, -1, DOT).transpose(0, 2, 3, 1, 4)
        weights = weights.reshape(plan.blocks, height, len(plan.variants), BLOCK // lanes, lanes, DOT)
        bias = np.zeros(plan.blocks * BLOCK, np.int32)
        bias[:filters] = numerics.folded_bias(constants.get(2, np.zeros(filters, np.int32)), *_folding(workload, constants[1], gather))
        tables = [] if gather.table is None else [gather.table]
        extras = IntegerEpilogue(workload, 3, target.isa).pack(constants)
        return [*tables, gather.vectors.pack_weights(weights).reshape(-1), bias, *extras]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan, gather = Plan.of(workload, config, target), TapGather(target)
        weights, stored_bias, *extras = packed if gather.table is None else packed[1:]
        (height, width), lanes = plan.geometry.kernel, gather.vectors.lanes
        ordered = gather.vectors.unpack_weights(weights.reshape(-1, lanes * DOT))
        by_channel = ordered.reshape(plan.blocks, height, len(plan.variants), BLOCK, DOT).transpose(0, 3, 1, 2, 4)
        by_channel = by_channel.reshape(-1, height, len(plan.variants), DOT)[: plan.geometry.filters]
        weight = np.zeros((plan.geometry.filters, 1, height, width), np.int8)
        for variant, slots in enumerate(plan.variants):
            for slot, tap in enumerate(slots):
                if tap is not None:
                    weight[:, 0, :, tap] = by_channel[:, :, variant, slot]
        found = {1: weight}
        if len(workload.inputs) > 2 and workload.inputs[2] is not None:
            sums, zero, offset = _folding(workload, weight, gather)
            found[2] = numerics.folded_bias(stored_bias[: plan.geometry.filters], sums, -zero, -offset)
        return {**found, **IntegerEpilogue(workload, 3, target.isa).unpack(extras)}

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Emitter(workload, config, target).emit()
        return finished[0]


def _folding(workload: Workload, weight: np.ndarray, gather: TapGather) -> tuple[np.ndarray, int, int]:
    """Sums of the weights, the zero point, and the offset of what the dots multiply from the codes of the graph."""
    x = workload.inputs[0]
    assert x is not None
    offset = 0 if x.layout is None else x.layout.code_offset
    sums = weight.astype(np.int64).sum(axis=(1, 2, 3))
    return sums, int(workload.options.get("zero_point", 0)), offset + gather.vectors.operand_offset(x.stored_dtype)


class _Emitter:
    """Writes the loops of one depthwise convolution on codes."""

    def __init__(self, workload: Workload, config: Config, target: Target) -> None:
        self.workload, self.isa = workload, target.isa
        self.plan = Plan.of(workload, config, target)
        self.geometry = self.plan.geometry
        self.taps = TapGather(target)
        self.vectors = self.taps.vectors
        self.epilogue = IntegerEpilogue(workload, 3, target.isa)
        self.x_layout, self.y_layout = self.plan.layout, workload.output.layout or Layout(BLOCK)

    @property
    def block_vectors(self) -> int:
        """int32 vectors of a block of channels."""
        return BLOCK // self.vectors.lanes

    def emit(self) -> None:
        plan, geometry = self.plan, self.geometry
        if self.taps.table is not None:
            table = argument("table", self.taps.table.size, "uint8")
        self.weights = argument("weights", plan.blocks * BLOCK * DOT * geometry.kernel[0] * len(plan.variants), "int8")
        self.bias = argument("bias", plan.blocks * BLOCK, "int32")
        self.epilogue.declare_constants()
        self.x = argument("x", geometry.x.elements, geometry.x.stored_dtype)
        self.epilogue.declare_variables()
        self.y = argument("y", self.workload.output.elements, self.workload.output.stored_dtype)
        cycles = geometry.batch * plan.blocks * geometry.height * geometry.width * (geometry.taps / DOT + 3) * self.block_vectors
        with loop(geometry.batch * plan.blocks * plan.splits, parallel=pays(cycles)) as task:
            if self.taps.table is not None:
                self.taps.load_table(table)
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
        plan, lanes = self.plan, self.vectors.lanes
        channel = T.Bind(block * BLOCK + first * lanes)
        bias = [load(self.bias, channel + v * lanes, lanes) for v in range(plan.vectors)]
        operands = self.epilogue.channels(channel, plan.vectors)
        for y_start, y_pieces, rows in segments(self.geometry.height, plan.rows):
            share = -(-y_pieces // plan.splits)
            with loop(share) as y_index:
                y_piece = split * share + y_index
                with when(y_piece < y_pieces, share * plan.splits > y_pieces):
                    y = y_start + y_piece * rows
                    for strip in plan.strips:
                        tile = _Tile(self, n, block, first, rows, strip, bias, operands)
                        kept = tile.load_weights(0) if plan.unrolled else None
                        with loop(strip.pieces) as piece:
                            tile.emit(y, strip.start + piece * strip.columns, kept)


class _Tile:
    """``rows`` by a strip's columns of outputs, some vectors of channels deep."""

    def __init__(
        self, emitter: _Emitter, n: Value, block: Value, first: int, rows: int, strip: Strip, bias: list[Value], operands: object
    ) -> None:
        self.emitter, self.n, self.block, self.first = emitter, n, block, first
        self.rows, self.strip, self.bias, self.operands = rows, strip, bias, operands
        self.plan, self.geometry = emitter.plan, emitter.geometry
        self.registers = Registers(rows * strip.columns * self.plan.vectors, emitter.vectors.lanes, "int32")

    def _index(self, row: int, column: int) -> int:
        return (row * self.strip.columns + column) * self.plan.vectors

    def load_weights(self, tap_row: Value) -> dict[tuple[int, Slots], list[object]]:
        """The weights of one row of the window (of all rows, where they are written out) as operands of dots, by (row, slots)."""
        emitter, plan, lanes = self.emitter, self.plan, self.emitter.vectors.lanes
        height, _ = self.geometry.kernel
        used = list(dict.fromkeys(slots for served in self.strip.dots.values() for _, slots in served))
        found = {}
        for row in range(height if plan.unrolled else 1):
            for slots in used:
                variant = (self.block * height + tap_row + row) * len(plan.variants) + plan.variants.index(slots)
                start = (variant * emitter.block_vectors + self.first) * lanes * DOT
                found[row, slots] = [
                    emitter.vectors.weights(emitter.weights, start + v * lanes * DOT) for v in range(plan.vectors)
                ]
        return found

    def emit(self, y: Value, x: Value, kept: dict[tuple[int, Slots], list[object]] | None) -> None:
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
                prefetch(self.emitter.x, start + self.strip.columns * stride_x * BLOCK)
                self._dots(start, kept, readers)
            for row, tap_row in readers:
                if tap_row == height - 1:
                    self._finish(row, y, x)

    def _start(self, row: int) -> None:
        for column in range(self.strip.columns):
            for v, bias in enumerate(self.bias):
                self.registers[self._index(row, column) + v] = bias

    def _input(self, y: Value, x: Value, input_row: Value) -> Value:
        """Where the patch's first column lies in memory, in one of the rows the patch reads."""
        geometry = self.geometry
        (top, left), (stride_y, stride_x) = geometry.pads[:2], geometry.strides
        row, column = y * stride_y - top + input_row, x * stride_x - left
        return T.Bind(self.emitter.x_layout.offset(geometry.x.shape, self.n, self.block, row, column))

    def _dots(
        self, start: Value, weights: Mapping[tuple[int, Slots], Sequence[object]], readers: Sequence[tuple[int, int]]
    ) -> None:
        """Gives one row of inputs to the (output row, row of the window) pairs that read it."""
        vectors, count = self.emitter.vectors, self.plan.vectors
        for gather, served in self.strip.dots.items():
            quads = self._gather(gather, start)
            for (row, tap_row), (column, slots) in product(readers, served):
                for v in range(count):
                    index, operands = self._index(row, column) + v, (quads[v], weights[tap_row, slots][v])
                    if self.emitter.taps.separate:
                        operands = tuple([tap for tap, slot in zip(taps, slots, strict=True) if slot is not None] for taps in operands)
                    self.registers[index] = vectors.dot(self.registers[index], *operands)

    def _gather(self, gather: Gather, start: Value) -> list[object]:
        present = next(column for column in gather.columns if column is not None)
        offsets = [start + (present if column is None else column) * BLOCK for column in gather.columns]
        return self.emitter.taps.gather(self.emitter.x, offsets, gather.start is not None, self.first, self.plan.vectors)

    def _finish(self, row: int, y: Value, x: Value) -> None:
        """Stores one row of the tile."""
        emitter, lanes = self.emitter, self.emitter.vectors.lanes
        sums = [
            [T.Bind(self.registers[self._index(row, column) + v]) for v in range(self.plan.vectors)]
            for column in range(self.strip.columns)
        ]
        channel = self.block * BLOCK + self.first * lanes
        emitter.epilogue.emit_run(self.operands, sums, emitter.y, self.n, channel, y + row, x)
