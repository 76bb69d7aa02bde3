"""FKW, filter-kernel-weight: how pruned weights are stored (PatDNN, ASPLOS 2020, section 5.3), with its exact inverse.

The paper's arrays by the paper's names. Where ``share`` filters agree on positions and patterns, "filter" reads "share group".
A dense weight of shape ``[O, I, 3, 3]`` is made of kernels of nine taps of which a pattern keeps four; a 1x1 or fully connected
weight of shape ``[O, I]`` is made of quads of four consecutive inputs, and ``index`` counts quads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from tapdot.kernels.patterns import KEPT, QUAD, TAPS


def smallest_index(largest: int) -> np.dtype:
    """The smallest unsigned type that holds numbers up to ``largest``."""
    return np.min_scalar_type(max(largest, 0))


@dataclass(frozen=True)
class Structure:
    """What is kept of a weight: the pattern (row of ``patterns``) of every kernel of every share group, -1 where it is pruned.

    ``kept``: int ``[O / share, units]`` with units the input channels (3x3) or input quads; ``patterns``: ``[K, 4]``.
    """

    kept: NDArray[np.integer]
    patterns: NDArray[np.uint8]
    share: int = 1

    @property
    def by_quads(self) -> bool:
        """Whether the units are quads of inputs and not kernels of 3x3."""
        return np.array_equal(self.patterns, QUAD)

    @property
    def counts(self) -> NDArray[np.int64]:
        """``[O / share]``: kernels left in every group."""
        return (np.asarray(self.kept) >= 0).sum(axis=1)

    def mask(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which weights of a dense array of that shape are kept."""
        kept = np.asarray(self.kept)
        if self.by_quads:
            per_input = np.repeat(kept >= 0, KEPT, axis=1)[:, : int(np.prod(shape[1:]))]
            return np.repeat(per_input, self.share, axis=0).reshape(shape)
        of_pattern = np.zeros((len(self.patterns) + 1, TAPS), np.bool_)
        np.put_along_axis(of_pattern[:-1], self.patterns.astype(np.int64), True, axis=1)
        return np.repeat(of_pattern[kept], self.share, axis=0).reshape(shape)


@dataclass(frozen=True)
class FKW:
    """Pruned weights of one layer.

    =============== ================== ========================================================================================
    array           shape              meaning
    =============== ================== ========================================================================================
    ``reorder``     ``[F]``            the original number of the group that is visited f-th; its filters are
                                       ``share * reorder[f]`` and the ``share - 1`` after it
    ``offset``      ``[F + 1]``        where the kernels of the f-th visited group begin
    ``index``       ``[nk]``           input channel (or input quad) of every kernel, in the order of visits
    ``stride``      ``[F, K + 1]``     where, inside a group, the kernels of each pattern begin
    ``weight``      ``[nk, share, 4]`` the kept weights, taps ascending
    ``patterns``    ``[K, 4]``         the pattern table
    =============== ================== ========================================================================================
    """

    reorder: NDArray[np.integer]
    offset: NDArray[np.integer]
    index: NDArray[np.integer]
    stride: NDArray[np.integer]
    weight: NDArray
    patterns: NDArray[np.uint8]

    @property
    def groups(self) -> int:
        """Share groups of filters, F."""
        return len(self.reorder)

    @property
    def share(self) -> int:
        """Filters of a group."""
        return self.weight.shape[1]

    @property
    def kernels(self) -> int:
        """Kernels (or quads) stored, each ``share`` times four weights."""
        return len(self.index)

    @property
    def filters(self) -> int:
        """Output channels."""
        return self.groups * self.share

    @property
    def by_quads(self) -> bool:
        """Whether the units are quads of inputs and not kernels of 3x3."""
        return np.array_equal(self.patterns, QUAD)

    @property
    def pattern_ids(self) -> NDArray[np.uint8]:
        """``[nk]``: the pattern of every kernel, as ``stride`` says it."""
        starts = self.stride.astype(np.int64)
        counts = (starts[:, 1:] - starts[:, :-1]).reshape(-1)
        return np.repeat(np.tile(np.arange(len(self.patterns), dtype=np.uint8), self.groups), counts)

    @property
    def group_ids(self) -> NDArray[np.int64]:
        """``[nk]``: the place in visiting order of every kernel's group."""
        starts = self.offset.astype(np.int64)
        return np.repeat(np.arange(self.groups), starts[1:] - starts[:-1])

    @classmethod
    def compress(cls, dense: NDArray, structure: Structure, order: NDArray[np.integer] | None = None) -> FKW:
        """The arrays of a dense weight ``[O, I, 3, 3]``, ``[O, I, 1, 1]`` or ``[O, I]``.

        ``order`` is the visiting order of the groups (:attr:`reorder`), by default as they stand. Inside a group the kernels are
        sorted by pattern, then by input. Raises ValueError where a weight that is not zero falls outside the structure.
        """
        kept, share, patterns = np.asarray(structure.kept), structure.share, structure.patterns
        groups, units = kept.shape
        refusal = ValueError(f"Expected a weight of {groups * share} filters that is zero wherever its structure prunes it.")
        if dense.shape[0] != groups * share:
            raise refusal
        order = np.arange(groups) if order is None else np.asarray(order)
        kernels = _kernels(dense, structure.by_quads)  # [O, units, taps]
        visited = kept[order]
        place, unit = np.nonzero(visited >= 0)
        pattern = visited[place, unit]
        sequence = np.lexsort((unit, pattern, place))
        place, unit, pattern = place[sequence], unit[sequence], pattern[sequence]
        filters = order[place, None] * share + np.arange(share)  # [nk, share]
        taps = patterns.astype(np.int64)[pattern]  # [nk, 4]
        weight = kernels[filters[:, :, None], unit[:, None, None], taps[:, None, :]]
        if np.count_nonzero(weight) != np.count_nonzero(dense):
            raise refusal
        per_pattern = np.zeros((groups, len(patterns) + 1), np.int64)
        np.add.at(per_pattern, (place, pattern + 1), 1)
        stride = np.cumsum(per_pattern, axis=1)
        offset = np.concatenate([[0], np.cumsum(stride[:, -1])])
        return cls(
            order.astype(smallest_index(groups - 1)),
            offset.astype(smallest_index(int(offset[-1]))),
            unit.astype(smallest_index(units - 1)),
            stride.astype(smallest_index(int(stride.max(initial=0)))),
            np.ascontiguousarray(weight.reshape(-1, share, KEPT)),
            patterns,
        )

    def dense(self, shape: tuple[int, ...]) -> NDArray:
        """The dense weight of that shape, exactly."""
        units = -(-int(np.prod(shape[1:])) // (KEPT if self.by_quads else TAPS))
        kernels = np.zeros((shape[0], units, KEPT if self.by_quads else TAPS), self.weight.dtype)
        filters = self.reorder.astype(np.int64)[self.group_ids, None] * self.share + np.arange(self.share)
        taps = self.patterns.astype(np.int64)[self.pattern_ids]
        kernels[filters[:, :, None], self.index.astype(np.int64)[:, None, None], taps[:, None, :]] = self.weight
        flat = kernels.reshape(shape[0], -1)[:, : int(np.prod(shape[1:]))]
        return np.ascontiguousarray(flat).reshape(shape)

    def structure(self, units: int) -> Structure:
        """What is kept, of a weight with that many input channels (or quads)."""
        kept = np.full((self.groups, units), -1, np.int64)
        kept[self.reorder.astype(np.int64)[self.group_ids], self.index.astype(np.int64)] = self.pattern_ids
        return Structure(kept, self.patterns, self.share)

    # -- storage ------------------------------------------------------------------------------------------------------------

    @property
    def arrays(self) -> Mapping[str, NDArray]:
        """The arrays by name, in the order of the class."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def extra_bytes(self) -> int:
        """Bytes of everything but the weights."""
        return sum(array.nbytes for name, array in self.arrays.items() if name != "weight")

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        return self.extra_bytes + self.weight.nbytes


def csr_extra_bytes(kept_weights: int, rows: int, index_bytes: int) -> int:
    """Bytes of row pointers and column indices of the same weights in compressed sparse rows, one column index a weight.

    Row pointers are 32 bits wide: with 16-bit ones no layer beyond 65,535 weights could be stored.
    """
    return kept_weights * index_bytes + (rows + 1) * 4


def _kernels(dense: NDArray, by_quads: bool) -> NDArray:
    """``[O, units, taps]``; a last quad that is not full is filled with zeros."""
    if not by_quads:
        return dense.reshape(*dense.shape[:2], TAPS)
    flat = dense.reshape(len(dense), -1)
    missing = -flat.shape[1] % KEPT
    return np.pad(flat, ((0, 0), (0, missing))).reshape(len(flat), -1, KEPT)
