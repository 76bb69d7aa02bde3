"""Blocks of positions: which output every lane of some vectors stands for.

A block is a rectangle of outputs, its *codes* numbered row by row. They lie in lanes as packing instructions want them: these
work on parts of four lanes, so code ``16 * part + 4 * vector + j`` of four narrowed vectors comes from lane ``4 * part + j`` of
that vector. A block of ``V`` vectors therefore has code ``4 * V * (lane // 4) + 4 * vector + lane % 4`` in that lane: after
narrowing, ``4 * V`` codes in a row are neighbours in memory. With one vector, or with vectors of four lanes, lanes are codes in
order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PART = 4
"""Lanes that packing instructions keep together."""
NARROWED = 4
"""int32 vectors that become one register of codes."""


@dataclass(frozen=True)
class Block:
    """``rows * columns`` codes in ``vectors`` vectors of ``lanes``; ``height`` rows and ``width`` columns are in the plane.

    Rows are written in *pieces* of a power of two of codes; the last piece of a row ends at the edge, over the one before it.
    """

    rows: int
    columns: int
    height: int
    width: int
    vectors: int
    lanes: int

    def __post_init__(self) -> None:
        if self.rows * self.columns != self.vectors * self.lanes or NARROWED % self.vectors:
            raise ValueError(f"Expected rows times columns to fill 1, 2 or 4 vectors, found {self}.")

    @property
    def run(self) -> int:
        """Neighbouring codes of a block in a narrowed register."""
        return PART * self.vectors

    @cached_property
    def piece(self) -> int:
        """Codes that are read and written at once."""
        size = math.gcd(self.run, self.columns)
        while size > self.width:
            size //= 2
        return size

    def position(self, code: int) -> tuple[int, int]:
        """The row and column of a code; codes outside the plane repeat one inside."""
        row, column = divmod(code, self.columns)
        piece, inside = divmod(column, self.piece)
        return min(row, self.height - 1), min(piece * self.piece, self.width - self.piece) + inside

    def code(self, vector: int, lane: int) -> int:
        """The code in a lane."""
        return self.run * (lane // PART) + PART * vector + lane % PART

    @property
    def stored(self) -> int:
        """Codes of a piece that are positions."""
        return self.piece

    def row(self, code: int) -> int:
        """The row of a code; rows from ``height`` on are not in the plane."""
        return code // self.columns

    @property
    def reorder(self) -> list[int] | None:
        """Where the codes of four narrowed vectors lie before they are put in order; None: they are."""
        return None

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """(first code, row, column) of every piece, those that repeat others left out."""
        seen = set()
        for code in range(0, self.rows * self.columns, self.piece):
            place = self.position(code)
            if place not in seen and self.row(code) < self.height:
                seen.add(place)
                yield code, *place

    def lane_positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of every lane, ``[vectors * lanes]``."""
        codes = [self.code(v, lane) for v in range(self.vectors) for lane in range(self.lanes)]
        rows, columns = np.array([self.position(code) for code in codes]).T
        return rows, columns


@dataclass(frozen=True)
class SquareBlock(Block):
    """A block in which a part of four lanes is a square of 2 x 2 positions, for shuffles that stay inside such parts.

    The squares of a block's vectors stand side by side: part ``p`` is a patch of 2 rows and ``2 * vectors`` columns, whose codes
    are numbered row by row, and patches fill the block row by row. Narrowed codes are put in that order by one more shuffle.
    """

    @property
    def piece(self) -> int:  # type: ignore[override]
        return 2 * self.vectors

    @property
    def stored(self) -> int:
        return min(self.piece, self.width)

    def row(self, code: int) -> int:
        patch, inside = divmod(code, self.run)
        return 2 * (patch // (self.columns // self.piece)) + inside // self.piece

    def position(self, code: int) -> tuple[int, int]:
        patch, inside = divmod(code, self.run)
        first = self.piece * (patch % (self.columns // self.piece))
        return min(self.row(code), self.height - 1), min(first, max(0, self.width - self.piece)) + inside % self.piece

    def code(self, vector: int, lane: int) -> int:
        part, inside = divmod(lane, PART)
        return self.run * part + self.piece * (inside // 2) + 2 * vector + inside % 2

    @property
    def reorder(self) -> list[int] | None:
        packed = [0] * (NARROWED * self.lanes)
        for vector in range(NARROWED):
            number, own = divmod(vector, self.vectors)
            for lane in range(self.lanes):
                code = self.code(own, lane)
                ordered = code // self.run * PART * NARROWED + number * self.run + code % self.run
                packed[ordered] = lane // PART * PART * NARROWED + PART * vector + lane % PART
        return packed
