"""Dense float convolution, direct: any size, stride, group and dilation; 1x1 is the case of one tap.

Vectors run over output channels, so every spatial size is served alike: a 7x7 layer wastes no lane. Inputs are read as
scalars, hence in any channel block; outputs are written in channel blocks of one vector. The residual, the activation and the
consumer's halo are part of the kernel.

Where groups are narrower than a vector, a tile reads the channels of all its groups, with zeros in the weights between: exact
for finite inputs, while an infinity in one group makes NaN in its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tapdot.kernels import epilogue, expression
from tapdot.kernels.convolution_plan import Geometry, Plan, default_config, settle, space
from tapdot.kernels.emit import Registers, Value, argument, load, loop, ramp, store, when, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.layout import Layout
from tapdot.kernels.operands import ExtraOperands
from tapdot.kernels.parallel import pays
from tapdot.kernels.register_tile import Prefetch, Products, Tile, accumulate, channel_step, segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function
from tapdot.kernels.workload import Workload


class DenseConvolution(Family):
    """``FusedConv`` with constant weights over four-dimensional tensors.

    Configuration: ``vectors``, ``rows``, ``columns`` of the register tile; ``chunk`` input channels summed before the next
    position is visited (a divisor of the channels); ``splits`` of the output rows among threads.
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
        return space(Geometry(workload, target.isa))

    def default_config(self, workload: Workload, target: Target) -> Config:
        return default_config(Geometry(workload, target.isa), target.cores)

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        return settle(Geometry(workload, target.isa), config)

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
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
        positions = geometry.batch * geometry.height * geometry.width
        macs = positions * geometry.filters * geometry.window(plan.tile.vectors) * geometry.taps
        threads = pays(macs / lanes / self.isa.fma_per_cycle)
        offset = 0
        for first, panels, vectors in segments(geometry.vectors, plan.tile.vectors):
            with loop(geometry.batch * panels * plan.splits, parallel=threads) as task:
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

    def _tile(
        self,
        tile: Tile,
        n: Value,
        first: Value,
        y: Value,
        x: Value,
        chunk: Value,
        weight_start: Value,
        following: tuple[Value, Value, int],
    ) -> None:
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
            Products.of_floats(isa),
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
