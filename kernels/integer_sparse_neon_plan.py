"""How a pattern convolution on AArch64 is cut into tiles, the form of its operands, and an estimate of the cycles of each choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import exp

from tapdot.kernels.family import Config
from tapdot.kernels.integer_sparse_plan import Geometry
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.pattern_operands_neon import GatheredTaps, PatternOperands, TileShape, WindowProducts
from tapdot.kernels.layout import Layout
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Workload

GATHERED, WINDOWS = 0, 1
"""Values of ``form``."""
FORMS = {GATHERED: GatheredTaps, WINDOWS: WindowProducts}
MOST_ROWS = 8
MOST_COLUMNS = 112

NEAR_BYTES, SECOND_LEVEL_BYTES = 48 * 1024, 512 * 1024
"""Of prepared operands: those that stay in a first-level cache, and in a second-level one of a small phone's larger cores."""
NEAR_RATE, SECOND_LEVEL_RATE, FAR_RATE = 32.0, 16.0, 6.0
"""Bytes of operands a cycle from each."""
ISSUE = 4.0
"""Instructions a cycle."""
GATHER_CYCLES = 6.0
"""Of 16 positions under one pattern: four loads, one ``st4``."""
WINDOWS_CYCLES = 6.0
"""Of four windows."""
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
        place = (layout.pitch(width), layout.plane(height, width), self.rows, self.columns)
        sizes = (geometry.strides, geometry.channels, geometry.share, geometry.kernels, geometry.groups, geometry.patterns)
        return FORMS[self.form](TileShape(*place, *sizes), self.isa)

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
        return self.form == GATHERED or (self.isa.dot == "smmla" and self.geometry.share % 2 == 0 and self.geometry.strides == (1, 1))

    def cycles(self) -> float:
        """An estimate for one image on one core."""
        geometry, gather = self.geometry, self.gather
        share, vectors = geometry.share, gather.vectors
        dots = share * vectors / (0.5 if self.isa.dot == "smlal" else 2.0)
        instructions = share * vectors * (4 if self.isa.dot == "smlal" else 1) + vectors / 2 + 6
        if self.form == GATHERED:
            used = 1.0 - exp(-geometry.kernels / (geometry.channels * geometry.patterns))
            pairs = geometry.channels * geometry.patterns * used
            prepare = pairs * (GATHER_CYCLES * len(gather.chunks) + 2)  # type: ignore[attr-defined]
            footprint = pairs * gather.unit
        else:
            lanes = share * gather.windows  # type: ignore[attr-defined]
            dots, instructions = (lanes + 2 * gather.windows) / 4.0, lanes / 2 + 1.5 * gather.windows + 5  # type: ignore[attr-defined]
            prepare = geometry.channels * WINDOWS_CYCLES * gather.vectors / 4
            footprint = gather.scratch
        rate = NEAR_RATE if footprint <= NEAR_BYTES else SECOND_LEVEL_RATE if footprint <= SECOND_LEVEL_BYTES else FAR_RATE
        kernel = max(dots, gather.unit / rate) + 0.25 * instructions / ISSUE + 1
        epilogue = geometry.filters * (EPILOGUE_CYCLES * vectors + FILTER_CYCLES)
        return self.tiles * (geometry.kernels * kernel + prepare + epilogue)


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
