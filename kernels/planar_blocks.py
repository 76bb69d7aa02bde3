"""Between channel blocks and planar rows: squares of channels and positions transposed in registers.

A square is ``unit`` channels by ``unit`` positions: 16 by 16 codes, or as many floats as a vector holds. A vector of codes holds
several squares side by side, 16 bytes each. Its positions are those of one row, or of several rows where rows are short, so
that planes of 7x7 fill vectors as well. At the end of a row, or of a plane, the last patch overlaps the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tapdot.kernels.emit import Value, load, loop, store
from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import Layout
from tapdot.kernels.tvm_adapter import Buffer, T
from tapdot.kernels.vector_math.arithmetic import lanes_of

Shape = tuple[int, ...]
Convert = Callable[[Value, int], Value]
"""What happens to ``lanes`` elements between loading and storing: ``(value, lanes)``."""

LANE_BYTES = 16
"""Bytes inside which interleaving instructions move bytes about, on every core."""


@dataclass(frozen=True)
class Plane:
    """Where the rows of one channel block lie in a buffer: ``(n, block)`` of a tensor ``shape`` laid out as ``layout``."""

    buffer: Buffer
    layout: Layout
    shape: Shape
    n: Value
    block: Value

    def at(self, y: Value, x: Value) -> Value:
        """Element offset of lane 0 at a position."""
        return self.layout.offset(self.shape, self.n, self.block, y, x)


@dataclass(frozen=True)
class Patch:
    """The positions of a vector of ``lanes`` squares.

    Lanes stand side by side: ``lane_columns`` in a row, ``lane_rows`` below each other. ``rows_in_lane`` rows share a lane.
    """

    unit: int
    lane_columns: int
    lane_rows: int
    rows_in_lane: int

    @classmethod
    def covering(cls, height: int, width: int, unit: int, lanes: int) -> Patch:
        """The patch that fills most of its vectors in a plane."""
        if width >= unit:
            columns = 1
            while columns * 2 <= lanes and columns * 2 * unit <= width:
                columns *= 2
            rows = 1
            while rows * 2 * columns <= lanes and rows * 2 <= height:
                rows *= 2
            return cls(unit, columns, rows, 1)
        inside = 1
        while inside * 2 * width <= unit and inside * 2 <= height:
            inside *= 2
        rows = 1
        while rows * 2 <= lanes and rows * 2 * inside <= height:
            rows *= 2
        return cls(unit, 1, rows, inside)

    @property
    def lanes(self) -> int:
        """Squares of a vector."""
        return self.lane_columns * self.lane_rows

    @property
    def rows(self) -> int:
        """Rows of the patch."""
        return self.lane_rows * self.rows_in_lane

    @property
    def run(self) -> int:
        """Consecutive positions of one row that lie side by side in a vector."""
        return self.unit * self.lane_columns if self.rows_in_lane == 1 else self.unit // self.rows_in_lane

    @property
    def columns(self) -> int:
        """Columns of the patch; more than a row has where rows are short."""
        return self.run

    def place(self, lane: int, index: int) -> tuple[int, int]:
        """Row and column of element ``index`` of a lane."""
        row, column = divmod(index, self.unit // self.rows_in_lane)
        below, beside = divmod(lane, self.lane_columns)
        return below * self.rows_in_lane + row, beside * self.unit + column

    def runs(self) -> list[tuple[int, int]]:
        """For every row of the patch: the row, and where its positions begin in a vector."""
        return [(row, row * self.run) for row in range(self.rows)]


def transposed(vectors: Sequence[Value], unit: int) -> list[Value]:
    """Squares of ``unit`` vectors, each of which holds one row of every square, as vectors of their columns.

    One interleaving, of the halves of a list, repeated: every step moves the highest bit of the number of a vector to the lowest
    bit of a place in it, and the highest bit of the place to the number. Instructions interleave inside 16 bytes.
    """
    rows, total = list(vectors), lanes_of(vectors[0])
    for _ in range(unit.bit_length() - 1):
        mixed: list[Value] = []
        for low, high in zip(rows[: unit // 2], rows[unit // 2 :], strict=True):
            for half in (0, unit // 2):
                inside = [lane + half + index for lane in range(0, total, unit) for index in range(unit // 2)]
                mixed.append(T.Bind(T.Shuffle([low, high], [side * total + place for place in inside for side in range(2)])))
        rows = mixed
    return rows


def exchanged(rows: Sequence[Value]) -> list[Value]:
    """The columns of a square of as many vectors as each has lanes (a power of two), by swapping halves, quarters, ...

    After the step of distance ``d`` the two numbers that address an element, its row and its lane, have exchanged the bit ``d``.
    This is for vectors of floats, whose elements move as well between 128-bit parts as inside them.
    """
    vectors, lanes, distance = list(rows), len(rows), 1
    while distance < lanes:
        swapped = list(vectors)
        low = [lane if not lane & distance else lanes + lane - distance for lane in range(lanes)]
        high = [lane + distance if not lane & distance else lanes + lane for lane in range(lanes)]
        for row in range(lanes):
            if not row & distance:
                pair = [vectors[row], vectors[row + distance]]
                swapped[row], swapped[row + distance] = T.Bind(T.Shuffle(pair, low)), T.Bind(T.Shuffle(pair, high))
        vectors, distance = swapped, distance * 2
    return vectors


def joined(parts: Sequence[Value]) -> Value:
    """Vectors side by side in one."""
    if len(parts) == 1:
        return parts[0]
    return T.Bind(T.Shuffle(list(parts), list(range(sum(lanes_of(part) for part in parts)))))


def part_of(vector: Value, start: int, count: int) -> Value:
    """Consecutive elements of a vector."""
    if count == lanes_of(vector):
        return vector
    return T.Bind(T.Shuffle([vector], list(range(start, start + count))))


@dataclass(frozen=True)
class Squares:
    """How patches of a plane of ``height`` by ``width`` are moved; ``convert`` is applied to every vector on its way."""

    height: int
    width: int
    patch: Patch
    codes: bool
    convert: Convert

    @classmethod
    def of(cls, height: int, width: int, unit: int, isa: Isa, codes: bool, convert: Convert) -> Squares:
        """What fills the vectors of an instruction set; ``unit`` is 16 for codes, else the elements of a vector."""
        lanes = isa.lanes * 4 // LANE_BYTES if codes else 1
        return cls(height, width, Patch.covering(height, width, unit, lanes), codes, convert)

    @contextmanager
    def patches(self) -> Iterator[tuple[Value, Value]]:
        """First row and column of every patch, from the top left on."""
        rows, columns = self.patch.rows, min(self.patch.columns, self.width)
        with loop(-(-self.height // rows)) as down:
            y = T.Bind(T.min(down * rows, self.height - rows)) if self.height % rows else down * rows
            with loop(-(-self.width // columns)) as across:
                x = T.Bind(T.min(across * columns, self.width - columns)) if self.width % columns else across * columns
                yield y, x

    def transpose(self, vectors: Sequence[Value]) -> list[Value]:
        """Rows of the squares as their columns."""
        return transposed(vectors, self.patch.unit) if self.codes else exchanged(vectors)

    def to_planes(self, source: Plane, first_lane: int, planes: Sequence[Plane]) -> None:
        """Reads ``unit`` lanes of channel blocks from ``first_lane`` on into the planes of as many channels as there are planes.

        Where rows are short, what is stored runs over the end of a row, into the next one, which is written later, and from the
        last row into the halo below where there is enough: the halo is to be written afterwards.
        """
        patch, block = self.patch, source.layout.channel_block
        unit = patch.unit
        room = planes[0].layout.room_behind(planes[0].shape)
        spills = room >= patch.columns - self.width
        with self.patches() as (y, x):
            start = T.Bind(source.at(y, x) + first_lane)
            vectors = []
            for index in range(unit):
                places = [patch.place(lane, index) for lane in range(patch.lanes)]
                offsets = [row * source.layout.pitch(self.width) + min(column, self.width - 1) for row, column in places]
                vectors.append(joined([load(source.buffer, start + offset * block, unit) for offset in offsets]))
            pitch = planes[0].layout.pitch(self.width)
            for plane, vector in zip(planes, self.transpose(vectors), strict=False):
                values, to = T.Bind(self.convert(vector, lanes_of(vector))), T.Bind(plane.at(y, x))
                for row, at in patch.runs():
                    if spills or patch.run <= self.width:
                        store(plane.buffer, to + row * pitch, part_of(values, at, patch.run), patch.run)
                    else:
                        self._store_exactly(plane, to + row * pitch, values, at)

    def _store_exactly(self, plane: Plane, to: Value, values: Value, at: int) -> None:
        """A row of a plane that must not be written beyond: one store, or two that overlap."""
        size = 1 << (self.width.bit_length() - 1)
        for done in dict.fromkeys((0, self.width - size)):
            store(plane.buffer, to + done, T.Bind(T.Shuffle([values], list(range(at + done, at + done + size)))), size)

    def to_block(self, planes: Sequence[Plane], padding: Value, into: Plane, first_lane: int) -> None:
        """Writes ``unit`` lanes of channel blocks from ``first_lane`` on; missing channels are vectors of ``padding``.

        Where rows are short, what is read runs over the end of a row: of the last one up to 15 elements behind the plane.
        """
        patch, block = self.patch, into.layout.channel_block
        with self.patches() as (y, x):
            channels = []
            for plane in planes:
                start, pitch = T.Bind(plane.at(y, x)), plane.layout.pitch(self.width)
                parts = [load(plane.buffer, start + row * pitch, patch.run) for row, _ in patch.runs()]
                vector = joined(parts)
                channels.append(T.Bind(self.convert(vector, lanes_of(vector))))
            total = patch.lanes * patch.unit
            channels += [T.Bind(T.broadcast(padding, total))] * (patch.unit - len(channels))
            to, pitch = T.Bind(into.at(y, x) + first_lane), into.layout.pitch(self.width)
            for index, vector in enumerate(self.transpose(channels)):
                for lane in range(patch.lanes):
                    row, column = patch.place(lane, index)
                    if column < self.width:
                        some = part_of(vector, lane * patch.unit, patch.unit)
                        store(into.buffer, to + (row * pitch + column) * block, some, patch.unit)
