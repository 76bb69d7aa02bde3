"""Depthwise float convolution: one filter a channel, vectors over channels.

Nothing is summed over channels, so a vector of weights a tap is all a block of channels needs: where the registers allow, every
tap stays in one for the whole plane. A tile of neighbouring outputs loads each input once and gives it to every window that sees
it, along the row and from row to row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from tapdot.kernels import epilogue, expression
from tapdot.kernels.convolution import Geometry
from tapdot.kernels.emit import Registers, Value, argument, load, loop, multiply_add, store, when, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import Layout
from tapdot.kernels.operands import ExtraOperands
from tapdot.kernels.parallel import pays, row_splits
from tapdot.kernels.register_tile import segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function
from tapdot.kernels.workload import Workload

LOOPED, ROW, ALL = 0, 1, 2
"""How many axes of the kernel are written out: none, the taps of a row, or all, with their weights in registers."""
HIDDEN_LOAD_CYCLES = 0.2
"""What a load costs although arithmetic covers it: inputs come from the second-level cache or from further away."""
TILE_CYCLES = 6.0
"""What a tile costs besides its multiply-adds and loads: addresses, the loop, the start of its sums."""


@dataclass(frozen=True)
class Patch:
    """``rows`` by ``columns`` of outputs that one tile computes, and the window they look through."""

    rows: int
    columns: int
    unrolled: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]

    @property
    def outputs(self) -> list[tuple[int, int]]:
        return list(product(range(self.rows), range(self.columns)))

    def readers(self, taps: Sequence[tuple[int, int]]) -> dict[tuple[int, int], list[tuple[int, int]]]:
        """For each input (row, column) of the patch, in memory order, the (output, tap) pairs that meet there."""
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for index, (row, column) in enumerate(self.outputs):
            for tap, (ty, tx) in enumerate(taps):
                place = (
                    row * self.strides[0] + ty * self.dilations[0],
                    column * self.strides[1] + tx * self.dilations[1],
                )
                found.setdefault(place, []).append((index, tap))
        return dict(sorted(found.items()))

    @property
    def written_taps(self) -> list[tuple[int, int]]:
        """The taps of one iteration of the loops that are left over taps."""
        height, width = self.kernel
        return list(product(range(height if self.unrolled == ALL else 1), range(width if self.unrolled >= ROW else 1)))

    def fits(self, isa: Isa) -> bool:
        """Whether sums and weights stay in registers beside inputs on their way, the bias and what the epilogue needs.

        Rows of windows that skip rows share few inputs: where multiply-adds take no operand from memory, more are on their way,
        which all weights held at once leave no room for.
        """
        spare = 1 + isa.registers // 4
        if isa.multiply_by_lane and self.unrolled == ALL and self.rows > 1 and self.strides[0] > 1:
            spare += isa.registers // 4
        return self.rows * self.columns + len(self.written_taps) + spare <= isa.registers

    def cycles(self, isa: Isa) -> float:
        """Cycles of one tile: the dearest of arithmetic, loads and stores, a little for every load, a constant share."""
        height, width = self.kernel
        written, outputs = len(self.written_taps), self.rows * self.columns
        iterations = height * width // written
        loads = iterations * (len(self.readers(self.written_taps)) + (0 if self.unrolled == ALL else written))
        arithmetic = outputs * height * width / isa.fma_per_cycle
        return max(arithmetic, loads / isa.loads_per_cycle, outputs) + HIDDEN_LOAD_CYCLES * loads + TILE_CYCLES


class DepthwiseConvolution(Family):
    """``FusedConv`` with as many groups as input channels and as filters, constant weights, four dimensions.

    Configuration: ``rows`` and ``columns`` of the tile, ``unrolled`` axes of the kernel (0, 1 or 2), ``splits`` of the output
    rows among threads.
    """

    name = "depthwise"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "FusedConv" or any(operand is None for operand in workload.inputs[:2]):
            return False
        x, w = workload.inputs[0], workload.inputs[1]
        assert x is not None and w is not None
        return (
            len(x.shape) == 4
            and x.dtype == "float32"
            and not x.constant
            and w.constant
            and workload["group"] == x.shape[1] == w.shape[0]
            and all(operand is None or operand.constant for operand in workload.inputs[2:3])
            and min(workload["pads"]) >= 0
            and ExtraOperands(workload, 3).served()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        lanes = target.isa.lanes
        inputs: list[Port | None] = [Port((lanes,), Geometry(workload, target.isa).halo), None]
        if len(workload.inputs) > 2:
            inputs.append(None)
        return Ports((*inputs, *ExtraOperands(workload, 3).ports(lanes)), (Port((lanes,)),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        _, _, height, width = workload.output.shape
        return {
            "rows": [r for r in range(1, 8) if r <= height],
            "columns": [c for c in range(1, 29) if c <= width],
            "unrolled": [LOOPED, ROW, ALL],
            "splits": [s for s in (1, 2, 4, 8, 16) if s <= height],
        }

    def default_config(self, workload: Workload, target: Target) -> Config:
        geometry, isa = Geometry(workload, target.isa), target.isa
        patches = [
            patch
            for rows, columns, unrolled in product(range(1, 8), range(1, 29), (ALL, ROW, LOOPED))
            if rows <= geometry.height and columns <= geometry.width
            if (patch := _patch(geometry, rows, columns, unrolled)).fits(isa)
        ]

        def cycles(patch: Patch) -> float:
            cuts = list(product(segments(geometry.height, patch.rows), segments(geometry.width, patch.columns)))
            pieces = [(r_count * c_count, _patch(geometry, r, c, patch.unrolled)) for (_, r_count, r), (_, c_count, c) in cuts]
            return sum(count * piece.cycles(isa) for count, piece in pieces) * (1 + 0.01 * (len(cuts) - 1))

        best = min(patches, key=cycles, default=_patch(geometry, 1, 1, LOOPED))
        splits = row_splits(geometry.batch * geometry.vectors, geometry.height // best.rows, target.cores)
        return {"rows": best.rows, "columns": best.columns, "unrolled": best.unrolled, "splits": splits}

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        patch = _patch(Geometry(workload, target.isa), config["rows"], config["columns"], config["unrolled"])
        parts = config["splits"] <= -(-workload.output.shape[2] // config["rows"])
        return config if patch.fits(target.isa) and parts else None

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        geometry, lanes = Geometry(workload, target.isa), target.isa.lanes
        height, width = geometry.kernel
        weight = np.zeros((geometry.vectors * lanes, height, width), np.float32)
        weight[: geometry.filters] = constants[1][:, 0]
        packed = weight.reshape(geometry.vectors, lanes, height, width).transpose(0, 2, 3, 1)
        bias = np.zeros(geometry.vectors * lanes, np.float32)
        if 2 in constants:
            bias[: geometry.filters] = constants[2]
        return [np.ascontiguousarray(packed).reshape(-1), bias, *ExtraOperands(workload, 3).pack(constants, lanes)]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        geometry, lanes = Geometry(workload, target.isa), target.isa.lanes
        height, width = geometry.kernel
        weight = packed[0].reshape(geometry.vectors, height, width, lanes).transpose(0, 3, 1, 2)
        found = {1: np.ascontiguousarray(weight.reshape(-1, 1, height, width)[: geometry.filters])}
        if len(workload.inputs) > 2 and workload.inputs[2] is not None:
            found[2] = packed[1][: geometry.filters]
        return {**found, **ExtraOperands(workload, 3).unpack(packed[2:])}

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Emitter(workload, config, target).emit()
        return finished[0]


def _patch(geometry: Geometry, rows: int, columns: int, unrolled: int) -> Patch:
    return Patch(rows, columns, unrolled, geometry.kernel, geometry.strides, geometry.dilations)


class _Emitter:
    """Writes the loops of one depthwise convolution."""

    def __init__(self, workload: Workload, config: Config, target: Target) -> None:
        self.workload, self.config, self.isa = workload, config, target.isa
        self.geometry = Geometry(workload, target.isa)
        self.extras = ExtraOperands(workload, 3)
        self.expression = expression.parse(workload["epilogue"])
        self.x_layout = self.geometry.x.layout or Layout(target.isa.lanes)
        self.y_layout = workload.output.layout or Layout(target.isa.lanes)

    def emit(self) -> None:
        geometry, lanes = self.geometry, self.isa.lanes
        taps = geometry.kernel[0] * geometry.kernel[1]
        self.weights = argument("weights", geometry.vectors * taps * lanes, "float32")
        self.bias = argument("bias", geometry.vectors * lanes, "float32")
        self.extras.declare_constants(lanes)
        self.x = argument("x", geometry.x.elements, "float32")
        self.extras.declare_variables()
        self.y = argument("y", self.workload.output.elements, "float32")
        splits, blocks = self.config["splits"], geometry.vectors
        cycles = geometry.batch * blocks * geometry.height * geometry.width * (taps / self.isa.fma_per_cycle + 1)
        with loop(geometry.batch * blocks * splits, parallel=pays(cycles)) as task:
            self._plane(task // (splits * blocks), task // splits % blocks, task % splits)

    def _plane(self, n: Value, block: Value, split: Value) -> None:
        """The rows of one channel block that fall into one split."""
        geometry, lanes, config = self.geometry, self.isa.lanes, self.config
        with when(split == 0, config["splits"] > 1):
            write_halo(self.y, self.y_layout, self.workload.output.shape, n, block, "float32", lanes)
        taps = geometry.kernel[0] * geometry.kernel[1]
        start = T.Bind(block * taps * lanes)
        bias = load(self.bias, block * lanes, lanes)
        kept = [load(self.weights, start + tap * lanes, lanes) for tap in range(taps)] if config["unrolled"] == ALL else None
        for y_start, y_pieces, rows in segments(geometry.height, config["rows"]):
            share = -(-y_pieces // config["splits"])
            with loop(share) as y_index:
                y_piece = split * share + y_index
                with when(y_piece < y_pieces, share * config["splits"] > y_pieces):
                    for x_start, x_pieces, columns in segments(geometry.width, config["columns"]):
                        with loop(x_pieces) as x_piece:
                            patch = _patch(geometry, rows, columns, config["unrolled"])
                            self._tile(patch, n, block, y_start + y_piece * rows, x_start + x_piece * columns, start, bias, kept)

    def _tile(
        self, patch: Patch, n: Value, block: Value, y: Value, x: Value, weight_start: Value, bias: Value, kept: list[Value] | None
    ) -> None:
        geometry, lanes, shape = self.geometry, self.isa.lanes, self.workload.output.shape
        registers = Registers(len(patch.outputs), lanes)
        for index in range(len(patch.outputs)):
            registers[index] = bias
        top, left = geometry.pads[:2]
        pitch, (height, width) = self.x_layout.pitch(geometry.x.shape[3]), geometry.kernel
        readers = patch.readers(patch.written_taps)
        with loop(1 if patch.unrolled == ALL else height) as ty, loop(1 if patch.unrolled >= ROW else width) as tx:
            row = y * patch.strides[0] - top + ty * patch.dilations[0]
            column = x * patch.strides[1] - left + tx * patch.dilations[1]
            start = T.Bind(self.x_layout.offset(geometry.x.shape, n, block, row, column))
            first = weight_start + (ty * width + tx) * lanes
            weights = kept or [load(self.weights, first + tap * lanes, lanes) for tap in range(len(patch.written_taps))]
            for (input_row, input_column), uses in readers.items():
                value = load(self.x, start + (input_row * pitch + input_column) * lanes, lanes)
                for index, tap in uses:
                    registers[index] = multiply_add(self.isa, value, weights[tap], registers[index])
        place = T.Bind(self.y_layout.offset(shape, n, block, y, x))
        for index, (row, column) in enumerate(patch.outputs):
            operands = {"acc": T.Bind(registers[index]), **self.extras.load(n, block, y + row, x + column, lanes)}
            result = epilogue.emit(self.expression, operands, self.isa, lanes)
            store(self.y, place + (row * self.y_layout.pitch(geometry.width) + column) * lanes, result, lanes)
