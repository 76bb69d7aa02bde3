"""Pattern float convolution: 3x3 kernels of four taps, and 1x1 by quads of channels, over planar rows (PatDNN, ASPLOS 2020).

Vectors run over positions, so a tap is an unaligned load at a constant distance and a weight is one scalar for a whole vector. A
share group keeps its sums in registers over its whole list of kernels, and its filters use each loaded tap together. The
residual, the activation, the consumer's halo and the stored zeros between rows are part of the kernel.

Only the kept taps are multiplied: where an input is infinite or NaN, a pruned weight adds nothing, while zero times infinity of
the dense reference is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tapdot.kernels import epilogue, expression
from tapdot.kernels.emit import (
    Registers,
    Value,
    argument,
    constant,
    load,
    loop,
    multiply_add,
    prefetch,
    splat,
    store,
    store_partial,
    when,
    write_halo,
)
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.fkw import FKW
from tapdot.kernels.parallel import pays
from tapdot.kernels.planar_operands import PlanarOperands
from tapdot.kernels.register_tile import FLOAT_BYTES
from tapdot.kernels.sparse_convolution_plan import (
    ARRAYS,
    BIAS,
    EXTRAS,
    MOST_SPLITS,
    RUNS,
    WINDOW_BYTES,
    Plan,
    candidates,
    default_config,
)
from tapdot.kernels.sparse_source import STRIDES, PackedSource, PhasedSource, reached_halo
from tapdot.kernels.sparse_units import TABLE_FIELDS, Kind, UnitLayout, group_cuts, not_empty
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function
from tapdot.kernels.workload import Workload

ALL_BITS, NO_BITS = -1, 0


class SparseConvolution(Family):
    """``SparseConv`` of float32 with kernels of 3x3 or 1x1 and strides of 1 or 2.

    Configuration: see :class:`Plan`.
    """

    name = "sparse_convolution"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "SparseConv" or any(operand is None for operand in workload.inputs[:BIAS]):
            return False
        x, weight = workload.inputs[0], workload.inputs[5]
        assert x is not None and weight is not None
        return (
            len(x.shape) == 4
            and x.dtype == "float32"
            and weight.dtype == "float32"
            and not x.constant
            and all(operand is None or operand.constant for operand in workload.inputs[1 : BIAS + 1])
            and workload["kernel_shape"] in ((3, 3), (1, 1))
            and all(stride in STRIDES for stride in workload["strides"])
            and min(workload["pads"]) >= 0
            and PlanarOperands(workload, EXTRAS).served()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        bias: list[Port | None] = [None] if len(workload.inputs) > BIAS else []
        behind = workload["strides"] != (1, 1) or workload.output.shape[3] < target.isa.lanes
        inputs = (Port((1,), reached_halo(workload), behind=behind), *(None for _ in ARRAYS), *bias)
        return Ports((*inputs, *PlanarOperands(workload, EXTRAS).planar_ports()), (Port((1,)),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        plans = list(candidates(workload, target))
        return {
            "rows": sorted({plan.rows for plan in plans}),
            "vectors": sorted({plan.vectors for plan in plans}),
            "linear": sorted({int(plan.linear) for plan in plans}),
            "columns": sorted({int(plan.columns) for plan in plans}),
            "packed": sorted({int(plan.packed) for plan in plans}),
            "run": list(RUNS),
            "splits": [splits for splits in (1, 2, 4, 8, MOST_SPLITS) if splits <= plans[0].groups],
        }

    def default_config(self, workload: Workload, target: Target) -> Config:
        return default_config(workload, target)

    def cost(self, workload: Workload, target: Target) -> float:
        return Plan.of(workload, self.default_config(workload, target), target).cycles()

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        plan = Plan.of(workload, config, target)
        copied = not plan.packed or plan.run == 1 or plan.source.scratch * FLOAT_BYTES <= WINDOW_BYTES
        if not plan.fits or not copied:
            return None
        return {field: int(getattr(plan, field)) for field in config}

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan = Plan.of(workload, config, target)
        stored = FKW(*(constants[index] for index in ARRAYS))
        layout = UnitLayout(plan.scheme, stored.stride, stored.patterns)
        bias = np.zeros(stored.filters, np.float32)
        if BIAS in constants:
            bias[:] = constants[BIAS]
        filled = [not_empty(array) for array in layout.pack(stored)]
        arrays = [
            *filled,
            layout.table.reshape(-1),
            stored.reorder.astype(np.int32),
            group_cuts(stored, plan.splits),
            bias,
            stored.stride.reshape(-1),
            stored.patterns.reshape(-1),
        ]
        if plan.tiles.has_strips:
            arrays.append(np.where(plan.tiles.position_mask(), ALL_BITS, NO_BITS).astype(np.int32))
        return [*arrays, *PlanarOperands(workload, EXTRAS).pack(constants, target.isa.lanes)]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = Plan.of(workload, config, target)
        operands = [workload.inputs[index] for index in ARRAYS]
        offsets, weights, _, reorder, _, bias, stride, patterns = packed[:8]
        stride, patterns = np.asarray(stride).reshape(plan.groups, -1), np.asarray(patterns).reshape(-1, 4)
        layout = UnitLayout(plan.scheme, stride, patterns)
        index, weight = layout.unpack(offsets, weights[: plan.kernels * plan.share * 4], plan.share)
        offset = np.concatenate([[0], np.cumsum(stride[:, -1].astype(np.int64))])
        arrays = (reorder, offset, index, stride, weight, patterns)
        found = {
            number: np.asarray(array).astype(operand.dtype)  # type: ignore[union-attr]
            for number, array, operand in zip(ARRAYS, arrays, operands, strict=True)
        }
        if len(workload.inputs) > BIAS and workload.inputs[BIAS] is not None:
            found[BIAS] = bias
        return {**found, **PlanarOperands(workload, EXTRAS).unpack(packed[8 + plan.tiles.has_strips :])}

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
        self.workload, self.isa, self.lanes = workload, target.isa, target.isa.lanes
        self.extras = PlanarOperands(workload, EXTRAS)
        self.expression = expression.parse(workload["epilogue"])
        self.tiles, self.scheme, self.source = self.plan.tiles, self.plan.scheme, self.plan.source

    def emit(self) -> None:
        plan, lanes = self.plan, self.lanes
        x, y = self.source.workload.inputs[0], self.workload.output
        assert x is not None
        self.offsets = argument("offsets", max(1, plan.kernels * self.scheme.offsets_per_kernel), "int32")
        self.weights = argument("weights", max(1, plan.kernels * plan.share * 4), "float32")
        self.table = argument("table", plan.groups * len(self.scheme.kinds) * TABLE_FIELDS, "int32")
        self.reorder = argument("reorder", plan.groups, "int32")
        self.cuts = argument("cuts", plan.splits + 1, "int32")
        self.bias = argument("bias", plan.groups * plan.share, "float32")
        argument("stride", plan.groups * (plan.patterns + 1), self.workload.inputs[4].dtype)  # type: ignore[union-attr]
        argument("patterns", plan.patterns * 4, "uint8")
        if self.tiles.has_strips:
            self.mask = argument("mask", self.tiles.pitch - 1 + lanes, "int32")
        self.extras.declare_constants(lanes)
        self.x = argument("x", x.elements, "float32")
        self.extras.declare_variables()
        self.y = argument("y", y.elements, "float32")
        threads = pays(plan.cycles())
        if isinstance(self.source, PhasedSource):
            scratch = T.alloc_buffer((self.source.scratch,), "float32")
            with loop(x.shape[0]) as n:
                self.source.emit_phases(self.x, scratch, n, threads)
                with loop(self.tiles.count * plan.splits, parallel=threads) as task:
                    self._task(n, task, scratch)
            return
        with loop(x.shape[0] * self.tiles.count * plan.splits, parallel=threads) as task:
            self._task(task // plan.splits // self.tiles.count, task, self.x)

    def _task(self, n: Value, task: Value, inputs: Buffer) -> None:
        """One block of tiles and one part of the groups."""
        plan, tiles, y = self.plan, self.tiles, self.workload.output
        part, block = task % plan.splits, T.Bind(task // plan.splits % tiles.count)
        line, position = tiles.start(block)
        if isinstance(self.source, PackedSource):
            inputs = T.alloc_buffer((self.source.scratch,), "float32")
            self.source.emit_window(self.x, inputs, n, line, position)
        origin = T.Bind(self.source.origin(n, line, position))
        with T.serial(self.cuts[part], self.cuts[part + 1]) as group:
            first = T.Bind(self.reorder[group] * plan.share)
            self._fetch_next(n, block, group)
            if plan.output_layout.halo:
                with when(block == 0, tiles.count > 1):
                    for member in range(plan.share):
                        write_halo(
                            self.y, plan.output_layout, y.shape, n, first + member, "float32", self.lanes, not tiles.has_strips
                        )
            with loop(tiles.block_tiles) as tile:
                along = tiles.tile_offset(tile)
                self._fetch_result(n, first, line, position + along)
                sums = self._sums(group, first, inputs, T.Bind(origin + along))
                self._finish(sums, n, first, line, T.Bind(position + along))

    def _fetch_next(self, n: Value, block: Value, group: Value) -> None:
        """Asks for this group's share of the inputs that the next block reads."""
        plan, tiles, shape = self.plan, self.tiles, self.source.shape
        lines = plan.fetched
        if tiles.count == 1 or not lines:
            return
        line, position = tiles.start(T.Bind(T.min(block + 1, tiles.count - 1)))
        layout, per_group = self.source.layout, -(-shape[1] // plan.groups)
        with loop(per_group) as index:
            channel = group * per_group + index
            with when(channel < shape[1], per_group * plan.groups > shape[1]):
                start = T.Bind(layout.offset(shape, n, channel, line, position))
                for ahead in lines:
                    prefetch(self.x, start + ahead)

    def _fetch_result(self, n: Value, first: Value, line: Value, position: Value) -> None:
        """Asks for the lines that the group's results will be written to."""
        shape, layout = self.workload.output.shape, self.plan.output_layout
        for member in range(self.plan.share):
            start = T.Bind(layout.offset(shape, n, first + member, line, position))
            for row, along in self.tiles.places:
                prefetch(self.y, start + row * layout.pitch(shape[3]) + along, write=True)

    # -- sums ---------------------------------------------------------------------------------------------------------------

    def _sums(self, group: Value, first: Value, inputs: Buffer, origin: Value) -> list[list[Value]]:
        """``[share][places]``: the sums of one group over its kernels."""
        plan, places = self.plan, len(self.tiles.places)
        sums = Registers(plan.accumulators * plan.copies, self.lanes)
        for member in range(plan.share):
            bias = T.Bind(splat(self.bias[first + member], self.lanes))
            for place in range(places):
                sums[member * places + place] = bias
        for index in range(plan.accumulators, plan.accumulators * plan.copies):
            sums[index] = constant(0.0, self.lanes)
        kinds = self.scheme.kinds
        for number, kind in enumerate(kinds):
            entry = T.Bind((group * len(kinds) + number) * TABLE_FIELDS)
            offset, tap = T.Bind(self.table[entry + 1]), T.Bind(self.table[entry + 2])
            with T.serial(self.table[entry]) as unit:
                self._unit(kind, sums, inputs, origin, offset + unit * kind.offsets, tap + unit * len(kind.taps))
        found = []
        for member in range(plan.share):
            row = []
            for place in range(places):
                value = sums[member * places + place]
                for copy in range(1, plan.copies):
                    value = value + sums[copy * plan.accumulators + member * places + place]
                row.append(T.Bind(value))
            found.append(row)
        return found

    def _unit(self, kind: Kind, sums: Registers, inputs: Buffer, origin: Value, offset: Value, tap: Value) -> None:
        """The multiply-adds of one unit."""
        plan, places = self.plan, self.tiles.places
        starts = [T.Bind(origin + self.offsets[offset + slot]) for slot in range(kind.offsets)]
        weight = T.Bind(tap * plan.share)
        users: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for number, (slot, distance) in enumerate(kind.taps):
            for place, (row, along) in enumerate(places):
                users.setdefault((slot, row * self.source.pitch + along + distance), []).append((number, place))

        def multiply(number: int, place: int, member: int, value: Value, scalar: Value) -> None:
            index = (number % plan.copies) * plan.accumulators + member * len(places) + place
            sums[index] = multiply_add(self.isa, value, scalar, sums[index])

        if len(users) < len(kind.taps) * len(places):  # rows share loads: all weights stay, taps stream
            scalars = self._scalars(weight, len(kind.taps))
            for slot, distance in sorted(users):
                value = load(inputs, starts[slot] + distance, self.lanes)
                for number, place in users[slot, distance]:
                    for member in range(plan.share):
                        multiply(number, place, member, value, scalars[number][member])
            return
        quads = self._scalars(weight, len(kind.taps)) if self.isa.multiply_by_lane else None
        for number, (slot, distance) in enumerate(kind.taps):
            scalars_of_tap = quads[number] if quads else self._scalars(weight + number * plan.share, 1)[0]
            if plan.share > len(places):
                taps = [
                    load(inputs, starts[slot] + row * self.source.pitch + along + distance, self.lanes) for row, along in places
                ]
                for member in range(plan.share):
                    for place, value in enumerate(taps):
                        multiply(number, place, member, value, scalars_of_tap[member])
                continue
            for place, (row, along) in enumerate(places):
                value = load(inputs, starts[slot] + row * self.source.pitch + along + distance, self.lanes)
                for member in range(plan.share):
                    multiply(number, place, member, value, scalars_of_tap[member])

    def _scalars(self, start: Value, taps: int) -> list[list[Value]]:
        """``[taps][share]``: consecutive weights, each in every lane."""
        share, lanes, count = self.plan.share, self.lanes, taps * self.plan.share
        flat: list[Value] = []
        if self.isa.multiply_by_lane and count % lanes == 0:
            for vector in range(count // lanes):
                quad = load(self.weights, start + vector * lanes, lanes)
                flat += [T.Shuffle([quad], [lane] * lanes) for lane in range(lanes)]
        else:
            flat = [T.Bind(splat(self.weights[start + index], lanes)) for index in range(count)]
        return [flat[tap * share : (tap + 1) * share] for tap in range(taps)]

    # -- results ------------------------------------------------------------------------------------------------------------

    def _finish(self, sums: list[list[Value]], n: Value, first: Value, line: Value, position: Value) -> None:
        """Epilogue and store of one tile of a group; columns of the halo get the stored zero."""
        tiles, shape, lanes = self.tiles, self.workload.output.shape, self.lanes
        layout, width = self.plan.output_layout, self.workload.output.shape[3]
        pitch = layout.pitch(width)
        phase = T.Bind(position % tiles.pitch) if tiles.has_strips else None
        for member, values in enumerate(sums):
            channel = T.Bind(first + member)
            common = self.extras.channel(n, channel, lanes)
            origins = self.extras.origins(n, channel, tiles, line, position)
            start = T.Bind(layout.offset(shape, n, channel, line, position))
            for (row, along), value in zip(tiles.places, values, strict=True):
                residuals = self.extras.positions(origins, row, along, width, lanes, tiles.filled)
                result = epilogue.emit(self.expression, {"acc": value, **common, **residuals}, self.isa, lanes)
                if phase is not None:
                    mask = load(self.mask, (phase + along) % tiles.pitch, lanes)
                    bits = T.reinterpret(f"int32x{lanes}", result) & mask
                    result = T.reinterpret(f"float32x{lanes}", bits)
                at = start + row * pitch + along
                if tiles.filled == lanes:
                    store(self.y, at, result, lanes)
                else:
                    store_partial(Registers(1, lanes), self.y, at, result, tiles.filled)
