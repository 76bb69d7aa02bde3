"""Pattern convolution of codes: pruned 3x3 kernels of four taps, each one lane of a dot product.

For a tile of positions: the windows of every input channel are copied side by side into a scratch that fits the cache; then every
share group of filters, in the order of visits, runs through its own list of kernels. For a kernel, one gather a vector serves all
filters of the group; the sums of a group stay in registers from the bias to the epilogue. Nothing branches on a pattern: it is
a row of a lookup table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Registers, Value, argument, local_buffer, loop, splat, when
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.fkw import FKW
from tapdot.kernels.integer_rows import PLANAR, PositionEpilogue
from tapdot.kernels.integer_sparse_plan import Geometry, Plan, default_config, space
from tapdot.kernels.isa.pattern_gather import gathers
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function
from tapdot.kernels.workload import Operand, Workload

ARRAYS = tuple(range(1, 7))
"""Operands of FKW's arrays: reorder, offset, index, stride, weight, patterns."""
BIAS, EXTRAS = 7, 8
LARGEST_TABLE = 2**16
"""Elements of a lookup table that ids of 16 bits reach."""


class PatternConvolution(Family):
    """``QSparseConv`` with 3x3 kernels, stride 1 or 2, on planar rows.

    Configuration: ``columns`` of a block of positions, ``blocks`` of a tile, ``strip`` (tiles whose windows are copied
    together), ``splits`` of the filters among threads.
    """

    name = "pattern_convolution"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "QSparseConv" or any(operand is None for operand in workload.inputs[:BIAS]):
            return False
        x, *arrays = (operand for operand in workload.inputs[:BIAS] if operand is not None)
        bias = workload.inputs[BIAS] if len(workload.inputs) > BIAS else None
        strides = tuple(workload["strides"])
        return (
            len(x.shape) == 4
            and x.dtype in CODES
            and not x.constant
            and all(array.constant for array in arrays)
            and arrays[4].stored_dtype == "int8"
            and (bias is None or bias.constant)
            and tuple(workload["kernel_shape"]) == (3, 3)
            and strides in ((1, 1), (2, 2))
            and min(workload["pads"]) >= 0
            and self.gathers(workload, target)
            and PositionEpilogue(workload, EXTRAS, target.isa).served()
        )

    def gathers(self, workload: Workload, target: Target) -> bool:
        """Whether the target has a way to gather taps, and ids of 16 bits reach the lookups of all patterns."""
        geometry = Geometry(workload)
        found = gathers(target, geometry.strides, (geometry.height, geometry.width))
        return bool(found) and geometry.patterns * max(gather.entry for gather in found) <= LARGEST_TABLE

    def ports(self, workload: Workload, target: Target) -> Ports:
        inputs: list[Port | None] = [None] * min(len(workload.inputs), EXTRAS)
        inputs[0] = Port((PLANAR,), Geometry(workload).halo, behind=True)
        extras = PositionEpilogue(workload, EXTRAS, target.isa).ports()
        return Ports((*inputs, *extras), (Port((PLANAR,)),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        return space(workload, target)

    def default_config(self, workload: Workload, target: Target) -> Config:
        return default_config(workload, target)

    def cost(self, workload: Workload, target: Target) -> float:
        """What the plan estimates where it was calibrated, on x86; the common estimate elsewhere."""
        geometry = Geometry(workload)
        found = gathers(target, geometry.strides, (geometry.height, geometry.width))
        if not all(gather.calibrated for gather in found) or not found:
            return super().cost(workload, target)
        return Plan.of(workload, default_config(workload, target), target).cycles() * geometry.batch

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        plan = Plan.of(workload, config, target)
        found = {"columns": plan.gather.block.columns, "blocks": plan.blocks, "strip": plan.strip, "splits": plan.splits}
        return found if plan.fits() else None

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan = Plan.of(workload, config, target)
        gather, geometry = plan.gather, plan.geometry
        fkw = FKW(*(constants[index] for index in ARRAYS))
        bias = folded_bias(workload, gather.operand_offset, fkw, constants.get(BIAS, np.zeros(geometry.filters, np.int32)), 1)
        return [
            gather.table(fkw.patterns),
            _filled(gather.pack_weights(fkw.weight), geometry.share * KEPT),
            _filled(fkw.index.astype(np.int32) * plan.unit),
            _filled((fkw.pattern_ids.astype(np.int64) * gather.entry).astype(np.uint16)),
            fkw.offset.astype(np.int32),
            fkw.reorder.astype(np.int32) * geometry.share,
            group_bounds(fkw, plan.splits),
            bias,
            *PositionEpilogue(workload, EXTRAS, target.isa).pack(constants),
        ]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = Plan.of(workload, config, target)
        gather, geometry = plan.gather, plan.geometry
        table, weights, places, ids, offset, channels, _, stored_bias, *extras = packed
        count = geometry.kernels
        pattern = ids[:count].astype(np.int64) // gather.entry
        group = np.repeat(np.arange(geometry.groups), np.diff(offset))
        per_pattern = np.zeros((geometry.groups, geometry.patterns + 1), np.int64)
        np.add.at(per_pattern, (group, pattern + 1), 1)
        arrays = (
            channels // geometry.share,
            offset,
            places[:count] // plan.unit,
            np.cumsum(per_pattern, axis=1),
            gather.unpack_weights(weights[: count * geometry.share * KEPT], geometry.share),
            gather.patterns(table),
        )
        found = {
            index: np.ascontiguousarray(array, workload.inputs[index].stored_dtype)  # type: ignore[union-attr]
            for index, array in zip(ARRAYS, arrays, strict=True)
        }
        if len(workload.inputs) > BIAS and workload.inputs[BIAS] is not None:
            found[BIAS] = folded_bias(workload, gather.operand_offset, FKW(*(found[index] for index in ARRAYS)), stored_bias, -1)
        return {**found, **PositionEpilogue(workload, EXTRAS, target.isa).unpack(extras)}

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            Emitter(workload, Plan.of(workload, config, target), target).emit()
        return finished[0]


def folded_bias(workload: Workload, operand_offset: Callable[[str], int], fkw: FKW, bias: np.ndarray, sign: int) -> np.ndarray:
    """The bias with the zero point and what operands hold more than codes folded in (``sign`` 1), or taken out again (-1)."""
    x = Geometry(workload).x
    offset = x.layout.code_offset if x.layout is not None else 0
    offset += operand_offset(x.stored_dtype)
    sums = np.zeros((fkw.groups, fkw.share), np.int64)
    np.add.at(sums, fkw.reorder.astype(np.int64)[fkw.group_ids], fkw.weight.sum(axis=2, dtype=np.int64))
    return numerics.folded_bias(bias, sign * sums.reshape(-1), workload["zero_point"], offset)


def group_bounds(fkw: FKW, splits: int) -> np.ndarray:
    """``[splits + 1]``: which groups each split visits, so that all have about as much to do."""
    work = np.diff(fkw.offset.astype(np.int64)) + GROUP_KERNELS
    before = np.concatenate([[0], np.cumsum(work)])
    wanted = before[-1] * np.arange(splits + 1) / splits
    return np.searchsorted(before, wanted).astype(np.int32)


GROUP_KERNELS = 6
"""The epilogue of a group takes about as long as that many kernels."""


def _filled(array: np.ndarray, elements: int = 1) -> np.ndarray:
    """The array, or zeros where it is empty: buffers have elements."""
    return array if array.size else np.zeros(elements, array.dtype)


def _at_most(start: Value, size: int, extent: int) -> Value:
    """``start``, a multiple of ``size``, or less where ``size`` would reach beyond ``extent``."""
    if extent <= size:
        return 0
    return T.min(start, extent - size) if extent % size else start


class Emitter:
    """Writes the loops of one pattern convolution."""

    def __init__(self, workload: Workload, plan: Plan, target: Target) -> None:
        self.plan = plan
        self.workload = workload
        self.gather = plan.gather
        self.lanes = target.isa.lanes
        self.epilogue = PositionEpilogue(workload, EXTRAS, target.isa)
        self.x_layout: Layout = plan.geometry.x.layout or Layout()
        self.operand: Operand = plan.geometry.x

    def emit(self) -> None:
        plan, geometry = self.plan, self.plan.geometry
        kernels = max(1, geometry.kernels)
        self.gather.declare_table(geometry.patterns)
        self.weights = argument("weights", kernels * geometry.share * KEPT, self.gather.weight_dtype)
        self.places = argument("places", kernels, "int32")
        self.ids = argument("ids", kernels, "uint16")
        self.offset = argument("offset", geometry.groups + 1, "int32")
        self.channels = argument("reorder", geometry.groups, "int32")
        self.bounds = argument("bounds", plan.splits + 1, "int32")
        self.bias = argument("bias", geometry.filters, "int32")
        self.epilogue.declare_constants()
        self.x = argument("x", self.operand.elements, self.operand.stored_dtype)
        self.epilogue.declare_variables()
        self.y = argument("y", self.workload.output.elements, self.workload.output.stored_dtype)
        threads = pays(plan.cycles() * geometry.batch)
        with loop(geometry.batch * plan.strips, parallel=threads and plan.splits == 1) as task:
            scratch = T.alloc_buffer((plan.scratch,), self.gather.scratch_dtype)
            n, strip = task // plan.strips, task % plan.strips
            first_tile = _at_most(strip * plan.strip, plan.strip, plan.tiles)
            self._pack(scratch, n, first_tile)
            self._halo(n, strip)
            with loop(plan.splits, parallel=threads and plan.splits > 1) as split, loop(plan.strip) as index:
                first, last = (0, geometry.groups) if plan.splits == 1 else (self.bounds[split], self.bounds[split + 1])
                corners = [self._corner(first_tile + index, block) for block in range(plan.blocks)]
                start = T.Bind(index * plan.tile_windows)
                with T.serial(last - first) as group:
                    self._group(scratch, start, n, corners, first + group)

    def _halo(self, n: Value, strip: Value) -> None:
        """What is no position: above and below the planes by the first strip, the ends of rows by the strips that begin them."""
        plan, geometry = self.plan, self.plan.geometry
        with when(strip == 0, plan.strips > 1), loop(geometry.filters) as channel:
            self.epilogue.emit_halo(self.y, n, channel, between_rows=plan.gather.stacked)
        if plan.gather.stacked:
            return

        def row(number: Value) -> Value:
            first = T.min(number * plan.strip * plan.blocks, plan.all_blocks) // plan.block_columns
            return T.min(first * plan.gather.block.height, geometry.height - 1)

        first, last = T.Bind(row(strip)), T.Bind(row(strip + 1))
        with loop(geometry.filters) as channel:
            self.epilogue.emit_row_ends(self.y, n, channel, first, last - first)

    def _corner(self, tile: Value, index: Value) -> tuple[Value, Value]:
        """The first position of a block of a tile; the last tiles and blocks of a plane end with it."""
        plan, geometry, shape = self.plan, self.plan.geometry, self.gather.block
        if plan.gather.stacked:
            column, place = tile // plan.tiles_in_column, tile % plan.tiles_in_column
            y = _at_most(place * plan.blocks * shape.height, plan.blocks * shape.height, geometry.height) + index * shape.height
            return T.Bind(y), T.Bind(_at_most(column * shape.width, shape.width, geometry.width))
        block = _at_most(tile * plan.blocks, plan.blocks, plan.all_blocks) + index
        y = _at_most(block // plan.block_columns * shape.height, shape.height, geometry.height)
        x = _at_most(block % plan.block_columns * shape.width, shape.width, geometry.width)
        return T.Bind(y), T.Bind(x)

    def _pack(self, scratch: Value, n: Value, first_tile: Value) -> None:
        """The windows of all input channels for a strip of tiles."""
        plan, geometry = self.plan, self.plan.geometry
        (stride_y, stride_x), (top, left, _, _) = geometry.strides, geometry.pads
        shape, pitch = geometry.x.shape, self.x_layout.pitch(geometry.x.shape[3])
        if plan.gather.stacked:
            with loop(plan.strip) as tile:
                y, x = self._corner(first_tile + tile, 0)
                start = T.Bind((y * stride_y - top) * pitch + x * stride_x - left)
                with loop(geometry.channels) as channel:
                    origin = T.Bind(self.x_layout.offset(shape, n, channel, 0, 0) + start)
                    place = tile * plan.tile_windows + channel * plan.unit
                    self.gather.pack_stack(self.x, origin, pitch, scratch, place, plan.stack_rows)
            return
        count = plan.strip * plan.blocks
        starts, places = local_buffer(count, "int32"), local_buffer(count, "int32")
        with loop(plan.strip) as tile:
            for block in range(plan.blocks):
                y, x = self._corner(first_tile + tile, block)
                index = tile * plan.blocks + block
                T.buffer_store(starts, (y * stride_y - top) * pitch + x * stride_x - left, [index])
                T.buffer_store(places, tile * plan.tile_windows + block * self.gather.window, [index])
        side_by_side = plan.block_columns if plan.whole_rows else plan.blocks
        neighbours = side_by_side - (geometry.width % self.gather.block.width != 0)
        with loop(geometry.channels) as channel:
            origin = T.Bind(self.x_layout.offset(shape, n, channel, 0, 0))
            with loop(count // side_by_side) as part:
                first = part * side_by_side
                block = 0
                while block < side_by_side:
                    pair = 2 if plan.whole_rows and self.gather.pairs and block + 1 < neighbours else 1
                    start = T.Bind(origin + starts[first + block])
                    here = [T.Bind(channel * plan.unit + places[first + block + index]) for index in range(pair)]
                    if pair == 2:
                        self.gather.pack_pair(self.x, start, pitch, scratch, here)
                    else:
                        self.gather.pack_window(self.x, start, pitch, scratch, here[0])
                    block += pair

    def _group(self, scratch: Value, start: Value, n: Value, corners: Sequence[tuple[Value, Value]], group: Value) -> None:
        """All kernels of one share group at one tile, and the results of its filters."""
        plan, share = self.plan, self.plan.geometry.share
        vectors, block = plan.vectors, plan.gather.block
        channel = T.Bind(self.channels[group])
        sums = Registers(share * vectors, self.lanes, "int32")
        for member in range(share):
            bias = T.Bind(splat(self.bias[channel + member], self.lanes))
            for v in range(vectors):
                sums[member * vectors + v] = bias
        first = T.Bind(self.offset[group])
        with T.serial(T.Bind(self.offset[group + 1] - first)) as kernel:
            self._kernel(scratch, start, first + kernel, sums)
        for member in range(share):
            registers = range(member * vectors, (member + 1) * vectors)
            constants = self.epilogue.channel(channel + member)
            values = self.epilogue.shift_ahead(constants, channel + member, sums, registers)
            here = [T.Bind(sums[register]) for register in registers]
            self.epilogue.emit_blocks(values, here, self.y, n, channel + member, block, corners, plan.heights)

    def _kernel(self, scratch: Value, start: Value, kernel: Value, sums: Registers) -> None:
        """One kernel: its gathers, each for all filters of the group."""
        plan, share = self.plan, self.plan.geometry.share
        place = T.Bind(self.places[kernel] + start)
        pattern = self.gather.pattern(T.Bind(self.ids[kernel].astype("int32")))
        weights = self.gather.weights(self.weights, kernel, share)
        for block in range(plan.blocks):
            last = plan.gather.stacked and block + 1 == plan.stack_windows
            operands = self.gather.operands(pattern, scratch, place + block * self.gather.window, last)
            for v, operand in enumerate(operands):
                for member in range(share):
                    register = member * plan.vectors + block * len(operands) + v
                    sums[register] = self.gather.dot(sums[register], operand, weights[member])
