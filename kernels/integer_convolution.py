"""Dense convolution of codes, direct: any size, stride, group and dilation; 1x1 is the case of one tap.

Vectors run over output channels, as in the float family, and each of their lanes sums a quad of input channels at once. Sums over
all channels and taps stay in the registers of a tile: partial sums have no place in a result of 8-bit codes. They start from a
bias in which the zero point and the stored sign of the input are folded (``numerics.folded_bias``).

Where groups are narrower than a vector, a tile reads the channels of all its groups, with zeros in the weights between.

Weights of 4 bits lie one a byte by default, unpacked when the package is opened. Packed ones (``packed``) must be unpacked for
every tile, outside of the loop over its positions, and take more registers: with ``vpdpbusd`` that is 3 to 14 % slower on the
layers of ResNet-50 when the weights are in a cache, and up to 9 % faster where they come from memory (512 filters of 512
channels at 7x7). Tuning may choose it. Without ``vpdpbusd`` narrow weights allow ``vpmaddubsw``, packed or not: 8 to 17 % faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Registers, Value, argument, load, loop, when, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.integer_convolution_plan import QuadGeometry, QuadPlan, default_config, settle, space
from tapdot.kernels.integer_epilogue import IntegerEpilogue
from tapdot.kernels.integer_operands import BLOCK
from tapdot.kernels.isa.integer import IntegerVectors, integer_vectors
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.register_tile import QUAD, Prefetch, Products, Tile, accumulate, segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function
from tapdot.kernels.workload import Workload

LINE_CODES = 64
"""8-bit weights in a cache line."""


class IntegerConvolution(Family):
    """``QConv`` with constant weights over four-dimensional codes.

    Configuration: ``vectors``, ``rows``, ``columns`` of the register tile; ``splits`` of the output rows among threads; of narrow
    weights, whether they lie ``packed``.
    """

    name = "integer_convolution"
    geometry: ClassVar[type[QuadGeometry]] = QuadGeometry

    def _plan(self, workload: Workload, config: Config, target: Target) -> QuadPlan:
        return QuadPlan.of(self.geometry(workload, target.isa), config)

    def _vectors(self, geometry: QuadGeometry) -> IntegerVectors:
        return geometry.emitters

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "QConv" or any(operand is None for operand in workload.inputs[:2]):
            return False
        x, w = workload.inputs[0], workload.inputs[1]
        assert x is not None and w is not None
        return (
            len(x.shape) == 4
            and x.dtype in CODES
            and not x.constant
            and w.constant
            and w.stored_dtype == "int8"
            and all(operand is None or operand.constant for operand in workload.inputs[2:3])
            and min(workload["pads"]) >= 0
            and IntegerEpilogue(workload, 3, target.isa).served()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        geometry = self.geometry(workload, target.isa)
        blocks = (QUAD, BLOCK) if geometry.channels <= QUAD else (BLOCK,)
        inputs: list[Port | None] = [Port(blocks, geometry.halo), None]
        if len(workload.inputs) > 2:
            inputs.append(None)
        return Ports((*inputs, *IntegerEpilogue(workload, 3, target.isa).ports()), (Port((BLOCK,)),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        return space(self.geometry(workload, target.isa))

    def default_config(self, workload: Workload, target: Target) -> Config:
        return default_config(self.geometry(workload, target.isa), target.cores)

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        return settle(self.geometry(workload, target.isa), config)

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan = self._plan(workload, config, target)
        geometry, lanes, vectors = plan.geometry, target.isa.lanes, self._vectors(plan.geometry)
        weight, packed = constants[1], []
        for first, count in plan.panels():
            panel = np.zeros((count * lanes, plan.window, *geometry.kernel), np.int8)
            for filters, place in self._pieces(plan, first, count):
                panel[place] = weight[filters]
            quads = panel.reshape(count, lanes, -1, geometry.unit, *geometry.kernel).transpose(4, 5, 2, 0, 1, 3)
            ordered = vectors.pack_weights(quads)
            if plan.packed:
                ordered = vectors.pack_narrow(ordered[:, :, ::2], ordered[:, :, 1::2])
            packed.append(ordered.reshape(-1))
        bias = np.zeros(geometry.vectors * lanes, np.int32)
        bias[: geometry.filters] = self._folded(
            workload, target, weight, constants.get(2, np.zeros(geometry.filters, np.int32)), 1
        )
        return [np.concatenate(packed), bias, *IntegerEpilogue(workload, 3, target.isa).pack(constants)]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = self._plan(workload, config, target)
        geometry, lanes, vectors = plan.geometry, target.isa.lanes, self._vectors(plan.geometry)
        weight, offset = np.empty(workload.inputs[1].shape, np.int8), 0  # type: ignore[union-attr]
        for first, count in plan.panels():
            size = plan.panel_elements(count)
            ordered = packed[0][offset : offset + size].reshape(plan.panel_shape(count))
            if plan.packed:
                pairs = np.stack(vectors.unpack_narrow(ordered), axis=3)
                ordered = pairs.reshape(*pairs.shape[:2], -1, *pairs.shape[4:])
            quads = vectors.unpack_weights(ordered)
            panel = quads.transpose(3, 4, 2, 5, 0, 1).reshape(count * lanes, plan.window, *geometry.kernel)
            for filters, place in self._pieces(plan, first, count):
                weight[filters] = panel[place]
            offset += size
        found: dict[int, np.ndarray] = {1: weight}
        if len(workload.inputs) > 2 and workload.inputs[2] is not None:
            found[2] = self._folded(workload, target, weight, packed[1][: geometry.filters], -1)
        return {**found, **IntegerEpilogue(workload, 3, target.isa).unpack(packed[2:])}

    @staticmethod
    def _folded(workload: Workload, target: Target, weight: np.ndarray, bias: np.ndarray, sign: int) -> np.ndarray:
        """The bias with the zero point and what is added to stored codes folded in (``sign`` 1), or taken out again (-1)."""
        x = workload.inputs[0]
        assert x is not None
        offset = x.layout.code_offset if x.layout is not None else 0
        offset += integer_vectors(target.isa).operand_offset(x.stored_dtype)
        sums = sign * weight.sum(axis=(1, 2, 3), dtype=np.int64)
        return numerics.folded_bias(bias, sums, workload["zero_point"], offset)

    @staticmethod
    def _pieces(plan: QuadPlan, first: int, vectors: int) -> list[tuple[slice, tuple[slice, slice]]]:
        """Where the weights of a panel come from and go to: (filters, (filters of the panel, channels of its window))."""
        geometry, lanes = plan.geometry, plan.geometry.isa.lanes
        start, base = first * lanes, geometry.window_start(first, plan.tile.vectors)
        stop, pieces = min((first + vectors) * lanes, geometry.filters), []
        for group in geometry.groups(first, vectors):
            low = max(start, group * geometry.filters_per_group)
            high = min(stop, (group + 1) * geometry.filters_per_group)
            slot = group * geometry.channels_per_group - base
            pieces.append((slice(low, high), (slice(low - start, high - start), slice(slot, slot + geometry.channels_per_group))))
        return pieces

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            self._emitter(workload, config, target).emit()
        return finished[0]

    def _emitter(self, workload: Workload, config: Config, target: Target) -> Emitter:
        return Emitter(workload, self._plan(workload, config, target), target)


class Emitter:
    """Writes the loops of one convolution."""

    def __init__(self, workload: Workload, plan: QuadPlan, target: Target) -> None:
        self.plan = plan
        self.workload = workload
        self.isa = target.isa
        self.vectors = plan.geometry.emitters
        self.epilogue = IntegerEpilogue(workload, 3, target.isa)
        self.x_layout: Layout = self.plan.geometry.x.layout or Layout(BLOCK)
        self.y_layout: Layout = workload.output.layout or Layout(BLOCK)

    def emit(self) -> None:
        plan, geometry, lanes = self.plan, self.plan.geometry, self.isa.lanes
        self.weights = argument("weights", sum(plan.panel_elements(v) for _, v in plan.panels()), "int8")
        self.bias = argument("bias", geometry.vectors * lanes, "int32")
        self.epilogue.declare_constants()
        self.x = argument("x", geometry.x.elements, geometry.x.stored_dtype)
        self.epilogue.declare_variables()
        self.y = argument("y", self.workload.output.elements, self.workload.output.stored_dtype)
        positions = geometry.batch * geometry.height * geometry.width
        dots = positions * geometry.filters * plan.window * geometry.taps / QUAD
        threads = pays(dots / lanes / self.vectors.dots_per_cycle)
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
        plan, lanes = self.plan, self.isa.lanes
        self._halo(n, first, vectors, split)
        for index, region in enumerate(plan.regions):
            share = -(-region.y_tiles // plan.splits)
            tile = Tile(vectors, region.rows, region.columns)
            with loop(share) as y_index:
                y_tile = split * share + y_index
                with when(y_tile < region.y_tiles, share * plan.splits > region.y_tiles), loop(region.x_tiles) as x_tile:
                    y, x = region.y + y_tile * region.rows, region.x + x_tile * region.columns
                    ahead = (
                        weight_start + plan.panel_elements(vectors),
                        y_index * region.x_tiles + x_tile,
                        share * region.x_tiles,
                    )
                    self._tile(tile, n, first * lanes, y, x, weight_start, None if index else ahead)

    def _halo(self, n: Value, first: Value, vectors: int, split: Value) -> None:
        """Everything of the panel's planes that is no position, written by the panel that begins them."""
        lanes, output = self.isa.lanes, self.workload.output
        if not self.y_layout.halo:
            return
        with (
            when(split == 0, self.plan.splits > 1),
            when(first * lanes % BLOCK == 0, vectors * lanes < BLOCK),
        ):
            for block in range(max(1, vectors * lanes // BLOCK)):
                place = first * lanes // BLOCK + block
                write_halo(self.y, self.y_layout, output.shape, n, place, output.stored_dtype, BLOCK)

    def _tile(
        self,
        tile: Tile,
        n: Value,
        channel: Value,
        y: Value,
        x: Value,
        weight_start: Value,
        following: tuple[Value, Value, int] | None,
    ) -> None:
        """The tile whose first output is ``channel`` at (y, x); ``following`` are the weights to fetch meanwhile."""
        plan, geometry, isa = self.plan, self.plan.geometry, self.isa
        places = [(row, column) for row in range(tile.rows) for column in range(tile.columns)]
        window = geometry.window_start(channel // isa.lanes, plan.tile.vectors)
        block, x_shape = self.x_layout.channel_block, geometry.x.shape
        (stride_y, stride_x), (dilation_y, dilation_x) = geometry.strides, geometry.dilations
        top, left = geometry.pads[:2]
        pitch = self.x_layout.pitch(x_shape[3])

        kernel, units = geometry.kernel, plan.window // geometry.unit
        aligned = geometry.group == 1 or (geometry.whole_groups(plan.tile.vectors) and geometry.channels_per_group % block == 0)
        step = max(1, min(units, block // geometry.unit)) if aligned else 1
        if self.vectors.quads_per_load > 1:
            step = min(step, self.vectors.quads_per_load)
        if geometry.taps_in_row:
            kernel, units = (kernel[0], 1), kernel[1]
            step = min(units, self.vectors.quads_per_load)

        def input_offset(tap: Sequence[Value], unit: Value) -> Value:
            c = window + unit * geometry.unit
            row = y * stride_y + tap[0] * dilation_y - top
            column = x * stride_x + tap[1] * dilation_x - left
            if geometry.taps_in_row:
                return self.x_layout.offset(x_shape, n, 0, row, column) + c
            return self.x_layout.offset(x_shape, n, c // block, row, column) + c % block

        iterations = kernel[0] * kernel[1] * (units // step)
        ahead = None
        if following is not None:
            ahead = Prefetch.plan(following[0], plan.panel_elements(tile.vectors), iterations, *following[1:], LINE_CODES)
        offsets = [(row * stride_y * pitch + column * stride_x) * block for row, column in places]
        sums = self._sums(tile, channel, offsets, weight_start, kernel, units, step, input_offset, ahead)
        self.epilogue.emit_tile(self.epilogue.channels(channel, tile.vectors), sums, places, self.y, n, channel, y, x)

    def _sums(
        self,
        tile: Tile,
        channel: Value,
        offsets: Sequence[int],
        weight_start: Value,
        kernel: tuple[int, int],
        units: int,
        step: int,
        input_offset: Callable[[Sequence[Value], Value], Value],
        ahead: Prefetch | None,
    ) -> Registers:
        """The sums of a tile, biases included: vector ``v`` at position ``p`` stands at ``v * positions + p``."""
        registers = Registers(tile.accumulators, self.isa.lanes, "int32")
        for v in range(tile.vectors):
            bias = load(self.bias, channel + v * self.isa.lanes, self.isa.lanes)
            for position in range(tile.positions):
                registers[v * tile.positions + position] = bias
        accumulate(
            Products.of_codes(self.vectors, self.plan.packed),
            tile,
            registers,
            self.weights,
            weight_start,
            self.x,
            kernel,
            units,
            step,
            input_offset,
            offsets,
            QUAD,
            ahead,
        )
        return registers
