"""FKW kernels taken apart into units, the steps of a sparse kernel's innermost loop, and their exact inverse.

A unit is a few weights of a share group that are multiplied with a few loads. Its *kind* says, when the code is built, how many
offsets are stored for it and at which distances from them its taps lie; so the code never asks which pattern a kernel has:

============= ======= ============================================================================================
kind          offsets meaning
============= ======= ============================================================================================
``FREE``      4       the four taps of a kernel, anywhere
a column      1       the taps of a kernel in one column, at distances of whole rows: a tile of several rows loads
                      every input row once and uses it for each tap that needs it (PatDNN's load-redundancy
                      elimination, section 5.4, for any pattern)
a quad        1       the four channels of a quad, one plane from the next
============= ======= ============================================================================================

Inside a group, units lie kind after kind, each in the order of the group's kernels. What is stored is a table ``[groups, kinds]``
of (units, first offset, first tap), the offsets as int32 elements from the tile's origin, and the weights ``[taps, share]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tapdot.kernels.fkw import FKW
from tapdot.kernels.patterns import ALL_PATTERNS, KEPT

TABLE_FIELDS = 3
"""Numbers in an entry of the table: units, first offset, first tap."""


@dataclass(frozen=True)
class Kind:
    """``taps``: (which of the unit's offsets, distance from it in elements) of every tap."""

    taps: tuple[tuple[int, int], ...]

    @property
    def offsets(self) -> int:
        """Offsets stored for a unit."""
        return 1 + max(slot for slot, _ in self.taps)


FREE = Kind(tuple((tap, 0) for tap in range(KEPT)))


@dataclass(frozen=True)
class Piece:
    """Part of a pattern that makes one unit: the kind's number and which of the pattern's four taps it takes, in order."""

    kind: int
    taps: tuple[int, ...]


Columns = Mapping[tuple[int, ...], tuple[tuple[int, tuple[int, ...]], ...]]
"""For the rows of a column that hold taps: the kinds it becomes, each with the rows it takes."""


@dataclass(frozen=True)
class UnitScheme:
    """How patterns come apart.

    ``tap_offsets``: where every tap of a unit of FKW lies, in elements from the tile's origin in the first channel: nine taps of
    a kernel, or the four channels of a quad. ``unit_stride``: elements from one input channel (or quad) to the next.
    ``columns``: for every set of rows that a column may hold, the kinds it becomes; empty where kernels stay whole. ``highest``:
    the offset of the last channel, which stands for those that a last quad lacks: their weights are zero.
    """

    kinds: tuple[Kind, ...]
    tap_offsets: tuple[int, ...]
    unit_stride: int
    columns: Columns
    highest: int | None = None

    @property
    def offsets_per_kernel(self) -> int:
        """As many offsets as a kernel needs at most."""
        if not self.columns:
            return self.kinds[0].offsets
        return max(len(self.pieces(pattern)) for pattern in ALL_PATTERNS)

    def pieces(self, pattern: Sequence[int]) -> tuple[Piece, ...]:
        """The units of one kernel."""
        if not self.columns:
            return (Piece(0, tuple(range(KEPT))),)
        found = []
        for column in range(3):
            slots = {int(tap) // 3: place for place, tap in enumerate(pattern) if int(tap) % 3 == column}
            if slots:
                for kind, rows in self.columns[tuple(sorted(slots))]:
                    found.append(Piece(kind, tuple(slots[row] for row in rows)))
        return tuple(found)


def whole_kernels(tap_offsets: Sequence[int], unit_stride: int) -> UnitScheme:
    """Four offsets a kernel."""
    return UnitScheme((FREE,), tuple(tap_offsets), unit_stride, {})


def whole_quads(channels: int, plane: int, first: int) -> UnitScheme:
    """One offset a quad, whose channels lie ``plane`` elements apart; four offsets where the last quad is not full.

    ``first`` is where the first channel lies, from the tile's origin on.
    """
    if channels % KEPT:
        taps = tuple(first + tap * plane for tap in range(KEPT))
        return UnitScheme((FREE,), taps, KEPT * plane, {}, first + (channels - 1) * plane)
    return UnitScheme((Kind(tuple((0, tap * plane) for tap in range(KEPT))),), (first,) * KEPT, KEPT * plane, {})


def columns_of_rows(tap_offsets: Sequence[int], unit_stride: int, stride: int, pitch: int) -> UnitScheme:
    """Columns of taps; ``pitch`` elements lie between rows of one phase of the input, ``stride`` is that of the rows."""
    single, pair = Kind(((0, 0),)), Kind(((0, 0), (0, pitch)))
    alone: Columns = {(row,): ((0, (row,)),) for row in range(3)}
    if stride == 1:
        gap, triple = Kind(((0, 0), (0, 2 * pitch))), Kind(((0, 0), (0, pitch), (0, 2 * pitch)))
        together: Columns = {(0, 1): ((1, (0, 1)),), (1, 2): ((1, (1, 2)),), (0, 2): ((2, (0, 2)),), (0, 1, 2): ((3, (0, 1, 2)),)}
        return UnitScheme((single, pair, gap, triple), tuple(tap_offsets), unit_stride, {**alone, **together})
    parted: Columns = {
        (0, 1): ((0, (0,)), (0, (1,))),
        (1, 2): ((0, (1,)), (0, (2,))),
        (0, 2): ((1, (0, 2)),),
        (0, 1, 2): ((0, (1,)), (1, (0, 2))),
    }
    return UnitScheme((single, pair), tuple(tap_offsets), unit_stride, {**alone, **parted})


@dataclass(frozen=True)
class UnitLayout:
    """Where every part of every kernel stands in the packed arrays; a function of ``stride`` and ``patterns`` alone.

    ``stride``: FKW's, ``[F, K + 1]``; ``patterns``: ``[K, 4]``.
    """

    scheme: UnitScheme
    stride: NDArray[np.integer]
    patterns: NDArray[np.uint8]

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        stride = np.asarray(self.stride, np.int64)
        return stride[:, 1:] - stride[:, :-1]

    @cached_property
    def group_ids(self) -> NDArray[np.int64]:
        """``[nk]``: the visited place of every kernel's group."""
        return np.repeat(np.arange(len(self.stride)), self._counts.sum(axis=1))

    @cached_property
    def pattern_ids(self) -> NDArray[np.int64]:
        """``[nk]``"""
        counts = self._counts.reshape(-1)
        return np.repeat(np.tile(np.arange(len(self.patterns)), len(self.stride)), counts)

    @cached_property
    def parts(self) -> list[tuple[Piece, tuple[int, ...], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """For every piece of every pattern: the piece, the taps (numbers in the kernel) of its offsets, the kernels that have it,
        and for each of them its first offset and its first tap."""
        found = []
        for number, pattern in enumerate(self.patterns):
            kernels = np.flatnonzero(self.pattern_ids == number)
            for piece in self.scheme.pieces(pattern):
                slots = [slot for slot, _ in self.scheme.kinds[piece.kind].taps]
                taps = tuple(int(pattern[piece.taps[slots.index(slot)]]) for slot in range(self.scheme.kinds[piece.kind].offsets))
                found.append((piece, taps, kernels))
        return [
            (piece, taps, kernels, *starts) for (piece, taps, kernels), starts in zip(found, self._starts(found), strict=True)
        ]

    def _starts(self, parts: list[tuple[Piece, tuple[int, ...], NDArray[np.int64]]]) -> list[tuple[NDArray, NDArray]]:
        kernels = np.concatenate([kernels for _, _, kernels in parts])
        kinds = np.concatenate([np.full(len(kernels), piece.kind) for piece, _, kernels in parts])
        order = np.lexsort((np.arange(len(kernels)), kernels, kinds, self.group_ids[kernels]))
        found = []
        for sizes in (self._offset_sizes[kinds], self._tap_sizes[kinds]):
            ends = np.cumsum(sizes[order])
            starts = np.empty(len(kernels), np.int64)
            starts[order] = ends - sizes[order]
            found.append(np.split(starts, np.cumsum([len(kernels) for _, _, kernels in parts])[:-1]))
        return list(zip(*found, strict=True))

    @cached_property
    def _offset_sizes(self) -> NDArray[np.int64]:
        return np.array([kind.offsets for kind in self.scheme.kinds])

    @cached_property
    def _tap_sizes(self) -> NDArray[np.int64]:
        return np.array([len(kind.taps) for kind in self.scheme.kinds])

    @cached_property
    def table(self) -> NDArray[np.int32]:
        """``[F, kinds, 3]``: units, first offset, first tap."""
        counts = np.zeros((len(self.stride), len(self.scheme.kinds)), np.int64)
        for piece, _, kernels, _, _ in self.parts:
            np.add.at(counts[:, piece.kind], self.group_ids[kernels], 1)
        columns = [counts]
        for sizes in (self._offset_sizes, self._tap_sizes):
            flat = (counts * sizes).reshape(-1)
            columns.append((np.cumsum(flat) - flat).reshape(counts.shape))
        return np.stack(columns, axis=-1).astype(np.int32)

    def pack(self, stored: FKW) -> tuple[NDArray[np.int32], NDArray]:
        """(offsets, weights); there is room for as many offsets as the kernels could need with any patterns."""
        offsets = np.zeros(stored.kernels * self.scheme.offsets_per_kernel, np.int32)
        weights = np.zeros((stored.kernels * KEPT, stored.share), stored.weight.dtype)
        units = stored.index.astype(np.int64) * self.scheme.unit_stride
        for piece, taps, kernels, first_offset, first_tap in self.parts:
            for slot, tap in enumerate(taps):
                offsets[first_offset + slot] = units[kernels] + self.scheme.tap_offsets[tap]
            for place, tap in enumerate(piece.taps):
                weights[first_tap + place] = stored.weight[kernels, :, tap]
        if self.scheme.highest is not None:
            offsets = np.minimum(offsets, self.scheme.highest)
        return offsets, weights.reshape(-1)

    def unpack(self, offsets: NDArray[np.int32], weights: NDArray, share: int) -> tuple[NDArray[np.int64], NDArray]:
        """(index ``[nk]``, weight ``[nk, share, 4]``)."""
        by_tap = weights.reshape(-1, share)
        index = np.empty(len(self.group_ids), np.int64)
        weight = np.empty((len(self.group_ids), share, KEPT), weights.dtype)
        for piece, taps, kernels, first_offset, first_tap in self.parts:
            index[kernels] = (
                offsets[first_offset].astype(np.int64) - self.scheme.tap_offsets[taps[0]]
            ) // self.scheme.unit_stride
            for place, tap in enumerate(piece.taps):
                weight[kernels, :, tap] = by_tap[first_tap + place]
        return index, weight


def not_empty(array: np.ndarray) -> np.ndarray:
    """The array, or one zero: arguments of a kernel have elements."""
    return array if array.size else np.zeros(1, array.dtype)


def group_cuts(stored: FKW, parts: int) -> np.ndarray:
    """``[parts + 1]``: the groups in visiting order cut so that each part has about as much work as the others."""
    work = np.concatenate([[0], np.cumsum(np.diff(stored.offset.astype(np.int64)) + 1)])
    cuts = np.searchsorted(work, work[-1] * np.arange(parts + 1) / parts)
    return cuts.astype(np.int32)
