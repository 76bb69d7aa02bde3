"""The integers of a dense convolution: its geometry, how a configuration cuts it, and which configuration to take unmeasured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

from tapdot.kernels.emit import Value
from tapdot.kernels.family import Config
from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import Halo
from tapdot.kernels.parallel import row_splits
from tapdot.kernels.register_tile import FIRST_LEVEL_BYTES, FLOAT_BYTES, Tile, even_parts, segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import T
from tapdot.kernels.workload import Operand, Workload

PANEL_BYTES = 256 * 1024
"""Weights of one tile over one chunk of channels, kept in the second-level cache while the tile visits every position."""

INPUT_PART_BYTES = 512 * 1024
RESIDENT_WEIGHT_BYTES = 512 * 1024
"""Shares of a second-level cache of a mebibyte: inputs that all panels visit in turn, and weights that stay while they do."""

CHUNKED_PATCHES = 4
"""With fewer positions than this many tiles, summing in chunks costs more in loads and stores of sums than it saves."""


@dataclass(frozen=True)
class Geometry:
    """The integers of a convolution workload."""

    workload: Workload
    isa: Isa

    @property
    def x(self) -> Operand:
        return self.workload.inputs[0]  # type: ignore[return-value]

    @property
    def batch(self) -> int:
        return self.x.shape[0]

    @property
    def channels(self) -> int:
        return self.x.shape[1]

    @property
    def kernel(self) -> tuple[int, int]:
        _, _, height, width = self.workload.inputs[1].shape  # type: ignore[union-attr]
        return height, width

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def strides(self) -> tuple[int, int]:
        return self.workload["strides"]  # type: ignore[no-any-return]

    @property
    def dilations(self) -> tuple[int, int]:
        return self.workload["dilations"]  # type: ignore[no-any-return]

    @property
    def pads(self) -> tuple[int, int, int, int]:
        return self.workload["pads"]  # type: ignore[no-any-return]

    @property
    def group(self) -> int:
        return self.workload["group"]  # type: ignore[no-any-return]

    @property
    def filters(self) -> int:
        return self.workload.output.shape[1]

    @property
    def filters_per_group(self) -> int:
        return self.filters // self.group

    @property
    def channels_per_group(self) -> int:
        return self.channels // self.group

    @property
    def height(self) -> int:
        return self.workload.output.shape[2]

    @property
    def width(self) -> int:
        return self.workload.output.shape[3]

    @property
    def vectors(self) -> int:
        """Output channel vectors, the last perhaps partly filled."""
        return -(-self.filters // self.isa.lanes)

    @cached_property
    def halo(self) -> Halo:
        """The border of the input that is read: what the pads ask for and the last window reaches."""
        (top, left, _, _), (_, _, rows, columns) = self.pads, self.x.shape
        bottom = (self.height - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] + 1 - top - rows
        right = (self.width - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilations[1] + 1 - left - columns
        return Halo(max(top, 0), max(left, 0), max(bottom, 0), max(right, 0))

    def whole_groups(self, tile_vectors: int) -> bool:
        """Whether no tile of that many vectors straddles two groups."""
        return self.group == 1 or self.filters_per_group % (tile_vectors * self.isa.lanes) == 0

    def window(self, tile_vectors: int) -> int:
        """Input channels a tile reads. A tile that straddles groups reads all they read, with zeros in the weights between."""
        if self.whole_groups(tile_vectors):
            return self.channels_per_group
        lanes = tile_vectors * self.isa.lanes
        starts = range(0, self.filters, lanes)
        spans = [
            (min(start + lanes, self.filters) - 1) // self.filters_per_group - start // self.filters_per_group + 1
            for start in starts
        ]
        return max(spans) * self.channels_per_group

    def window_start(self, vector: Value, tile_vectors: int) -> Value:
        """The first input channel that the tile starting at that output vector reads."""
        if self.group == 1:
            return 0
        first = vector * self.isa.lanes // self.filters_per_group * self.channels_per_group
        latest = self.channels - self.window(tile_vectors)
        if self.whole_groups(tile_vectors):
            return first
        return min(first, latest) if isinstance(first, int) else T.min(first, latest)


@dataclass(frozen=True)
class Plan:
    """A geometry cut by a configuration."""

    geometry: Geometry
    tile: Tile
    chunk: int
    splits: int

    @classmethod
    def of(cls, workload: Workload, config: Config, target: Target) -> Plan:
        geometry = Geometry(workload, target.isa)
        tile = Tile(config["vectors"], config["rows"], config["columns"])
        window = geometry.window(tile.vectors)
        return cls(geometry, tile, config["chunk"] if window % config["chunk"] == 0 else window, config["splits"])

    @property
    def window(self) -> int:
        return self.geometry.window(self.tile.vectors)

    @property
    def chunks(self) -> int:
        return self.window // self.chunk

    def panels(self) -> list[tuple[int, int]]:
        """(first vector, vectors) of every tile along output channels."""
        return [
            (start + piece * size, size)
            for start, pieces, size in segments(self.geometry.vectors, self.tile.vectors)
            for piece in range(pieces)
        ]

    def panel_elements(self, vectors: int) -> int:
        """Packed weights of a tile of that many vectors."""
        height, width = self.geometry.kernel
        return height * width * self.window * vectors * self.geometry.isa.lanes

    def panel_shape(self, vectors: int) -> tuple[int, ...]:
        """[chunks, kernel height, kernel width, channels of a chunk, lanes of the tile]."""
        height, width = self.geometry.kernel
        return (self.chunks, height, width, self.chunk, vectors * self.geometry.isa.lanes)


# -- configurations ---------------------------------------------------------------------------------------------------------


def space(geometry: Geometry) -> dict[str, list[int]]:
    """Values each field of a configuration may take."""
    window = geometry.window(1)
    return {
        "vectors": [v for v in (1, 2, 3, 4, 5, 6, 8) if v <= geometry.vectors],
        "rows": [r for r in (1, 2, 3, 4, 7) if r <= geometry.height],
        "columns": even_parts(geometry.width, 28),
        "chunk": [c for c in range(1, window + 1) if window % c == 0 and (c % 16 == 0 or c == window)],
        "splits": [s for s in (1, 2, 4, 7, 8, 14, 16, 28) if s <= geometry.height],
    }


def settle(geometry: Geometry, config: Config) -> Config | None:
    """A configuration whose tile stays in registers and whose parts all have rows, its chunk a divisor of the channels."""
    tile = Tile(config["vectors"], config["rows"], config["columns"])
    if not tile.fits(geometry.isa) or config["splits"] > -(-geometry.height // tile.rows):
        return None
    if tile.vectors > 1 and not geometry.whole_groups(tile.vectors):
        return None
    window = geometry.window(tile.vectors)
    return {**config, "chunk": config["chunk"] if window % config["chunk"] == 0 else window}


def default_config(geometry: Geometry, cores: int) -> Config:
    """The cheapest tile by the analytic model, with chunks and splits that suit the caches."""
    tile = min(_tiles(geometry), key=lambda candidate: _cost(geometry, candidate))
    chunk, splits = _chunk(geometry, tile), _splits(geometry, tile, cores)
    return {"vectors": tile.vectors, "rows": tile.rows, "columns": tile.columns, "chunk": chunk, "splits": splits}


def _splits(geometry: Geometry, tile: Tile, cores: int) -> int:
    """Parts of the rows. All panels visit one part before the next: enough parts that cores have work, and, where it moves far
    fewer bytes than reading all inputs once a panel, small enough ones that their inputs stay in the second-level cache."""
    panels = -(-geometry.vectors // tile.vectors)
    most = -(-geometry.height // tile.rows)
    splits = row_splits(panels * geometry.batch, most, cores)
    _, channels, rows, columns = geometry.x.shape
    skipped = 2 if max(geometry.strides) > 1 else 1  # hardware prefetches the neighbouring line too
    inputs = channels * min(rows * columns, geometry.height * geometry.width * geometry.taps * skipped) * FLOAT_BYTES
    weights = geometry.filters * geometry.window(tile.vectors) * geometry.taps * FLOAT_BYTES
    parts = min(-(-inputs // INPUT_PART_BYTES), most)
    by_parts = inputs + weights * (parts if weights > RESIDENT_WEIGHT_BYTES else 1)
    return max(splits, parts) if 2 * by_parts < inputs * panels else splits


def _chunk(geometry: Geometry, tile: Tile) -> int:
    """Channels whose weights stay cached while the tile visits every position: in the first level for 1x1, where each weight
    meets few inputs, else in the second."""
    window = geometry.window(tile.vectors)
    channel_bytes = geometry.taps * tile.vectors * geometry.isa.lanes * FLOAT_BYTES
    patches = -(-geometry.height // tile.rows) * -(-geometry.width // tile.columns)
    limit = FIRST_LEVEL_BYTES if geometry.taps == 1 else PANEL_BYTES
    if patches < CHUNKED_PATCHES or window * channel_bytes <= limit:
        return window
    return max((c for c in range(16, window, 16) if window % c == 0 and c * channel_bytes <= limit), default=window)


def _tiles(geometry: Geometry) -> list[Tile]:
    tiles = [
        Tile(vectors, rows, columns)
        for vectors, rows, columns in product(range(1, 9), range(1, 8), range(1, 29))
        if vectors <= geometry.vectors and rows <= geometry.height and columns <= geometry.width
    ]
    fitting = [t for t in tiles if t.fits(geometry.isa) and (t.vectors == 1 or geometry.whole_groups(t.vectors))]
    return fitting or [Tile(1, 1, 1)]


def _cost(geometry: Geometry, tile: Tile) -> float:
    """Cycles per input channel and tap over the whole layer, remainders included; code size breaks ties."""
    pieces = [
        [(count, size) for _, count, size in segments(total, step)]
        for total, step in ((geometry.vectors, tile.vectors), (geometry.height, tile.rows), (geometry.width, tile.columns))
    ]
    resident = _chunk(geometry, tile) * geometry.taps * tile.vectors * geometry.isa.lanes * FLOAT_BYTES <= FIRST_LEVEL_BYTES
    cycles = 0.0
    for (v_count, v), (r_count, r), (c_count, c) in product(*pieces):
        cycles += v_count * r_count * c_count * Tile(v, r, c).cycles(geometry.isa, geometry.taps, resident) * geometry.window(v)
    variants = len(pieces[0]) * len(pieces[1]) * len(pieces[2])
    return cycles * (1 + 0.005 * (variants - 1))
