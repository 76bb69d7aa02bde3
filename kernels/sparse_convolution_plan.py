"""The integers of a sparse convolution: how a configuration cuts it into tiles, and which configuration to take unmeasured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from tapdot.kernels.family import Config
from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import Layout
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.planar_operands import PlanarOperands
from tapdot.kernels.planar_tiles import PlanarTiles
from tapdot.kernels.register_tile import FLOAT_BYTES, LINE_FLOATS
from tapdot.kernels.sparse_source import DirectSource, PackedSource, PhasedSource, Source
from tapdot.kernels.sparse_units import UnitScheme, columns_of_rows, whole_kernels, whole_quads
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Operand, Workload

BIAS, EXTRAS = 7, 8
ARRAYS = range(1, 7)
"""The operands that are FKW's arrays."""

COLUMNS_PER_KERNEL = 2.5
"""Columns that hold a tap, on average over patterns."""
ROWS_PER_KERNEL = 2.5
"""Rows that hold one."""
PHASES_PER_VECTOR = 3.0
COPY_PER_VECTOR = 3.4
"""Cycles to part one vector of the input into phases, and to copy one of a window."""
FIRST_LEVEL_BYTES = 24 * 1024
SECOND_LEVEL_LINE_CYCLES = 0.6
"""For every cache line of a kernel's taps that the second level has, beside the arithmetic that hides most of the wait."""
SCATTERED_LINE_CYCLES = 1.1
"""More, where channels lie so far apart that every one is on a page of its own."""
SCATTERED_PLANE_BYTES, SCATTERED_CHANNELS = 4096, 64
QUAD_LINES = 0.2
"""The same for quads, whose channels follow each other in order."""
KERNEL_CYCLES = 3.0
"""For a kernel's weights and offsets, which stream from the second level, and its turn of the loop."""
KIND_CYCLES = 60.0
"""For every further kind of unit in a group: a loop whose end is mispredicted, units too few to overlap."""
INSTRUCTIONS_PER_CYCLE = 2.2
"""Of small cores, where everything is estimated by the number of instructions."""
STORE_CYCLES = 1.5
GROUP_CYCLES = 10.0
WINDOW_BYTES = 320 * 1024
"""Of the second-level cache, the part that copies of windows may take."""
MOST_SPLITS = 16
RUNS = (1, 2, 4, 8)
"""Tiles of a block."""


@dataclass(frozen=True)
class Plan:
    """A workload of ``SparseConv`` cut for a target.

    ``rows``, ``vectors``: the register tile; ``linear``: whether a plane is one line; ``columns``: whether kernels are taken
    apart into columns, so that rows of a tile share loads; ``packed``: whether a block of tiles reads a copy of its window;
    ``run``: tiles of a block, which share what is in the caches; ``splits``: parts of the groups among threads.
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
        """The plan nearest to a configuration: any combination of values gives right code of some size."""
        first = cls(workload, target.isa, 1, 1, False, False, False, 1, 1)
        linear = bool(config["linear"]) and first.positions_share_a_line
        rows = 1 if linear else max(1, min(config["rows"], first.most_vectors, workload.output.shape[2]))
        line = replace(first, linear=linear).tiles.vectors_per_line
        return replace(
            first,
            rows=rows,
            vectors=max(1, min(config["vectors"], first.most_vectors // rows, line)),
            linear=linear,
            columns=bool(config["columns"]) and rows > 1 and not first.by_quads,
            packed=bool(config["packed"]) and workload["strides"] == (1, 1),
            run=config["run"],
            splits=config["splits"],
        )

    @property
    def most_vectors(self) -> int:
        """Vectors of positions for which a core has registers."""
        return max(1, (self.isa.registers - 2) // self.share)

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
        """Elements, from the place of a block's first output on, of the cache lines that it is the first to read in a channel.

        A copy of a window is made in order, which the processor's own prefetchers follow.
        """
        if not isinstance(self.source, DirectSource):
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
        resident += self.isa.multiply_by_lane
        return self.accumulators * self.copies + resident <= self.isa.registers

    def cycles(self) -> float:
        """Estimated cycles of the whole layer on one core."""
        tiles, channels = self.tiles, self.source.shape[1]
        kernel = self._kernel_instructions() if self.isa.multiply_by_lane else self._kernel_cycles()
        group = GROUP_CYCLES + STORE_CYCLES * self.accumulators * self.copies + KIND_CYCLES * (len(self.scheme.kinds) - 1)
        of_block = tiles.block_tiles * self.groups * (self.kernels / max(1, self.groups) * kernel + group)
        if isinstance(self.source, PackedSource):
            of_block += channels * self.source.vectors * COPY_PER_VECTOR * self.splits
        phases = self.source.scratch / self.isa.lanes * PHASES_PER_VECTOR if isinstance(self.source, PhasedSource) else 0
        total = self.source.shape[0] * (tiles.count * of_block + phases)
        return total / INSTRUCTIONS_PER_CYCLE if self.isa.multiply_by_lane else total

    @property
    def _loads(self) -> float:
        """Vectors of taps that a kernel loads, on average."""
        positions = self.rows * self.vectors
        reused = (KEPT - COLUMNS_PER_KERNEL) * self.vectors * (self.rows - 1) if self.columns else 0
        return KEPT * positions - reused

    def _kernel_cycles(self) -> float:
        """Of one kernel, where the longest of arithmetic, loads and latency counts, and what caches add; from measurements."""
        isa, tiles, lanes = self.isa, self.tiles, self.isa.lanes
        touched = {16: 2.0, 8: 1.5}.get(lanes, 1.25)  # cache lines of one unaligned load
        loads = (self._loads * touched + KEPT * self.share + COLUMNS_PER_KERNEL) / isa.loads_per_cycle
        arithmetic = KEPT * self.accumulators / isa.fma_per_cycle * (1 if isa.fma else 2)
        longest = max(arithmetic, 1.08 * loads, isa.fma_latency * KEPT / self.copies)
        span = tiles.span / LINE_FLOATS
        if self.by_quads:
            lines = KEPT * self.rows * (span + 1)
        elif self.linear:
            lines = min(ROWS_PER_KERNEL * (span + 1.1), span + 1.6 * tiles.pitch / LINE_FLOATS + 1)
        else:
            lines = (self.rows + ROWS_PER_KERNEL - 1) * (span + 1.1)
        channels, plane = self.source.shape[1], FLOAT_BYTES * self.line_pitch * self.workload.output.shape[2]
        footprint = lines * channels * FLOAT_BYTES * LINE_FLOATS / (KEPT if self.by_quads else 1)
        cost = SECOND_LEVEL_LINE_CYCLES * max(0.0, 1 - FIRST_LEVEL_BYTES / footprint)
        apart = channels > SCATTERED_CHANNELS or plane > LINE_FLOATS * SCATTERED_PLANE_BYTES
        if not self.packed and plane > SCATTERED_PLANE_BYTES and apart:
            cost += SCATTERED_LINE_CYCLES
        return KERNEL_CYCLES + longest + cost * lines * (QUAD_LINES if self.by_quads else 1)

    def _kernel_instructions(self) -> float:
        """Of one kernel, where small cores issue few instructions a cycle: their number. Neighbouring vectors load in pairs."""
        aligned = self.linear or self.packed or self.line_pitch % self.isa.lanes == 0
        pairs = self._loads * -(-self.vectors // 2) / self.vectors
        rows = 0 if aligned else self._loads / self.vectors
        weights = KEPT * self.share / self.isa.lanes if not self.columns or self.share > 1 else 3.0
        units = COLUMNS_PER_KERNEL if self.columns else 1.0
        offsets = COLUMNS_PER_KERNEL if self.columns else self.scheme.kinds[0].offsets
        return KEPT * self.accumulators + pairs + rows + weights + 3 * offsets + 5 * units

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
    most = first.most_vectors
    packed = (False, True) if workload["strides"] == (1, 1) else (False,)
    if first.positions_share_a_line:
        flat = replace(first, linear=True)
        for vectors in range(1, min(most, flat.tiles.vectors_per_line) + 1):
            for copied in packed:
                yield replace(flat, vectors=vectors, packed=copied)
    for rows in range(1, min(most, workload.output.shape[2]) + 1):
        for vectors in range(1, min(most // rows, first.tiles.vectors_per_line) + 1):
            for apart in (False,) if first.by_quads or rows == 1 else (False, True):
                for copied in packed:
                    yield replace(first, rows=rows, vectors=vectors, columns=apart, packed=copied)


def default_config(workload: Workload, target: Target) -> Config:
    """The cheapest plan by the estimate; groups are cut where tiles are too few for the cores."""
    fitting = [split(plan, target.cores) for plan in candidates(workload, target) if plan.fits]
    best = min(fitting or [Plan(workload, target.isa, 1, 1, False, False, False, 1, 1)], key=Plan.cycles)
    if best.packed:
        runs = [split(replace(best, run=run), target.cores) for run in RUNS]
        fitting = [plan for plan in runs if plan.run == 1 or plan.source.scratch * FLOAT_BYTES <= WINDOW_BYTES]
        best = min(fitting, key=Plan.cycles)
    return {
        "rows": best.rows,
        "vectors": best.vectors,
        "linear": int(best.linear),
        "columns": int(best.columns),
        "packed": int(best.packed),
        "run": best.run,
        "splits": best.splits,
    }


def split(plan: Plan, cores: int) -> Plan:
    """The plan with groups in as many parts as it takes to give every core several tasks."""
    splits = 1
    while plan.tiles.count * plan.source.shape[0] * splits < 4 * cores and splits * 2 <= min(MOST_SPLITS, plan.groups):
        splits *= 2
    return replace(plan, splits=splits)
