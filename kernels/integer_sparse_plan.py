"""How a pattern convolution is cut: blocks of positions, tiles of blocks, and an estimate of the cycles of each choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tapdot.kernels.family import Config
from tapdot.kernels.isa.pattern_gather import PatternGather, gathers
from tapdot.kernels.layout import Halo, round_up
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Operand, Workload

MOST_BLOCKS = 8
"""Blocks of the largest tile."""
SCRATCH_SLACK = 64
"""Bytes behind the last window that copying it may overwrite."""

FIRST_LEVEL_BYTES = 40 * 1024
"""Of the first-level data cache, what windows may fill."""
KERNEL_CYCLES = 1.5
"""Of every kernel: its place, its pattern, the loop."""
VECTOR_OPERATIONS_PER_CYCLE = 3.0
"""Gathers and dots together; dots alone are bound by ``dots_per_cycle``."""
LINES_PER_CYCLE = 1.6
"""Loads of windows, lookups and weights from the first-level cache."""
FAR_LINE_CYCLES = 1.3
"""More for a line of windows that comes from the second-level cache."""
PACK_ROW_CYCLES = 1.1
"""Of copying one row of a window."""
PAIRED_ROWS = 0.66
"""Of that, where two neighbouring windows are copied together."""
FAR_ROW_CYCLES = 0.6
"""More for a row of a window whose neighbours are copied at another time."""
EPILOGUE_CYCLES = 2.4
"""Of one vector of sums."""
FILTER_VECTORS = 1.5
"""Starting the epilogue of a filter takes as long as that many vectors."""
GROUP_CYCLES = 20.0
"""Of starting a group: the end of its list is not foreseen."""
STRIPS = (1, 2, 3, 4, 5, 6, 7, 8)
"""Tiles of a strip that are tried."""
MOST_TILES = 32
"""Of a strip that fills whole rows of blocks."""
FAR_PLANES_BYTES = 1 << 20
"""Of inputs and results that no second-level cache holds."""
TORN_LINES = 1.5
"""What packing and storing take more where planes lie beyond the second-level cache and strips end inside a row."""
SECOND_LEVEL_BYTES = 400 * 1024
SCRATCH_PENALTY = 1.2
"""Where the windows of a strip fill more than that of the second-level cache."""
FEW_STRIPS_PENALTY = 1.05
"""Where threads would have to share a strip."""


@dataclass(frozen=True)
class Geometry:
    """The sizes of a pattern convolution, read off its workload."""

    workload: Workload

    @cached_property
    def x(self) -> Operand:
        operand = self.workload.inputs[0]
        assert operand is not None
        return operand

    @property
    def batch(self) -> int:
        return self.x.shape[0]

    @property
    def channels(self) -> int:
        return self.x.shape[1]

    @property
    def filters(self) -> int:
        return self.workload.output.shape[1]

    @property
    def height(self) -> int:
        return self.workload.output.shape[2]

    @property
    def width(self) -> int:
        return self.workload.output.shape[3]

    @property
    def strides(self) -> tuple[int, int]:
        return self.workload["strides"]

    @property
    def pads(self) -> tuple[int, int, int, int]:
        return self.workload["pads"]

    @property
    def groups(self) -> int:
        reorder = self.workload.inputs[1]
        assert reorder is not None
        return reorder.shape[0]

    @property
    def kernels(self) -> int:
        index = self.workload.inputs[3]
        assert index is not None
        return index.shape[0]

    @property
    def share(self) -> int:
        weight = self.workload.inputs[5]
        assert weight is not None
        return weight.shape[1]

    @property
    def patterns(self) -> int:
        table = self.workload.inputs[6]
        assert table is not None
        return table.shape[0]

    @property
    def plane_bytes(self) -> int:
        """Of the inputs and the results of an image."""
        return (self.x.elements + self.workload.output.elements) // self.batch

    @property
    def halo(self) -> Halo:
        """The border that windows reach into."""
        top, left, _, _ = self.pads
        below = (self.height - 1) * self.strides[0] + 3 - top - self.x.shape[2]
        right = (self.width - 1) * self.strides[1] + 3 - left - self.x.shape[3]
        return Halo(top, left, max(0, below), max(0, right))


@dataclass(frozen=True)
class Plan:
    """A pattern convolution with the shape of its blocks and the number of them in a tile."""

    geometry: Geometry
    gather: PatternGather
    blocks: int
    strip: int
    splits: int

    @classmethod
    def of(cls, workload: Workload, config: Config, target: Target) -> Plan:
        geometry = Geometry(workload)
        found = {gather.block.columns: gather for gather in gathers(target, geometry.strides, (geometry.height, geometry.width))}
        plan = cls(geometry, found[config["columns"]], config["blocks"], config["strip"], config["splits"])
        plan = replace(plan, blocks=min(plan.blocks, plan.most_blocks))
        return replace(plan, strip=min(plan.strip, plan.tiles))

    # -- the plane ----------------------------------------------------------------------------------------------------------

    @property
    def block_rows(self) -> int:
        """Rows of blocks of the plane."""
        return -(-self.geometry.height // self.gather.block.height)

    @property
    def block_columns(self) -> int:
        """Blocks side by side in the plane."""
        return -(-self.geometry.width // self.gather.block.width)

    @property
    def all_blocks(self) -> int:
        return self.block_rows * self.block_columns

    @property
    def most_blocks(self) -> int:
        """Blocks that a tile may have."""
        return self.block_rows if self.gather.stacked else self.all_blocks

    @property
    def tiles(self) -> int:
        return self.block_columns * self.tiles_in_column if self.gather.stacked else -(-self.all_blocks // self.blocks)

    @property
    def tiles_in_column(self) -> int:
        """Tiles of stacked blocks, one below the other."""
        return -(-self.block_rows // self.blocks)

    @property
    def heights(self) -> list[int]:
        """Rows of each block of a tile that are in the plane; where blocks are not stacked, all."""
        height = self.gather.block.height
        if not self.gather.stacked:
            return [height] * self.blocks
        return [min(height, self.geometry.height - block * height) for block in range(self.blocks)]

    @property
    def stack_rows(self) -> int:
        """Input rows that a tile of stacked blocks reads."""
        return (sum(self.heights) - 1) * self.geometry.strides[0] + 3

    @property
    def stack_windows(self) -> int:
        """Windows that they fill: one more than blocks, unless the last block is cut."""
        assert self.gather.stacked
        return -(-self.stack_rows // (self.gather.block.rows * self.geometry.strides[0]))

    @property
    def strips(self) -> int:
        """Strips of tiles, whose windows are copied together."""
        return -(-self.tiles // self.strip)

    @property
    def whole_rows(self) -> bool:
        """Whether every strip is whole rows of blocks, so that neighbours in it are neighbours in the plane."""
        strip = self.strip * self.blocks
        return not self.gather.stacked and strip % self.block_columns == 0 and self.all_blocks % strip == 0

    @property
    def vectors(self) -> int:
        """Vectors of positions in a tile."""
        return self.blocks * self.gather.block.vectors

    # -- the scratch --------------------------------------------------------------------------------------------------------

    @property
    def unit(self) -> int:
        """Elements of the scratch for one input channel of a tile."""
        return (self.stack_windows if self.gather.stacked else self.blocks) * self.gather.window

    @property
    def tile_windows(self) -> int:
        """Elements of the scratch for a tile."""
        return self.geometry.channels * self.unit + SCRATCH_SLACK

    @property
    def scratch(self) -> int:
        return round_up(self.strip * self.tile_windows, 64)

    # -- cost ---------------------------------------------------------------------------------------------------------------

    def fits(self) -> bool:
        """Whether sums, weights and operands stay in registers."""
        share, registers = self.geometry.share, self.gather.vectors.isa.registers
        held = share * (self.vectors + self.gather.vectors.weight_registers)
        return held + self.gather.registers + 1 <= registers

    def cycles(self, cores: int = 1) -> float:
        """An estimate for one image on one core."""
        geometry, gather = self.geometry, self.gather
        dots = geometry.share * self.vectors
        rate = gather.vectors.dots_per_cycle if gather.like_dots else VECTOR_OPERATIONS_PER_CYCLE
        instructions = dots * gather.dot_operations + self.vectors * gather.operations
        operations = instructions / rate + KERNEL_CYCLES
        lines = self.unit / (4 * gather.lanes)
        near = min(1.0, FIRST_LEVEL_BYTES / (geometry.channels * self.unit))
        loads = (lines + gather.registers) / LINES_PER_CYCLE + lines * (1 - near) * FAR_LINE_CYCLES
        kernel = max(dots / gather.vectors.dots_per_cycle, operations, loads)
        rows: float = self.stack_rows if gather.stacked else (gather.block.rows - 1) * geometry.strides[0] + 3
        rows *= gather.packing * (1 if gather.stacked else self.blocks)
        together = min(1.0, self.strip * self.blocks / self.block_columns)
        pack = self.strip * geometry.channels * rows * (PACK_ROW_CYCLES + FAR_ROW_CYCLES * (1 - together))
        if self.whole_rows and gather.pairs:
            pack *= PAIRED_ROWS
        torn = 1.0 if self.whole_rows or geometry.plane_bytes < FAR_PLANES_BYTES else TORN_LINES
        epilogue = EPILOGUE_CYCLES * geometry.filters * (self.vectors + FILTER_VECTORS) + GROUP_CYCLES * geometry.groups
        far = SCRATCH_PENALTY if self.scratch > SECOND_LEVEL_BYTES else 1.0
        far *= FEW_STRIPS_PENALTY if self.strips * geometry.batch < cores else 1.0
        return self.strips * (self.strip * (geometry.kernels * kernel + epilogue * torn) + pack * torn) * far


def _single(geometry: Geometry, target: Target) -> list[Plan]:
    """Every plan of strips of a single tile."""
    plane = (geometry.height, geometry.width)
    plans = [Plan(geometry, gather, 1, 1, 1) for gather in gathers(target, geometry.strides, plane)]
    return [replace(plan, blocks=blocks) for plan in plans for blocks in range(1, min(MOST_BLOCKS, plan.most_blocks) + 1)]


def _strips(plan: Plan) -> list[int]:
    """Tiles that may make a strip: few, or as many as fill whole rows of blocks."""
    rows = plan.block_columns // math.gcd(plan.block_columns, plan.blocks)
    return [strip for strip in sorted({*STRIPS, rows}) if strip <= min(plan.tiles, MOST_TILES)]


def default_config(workload: Workload, target: Target) -> Config:
    """The configuration of the lowest estimate."""
    geometry = Geometry(workload)
    plans = [replace(plan, strip=strip) for plan in _single(geometry, target) for strip in _strips(plan)]
    best = min([plan for plan in plans if plan.fits()] or plans[:1], key=lambda plan: plan.cycles(target.cores))
    splits = 1
    while best.strips * geometry.batch * splits < target.cores and splits * 2 <= geometry.groups:
        splits *= 2
    return {"columns": best.gather.block.columns, "blocks": best.blocks, "strip": best.strip, "splits": splits}


def space(workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
    """What a tuner may try."""
    geometry = Geometry(workload)
    return {
        "columns": [gather.block.columns for gather in gathers(target, geometry.strides, (geometry.height, geometry.width))],
        "blocks": list(range(1, MOST_BLOCKS + 1)),
        "strip": sorted({strip for plan in _single(geometry, target) for strip in _strips(plan)}),
        "splits": [split for split in (1, 2, 4, 8) if split <= geometry.groups],
    }
