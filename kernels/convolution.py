"""Dense float convolution, direct: any size, stride, group and dilation; 1x1 is the case of one tap.

Vectors run over output channels, so every spatial size is served alike: a 7x7 layer wastes no lane. Inputs are read as
scalars, hence in any channel block; outputs are written in channel blocks of one vector. The residual, the activation and the
consumer's halo are part of the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from tapdot.kernels import epilogue, expression
from tapdot.kernels.emit import Registers, Value, argument, load, loop, ramp, store, when, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.operands import ExtraOperands
from tapdot.kernels.register_tile import FIRST_LEVEL_BYTES, FLOAT_BYTES, Prefetch, Tile, accumulate, channel_step, segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function
from tapdot.kernels.workload import Operand, Workload

Slots = tuple[int, int, int]
PANEL_BYTES = 256 * 1024
"""Weights of one tile over one chunk of channels, kept in the second-level cache while the tile visits every position."""

INPUT_PART_BYTES = 512 * 1024
RESIDENT_WEIGHT_BYTES = 512 * 1024
"""Shares of a second-level cache of a mebibyte: inputs that all panels visit in turn, and weights that stay while they do."""

CHUNKED_PATCHES = 4
"""With fewer positions than this many tiles, summing in chunks costs more in loads and stores of sums than it saves."""


@dataclass(frozen=True)
class Geometry:
    """The integers of a convolution workload."""

    workload: Workload
    isa: Isa

    @property
    def x(self) -> Operand:
        return self.workload.inputs[0]  # type: ignore[return-value]

    @property
    def batch(self) -> int:
        return self.x.shape[0]

    @property
    def channels(self) -> int:
        return self.x.shape[1]

    @property
    def kernel(self) -> tuple[int, int]:
        _, _, height, width = self.workload.inputs[1].shape  # type: ignore[union-attr]
        return height, width

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def strides(self) -> tuple[int, int]:
        return self.workload["strides"]  # type: ignore[no-any-return]

    @property
    def dilations(self) -> tuple[int, int]:
        return self.workload["dilations"]  # type: ignore[no-any-return]

    @property
    def pads(self) -> tuple[int, int, int, int]:
        return self.workload["pads"]  # type: ignore[no-any-return]

    @property
    def group(self) -> int:
        return self.workload["group"]  # type: ignore[no-any-return]

    @property
    def filters(self) -> int:
        return self.workload.output.shape[1]

    @property
    def filters_per_group(self) -> int:
        return self.filters // self.group

    @property
    def channels_per_group(self) -> int:
        return self.channels // self.group

    @property
    def height(self) -> int:
        return self.workload.output.shape[2]

    @property
    def width(self) -> int:
        return self.workload.output.shape[3]

    @property
    def vectors(self) -> int:
        """Output channel vectors, the last perhaps partly filled."""
        return -(-self.filters // self.isa.lanes)

    @cached_property
    def halo(self) -> Halo:
        """The border of the input that is read: what the pads ask for and the last window reaches."""
        (top, left, _, _), (_, _, rows, columns) = self.pads, self.x.shape
        bottom = (self.height - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] + 1 - top - rows
        right = (self.width - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilations[1] + 1 - left - columns
        return Halo(max(top, 0), max(left, 0), max(bottom, 0), max(right, 0))

    def whole_groups(self, tile_vectors: int) -> bool:
        """Whether no tile of that many vectors straddles two groups."""
        return self.group == 1 or self.filters_per_group % (tile_vectors * self.isa.lanes) == 0

    def window(self, tile_vectors: int) -> int:
        """Input channels a tile reads. A tile that straddles groups reads all they read, with zeros in the weights between."""
        if self.whole_groups(tile_vectors):
            return self.channels_per_group
        lanes = tile_vectors * self.isa.lanes
        starts = range(0, self.filters, lanes)
        spans = [
            (min(start + lanes, self.filters) - 1) // self.filters_per_group - start // self.filters_per_group + 1 for start in starts
        ]
        return max(spans) * self.channels_per_group

    def window_start(self, vector: Value, tile_vectors: int) -> Value:
        """The first input channel that the tile starting at that output vector reads."""
        if self.group == 1:
            return 0
        first = vector * self.isa.lanes // self.filters_per_group * self.channels_per_group
        latest = self.channels - self.window(tile_vectors)
        if self.whole_groups(tile_vectors):
            return first
        return min(first, latest) if isinstance(first, int) else T.min(first, latest)


@dataclass(frozen=True)
class Plan:
    """A geometry cut by a configuration."""

    geometry: Geometry
    tile: Tile
    chunk: int
    splits: int

    @classmethod
    def of(cls, workload: Workload, config: Config, target: Target) -> Plan:
        geometry = Geometry(workload, target.isa)
        tile = Tile(config["vectors"], config["rows"], config["columns"])
        return cls(geometry, tile, min(config["chunk"], geometry.window(tile.vectors)), config["splits"])

    @property
    def window(self) -> int:
        return self.geometry.window(self.tile.vectors)

    @property
    def chunks(self) -> int:
        return self.window // self.chunk

    def panels(self) -> list[tuple[int, int]]:
        """(first vector, vectors) of every tile along output channels."""
        return [
            (start + piece * size, size)
            for start, pieces, size in segments(self.geometry.vectors, self.tile.vectors)
            for piece in range(pieces)
        ]

    def panel_elements(self, vectors: int) -> int:
        """Packed weights of a tile of that many vectors."""
        height, width = self.geometry.kernel
        return height * width * self.window * vectors * self.geometry.isa.lanes

    def panel_shape(self, vectors: int) -> tuple[int, ...]:
        """[chunks, kernel height, kernel width, channels of a chunk, lanes of the tile]."""
        height, width = self.geometry.kernel
        return (self.chunks, height, width, self.chunk, vectors * self.geometry.isa.lanes)


class DenseConvolution(Family):
    """``FusedConv`` with constant weights over four-dimensional tensors.

    Configuration: ``vectors``, ``rows``, ``columns`` of the register tile; ``chunk`` input channels summed before the next position
    is visited (a divisor of the channels); ``splits`` of the output rows among threads.
    """

    name = "convolution"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "FusedConv" or any(operand is None for operand in workload.inputs[:2]):
            return False
        x, w = workload.inputs[0], workload.inputs[1]
        assert x is not None and w is not None
        extras = ExtraOperands(workload, 3)
        return (
            len(x.shape) == 4
            and x.dtype == "float32"
            and not x.constant
            and w.constant
            and all(operand is None or operand.constant for operand in workload.inputs[2:3])
            and min(workload["pads"]) >= 0
            and extras.served()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        lanes = target.isa.lanes
        geometry = Geometry(workload, target.isa)
        blocks = (lanes, 1) if geometry.channels >= lanes else (1, lanes)  # an image of three channels stays planar
        inputs: list[Port | None] = [Port(blocks, geometry.halo), None]
        if len(workload.inputs) > 2:
            inputs.append(None)
        return Ports((*inputs, *ExtraOperands(workload, 3).ports(lanes)), (Port((lanes,)),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        geometry = Geometry(workload, target.isa)
        window = geometry.window(1)
        return {
            "vectors": [v for v in (1, 2, 3, 4, 5, 6, 8) if v <= geometry.vectors],
            "rows": [r for r in (1, 2, 3, 4, 7) if r <= geometry.height],
            "columns": [c for c in range(1, 29) if c <= geometry.width],
            "chunk": [c for c in range(1, window + 1) if window % c == 0 and (c % 16 == 0 or c == window)],
            "splits": [s for s in (1, 2, 4, 7, 8, 14, 16, 28) if s <= geometry.height],
        }

    def default_config(self, workload: Workload, target: Target) -> Config:
        geometry = Geometry(workload, target.isa)
        tile = min(self._tiles(geometry), key=lambda candidate: self._cost(geometry, candidate))
        splits = self._splits(geometry, tile, target.cores)
        chunk = self._chunk(geometry, tile)
        return {"vectors": tile.vectors, "rows": tile.rows, "columns": tile.columns, "chunk": chunk, "splits": splits}

    @staticmethod
    def _splits(geometry: Geometry, tile: Tile, cores: int) -> int:
        """Parts of the rows. All panels visit one part before the next: enough parts that cores have work, and, where it moves far
        fewer bytes than reading all inputs once a panel, small enough ones that their inputs stay in the second-level cache."""
        panels = -(-geometry.vectors // tile.vectors)
        most = -(-geometry.height // tile.rows)
        splits = 1
        while panels * splits * geometry.batch < 4 * cores and splits * 2 <= most:
            splits *= 2
        _, channels, rows, columns = geometry.x.shape
        skipped = 2 if max(geometry.strides) > 1 else 1  # hardware prefetches the neighbouring line too
        inputs = channels * min(rows * columns, geometry.height * geometry.width * geometry.taps * skipped) * FLOAT_BYTES
        weights = geometry.filters * geometry.window(tile.vectors) * geometry.taps * FLOAT_BYTES
        parts = min(-(-inputs // INPUT_PART_BYTES), most)
        by_parts = inputs + weights * (parts if weights > RESIDENT_WEIGHT_BYTES else 1)
        return max(splits, parts) if 2 * by_parts < inputs * panels else splits

    @staticmethod
    def _chunk(geometry: Geometry, tile: Tile) -> int:
        """Channels whose weights stay cached while the tile visits every position: in the first level for 1x1, where each weight
        meets few inputs, else in the second."""
        window = geometry.window(tile.vectors)
        channel_bytes = geometry.taps * tile.vectors * geometry.isa.lanes * FLOAT_BYTES
        patches = -(-geometry.height // tile.rows) * -(-geometry.width // tile.columns)
        limit = FIRST_LEVEL_BYTES if geometry.taps == 1 else PANEL_BYTES
        if patches < CHUNKED_PATCHES or window * channel_bytes <= limit:
            return window
        return max((c for c in range(16, window, 16) if window % c == 0 and c * channel_bytes <= limit), default=window)

    @staticmethod
    def _tiles(geometry: Geometry) -> list[Tile]:
        tiles = [
            Tile(vectors, rows, columns)
            for vectors, rows, columns in product(range(1, 9), range(1, 8), range(1, 29))
            if vectors <= geometry.vectors and rows <= geometry.height and columns <= geometry.width
        ]
        fitting = [t for t in tiles if t.fits(geometry.isa) and (t.vectors == 1 or geometry.whole_groups(t.vectors))]
        return fitting or [Tile(1, 1, 1)]

    @staticmethod
    def _cost(geometry: Geometry, tile: Tile) -> float:
        """Cycles per input channel and tap over the whole layer, remainders included; code size breaks ties."""
        pieces = [
            [(count, size) for _, count, size in segments(total, step)]
            for total, step in ((geometry.vectors, tile.vectors), (geometry.height, tile.rows), (geometry.width, tile.columns))
        ]
        resident = DenseConvolution._chunk(geometry, tile) * geometry.taps * tile.vectors * geometry.isa.lanes * FLOAT_BYTES <= FIRST_LEVEL_BYTES
        cycles = 0.0
        for (v_count, v), (r_count, r), (c_count, c) in product(*pieces):
            cycles += v_count * r_count * c_count * Tile(v, r, c).cycles(geometry.isa, geometry.taps, resident) * geometry.window(v)
        variants = len(pieces[0]) * len(pieces[1]) * len(pieces[2])
        return cycles * (1 + 0.005 * (variants - 1))

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(
        self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> list[np.ndarray]:
        plan = Plan.of(workload, config, target)
        geometry, lanes = plan.geometry, target.isa.lanes
        weight = constants[1]
        packed = np.zeros(sum(plan.panel_elements(vectors) for _, vectors in plan.panels()), np.float32)
        offset = 0
        for first, vectors in plan.panels():
            size = plan.panel_elements(vectors)
            panel = packed[offset : offset + size].reshape(plan.panel_shape(vectors))
            for (filters, channels), piece in self._pieces(plan, first, vectors):
                part = weight[filters][:, channels]
                chunked = part.reshape(part.shape[0], -1, piece[1], *geometry.kernel)
                panel[piece[0]][..., piece[2], piece[3]] = chunked.transpose(1, 3, 4, 2, 0)
            offset += size
        bias = np.zeros(geometry.vectors * lanes, np.float32)
        if 2 in constants:
            bias[: geometry.filters] = constants[2]
        return [packed, bias, *ExtraOperands(workload, 3).pack(constants, lanes)]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = Plan.of(workload, config, target)
        geometry = plan.geometry
        weight = np.empty(workload.inputs[1].shape, np.float32)  # type: ignore[union-attr]
        offset = 0
        for first, vectors in plan.panels():
            size = plan.panel_elements(vectors)
            panel = packed[0][offset : offset + size].reshape(plan.panel_shape(vectors))
            for (filters, channels), piece in self._pieces(plan, first, vectors):
                chunked = panel[piece[0]][..., piece[2], piece[3]].transpose(4, 0, 3, 1, 2)
                weight[filters, channels] = chunked.reshape(chunked.shape[0], -1, *geometry.kernel)
            offset += size
        found: dict[int, np.ndarray] = {1: weight}
        if len(workload.inputs) > 2 and workload.inputs[2] is not None:
            found[2] = packed[1][: geometry.filters]
        return {**found, **ExtraOperands(workload, 3).unpack(packed[2:])}

    @staticmethod
    def _pieces(plan: Plan, first: int, vectors: int) -> list[tuple[tuple[slice, slice], tuple[slice, int, slice, slice]]]:
        """Where the weights of a panel come from and go to: ((filters, channels of the group), (chunks, channels per chunk,
        channel slots, lanes))."""
        geometry, lanes = plan.geometry, plan.geometry.isa.lanes
        start, stop = first * lanes, min((first + vectors) * lanes, geometry.filters)
        if geometry.whole_groups(plan.tile.vectors):
            whole = (slice(start, stop), slice(0, geometry.channels_per_group))
            return [(whole, (slice(None), plan.chunk, slice(None), slice(0, stop - start)))]
        base = geometry.window_start(first, plan.tile.vectors)
        pieces = []
        for group in range(start // geometry.filters_per_group, (stop - 1) // geometry.filters_per_group + 1):
            low = max(start, group * geometry.filters_per_group)
            high = min(stop, (group + 1) * geometry.filters_per_group)
            slot = group * geometry.channels_per_group - base
            slots = slice(slot, slot + geometry.channels_per_group)
            pieces.append(
                (
                    (slice(low, high), slice(0, geometry.channels_per_group)),
                    (slice(None), geometry.channels_per_group, slots, slice(low - start, high - start)),
                )
            )
        return pieces

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Emitter(workload, config, target).emit()
        return finished[0]


class _Emitter:
    """Writes the loops of one convolution."""

    def __init__(self, workload: Workload, config: Config, target: Target) -> None:
        self.plan = Plan.of(workload, config, target)
        self.workload = workload
        self.isa = target.isa
        self.extras = ExtraOperands(workload, 3)
        self.expression = expression.parse(workload["epilogue"])
        self.x_layout: Layout = self.plan.geometry.x.layout or Layout()
        self.y_layout: Layout = workload.output.layout or Layout(target.isa.lanes)

    def emit(self) -> None:
        plan, geometry, lanes = self.plan, self.plan.geometry, self.isa.lanes
        self.weights = argument("weights", sum(plan.panel_elements(v) for _, v in plan.panels()), "float32")
        self.bias = argument("bias", geometry.vectors * lanes, "float32")
        self.extras.declare_constants(lanes)
        self.x = argument("x", geometry.x.elements, "float32")
        self.extras.declare_variables()
        self.y = argument("y", self.workload.output.elements, "float32")
        offset = 0
        for first, panels, vectors in segments(geometry.vectors, plan.tile.vectors):
            with loop(geometry.batch * panels * plan.splits, parallel=True) as task:
                panel = task % panels
                split = task // panels % plan.splits
                n = task // (plan.splits * panels)
                self._panel(n, first + panel * vectors, vectors, T.Bind(offset + panel * plan.panel_elements(vectors)), split)
            offset += panels * plan.panel_elements(vectors)

    def _panel(self, n: Value, first: Value, vectors: int, weight_start: Value, split: Value) -> None:
        """All positions of one panel that fall into one split of the rows."""
        plan, geometry = self.plan, self.plan.geometry
        shape = self.workload.output.shape
        if self.y_layout.halo:
            with when(split == 0, plan.splits > 1):
                for v in range(vectors):
                    write_halo(self.y, self.y_layout, shape, n, first + v, "float32", self.isa.lanes)
        chunk_weights = plan.panel_elements(vectors) // plan.chunks
        with loop(plan.chunks) as chunk:
            start = weight_start + chunk * chunk_weights
            for y_start, y_pieces, rows in segments(geometry.height, plan.tile.rows):
                share = -(-y_pieces // plan.splits)
                with loop(share) as y_index:
                    y_piece = split * share + y_index
                    with when(y_piece < y_pieces, share * plan.splits > y_pieces):
                        for x_start, x_pieces, columns in segments(geometry.width, plan.tile.columns):
                            with loop(x_pieces) as x_piece:
                                y, x = y_start + y_piece * rows, x_start + x_piece * columns
                                ahead = (start + chunk_weights, y_index * x_pieces + x_piece, share * x_pieces)
                                self._tile(Tile(vectors, rows, columns), n, first, y, x, chunk, start, ahead)

    def _tile(self, tile: Tile, n: Value, first: Value, y: Value, x: Value, chunk: Value, weight_start: Value, following: tuple[Value, Value, int]) -> None:
        plan, geometry, isa, shape = self.plan, self.plan.geometry, self.isa, self.workload.output.shape
        registers = Registers(tile.accumulators, isa.lanes)
        places = [
            (v, row * tile.columns + column, row, column)
            for v in range(tile.vectors)
            for row in range(tile.rows)
            for column in range(tile.columns)
        ]
        outputs = [T.Bind(self.y_layout.offset(shape, n, first + v, y, x)) for v in range(tile.vectors)]
        steps = {
            (row, column): (row * self.y_layout.pitch(geometry.width) + column) * self.y_layout.channel_block
            for _, _, row, column in places
        }

        def initialize(from_bias: bool) -> None:
            for v in range(tile.vectors):
                bias = load(self.bias, (first + v) * isa.lanes, isa.lanes) if from_bias else None
                for _, position, row, column in places[: tile.positions]:
                    value = bias if from_bias else self.y[ramp(outputs[v] + steps[row, column], isa.lanes)]
                    registers[v * tile.positions + position] = value

        if plan.chunks == 1:
            initialize(from_bias=True)
        else:
            with T.If(chunk == 0):
                with T.Then():
                    initialize(from_bias=True)
                with T.Else():
                    initialize(from_bias=False)

        window = geometry.window_start(first, plan.tile.vectors)
        block = self.x_layout.channel_block
        aligned = geometry.group == 1 or (geometry.whole_groups(plan.tile.vectors) and geometry.channels_per_group % 16 == 0)
        step = channel_step(isa, tile.accumulators, plan.chunk, block, aligned)
        x_shape = geometry.x.shape
        (stride_y, stride_x), (dilation_y, dilation_x) = geometry.strides, geometry.dilations
        top, left = geometry.pads[:2]
        pitch = self.x_layout.pitch(x_shape[3])

        iterations = geometry.taps * (plan.chunk // step)
        chunk_weights = plan.panel_elements(tile.vectors) // plan.chunks
        ahead = Prefetch.plan(following[0], chunk_weights, iterations, *following[1:])

        def input_offset(tap: Sequence[Value], channel: Value) -> Value:
            c = window + chunk * plan.chunk + channel
            row = y * stride_y + tap[0] * dilation_y - top
            column = x * stride_x + tap[1] * dilation_x - left
            return self.x_layout.offset(x_shape, n, c // block, row, column) + c % block

        accumulate(
            isa,
            tile,
            registers,
            self.weights,
            weight_start,
            self.x,
            geometry.kernel,
            plan.chunk,
            step,
            input_offset,
            [(row * stride_y * pitch + column * stride_x) * block for _, _, row, column in places[: tile.positions]],
            self.x_layout.plane(x_shape[2], x_shape[3]) if block == 1 else 1,
            ahead,
        )

        def finish() -> None:
            for v, position, row, column in places:
                value = registers[v * tile.positions + position]
                operands = {"acc": value, **self.extras.load(n, first + v, y + row, x + column, isa.lanes)}
                result = epilogue.emit(self.expression, operands, isa, isa.lanes)
                store(self.y, outputs[v] + steps[row, column], result, isa.lanes)

        if plan.chunks == 1:
            finish()
        else:
            with T.If(chunk == plan.chunks - 1):
                with T.Then():
                    finish()
                with T.Else():
                    for v, position, row, column in places:
                        store(self.y, outputs[v] + steps[row, column], registers[v * tile.positions + position], isa.lanes)
