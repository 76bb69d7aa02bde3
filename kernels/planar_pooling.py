"""Pools over windows in planar rows: vectors of neighbouring windows of one row of one channel.

The rows of a window are merged first, in vectors as wide as the windows' inputs; then the columns, which a stride sets apart:
every ``stride``-th element of a wide vector is one column of all its windows. What lies beyond the plane is never looked at:
lanes whose window reaches there hold what changes no result, and only vectors at both ends of a row have such lanes.

The last vector of a row overlaps the one before it. Where a row is shorter than a vector, what is stored runs over its end and is
overwritten by the next row, or by the halo; what is read may run over the end of the buffer, by :attr:`Runs.reach` elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from tapdot.kernels.emit import Registers, Value, load, loop, store
from tapdot.kernels.layout import READ_SLACK
from tapdot.kernels.planar_blocks import Plane
from tapdot.kernels.tvm_adapter import T
from tapdot.kernels.window_axis import Axis


@dataclass(frozen=True)
class Wide:
    """A wide vector of inputs and the windows' columns in it.

    ``start``: its first column, counted from that of the first window's first tap, or from the row's start where ``fixed``.
    """

    start: int
    picks: tuple[tuple[tuple[int, ...], int], ...]
    """For every tap: the element of each window, -1 for none; and the tap."""


@dataclass(frozen=True)
class Runs:
    """How the windows of a row are cut into vectors of ``lanes``."""

    columns: Axis
    lanes: int

    @classmethod
    def of(cls, columns: Axis, item: int, vector_bytes: int, room: int) -> Runs:
        """The longest vectors that neither read nor write too much; ``room``: elements behind the last row of the result."""
        most = max(1, vector_bytes // item * 2 // max(2, columns.stride))
        lanes = 1
        while lanes < min(most, columns.outputs):
            lanes *= 2
        runs = cls(columns, lanes)
        fits = lanes - columns.outputs <= room and runs.reach * item <= READ_SLACK
        return runs if fits else cls(columns, lanes // 2)

    @property
    def width(self) -> int:
        """Elements of a wide vector."""
        return self.lanes * self.columns.stride

    @property
    def reach(self) -> int:
        """Elements that are read behind the end of a row, beyond which there may be nothing."""
        return max(0, self.width - self.columns.inputs)

    @property
    def stored(self) -> int:
        """Windows that are stored, more than there are where rows are short."""
        return self.lanes

    @cached_property
    def starts(self) -> list[int]:
        """The first window of every vector."""
        last = max(0, self.columns.outputs - self.lanes)
        return [min(start, last) for start in range(0, self.columns.outputs, self.lanes)]

    def whole(self, start: int) -> bool:
        """Whether a vector's windows, and the wide vectors that hold them, lie inside the row."""
        axis = self.columns
        first = start * axis.stride - axis.begin
        groups = (axis.kernel - 1) * axis.dilation // axis.stride
        return first >= 0 and first + groups * axis.stride + self.width <= axis.inputs

    def inner(self) -> tuple[int, int]:
        """Numbers (first, stop) of the vectors that lie inside the row and start at a multiple of ``lanes``."""
        numbers = [n for n, start in enumerate(self.starts) if self.whole(start) and start == n * self.lanes]
        return (numbers[0], numbers[-1] + 1) if numbers else (0, 0)

    def wide(self, start: int | None) -> list[Wide]:
        """The wide vectors of the windows from ``start`` on; None: of windows inside the row."""
        axis = self.columns
        found: dict[int, list[tuple[tuple[int, ...], int]]] = {}
        for tap in range(axis.kernel):
            group, part = divmod(tap * axis.dilation, axis.stride)
            if start is None:
                picks = tuple(axis.stride * lane + part for lane in range(self.lanes))
                found.setdefault(group * axis.stride, []).append((picks, tap))
                continue
            first = (start + group) * axis.stride - axis.begin
            base = min(max(first, 0), max(0, axis.inputs - self.width))
            places = [first + axis.stride * lane + part for lane in range(self.lanes)]
            picks = tuple(place - base if 0 <= place < axis.inputs else -1 for place in places)
            if any(pick >= 0 for pick in picks):
                found.setdefault(base, []).append((picks, tap))
        return [Wide(base, tuple(picks)) for base, picks in found.items()]


class PlanarWindows:
    """Emits the windows of one plane. A subclass says how values are merged and finished."""

    rows: Axis
    columns: Axis

    def neutral(self, lanes: int) -> Value:
        """A vector that changes no result."""
        raise NotImplementedError

    def merge(self, a: Value, b: Value) -> Value:
        """Two vectors as one."""
        raise NotImplementedError

    def finish(self, value: Value, y: Value, start: int | None) -> Value:
        """What is stored of merged windows in row ``y`` from column ``start`` on (None: whole windows)."""
        raise NotImplementedError

    @contextmanager
    def tap_rows(self, y: Value) -> Iterator[Value]:
        """The loop over the rows of the windows in row ``y`` that fall on the input."""
        if not self.rows.clipped:
            with loop(self.rows.kernel) as tap_row:
                yield tap_row
            return
        first, stop = self.rows.taps(y)
        with T.serial(first, stop) as tap_row:
            yield tap_row

    def emit_plane(self, source: Plane, into: Plane, runs: Runs) -> None:
        """All windows of a plane, row by row; the halo of the result is to be written afterwards."""
        first, stop = runs.inner()
        with loop(self.rows.outputs) as y:
            for number in range(first):
                self._run(source, into, runs, y, runs.starts[number], runs.starts[number])
            if stop > first:
                with loop(stop - first) as index:
                    self._run(source, into, runs, y, (first + index) * runs.lanes, None)
            for number in range(stop, len(runs.starts)):
                self._run(source, into, runs, y, runs.starts[number], runs.starts[number])

    def _run(self, source: Plane, into: Plane, runs: Runs, y: Value, x: Value, start: int | None) -> None:
        """The windows of one vector from column ``x`` on; ``start`` is ``x`` where some lanes may reach beyond the row."""
        dtype = source.buffer.dtype
        wide = runs.wide(start)
        merged = Registers(len(wide), runs.width, dtype)
        for index in range(len(wide)):
            merged[index] = self.neutral(runs.width)
        with self.tap_rows(y) as tap_row:
            row = y * self.rows.stride - self.rows.begin + tap_row * self.rows.dilation
            place = T.Bind(source.at(row, x * self.columns.stride - self.columns.begin if start is None else 0))
            for index, vector in enumerate(wide):
                merged[index] = self.merge(merged[index], load(source.buffer, place + vector.start, runs.width))
        value: Value = None
        for index, vector in enumerate(wide):
            held = T.Bind(merged[index])
            for picks, _ in vector.picks:
                column = self._picked(held, picks, runs)
                value = column if value is None else T.Bind(self.merge(value, column))
        store(into.buffer, into.at(y, x), self.finish(value, y, start), runs.lanes)

    def _picked(self, held: Value, picks: tuple[int, ...], runs: Runs) -> Value:
        """One column of every window out of a wide vector."""
        if picks == tuple(range(runs.width)):
            return held
        if -1 not in picks:
            return T.Bind(T.Shuffle([held], list(picks)))
        return T.Bind(T.Shuffle([held, self.neutral(runs.width)], [runs.width if pick < 0 else pick for pick in picks]))
