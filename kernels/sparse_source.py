"""Where a sparse convolution finds its taps: in its input's planar rows, in a packed copy of a tile's window, or in phases.

*Packed*: a block of tiles visits every channel many times in an order that no prefetcher guesses. A copy of what it needs, one
channel's window behind the other, takes few pages and whole cache lines.

*Phased*: with a stride of two the taps of neighbouring outputs are not neighbours. So the input is first parted into phases,
``phase[r][i] = input[2 * i + r]`` in both directions, in which they are: then a strided convolution is one without strides whose
taps lie in several planes. That costs one pass over the input, which every group of filters shares.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from tapdot.kernels.emit import Value, load, loop, store, when
from tapdot.kernels.layout import Halo, Layout, round_up
from tapdot.kernels.planar_tiles import PlanarTiles
from tapdot.kernels.tvm_adapter import Buffer, T
from tapdot.kernels.workload import Workload

STRIDES = (1, 2)
"""Strides that are served."""


def reached_halo(workload: Workload) -> Halo:
    """The border of the input that is read: what the pads ask for and the last window reaches."""
    (top, left, _, _), kernel, strides = workload["pads"], workload["kernel_shape"], workload["strides"]
    rows, columns = workload.inputs[0].shape[2:]  # type: ignore[union-attr]
    height, width = workload.output.shape[2:]
    bottom = (height - 1) * strides[0] + kernel[0] - top - rows
    right = (width - 1) * strides[1] + kernel[1] - left - columns
    return Halo(max(top, 0), max(left, 0), max(bottom, 0), max(right, 0))


@dataclass(frozen=True)
class Axis:
    """The taps of one axis; ``begin`` is its first pad."""

    kernel: int
    stride: int
    begin: int
    outputs: int

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """(phase, position in the phase of output 0) of every tap, from the first input of phase 0 on."""
        return tuple(((tap - self.begin) % self.stride, (tap - self.begin) // self.stride) for tap in range(self.kernel))

    @cached_property
    def phases(self) -> tuple[int, ...]:
        """Phases that have taps."""
        return tuple(sorted({phase for phase, _ in self.places}))

    def first(self, phase: int) -> int:
        """The lowest position in a phase that is read."""
        return min(place for own, place in self.places if own == phase)

    def input(self, phase: int, position: Value) -> Value:
        """The input at a position of what is kept of a phase."""
        return (position + self.first(phase)) * self.stride + phase

    def kept(self, phase: int) -> int:
        """Positions of a phase that are read."""
        return self.outputs + max(place for own, place in self.places if own == phase) - self.first(phase)

    @property
    def most(self) -> int:
        """Positions of the phase of which most are read."""
        return max(self.kept(phase) for phase in self.phases)


@dataclass(frozen=True)
class Source(ABC):
    """The taps of a workload of ``SparseConv``, in elements of one float buffer."""

    workload: Workload
    lanes: int

    @property
    def layout(self) -> Layout:
        """Of the input."""
        return self.workload.inputs[0].layout or Layout()  # type: ignore[union-attr]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input."""
        return self.workload.inputs[0].shape  # type: ignore[union-attr]

    @cached_property
    def axes(self) -> tuple[Axis, Axis]:
        """Rows and columns."""
        kernel, strides, pads = self.workload["kernel_shape"], self.workload["strides"], self.workload["pads"]
        outputs = self.workload.output.shape[2:]
        rows, columns = (Axis(kernel[axis], strides[axis], pads[axis], outputs[axis]) for axis in (0, 1))
        return rows, columns

    @property
    @abstractmethod
    def pitch(self) -> int:
        """Elements from a row to the next."""

    @property
    @abstractmethod
    def plane(self) -> int:
        """Elements from one channel to the next."""

    @cached_property
    def tap_offsets(self) -> tuple[int, ...]:
        """Of every tap, row by row, from a tile's origin on."""
        rows, columns = self.axes
        return tuple(row * self.pitch + column for (_, row), (_, column) in product(rows.places, columns.places))

    @property
    def scratch(self) -> int:
        """Elements of the copy that is read in place of the input; 0 where there is none."""
        return 0

    @abstractmethod
    def origin(self, n: Value, line: Value, position: Value) -> Value:
        """Where the output at a position of a line of image ``n``, the first of a block, looks for a tap whose offset is 0."""


@dataclass(frozen=True)
class DirectSource(Source):
    """The input itself."""

    @property
    def pitch(self) -> int:
        return self.layout.pitch(self.shape[3])

    @property
    def plane(self) -> int:
        return self.layout.plane(*self.shape[2:])

    def origin(self, n: Value, line: Value, position: Value) -> Value:
        return self.layout.offset(self.shape, n, 0, line, position)


@dataclass(frozen=True)
class PackedSource(Source):
    """A copy of the window of one block of tiles."""

    tiles: PlanarTiles

    @property
    def _whole(self) -> bool:
        """Whether the rows of a window overlap, so that it is copied as one run; else every row of taps is a run."""
        return self.tiles.linear and self.tiles.block_span >= self.tiles.pitch

    @cached_property
    def pitch(self) -> int:
        return self.tiles.pitch if self._whole else round_up(self._runs[1], self.lanes)

    @cached_property
    def _runs(self) -> tuple[int, int]:
        """Runs that are copied of a channel, and elements of each."""
        rows, columns = (axis.kernel for axis in self.axes)
        if self._whole:
            return 1, self.tiles.block_span + (rows - 1) * self.tiles.pitch + columns - 1
        return self.tiles.rows + rows - 1, self.tiles.block_span + columns - 1

    @property
    def plane(self) -> int:
        runs, length = self._runs
        return round_up((runs - 1) * self.pitch + round_up(length, self.lanes), self.lanes)

    @property
    def scratch(self) -> int:
        return self.plane * self.shape[1]

    def origin(self, n: Value, line: Value, position: Value) -> Value:
        return -min(self.tap_offsets)

    @property
    def vectors(self) -> int:
        """Vectors that are copied of a channel."""
        runs, length = self._runs
        return runs * -(-length // self.lanes)

    def emit_window(self, x: Buffer, scratch: Buffer, n: Value, line: Value, position: Value) -> None:
        """Copies the window of the block that starts there."""
        (top, left), (runs, length), lanes = self.workload["pads"][:2], self._runs, self.lanes
        pieces = -(-length // lanes)
        plane, pitch = self.layout.plane(*self.shape[2:]), self.layout.pitch(self.shape[3])
        first = T.Bind(self.layout.offset(self.shape, n, 0, line, position) - top * pitch - left)
        with loop(self.shape[1]) as channel:
            source, into = T.Bind(first + channel * plane), T.Bind(channel * self.plane)
            with loop(runs) as run:
                for piece in range(pieces):
                    at = max(0, min(piece * lanes, length - lanes))
                    store(scratch, into + run * self.pitch + at, load(x, source + run * pitch + at, lanes), lanes)


@dataclass(frozen=True)
class PhasedSource(Source):
    """The phases of one image."""

    @cached_property
    def pitch(self) -> int:
        """As wide as the output's where that is enough."""
        output = (self.workload.output.layout or Layout()).pitch(self.workload.output.shape[3])
        return max(output, self.axes[1].most)

    @property
    def phase_plane(self) -> int:
        """Elements of one phase of one channel."""
        return round_up(self.axes[0].most * self.pitch + self.lanes, self.lanes)

    @property
    def plane(self) -> int:
        return len(self.axes[0].phases) * len(self.axes[1].phases) * self.phase_plane

    @property
    def scratch(self) -> int:
        return self.plane * self.shape[1]

    @cached_property
    def tap_offsets(self) -> tuple[int, ...]:
        rows, columns = self.axes
        found = []
        for (row_phase, row), (column_phase, column) in product(rows.places, columns.places):
            phase = rows.phases.index(row_phase) * len(columns.phases) + columns.phases.index(column_phase)
            inside = (row - rows.first(row_phase)) * self.pitch + column - columns.first(column_phase)
            found.append(phase * self.phase_plane + inside)
        return tuple(found)

    def origin(self, n: Value, line: Value, position: Value) -> Value:
        return line * self.pitch + position

    def emit_phases(self, x: Buffer, scratch: Buffer, n: Value, parallel: bool) -> None:
        """Parts image ``n`` into its phases."""
        rows, columns = self.axes
        height, width = rows.most, columns.most
        lanes = self.lanes
        while lanes > width:
            lanes //= 2
        firsts = {phase: columns.input(phase, 0) for phase in columns.phases}
        start = min(firsts.values())
        with loop(self.shape[1] * height, parallel=parallel) as task:
            channel, y = task // height, task % height
            for row_number, row_phase in enumerate(rows.phases):
                with when(y < rows.kept(row_phase), rows.kept(row_phase) < height):
                    source = T.Bind(self.layout.offset(self.shape, n, channel, rows.input(row_phase, y), start))
                    into = T.Bind(channel * self.plane + row_number * len(columns.phases) * self.phase_plane + y * self.pitch)
                    pieces = -(-width // lanes)
                    with loop(pieces) as piece:
                        at = T.Bind(T.min(piece * lanes, width - lanes)) if pieces > 1 else 0
                        run = [load(x, source + at * columns.stride + part * lanes, lanes) for part in range(columns.stride)]
                        for number, phase in enumerate(columns.phases):
                            value = self._every(run, firsts[phase] - start, columns.stride, lanes)
                            store(scratch, into + number * self.phase_plane + at, value, lanes)

    @staticmethod
    def _every(run: Sequence[Value], first: int, stride: int, lanes: int) -> Value:
        """Every ``stride``-th element of consecutive vectors."""
        if stride == 1:
            return run[0]
        if lanes == 1:
            return run[first]
        return T.Shuffle(list(run), [first + stride * lane for lane in range(lanes)])
