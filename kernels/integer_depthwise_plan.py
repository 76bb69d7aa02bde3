"""How a depthwise convolution on codes cuts its windows into dots of four taps, and into tiles of outputs.

One dot multiplies four taps of one row of a window. Four neighbouring positions of a row are four consecutive blocks of
channels, so one gather (:mod:`kernels.isa.tap_gather`) makes the bytes of a dot for every channel of a block; and windows that
overlap share gathers, when the weights stand at other bytes of the dot::

    positions         p0 p1 p2 p3
    window at p0      w0 w1 w2  0       one gather, two outputs of a row,
    window at p1       0 w0 w1 w2       and as many rows of outputs as windows have rows
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

from tapdot.kernels.convolution_plan import Geometry
from tapdot.kernels.family import Config
from tapdot.kernels.isa.integer import integer_vectors
from tapdot.kernels.layout import Layout
from tapdot.kernels.parallel import row_splits
from tapdot.kernels.register_tile import segments
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Workload

DOT = 4
"""Taps of a dot."""

Slots = tuple[int | None, ...]
"""Which tap of a window's row each byte of a dot holds; None where the weight is zero."""


@dataclass(frozen=True)
class Gather:
    """Four inputs of a row of the patch, by column from the patch's first; None where none is wanted.

    A gather without None is read as one run of consecutive positions, also of those that no window wants.
    """

    columns: tuple[int | None, ...]

    @property
    def start(self) -> int | None:
        """The first column of a run; None where positions are read one by one."""
        first = self.columns[0]
        return first if first is not None and self.columns == tuple(range(first, first + DOT)) else None


RowDots = dict[Gather, list[tuple[int, Slots]]]
"""What one row of windows reads of one row of inputs: for each gather, the (output column, slots) it serves."""


def row_dots(columns: int, kernel: int, stride: int, dilation: int, low: int, high: int) -> RowDots:
    """The dots of ``columns`` windows side by side over one row of inputs.

    Columns count from the first window's first tap. Those from ``low`` to ``high`` may be read; windows stay within them.
    """
    if dilation > 1:
        found: RowDots = {}
        for column, first in product(range(columns), range(0, kernel, DOT)):
            slots = tuple(tap if tap < kernel else None for tap in range(first, first + DOT))
            places = tuple(None if tap is None else column * stride + tap * dilation for tap in slots)
            found.setdefault(Gather(places), []).append((column, slots))
        return found
    # Windows that start within `shared` columns of one another need no more dots when they use the same gathers.
    shared = DOT * -(-kernel // DOT) - kernel + 1
    readers: dict[int, list[int]] = {}
    for column in range(columns):
        base = column * stride // shared * shared
        for start in range(base, column * stride + kernel, DOT):
            readers.setdefault(start, []).append(column)
    return dict(_reading(start, served, kernel, stride, low, high) for start, served in sorted(readers.items()))


def _reading(
    start: int, served: list[int], kernel: int, stride: int, low: int, high: int
) -> tuple[Gather, list[tuple[int, Slots]]]:
    """The gather for what some windows want of four columns: a run, moved to the left where it would end beyond ``high``."""
    windows = {column: range(column * stride, column * stride + kernel) for column in served}
    wanted = [place for place in range(start, start + DOT) if any(place in window for window in windows.values())]
    places: tuple[int | None, ...] = tuple(place if place in wanted else None for place in range(start, start + DOT))
    for first in range(start, wanted[-1] - DOT, -1):
        if low <= first and first + DOT - 1 <= high:
            places = tuple(range(first, first + DOT))
            break

    def slots(column: int) -> Slots:
        taps = (None if place not in wanted or place is None else place - column * stride for place in places)
        return tuple(tap if tap is not None and 0 <= tap < kernel else None for tap in taps)

    return Gather(places), [(column, slots(column)) for column in served]


class Windows(Geometry):
    """The integers of a depthwise convolution, or of a pool, whose window and strides are attributes."""

    @property
    def kernel(self) -> tuple[int, int]:
        return self.workload.options["kernel_shape"] if "kernel_shape" in self.workload.options else super().kernel  # type: ignore[return-value]

    @property
    def dilations(self) -> tuple[int, int]:
        return self.workload.options.get("dilations", (1, 1))  # type: ignore[return-value]


@dataclass(frozen=True)
class Strip:
    """A run of equal tiles along a row of outputs: ``pieces`` tiles of ``columns`` windows from ``start`` on."""

    start: int
    pieces: int
    columns: int
    dots: RowDots


@dataclass(frozen=True)
class Plan:
    """A geometry cut by a configuration.

    A tile is ``rows`` by ``columns`` of outputs and ``vectors`` int32 vectors of a block of channels. ``unrolled`` says whether
    the rows of the window are written out; else they are a loop.
    """

    geometry: Windows
    layout: Layout
    rows: int
    columns: int
    vectors: int
    unrolled: bool
    splits: int

    @classmethod
    def of(cls, workload: Workload, config: Config, target: Target) -> Plan:
        geometry = Windows(workload, target.isa)
        layout = geometry.x.layout or Layout(BLOCK, geometry.halo)
        return cls(
            geometry,
            layout,
            config["rows"],
            config["columns"],
            config["vectors"],
            bool(config["unrolled"]),
            config["splits"],
        )

    @property
    def blocks(self) -> int:
        return -(-self.geometry.channels // BLOCK)

    @cached_property
    def strips(self) -> list[Strip]:
        """The tiles of a row of outputs."""
        geometry, found = self.geometry, []
        left, width, side = geometry.pads[1], geometry.x.shape[3], self.layout.side
        kernel, stride, dilation = geometry.kernel[1], geometry.strides[1], geometry.dilations[1]
        for start, pieces, columns in segments(geometry.width, self.columns):
            # Whatever lies between the strips on both sides of a row is part of the plane, for all rows and all tiles.
            low = left - side - start * stride
            high = width - 1 + side + left - (start + (pieces - 1) * columns) * stride
            found.append(Strip(start, pieces, columns, row_dots(columns, kernel, stride, dilation, low, high)))
        return found

    @cached_property
    def variants(self) -> list[Slots]:
        """Every arrangement of a row's weights that some dot multiplies with, in the order in which they are packed."""
        slots = (slots for strip in self.strips for served in strip.dots.values() for _, slots in served)
        return list(dict.fromkeys(slots))


BLOCK = 16
"""Channels that lie side by side in every code tensor between kernels."""

HIGHEST_TILE = 7
"""Rows of outputs in a tile at most."""

TILE_DOTS = 170
"""Dot instructions in the code of a tile at most, those of all vectors of a block together: what compiles in reasonable time."""

WRITTEN_DOTS = 10
"""A window of up to that many dots is written out; taller ones are a loop over their rows."""

# -- configurations ---------------------------------------------------------------------------------------------------------


def space(geometry: Geometry) -> dict[str, list[int]]:
    """Values each configuration field may take."""
    in_block = BLOCK // geometry.isa.lanes
    return {
        "rows": [r for r in range(1, 8) if r <= geometry.height],
        "columns": [c for c in range(1, 17) if c <= geometry.width],
        "vectors": [v for v in (1, 2, 4) if v <= in_block],
        "unrolled": [0, 1],
        "splits": [s for s in (1, 2, 4, 8, 16) if s <= geometry.height],
    }


def settle(workload: Workload, config: Config, target: Target) -> Config | None:
    """A configuration whose tile is code of bounded length and whose parts all have rows; loops over taps go row by row."""
    geometry = Windows(workload, target.isa)
    (height, width), rows = geometry.kernel, config["rows"]
    written = (height if config["unrolled"] else 1) * -(-width // DOT) * rows * config["columns"]
    written *= BLOCK // target.isa.lanes * integer_vectors(target.isa).weight_registers
    loops = config["unrolled"] or rows == 1
    return config if written <= TILE_DOTS and loops and config["splits"] <= -(-geometry.height // rows) else None


def default_config(workload: Workload, target: Target) -> Config:
    """A good configuration without measuring anything.

    Rows of inputs are gathered again by every tile above or below, so tiles are high. Sums, and the weights of every arrangement,
    stay in registers: with 4 lanes that leaves half a block and two columns.
    """
    geometry, lanes = Windows(workload, target.isa), target.isa.lanes
    (height, width), columns = geometry.kernel, min(2 if lanes == DOT else 4, geometry.width)

    written = height * -(-width // DOT) * columns * (BLOCK // lanes) * integer_vectors(target.isa).weight_registers
    highest = max(1, min(HIGHEST_TILE, TILE_DOTS // written, geometry.height))

    def rows_read(rows: int) -> int:
        reach = (height - 1) * geometry.dilations[0] + 1
        cuts = list(segments(geometry.height, rows))
        return sum(pieces * ((count - 1) * geometry.strides[0] + reach) for _, pieces, count in cuts) + len(cuts)

    rows = min(range(1, highest + 1), key=rows_read)
    unrolled = height * -(-width // DOT) <= WRITTEN_DOTS
    return {
        "rows": rows if unrolled else 1,
        "columns": columns,
        "vectors": 2 if lanes == DOT else 1,
        "unrolled": int(unrolled),
        "splits": row_splits(geometry.batch * -(-geometry.channels // BLOCK), geometry.height // rows, target.cores),
    }
