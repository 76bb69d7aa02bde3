"""Register tiles over the positions of planar rows: what every sparse kernel does to a plane, whatever it computes there.

Vectors run over positions. Where input, output and residuals share one row pitch, a plane is a single *line* of positions,
``position = y * pitch + x``, because the halo between two rows is shared: vectors run across row ends, what they compute for the
halo's columns is replaced by the stored zero, and hardly a lane is lost. Else every row is a line of its own.

A tile is ``rows`` lines by ``vectors`` vectors; a block is a run of tiles side by side that are computed together. Neither
reaches past the end of its line: where the last one would, it starts earlier and computes some positions a second time. So one
body of code serves every tile, and nothing outside is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tapdot.kernels.emit import Value
from tapdot.kernels.tvm_adapter import T


@dataclass(frozen=True)
class PlanarTiles:
    """The tiles of output planes of ``height`` by ``width`` positions.

    ``lanes``: positions of a vector. ``linear``: the plane is one line, with ``pitch`` positions from a row to the next. ``run``:
    tiles of a block.
    """

    height: int
    width: int
    pitch: int
    lanes: int
    rows: int
    vectors: int
    linear: bool
    run: int = 1

    @cached_property
    def lines(self) -> int:
        """Lines of a plane."""
        return 1 if self.linear else self.height

    @cached_property
    def length(self) -> int:
        """Positions of a line."""
        return (self.height - 1) * self.pitch + self.width if self.linear else self.width

    @property
    def vectors_per_line(self) -> int:
        """Vectors that cover a line."""
        return -(-self.length // self.lanes)

    @property
    def filled(self) -> int:
        """Lanes of a vector that are positions: all of them, unless a line is shorter than a vector."""
        return min(self.lanes, self.length)

    @property
    def span(self) -> int:
        """Positions from the start of a tile's line to the end of its last vector."""
        return min(self.vectors * self.lanes, self.length)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """(line, position in it) of every vector of a tile, from the tile's start on; the last of a line may overlap another."""
        offsets = [min(vector * self.lanes, self.span - self.filled) for vector in range(self.vectors)]
        return tuple((row, offset) for row in range(self.rows) for offset in offsets)

    @property
    def block_span(self) -> int:
        """Positions of a line that a block covers."""
        return min(self.run * self.span, self.length)

    @property
    def block_tiles(self) -> int:
        """Tiles of a block."""
        return -(-self.block_span // self.span)

    @property
    def line_blocks(self) -> int:
        """Blocks side by side along a line."""
        return -(-self.length // self.block_span)

    @property
    def count(self) -> int:
        """Blocks of a plane."""
        return -(-self.lines // self.rows) * self.line_blocks

    @property
    def useful(self) -> float:
        """Positions of the tensor, as a share of the positions computed."""
        return self.height * self.width / (self.count * self.block_tiles * len(self.places) * self.lanes)

    def start(self, block: Value) -> tuple[Value, Value]:
        """(line, position in it) where a block starts; ``block`` counts along lines first."""
        line, piece = block // self.line_blocks, block % self.line_blocks
        return _clipped(line, self.rows, self.lines), _clipped(piece, self.block_span, self.length)

    def tile_offset(self, tile: Value) -> Value:
        """Positions from the start of a block to the start of one of its tiles."""
        return _clipped(tile, self.span, self.block_span)

    @property
    def has_strips(self) -> bool:
        """Whether vectors run over columns between two rows that are no positions."""
        return self.linear and self.height > 1 and self.pitch > self.width

    def position_mask(self) -> np.ndarray:
        """For a linear plane, one bool per position from column 0 on: whether it is a column of the tensor.

        The mask of the vector that starts at position ``p`` stands ``p % pitch`` positions from the start.
        """
        columns = np.arange(self.pitch - 1 + self.lanes) % self.pitch
        return columns < self.width


def _clipped(piece: Value, step: int, extent: int) -> Value:
    """The start of a piece that stays inside: ``min(piece * step, extent - step)``."""
    if step >= extent:
        return 0
    return T.Bind(T.min(piece * step, extent - step)) if extent % step else piece * step
