"""How a pattern convolution on AArch64 is cut into tiles, in which form, and an estimate of the cycles of each choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from tapdot.kernels.family import Config
from tapdot.kernels.integer_sparse_plan import Geometry
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.pattern_operands_neon import GatheredTaps, PatternOperands, TileShape
from tapdot.kernels.isa.window_products import WindowProducts
from tapdot.kernels.layout import Layout
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Workload

GATHERED, WINDOWS = 0, 1
"""Values of ``form``."""
FORMS: dict[int, type[GatheredTaps] | type[WindowProducts]] = {GATHERED: GatheredTaps, WINDOWS: WindowProducts}
MOST_ROWS = 8
MOST_COLUMNS = 112

NEAR_BYTES, SECOND_LEVEL_BYTES = 48 * 1024, 512 * 1024
"""Of prepared operands: those that stay in a first-level cache, and in a second-level one of a small phone's larger cores."""
NEAR_RATE, SECOND_LEVEL_RATE, FAR_RATE = 32.0, 16.0, 6.0
"""Bytes of operands a cycle from each."""
ISSUE, PIPES, EXPOSED = 4.0, 2.0, 0.25
"""Instructions a cycle, arithmetic ones of vectors among them, and what of the others does not hide behind those."""
STORE_CYCLES = 6.5
"""Of four loads and one ``st4``."""
EPILOGUE_CYCLES, FILTER_CYCLES = 2.7, 8.0
"""Of a vector of sums, and of starting a filter."""


@dataclass(frozen=True)
class NeonPlan:
    """A pattern convolution with the form of its operands and the rectangle of a tile."""

    geometry: Geometry
    isa: Isa
    form: int
    rows: int
    columns: int
    splits: int

    @classmethod
    def of(cls, workload: Workload, config: Config, target: Target) -> NeonPlan:
        geometry = Geometry(workload)
        rows, columns = min(config["rows"], geometry.height), min(config["columns"], geometry.width)
        return cls(geometry, target.isa, config["form"], rows, columns, config["splits"])

    @cached_property
    def gather(self) -> PatternOperands:
        """The operands of a tile."""
        geometry = self.geometry
        layout, (_, _, height, width) = geometry.x.layout or Layout(), geometry.x.shape
        shape = TileShape(
            layout.pitch(width),
            layout.plane(height, width),
            self.rows,
            self.columns,
            geometry.strides,
            geometry.channels,
            geometry.share,
            geometry.kernels,
            geometry.groups,
            geometry.patterns,
        )
        return FORMS[self.form](shape, self.isa)

    @property
    def row_tiles(self) -> int:
        return -(-self.geometry.height // self.rows)

    @property
    def column_tiles(self) -> int:
        return -(-self.geometry.width // self.columns)

    @property
    def tiles(self) -> int:
        """Tiles of a plane; the last of a row and of a column end at the plane's edge."""
        return self.row_tiles * self.column_tiles

    @property
    def legal(self) -> bool:
        """Windows serve pairs of filters, and positions that are neighbours."""
        geometry = self.geometry
        return self.form == GATHERED or (self.isa.dot == "smmla" and geometry.share % 2 == 0 and geometry.strides == (1, 1))

    @property
    def reach(self) -> int:
        """Bytes behind the end of the input's buffer that the plane's last tile reads."""
        geometry, gather = self.geometry, self.gather
        layout, shape = geometry.x.layout or Layout(), geometry.x.shape
        (down, right), (top, left, _, _) = geometry.strides, geometry.pads
        y, x = (geometry.height - self.rows) * down - top, (geometry.width - self.columns) * right - left
        corner = layout.offset(shape, shape[0] - 1, shape[1] - 1, y, x)
        ends = [corner + row * gather.shape.pitch + column + size for row, column, size in gather.reads]
        return max(0, max(ends) - geometry.x.elements)

    def cycles(self) -> float:
        """An estimate for one image on one core."""
        geometry, gather = self.geometry, self.gather
        footprint = gather.footprint
        rate = NEAR_RATE if footprint <= NEAR_BYTES else SECOND_LEVEL_RATE if footprint <= SECOND_LEVEL_BYTES else FAR_RATE
        instructions = gather.vector_operations + gather.other_instructions
        kernel = max(gather.vector_operations / PIPES, gather.unit / rate) + EXPOSED * instructions / ISSUE + 1
        epilogue = geometry.filters * (EPILOGUE_CYCLES * gather.vectors + FILTER_CYCLES)
        return self.tiles * (geometry.kernels * kernel + STORE_CYCLES * gather.interleaved_stores + epilogue)


def plans(workload: Workload, target: Target) -> Iterator[NeonPlan]:
    """Every tile whose sums stay in registers."""
    geometry = Geometry(workload)
    for form, rows, columns in product(FORMS, *(space(workload, target)[name] for name in ("rows", "columns"))):
        plan = NeonPlan(geometry, target.isa, form, rows, columns, 1)
        if plan.legal and plan.gather.fits:
            yield plan


def default_config(workload: Workload, target: Target) -> Config:
    """The configuration of the lowest estimate."""
    geometry = Geometry(workload)
    smallest = NeonPlan(geometry, target.isa, GATHERED, 1, 1, 1)
    best = min(plans(workload, target), key=NeonPlan.cycles, default=smallest)
    splits = 1
    while best.tiles * geometry.batch * splits < target.cores and splits * 2 <= geometry.groups:
        splits *= 2
    return {"form": best.form, "rows": best.rows, "columns": best.columns, "splits": splits}


def space(workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
    """What a tuner may try: columns that divide a row into equal parts."""
    geometry = Geometry(workload)
    columns = {-(-geometry.width // parts) for parts in range(1, geometry.width + 1)}
    return {
        "form": [form for form in FORMS if NeonPlan(geometry, target.isa, form, 1, 1, 1).legal],
        "rows": list(range(1, min(MOST_ROWS, geometry.height) + 1)),
        "columns": sorted(count for count in columns if count <= MOST_COLUMNS),
        "splits": [split for split in (1, 2, 4, 8) if split <= geometry.groups],
    }
