"""Pattern convolution of codes on AArch64: dots by lane from gathered taps, or matrix products of windows.

As in :mod:`kernels.integer_sparse`, a tile of positions prepares its operands once in a scratch, every share group runs through
its own list of kernels with its sums in registers, and nothing branches on a pattern. A tile is one rectangle of positions; what
is prepared differs (:mod:`kernels.isa.pattern_operands_neon`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tapdot.kernels.emit import Registers, Value, argument, loop, splat, when
from tapdot.kernels.family import Config
from tapdot.kernels.fkw import FKW
from tapdot.kernels.integer_rows import PositionEpilogue
from tapdot.kernels.integer_sparse import ARRAYS, BIAS, EXTRAS, PatternConvolution, folded_bias, group_bounds
from tapdot.kernels.integer_sparse_neon_plan import NeonPlan, default_config, space
from tapdot.kernels.isa.pattern_operands_neon import LANES
from tapdot.kernels.layout import Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function
from tapdot.kernels.workload import Workload

INSTRUCTIONS = ("sdot", "smmla", "smlal")


class NeonPatternConvolution(PatternConvolution):
    """``QSparseConv`` with 3x3 kernels, stride 1 or 2, on planar rows.

    Configuration: the ``form`` of the operands (0 gathered taps, 1 products of windows), ``rows`` and ``columns`` of a tile,
    ``splits`` of the filters among threads.
    """

    name = "neon_pattern_convolution"

    def gathers(self, workload: Workload, target: Target) -> bool:
        return target.isa.dot in INSTRUCTIONS

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        return space(workload, target)

    def default_config(self, workload: Workload, target: Target) -> Config:
        return default_config(workload, target)

    def cost(self, workload: Workload, target: Target) -> float:
        plan = NeonPlan.of(workload, default_config(workload, target), target)
        return plan.cycles() * plan.geometry.batch

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        plan = NeonPlan.of(workload, config, target)
        found = {"form": plan.form, "rows": plan.rows, "columns": plan.columns, "splits": plan.splits}
        return found if plan.legal and plan.gather.fits else None

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan = NeonPlan.of(workload, config, target)
        fkw = FKW(*(constants[index] for index in ARRAYS))
        bias = constants.get(BIAS, np.zeros(plan.geometry.filters, np.int32))
        return [
            *plan.gather.pack(fkw),
            fkw.offset.astype(np.int32),
            fkw.reorder.astype(np.int32) * plan.geometry.share,
            group_bounds(fkw, plan.splits),
            folded_bias(workload, plan.gather.operand_offset, fkw, bias, 1),
            *PositionEpilogue(workload, EXTRAS, target.isa).pack(constants),
        ]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = NeonPlan.of(workload, config, target)
        geometry = plan.geometry
        epilogue = PositionEpilogue(workload, EXTRAS, target.isa)
        extras = sum(operand.constant for operand in epilogue.operands)
        own, (offset, channels, _, stored_bias), rest = (
            packed[: len(packed) - extras - 4],
            packed[len(packed) - extras - 4 : len(packed) - extras],
            packed[len(packed) - extras :],
        )
        counts = offset[1:].astype(np.int64) - offset[:-1]
        index, pattern, weights, patterns = plan.gather.unpack(own, counts)
        per_pattern = np.zeros((geometry.groups, geometry.patterns + 1), np.int64)
        np.add.at(per_pattern, (np.repeat(np.arange(geometry.groups), counts), pattern + 1), 1)
        arrays = (channels // geometry.share, offset, index, np.cumsum(per_pattern, axis=1), weights, patterns)
        found = {
            number: np.ascontiguousarray(array, workload.inputs[number].stored_dtype)  # type: ignore[union-attr]
            for number, array in zip(ARRAYS, arrays, strict=True)
        }
        if len(workload.inputs) > BIAS and workload.inputs[BIAS] is not None:
            fkw = FKW(*(found[number] for number in ARRAYS))
            found[BIAS] = folded_bias(workload, plan.gather.operand_offset, fkw, stored_bias, -1)
        return {**found, **epilogue.unpack(rest)}

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Emitter(workload, NeonPlan.of(workload, config, target), target).emit()
        return finished[0]


class _Emitter:
    """Writes the loops of one pattern convolution."""

    def __init__(self, workload: Workload, plan: NeonPlan, target: Target) -> None:
        self.plan = plan
        self.workload = workload
        self.epilogue = PositionEpilogue(workload, EXTRAS, target.isa)
        self.operand = plan.geometry.x

    def emit(self) -> None:
        plan, geometry = self.plan, self.plan.geometry
        plan.gather.declare()
        self.offset = argument("offset", geometry.groups + 1, "int32")
        self.channels = argument("reorder", geometry.groups, "int32")
        bounds = argument("bounds", plan.splits + 1, "int32")
        self.bias = argument("bias", geometry.filters, "int32")
        self.epilogue.declare_constants()
        self.x = argument("x", self.operand.elements, self.operand.stored_dtype)
        self.epilogue.declare_variables()
        self.y = argument("y", self.workload.output.elements, self.workload.output.stored_dtype)
        threads = pays(plan.cycles() * geometry.batch)
        with loop(geometry.batch * plan.tiles, parallel=threads and plan.splits == 1) as task:
            scratch = T.alloc_buffer((plan.gather.scratch,), "int8")
            n, tile = task // plan.tiles, task % plan.tiles
            with when(tile == 0, plan.tiles > 1), loop(geometry.filters) as channel:
                self.epilogue.emit_halo(self.y, n, channel)
            y = _edge(tile // plan.column_tiles, plan.rows, geometry.height)
            x = _edge(tile % plan.column_tiles, plan.columns, geometry.width)
            self._fill(scratch, n, y, x)
            with loop(plan.splits, parallel=threads and plan.splits > 1) as split:
                first, last = (0, geometry.groups) if plan.splits == 1 else (bounds[split], bounds[split + 1])
                with T.serial(last - first) as group:
                    self._group(scratch, n, tile, y, x, first + group)

    def _fill(self, scratch: Value, n: Value, y: Value, x: Value) -> None:
        geometry = self.plan.geometry
        layout, shape = self.operand.layout or Layout(), self.operand.shape
        (stride_y, stride_x), (top, left, _, _) = geometry.strides, geometry.pads
        start = layout.offset(shape, n, 0, y * stride_y - top, x * stride_x - left)
        self.plan.gather.fill(scratch, self.x, T.Bind(start) if not isinstance(start, int) else start)

    def _group(self, scratch: Value, n: Value, tile: Value, y: Value, x: Value, group: Value) -> None:
        """All kernels of one share group at one tile, and the results of its filters."""
        plan, gather, share = self.plan, self.plan.gather, self.plan.geometry.share
        channel = T.Bind(self.channels[group])
        sums = Registers(share * gather.sums, LANES, "int32")
        gather.begin(sums, [T.Bind(splat(self.bias[channel + member], LANES)) for member in range(share)])
        first = T.Bind(self.offset[group])
        gather.kernels(sums, scratch, group, first, T.Bind(self.offset[group + 1] - first))
        runs = [(y + row, x) if row < plan.rows else None for row in range(-(-gather.vectors * LANES // gather.row_lanes))]
        for member in range(share):
            of_filter = Registers(gather.vectors, LANES, "int32")
            for number, value in enumerate(gather.of_filter(sums, member)):
                of_filter[number] = value
            constants = self.epilogue.channel(channel + member)
            values = self.epilogue.shift_ahead(constants, channel + member, of_filter, range(gather.vectors))
            here = [T.Bind(of_filter[number]) for number in range(gather.vectors)]
            self.epilogue.emit(values, here, self.y, n, channel + member, runs, gather.row_lanes, plan.columns)


def _edge(number: Value, size: int, extent: int) -> Value:
    """Where a tile begins: the last one ends at the plane's edge."""
    if extent <= size:
        return 0
    return T.Bind(T.min(number * size, extent - size) if extent % size else number * size)
