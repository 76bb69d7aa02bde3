"""The integers of a convolution of codes: its geometry in quads and blocks, how a configuration cuts it, and a default one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

from tapdot.kernels.convolution_plan import Geometry
from tapdot.kernels.emit import Value
from tapdot.kernels.family import Config
from tapdot.kernels.integer_operands import BLOCK
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.integer import IntegerVectors, integer_vectors, narrow_vectors
from tapdot.kernels.layout import round_up
from tapdot.kernels.numerics import NARROW_BITS
from tapdot.kernels.parallel import row_splits
from tapdot.kernels.plane_cover import PlaneCover, Region, Shape
from tapdot.kernels.register_tile import QUAD, Tile, even_parts, segments
from tapdot.kernels.tvm_adapter import T

INPUT_PART_BYTES = 384 * 1024
RESIDENT_WEIGHT_BYTES = 384 * 1024
"""Shares of a second-level cache of a mebibyte: inputs that all panels visit in turn, and weights that stay while they do."""


STEP_INSTRUCTIONS = 6
FINISH_INSTRUCTIONS = 6
TILE_INSTRUCTIONS = 20
ROW_INSTRUCTIONS = 0.5
"""Loop control of a step over channels or a tap; what turns one accumulator into codes; what a tile costs besides; addresses of
a further row of inputs."""


@dataclass(frozen=True)
class QuadGeometry(Geometry):
    """The integers of a ``QConv``: output channels in whole blocks, input channels in quads."""

    unit = QUAD
    """Consecutive input channels that one dot product sums."""

    @property
    def narrow(self) -> bool:
        """Whether weights have 4 bits or fewer."""
        return self.workload.inputs[1].dtype in NARROW_BITS  # type: ignore[union-attr]

    @property
    def emitters(self) -> IntegerVectors:
        """What multiplies."""
        return narrow_vectors(self.isa) if self.narrow else integer_vectors(self.isa)

    def may_pack(self, tile_vectors: int) -> bool:
        """Whether a byte may hold the weights of two quads: where quads come in pairs, and weights are narrow."""
        units = self.window(tile_vectors) // self.unit
        whole = self.group == 1 or (self.whole_groups(tile_vectors) and self.channels_per_group % BLOCK == 0)
        return self.narrow and whole and units % 2 == 0 and self.channels > QUAD

    @property
    def vectors(self) -> int:
        """Output channel vectors; they fill whole blocks."""
        return round_up(self.filters, BLOCK) // self.isa.lanes

    def whole_groups(self, tile_vectors: int) -> bool:
        """Whether no tile of that many vectors straddles two groups, and groups begin with a quad."""
        lanes = tile_vectors * self.isa.lanes
        return self.group == 1 or (self.filters_per_group % lanes == 0 and self.channels_per_group % self.unit == 0)

    def groups(self, vector: int, tile_vectors: int) -> range:
        """The groups that a tile starting at that output vector has filters of."""
        start = vector * self.isa.lanes
        stop = min(start + tile_vectors * self.isa.lanes, self.filters)
        return range(start // self.filters_per_group, -(-stop // self.filters_per_group))

    def window(self, tile_vectors: int) -> int:
        """Input channels a tile reads, in whole quads; weights between groups are zero."""
        if self.whole_groups(tile_vectors):
            return round_up(self.channels_per_group, self.unit)
        spans = [
            round_up(groups.stop * self.channels_per_group, self.unit)
            - groups.start * self.channels_per_group // self.unit * self.unit
            for first in range(0, self.vectors, tile_vectors)
            if (groups := self.groups(first, tile_vectors))
        ]
        return max(spans)

    def window_start(self, vector: Value, tile_vectors: int) -> Value:
        """The first input channel that the tile starting at that output vector reads, the start of a quad."""
        if self.group == 1:
            return 0
        first = vector * self.isa.lanes // self.filters_per_group * self.channels_per_group // self.unit * self.unit
        latest = round_up(self.channels, self.unit) - self.window(tile_vectors)
        if isinstance(first, int):
            return min(first, latest)
        return T.min(first, latest)

    @property
    def taps_in_row(self) -> bool:
        """Whether the taps of a window's row lie side by side, as the quads of a block do: in an image stored in quads."""
        layout = self.x.layout
        in_quads = layout is None or layout.channel_block == QUAD
        lanes = self.emitters.quads_per_load
        return in_quads and lanes > 1 and self.channels <= QUAD and self.group == 1 and self.dilations[1] == 1

    # -- what a tile costs --------------------------------------------------------------------------------------------------

    def fits(self, tile: Tile, packed: bool = False) -> bool:
        """Whether accumulators and operands stay in registers: all weights and the quad at hand, or, where a load serves several
        quads, those of every position and two passing vectors of weights."""
        vectors = self.emitters
        weights, quads = (2, tile.positions) if vectors.quads_per_load > 1 else (tile.vectors * (1 + packed), 1)
        used = tile.accumulators + weights * vectors.weight_registers + quads * vectors.quad_registers
        return used + vectors.spare_registers <= self.isa.registers

    def tile_cycles(self, tile: Tile) -> float:
        """Cycles of one tile."""
        vectors, window = self.emitters, self.window(tile.vectors)
        if vectors.quads_per_load == 1:
            return tile.cycles(self.isa, self.taps) * window
        # Small cores issue in order: every instruction counts. Weights come in pairs.
        taps = self.taps
        if self.taps_in_row:
            taps, window = self.kernel[0], self.kernel[1] * QUAD
        quads, steps = window // QUAD, -(-window // BLOCK)
        side_by_side = self.strides[1] == 1 and not self.taps_in_row  # neighbours come in pairs too
        inputs = tile.rows * (-(-tile.columns // 2) if side_by_side else tile.columns) + ROW_INSTRUCTIONS * (tile.rows - 1)
        loads = steps * inputs + quads * tile.vectors * vectors.weight_registers / 2
        dots = quads * tile.accumulators * 2 / vectors.dots_per_cycle
        return taps * (dots + loads + (steps + 1) * STEP_INSTRUCTIONS) + finish_instructions(tile)


def finish_instructions(tile: Tile) -> int:
    """Instructions that a tile costs once."""
    return FINISH_INSTRUCTIONS * tile.accumulators + TILE_INSTRUCTIONS


@dataclass(frozen=True)
class QuadPlan:
    """A geometry cut by a configuration."""

    geometry: QuadGeometry
    tile: Tile
    splits: int
    packed: bool = False
    """Whether a byte of the weights holds those of two quads."""

    @classmethod
    def of(cls, geometry: QuadGeometry, config: Config) -> QuadPlan:
        tile = Tile(config["vectors"], config["rows"], config["columns"])
        return cls(geometry, tile, config["splits"], bool(config.get("packed", 0)))

    @property
    def window(self) -> int:
        return self.geometry.window(self.tile.vectors)

    @cached_property
    def regions(self) -> list[Region]:
        """How tiles cover the output plane, the region that most of them are in first."""
        cover = plane_cover(self.geometry, self.tile.vectors)
        return cover.regions((self.tile.rows, self.tile.columns))

    def panels(self) -> list[tuple[int, int]]:
        """(first vector, vectors) of every tile along output channels."""
        return [
            (start + piece * size, size)
            for start, pieces, size in segments(self.geometry.vectors, self.tile.vectors)
            for piece in range(pieces)
        ]

    def panel_elements(self, vectors: int) -> int:
        """Bytes of the weights of a tile of that many vectors."""
        return self.geometry.taps * self.window * vectors * self.geometry.isa.lanes // (1 + self.packed)

    def panel_shape(self, vectors: int) -> tuple[int, ...]:
        """[kernel height, kernel width, quads, vectors, lanes * 4] (or 8, see ``QuadGeometry.unit``)."""
        geometry = self.geometry
        units = self.window // geometry.unit // (1 + self.packed)
        return (*geometry.kernel, units, vectors, geometry.isa.lanes * geometry.unit)


# -- configurations ---------------------------------------------------------------------------------------------------------


def tile_vectors(isa: Isa, vectors: int) -> list[int]:
    """Numbers of vectors that fill blocks or divide one."""
    in_block = BLOCK // isa.lanes
    return [v for v in range(1, 9) if v <= vectors and (v % in_block == 0 or in_block % v == 0)]


def space(geometry: QuadGeometry) -> dict[str, list[int]]:
    """Values each field of a configuration may take."""
    return {
        "vectors": tile_vectors(geometry.isa, geometry.vectors),
        "rows": [r for r in (1, 2, 3, 4, 7) if r <= geometry.height],
        "columns": even_parts(geometry.width, 28),
        "splits": [s for s in (1, 2, 4, 7, 8, 14, 16, 28) if s <= geometry.height],
        **({"packed": [0, 1]} if geometry.may_pack(1) else {}),
    }


def settle(geometry: QuadGeometry, config: Config) -> Config | None:
    """A configuration whose tile stays in registers and whose parts all have rows."""
    tile = Tile(config["vectors"], config["rows"], config["columns"])
    packed = bool(config.get("packed", 0))
    if packed and not geometry.may_pack(tile.vectors):
        return None
    if not geometry.fits(tile, packed) or config["splits"] > -(-geometry.height // tile.rows):
        return None
    return config if tile.vectors == 1 or geometry.whole_groups(tile.vectors) else None


def default_config(geometry: QuadGeometry, cores: int) -> Config:
    """The cheapest tile by the analytic model, with splits that suit the caches."""
    candidates = []
    for vectors in tile_vectors(geometry.isa, geometry.vectors):
        shapes = tile_shapes(geometry, vectors)
        cover = plane_cover(geometry, vectors)
        candidates += [(_cost(geometry, vectors, cover, shape), vectors, *shape) for shape in shapes]
    _, vectors, rows, columns = min(candidates, default=(0.0, 1, 1, 1))
    splits = _splits(geometry, Tile(vectors, rows, columns), cores)
    chosen = {"vectors": vectors, "rows": rows, "columns": columns, "splits": splits}
    return {**chosen, "packed": 0} if geometry.may_pack(1) else chosen


def tile_shapes(geometry: QuadGeometry, vectors: int) -> list[Shape]:
    """Rows and columns of the tiles of so many vectors that stay in registers."""
    if vectors > 1 and not geometry.whole_groups(vectors):
        return []
    shapes = product(range(1, min(7, geometry.height) + 1), range(1, min(28, geometry.width) + 1))
    return [shape for shape in shapes if geometry.fits(Tile(vectors, *shape))]


def plane_cover(geometry: QuadGeometry, vectors: int) -> PlaneCover:
    """Covers of the output plane by tiles of so many vectors."""
    shapes = tile_shapes(geometry, vectors)
    return PlaneCover(geometry.height, geometry.width, shapes, lambda shape: geometry.tile_cycles(Tile(vectors, *shape)))


def _cost(geometry: QuadGeometry, vectors: int, cover: PlaneCover, shape: Shape) -> float:
    """Cycles of the whole layer, remainders included; code size breaks ties."""
    regions = cover.regions(shape)
    pieces = list(segments(geometry.vectors, vectors))
    cycles = sum(count * size / vectors for _, count, size in pieces) * cover.cost(regions)
    return cycles * (1 + 0.005 * (len(pieces) * len(regions) - 1))


def _splits(geometry: QuadGeometry, tile: Tile, cores: int) -> int:
    """Parts of the rows. All panels visit one part before the next: enough parts that cores have work, and, where it moves far
    fewer bytes than reading all inputs once a panel, small enough ones that their inputs stay in the second-level cache."""
    panels = -(-geometry.vectors // tile.vectors)
    most = -(-geometry.height // tile.rows)
    splits = row_splits(panels * geometry.batch, most, cores)
    _, channels, rows, columns = geometry.x.shape
    skipped = 2 if max(geometry.strides) > 1 else 1  # hardware prefetches the neighbouring line too
    inputs = channels * min(rows * columns, geometry.height * geometry.width * geometry.taps * skipped)
    weights = geometry.filters * geometry.window(tile.vectors) * geometry.taps
    parts = min(-(-inputs // INPUT_PART_BYTES), most)
    by_parts = inputs + weights * (parts if weights > RESIDENT_WEIGHT_BYTES else 1)
    return max(splits, parts) if 2 * by_parts < inputs * panels else splits
