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

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """(first code, row, column) of every piece, those that repeat others left out."""
        seen = set()
        for code in range(0, self.rows * self.columns, self.piece):
            place = self.position(code)
            if place not in seen and code // self.columns < self.height:
                seen.add(place)
                yield code, *place

    def lane_positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of every lane, ``[vectors * lanes]``."""
        codes = [self.code(v, lane) for v in range(self.vectors) for lane in range(self.lanes)]
        rows, columns = np.array([self.position(code) for code in codes]).T
        return rows, columns
