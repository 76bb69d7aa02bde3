"""The integers of a sparse convolution: how a configuration cuts it into tiles, and which configuration to take unmeasured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tapdot.kernels.family import Config
from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import Layout
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.planar_operands import PlanarOperands
from tapdot.kernels.planar_tiles import PlanarTiles
from tapdot.kernels.sparse_source import DirectSource, PackedSource, PhasedSource, Source
from tapdot.kernels.sparse_units import UnitScheme, columns_of_rows, whole_kernels, whole_quads
from tapdot.kernels.register_tile import LINE_FLOATS
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Operand, Workload

RESULT, BIAS, EXTRAS = 0, 7, 8
ARRAYS = range(1, 7)
"""The operands that are FKW's arrays."""

PHASES_PER_VECTOR = 2.5
"""Cycles to part one vector of the input into phases."""
KERNEL_CYCLES, GROUP_CYCLES, STORE_CYCLES, BRANCH_CYCLES = 1.0, 20.0, 4.0, 12.0
"""What multiply-adds do not hide: control of a kernel, of a group, of every vector stored, and of each kind's loop in a group."""
COLUMNS_PER_KERNEL = 2.3
"""Columns that hold a tap, in the patterns that trained networks have."""
MOST_SPLITS = 16


@dataclass(frozen=True)
class Plan:
    """A workload of ``SparseConv`` cut for a target.

    ``rows``, ``vectors``: the register tile; ``linear``: whether a plane is one line; ``columns``: whether kernels are taken apart
    into columns, so that rows of a tile share loads; ``packed``: whether a block of tiles reads a copy of its window; ``run``: tiles
    of a block, which share what is in the caches; ``splits``: parts of the groups among threads.
    """

    workload: Workload
    isa: Isa
    rows: int
    vectors: int
    linear: bool
    columns: bool
    packed: bool
    run: int
    splits: int

    @classmethod
    def of(cls, workload: Workload, config: Config, target: Target) -> Plan:
        linear, columns, packed = (bool(config[name]) for name in ("linear", "columns", "packed"))
        return cls(workload, target.isa, config["rows"], config["vectors"], linear, columns, packed, config["run"], config["splits"])

    # -- the workload ---------------------------------------------------------------------------------------------------------

    def _constant(self, index: int) -> Operand:
        operand = self.workload.inputs[index]
        assert operand is not None
        return operand

    @property
    def groups(self) -> int:
        """Share groups of filters."""
        return self._constant(1).shape[0]

    @property
    def kernels(self) -> int:
        """Kernels (or quads) of all groups."""
        return self._constant(5).shape[0]

    @property
    def share(self) -> int:
        """Filters of a group."""
        return self._constant(5).shape[1]

    @property
    def patterns(self) -> int:
        """Rows of the pattern table."""
        return self._constant(6).shape[0]

    @property
    def by_quads(self) -> bool:
        """Whether the layer is 1x1 and its units are quads of channels."""
        return self.workload["kernel_shape"] == (1, 1)

    @cached_property
    def output_layout(self) -> Layout:
        return self.workload.output.layout or Layout()

    @cached_property
    def source(self) -> Source:
        """Where the taps are."""
        if self.workload["strides"] != (1, 1):
            return PhasedSource(self.workload, self.isa.lanes)
        if self.packed:
            return PackedSource(self.workload, self.isa.lanes, self.tiles)
        return DirectSource(self.workload, self.isa.lanes)

    @cached_property
    def fetched(self) -> list[int]:
        """Elements, from the place of a tile's first output on, of the cache lines that it is the first to read in a channel."""
        if isinstance(self.source, PhasedSource):
            return []
        (top, left, _, _), tiles = self.workload["pads"], self.tiles
        rows, columns = (axis.kernel for axis in self.source.axes)
        if self.linear:
            last = (rows - 1 - top) * self.line_pitch + columns - 1 - left
            return list(range(last, last + tiles.block_span, LINE_FLOATS))
        new = range(rows - 1 if tiles.line_blocks == 1 else 0, tiles.rows + rows - 1)
        pitch = DirectSource(self.workload, self.isa.lanes).pitch
        return [
            (row - top) * pitch - left + along for row in new for along in range(0, tiles.block_span + columns - 1, LINE_FLOATS)
        ]

    # -- the cut --------------------------------------------------------------------------------------------------------------

    @property
    def line_pitch(self) -> int:
        """Positions from a row to the next, where a plane is one line."""
        whole = PhasedSource if self.workload["strides"] != (1, 1) else DirectSource
        return whole(self.workload, self.isa.lanes).pitch

    @cached_property
    def tiles(self) -> PlanarTiles:
        """The register tiles of a plane."""
        height, width = self.workload.output.shape[2:]
        return PlanarTiles(height, width, self.line_pitch, self.isa.lanes, self.rows, self.vectors, self.linear, self.run)

    @cached_property
    def scheme(self) -> UnitScheme:
        """How kernels come apart."""
        source = self.source
        if self.by_quads:
            return whole_quads(source.shape[1], source.plane, source.tap_offsets[0])
        if self.columns:
            return columns_of_rows(source.tap_offsets, source.plane, source.axes[0].stride, source.pitch)
        return whole_kernels(source.tap_offsets, source.plane)

    @property
    def accumulators(self) -> int:
        """Vectors of sums of one copy."""
        return self.share * self.rows * self.vectors

    @cached_property
    def copies(self) -> int:
        """Sets of sums, so that multiply-adds of one sum need not wait for each other: the taps of a unit take them in turn."""
        needed = self.isa.fma_latency * self.isa.fma_per_cycle
        copies = 1
        while copies < KEPT and self.accumulators * copies < needed and self.accumulators * copies * 2 + 3 <= self.isa.registers:
            copies *= 2
        return copies

    @property
    def fits(self) -> bool:
        """Whether the innermost loop stays in registers."""
        positions, lanes = self.rows * self.vectors, self.isa.lanes
        held = self.share * (2 if self.columns else 1)
        weights = -(-held // lanes) if self.isa.multiply_by_lane else held
        resident = weights + 1 if self.columns or self.share <= positions else positions + 1
        return self.accumulators * self.copies + resident <= self.isa.registers

    def loads_of_kernel(self) -> float:
        """Vector loads of one kernel on average."""
        positions = self.rows * self.vectors
        if not self.columns:
            return KEPT * positions
        reused = (KEPT - COLUMNS_PER_KERNEL) * self.vectors * (self.rows - 1)
        return KEPT * positions - max(0.0, reused)

    def cycles(self) -> float:
        """Estimated cycles of the whole layer on one core."""
        isa, kernels = self.isa, self.kernels / max(1, self.groups)
        parts = {16: 2.0, 8: 1.5}.get(isa.lanes, 1.15)  # cache lines that a load touches, on average
        scalars = KEPT * self.share / (isa.lanes if isa.multiply_by_lane else 1)
        loads = (self.loads_of_kernel() * parts + scalars + COLUMNS_PER_KERNEL) / isa.loads_per_cycle
        arithmetic = KEPT * self.accumulators / isa.fma_per_cycle
        latency = isa.fma_latency * KEPT / self.copies
        kernel = max(1.03 * arithmetic, 1.1 * loads, latency) + 0.08 * min(arithmetic, loads) + KERNEL_CYCLES
        group = GROUP_CYCLES + STORE_CYCLES * self.accumulators * self.copies + BRANCH_CYCLES * len(self.scheme.kinds)
        tiles = self.source.shape[0] * self.tiles.count * self.tiles.block_tiles * self.groups * (kernels * kernel + group)
        return tiles + self.source.shape[0] * self.source.scratch / isa.lanes * PHASES_PER_VECTOR

    @property
    def positions_share_a_line(self) -> bool:
        """Whether a plane may be one line: all that is read and written by positions has the same pitch."""
        width = self.workload.output.shape[3]
        pitches = PlanarOperands(self.workload, EXTRAS).residual_pitches(width)
        return pitches | {self.output_layout.pitch(width)} == {self.line_pitch}


def candidates(workload: Workload, target: Target) -> Iterator[Plan]:
    """Plans worth a look."""
    isa = target.isa
    first = Plan(workload, isa, 1, 1, False, False, False, 1, 1)
    height = workload.output.shape[2]
    most = max(1, (isa.registers - 2) // first.share)
    columns = (False,) if first.by_quads else (False, True)
    if first.positions_share_a_line:
        flat = Plan(workload, isa, 1, 1, True, False, False, 1, 1)
        for vectors in range(1, min(most, flat.tiles.vectors_per_line) + 1):
            yield Plan(workload, isa, 1, vectors, True, False, False, 1, 1)
    for rows in range(1, min(most, height) + 1):
        for vectors in range(1, min(most // rows, first.tiles.vectors_per_line) + 1):
            for apart in columns:
                if rows > 1 or not apart:
                    yield Plan(workload, isa, rows, vectors, False, apart, False, 1, 1)


def default_config(workload: Workload, target: Target) -> Config:
    """The cheapest plan by the estimate; groups are cut where tiles are too few for the cores."""
    fitting = [plan for plan in candidates(workload, target) if plan.fits]
    best = min(fitting or [Plan(workload, target.isa, 1, 1, False, False, False, 1, 1)], key=Plan.cycles)
    splits = 1
    while best.tiles.count * best.source.shape[0] * splits < 4 * target.cores and splits * 2 <= min(MOST_SPLITS, best.groups):
        splits *= 2
    return {
        "rows": best.rows,
        "vectors": best.vectors,
        "linear": int(best.linear),
        "columns": int(best.columns),
        "packed": int(best.packed),
        "run": best.run,
        "splits": splits,
    }
