"""Covering a plane of output positions with register tiles: one shape for most of it, others where it leaves strips.

A 7x7 plane takes seven tiles of 1x6 and, in the last column, a tile of 6x1 and one of 1x1, which is two tiles more than its 49
positions need at least; the same shape everywhere would take fourteen tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tapdot.kernels.register_tile import segments

Shape = tuple[int, int]
"""Rows and columns of a tile."""


@dataclass(frozen=True)
class Region:
    """A grid of equal tiles: ``y_tiles`` by ``x_tiles`` of ``rows`` by ``columns``, from (y, x) on."""

    y: int
    x: int
    y_tiles: int
    x_tiles: int
    rows: int
    columns: int

    @property
    def tiles(self) -> int:
        """Tiles in the region."""
        return self.y_tiles * self.x_tiles


def grid(y: int, x: int, height: int, width: int, shape: Shape) -> list[Region]:
    """A rectangle cut both ways in pieces of one shape and at most one rest."""
    return [
        Region(y + y_start, x + x_start, y_tiles, x_tiles, rows, columns)
        for y_start, y_tiles, rows in segments(height, shape[0])
        for x_start, x_tiles, columns in segments(width, shape[1])
    ]


class PlaneCover:
    """Covers of one plane; ``cost`` of a tile by its shape, ``shapes`` that a strip may be cut into."""

    def __init__(self, height: int, width: int, shapes: Iterable[Shape], cost: Callable[[Shape], float]) -> None:
        self.height, self.width = height, width
        self._shapes, self._cost = list(shapes), cost
        self._costs: dict[Shape, float] = {}
        self._strips: dict[Shape, Shape] = {}

    def regions(self, shape: Shape) -> list[Region]:
        """The whole tiles of ``shape`` first, then the strip to their right and the one below them, each by its cheapest grid."""
        rows, columns = self.height // shape[0] * shape[0], self.width // shape[1] * shape[1]
        found = grid(0, 0, rows, columns, shape)
        for y, x, height, width in ((0, columns, self.height, self.width - columns), (rows, 0, self.height - rows, columns)):
            if height and width:
                found += grid(y, x, height, width, self._strip(height, width))
        return found

    def cost(self, regions: Iterable[Region]) -> float:
        """Of all their tiles."""
        return sum(region.tiles * self._tile_cost((region.rows, region.columns)) for region in regions)

    def _tile_cost(self, shape: Shape) -> float:
        if shape not in self._costs:
            self._costs[shape] = self._cost(shape)
        return self._costs[shape]

    def _strip(self, height: int, width: int) -> Shape:
        """The shape whose grid covers a rectangle most cheaply."""
        if (height, width) not in self._strips:
            shapes = [(rows, columns) for rows, columns in self._shapes if rows <= height and columns <= width] or [(1, 1)]
            self._strips[height, width] = min(shapes, key=lambda shape: self.cost(grid(0, 0, height, width, shape)))
        return self._strips[height, width]
