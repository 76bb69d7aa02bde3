"""How a 1x1 convolution pruned by quads is cut: a plane as one line of positions, strips and tiles of it, estimates of cycles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from tapdot.kernels.emit import Value
from tapdot.kernels.family import Config
from tapdot.kernels.integer_sparse_plan import Geometry
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.channel_quads import STRIP, ChannelQuads, channel_quads
from tapdot.kernels.layout import Layout, round_up
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import T
from tapdot.kernels.workload import Workload

PLANAR = Layout()
MOST_STRIPS = 8
MASKED_LANES = 16
"""Lanes of the instruction sets that load some bytes of a register only."""
SLACK = 128
"""Elements behind a scratch that copying may overwrite."""
FIRST_LEVEL_BYTES = 40 * 1024
FAR_BYTES_PER_CYCLE = 36.0
"""What comes from the second-level cache, a few lines here and a few there."""
SMALLEST_CHUNK = 32
PARTIAL_CYCLES = 3.0
"""To write one vector of sums after a chunk and to read it again."""
KERNEL_CYCLES = 1.2
"""Of every kernel: its place, its weights, the loop."""
GROUP_CYCLES = 14.0
"""Of every group at every tile: the end of its list, which is seldom foreseen."""
VECTOR_CYCLES = 2.5
"""Of one vector of sums in the epilogue."""
PACK_CYCLES = 2.0
"""Of one operand when it is made."""


@dataclass(frozen=True)
class Piece:
    """Consecutive positions of a tile: the ``vectors`` of a strip, or fewer of a rest, from position ``start`` on.

    ``offset``: where their operands lie in the scratch of a quad, in vectors. ``valid``: the positions that exist.
    """

    start: Value
    vectors: int
    offset: int
    valid: int


@dataclass(frozen=True)
class Tiles:
    """``count`` tiles alike: of ``strips`` strips each from strip ``first`` on, the last vectors of the line behind them."""

    first: int
    count: int
    strips: int
    rest: int


@dataclass(frozen=True)
class QuadPlan:
    """A 1x1 convolution in tiles of ``strips``, its input channels in ``chunks``, its groups in ``splits``."""

    geometry: Geometry
    isa: Isa
    strips: int
    chunks: int
    splits: int

    @classmethod
    def of(cls, workload: Workload, config: Config, target: Target) -> QuadPlan:
        return cls(Geometry(workload), target.isa, config["strips"], config["chunks"], config["splits"])

    @cached_property
    def operands(self) -> ChannelQuads:
        """Emitters for as many filters of a group at once as leave room for the sums of a strip."""
        share = self.geometry.share
        divisors = [share // parts for parts in range(1, share + 1) if share % parts == 0]
        candidates = [channel_quads(self.isa, share, members) for members in divisors]
        return next((one for one in candidates if self._fits(one, STRIP)), candidates[-1])

    @property
    def members(self) -> int:
        """Filters of a group that are computed at once."""
        return self.operands.members

    @property
    def quads(self) -> int:
        """Quads of input channels; the last may be partly filled."""
        return -(-self.geometry.channels // KEPT)

    @property
    def chunk(self) -> int:
        """Quads of a chunk: the scratch holds the operands of one chunk at a time."""
        return -(-self.quads // self.chunks)

    # -- the line -----------------------------------------------------------------------------------------------------------

    @property
    def output_layout(self) -> Layout:
        return self.geometry.workload.output.layout or PLANAR

    @property
    def input_layout(self) -> Layout:
        return self.geometry.x.layout or PLANAR

    @property
    def pitch(self) -> int:
        """Positions from a row of the line to the next: those of the result, what lies between its rows included."""
        return self.output_layout.pitch(self.geometry.width)

    @property
    def length(self) -> int:
        """Positions of the line, from the first of the result to the last."""
        return (self.geometry.height - 1) * self.pitch + self.geometry.width

    @property
    def direct(self) -> bool:
        """Whether the planes of the input are such lines as well."""
        geometry = self.geometry
        own = self.input_layout.pitch(geometry.x.shape[3])
        return geometry.strides == (1, 1) and (own == self.pitch or geometry.height == 1)

    @property
    def masked(self) -> bool:
        """Whether rows of another pitch can be read in place, each by a load of some lanes only."""
        return self.isa.lanes == MASKED_LANES

    @property
    def strip_rows(self) -> int:
        """Rows that a strip may touch."""
        return min(self.geometry.height, (self.strip + self.pitch - 2) // self.pitch + 1)

    @property
    def strip(self) -> int:
        """Positions of a strip."""
        return STRIP * self.isa.lanes

    @property
    def vectors(self) -> int:
        """Vectors of the line; the last may be partly filled."""
        return -(-self.length // self.isa.lanes)

    def tiles(self) -> list[Tiles]:
        """The tiles of a line: equal ones, then what is left, to which the rest belongs where registers allow."""
        whole, rest = divmod(self.vectors, STRIP)
        if not whole:
            return [Tiles(0, 1, 0, rest)]
        size = min(self.strips, whole)
        count, left = divmod(whole, size)
        if not rest:
            return [Tiles(0, count, size, 0), *([Tiles(count * size, 1, left, 0)] if left else [])]
        if left == 0 and self.fits(STRIP * size + rest):
            left, count = size, count - 1
        elif left and not self.fits(STRIP * left + rest):
            return [Tiles(0, count, size, 0), Tiles(count * size, 1, left, 0), Tiles(whole, 1, 0, rest)]
        found = [Tiles(0, count, size, 0)] if count else []
        return [*found, Tiles(count * size, 1, left, rest)]

    def pieces(self, tiles: Tiles, index: Value) -> Iterator[Piece]:
        """The pieces of tile number ``index``; the last ones of the line end with it, over positions that others have too."""
        lanes, shifted = self.isa.lanes, self.vectors % STRIP == 0 and self.length % self.strip != 0
        for number in range(tiles.strips):
            start = (tiles.first + index * tiles.strips + number) * self.strip
            if self.length < self.strip:
                start = 0
            elif shifted and isinstance(start, int):
                start = min(start, self.length - self.strip)
            elif shifted and number == tiles.strips - 1:
                start = T.Bind(T.min(start, self.length - self.strip))
            yield Piece(start, STRIP, number * STRIP, min(self.strip, self.length))
        if tiles.rest:
            size = tiles.rest * lanes
            yield Piece(max(0, self.length - size), tiles.rest, tiles.strips * STRIP, min(size, self.length))

    # -- the scratch --------------------------------------------------------------------------------------------------------

    @property
    def tile_vectors(self) -> int:
        """Vectors of the largest tile."""
        return max(tiles.strips * STRIP + tiles.rest for tiles in self.tiles())

    @property
    def unit(self) -> int:
        """Elements of the scratch for one quad."""
        return self.tile_vectors * self.operands.vector_bytes

    @property
    def scratch(self) -> int:
        return round_up(self.chunk * self.unit + SLACK, 64)

    @property
    def line_rows(self) -> int:
        """Rows that a tile may touch."""
        span = self.tile_vectors * self.isa.lanes
        return min(self.geometry.height, (span + self.pitch - 2) // self.pitch + 1)

    @property
    def line(self) -> int:
        """Elements of a copy of the rows that a tile touches."""
        return round_up(self.line_rows * self.pitch + self.tile_vectors * self.isa.lanes + SLACK, 64)

    # -- cost ---------------------------------------------------------------------------------------------------------------

    def fits(self, vectors: int) -> bool:
        """Whether the sums of that many vectors, weights and operands stay in registers."""
        return self._fits(self.operands, vectors)

    @staticmethod
    def _fits(operands: ChannelQuads, vectors: int) -> bool:
        used = operands.members * vectors + operands.weight_registers + operands.spare_registers
        return used <= operands.isa.registers

    def cycles(self) -> float:
        """An estimate for one image on one core."""
        geometry, total = self.geometry, 0.0
        rate = self.operands.vectors.dots_per_cycle
        passes = geometry.share // self.members
        for tiles in self.tiles():
            vectors = tiles.strips * STRIP + tiles.rest
            operands = vectors * self.operands.vector_bytes
            kernel = max(self.members * vectors / rate, (vectors + self.members) / 2)
            far = max(0.0, 1 - FIRST_LEVEL_BYTES / max(1, self.chunk * operands))
            kernel = max(kernel, far * operands / FAR_BYTES_PER_CYCLE) + KERNEL_CYCLES
            groups = geometry.groups * passes * GROUP_CYCLES * self.chunks
            sums = geometry.filters * vectors * (VECTOR_CYCLES + (self.chunks - 1) * PARTIAL_CYCLES)
            total += tiles.count * (geometry.kernels * passes * kernel + groups + sums + self.quads * vectors * PACK_CYCLES)
        return total


def default_config(workload: Workload, target: Target) -> Config:
    """The configuration of the lowest estimate."""
    options = space(workload, target)
    plans = [QuadPlan(Geometry(workload), target.isa, *cut, 1) for cut in product(options["strips"], options["chunks"])]
    best = min([plan for plan in plans if plan.fits(plan.tile_vectors)] or plans[:1], key=QuadPlan.cycles)
    splits = 1
    tiles = sum(tiles.count for tiles in best.tiles()) * best.geometry.batch
    while tiles * splits < target.cores and splits * 2 <= best.geometry.groups:
        splits *= 2
    return {"strips": best.strips, "chunks": best.chunks, "splits": splits}


def space(workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
    """What a tuner may try."""
    geometry = Geometry(workload)
    whole = QuadPlan(geometry, target.isa, 1, 1, 1)
    return {
        "strips": list(range(1, max(2, min(MOST_STRIPS, whole.vectors // STRIP) + 1))),
        "chunks": [chunks for chunks in (1, 2, 3, 4, 6, 8) if whole.quads >= chunks * SMALLEST_CHUNK or chunks == 1],
        "splits": [splits for splits in (1, 2, 4, 8) if splits <= geometry.groups],
    }
