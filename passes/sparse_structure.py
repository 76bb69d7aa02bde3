"""The structure in the zeros of a weight: patterns, kernels removed whole, shares; whoever put the zeros there.

A 3x3 kernel fits a pattern where nothing but the centre and up to three more taps is left of it; one with fewer taps fits
several, and is given the one that most other kernels have. In 1x1 and fully connected layers it is whole quads of inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapdot.kernels.fkw import Structure
from tapdot.kernels.patterns import ALL_PATTERNS, CENTRE, KEPT, MOST_PATTERNS, QUAD, TAPS

SHARES = (8, 4, 2, 1)
REDUNDANCY = 0.1
"""By how much more weights a share may make a layer store. Codes round small kernels to zero in single filters of a group, and
more of them where the norms of a layer's kernels differ much. A group of twice the filters is computed at least 1.3 times faster
(up to a share of 4), so a tenth more weights is still a gain."""
NEARLY = 0.3
"""A share that would store more than is allowed, but no more than this, is one that a layer nearly has: somebody meant it."""
LEAST_PRUNED = 1 / 16
"""Of a layer's kernels or quads. Dead channels and small codes make some zeros in networks that nobody pruned."""
UNPRUNED = "nothing is pruned in it"

_BITS = 1 << np.arange(TAPS, dtype=np.uint16)
_PATTERN_BITS = _BITS[ALL_PATTERNS].sum(axis=1)
_TAP_COUNTS = np.array([int(code).bit_count() for code in range(1 << TAPS)])
_SETS = np.arange(1 << TAPS)
_FITS = (_SETS[:, None] & ~_PATTERN_BITS.astype(np.int64)) == 0
"""``[512, 56]``: whether each set of taps lies within each pattern."""
_FITTING = _FITS.any(axis=1)
_FORCED = _FITTING & (_TAP_COUNTS[_SETS | (1 << CENTRE)] == KEPT)
"""Sets of taps that only one pattern holds."""
ELEMENTS_AT_ONCE = 1 << 22


def find_structure(weight: NDArray[Any], redundancy: float = REDUNDANCY, most_patterns: int = MOST_PATTERNS) -> Structure | str:
    """The structure that the zeros of a weight ``[O, I, 3, 3]``, ``[O, I, 1, 1]`` or ``[O, I]`` have, or why they have none.

    The share is the largest of 8, 4, 2 and 1 whose groups agree: where a kernel that only some filters of a group have is stored
    for all of them, the layer stores at most ``redundancy`` more weights than filters alone would, as a share of those. A layer
    uses at most ``most_patterns`` patterns.
    """
    if weight.ndim == 4 and weight.shape[2:] not in ((3, 3), (1, 1)):
        return f"kernels of {'x'.join(map(str, weight.shape[2:]))} have neither patterns nor quads"
    if weight.ndim == 4 and weight.shape[2:] == (3, 3):
        return _by_patterns(_taps(weight), redundancy, most_patterns)
    return _by_quads(weight.reshape(weight.shape[0], -1), redundancy)


def share_nearly_had(weight: NDArray[Any], found: Structure, redundancy: float = REDUNDANCY) -> tuple[int, float] | None:
    """The largest share above the one found that only ``redundancy`` forbids, and by how much more weights it would store.

    None where there is none, where it would store more than :data:`NEARLY` more, or where groups hardly agree but by chance.
    """
    units = _quads(weight.reshape(weight.shape[0], -1)) if found.by_quads else _taps(weight)
    alone = np.count_nonzero(units)
    for share in SHARES[: SHARES.index(found.share)]:
        if units.shape[0] % share:
            continue
        together = _joined(units, share)
        if not (found.by_quads or _FITTING[together].all()):
            continue
        by_chance = (1 - (1 - alone / units.size) ** share) * units.size / alone - 1
        in_vain = _in_vain(together, share, alone)
        if redundancy < in_vain <= min(NEARLY, by_chance / 2):
            return share, in_vain
    return None


def _joined(units: NDArray[Any], share: int) -> NDArray[Any]:
    """``[O / share, I]``: what the filters of each group have together."""
    joined: NDArray[Any] = np.bitwise_or.reduce(units.reshape(-1, share, units.shape[1]), axis=1)
    return joined


def _in_vain(together: NDArray[Any], share: int, alone: int | np.integer[Any]) -> float:
    """By how much more kernels or quads a share stores than filters alone, as a share of those."""
    return int(np.count_nonzero(together)) * share / int(alone) - 1


# -- patterns ----------------------------------------------------------------------------------------------------------------


def _taps(weight: NDArray[Any]) -> NDArray[np.uint16]:
    """``[O, I]``: the taps that are not zero, a bit each."""
    taps = np.empty(weight.shape[:2], np.uint16)
    for rows in _rows(weight):
        taps[rows] = (weight[rows].reshape(*taps[rows].shape, TAPS) != 0) @ _BITS
    return taps


def _by_patterns(taps: NDArray[np.uint16], redundancy: float, most_patterns: int) -> Structure | str:
    if obstacle := _misfits(taps):
        return obstacle
    alone = np.count_nonzero(taps)
    if not alone:
        return "all its weights are zero"
    reason = ""
    for share in SHARES:
        if taps.shape[0] % share:
            continue
        together = _joined(taps, share)
        if _in_vain(together, share, alone) > redundancy or not _FITTING[together].all():
            continue
        table = _pattern_table(together, most_patterns)
        if isinstance(table, str):
            reason = table
            continue
        return Structure(_assigned(together, table), ALL_PATTERNS[table], share)
    return reason


def _misfits(taps: NDArray[np.uint16]) -> str:
    """What does not fit any pattern, as a reason; empty where all kernels do."""
    misfit = ~_FITTING[taps]
    count = int(misfit.sum())
    if not count:
        return ""
    most = int(_TAP_COUNTS[taps[misfit]].max())
    if (taps == (1 << TAPS) - 1).all():
        return UNPRUNED
    if np.count_nonzero(_TAP_COUNTS[taps] < TAPS) < LEAST_PRUNED * taps.size:
        return UNPRUNED
    filter_, channel = (int(place) for place in np.argwhere(misfit)[0])
    first = f"{count} of its {taps.size} kernels, first that of filter {filter_} and input {channel},"
    if most > KEPT:
        return f"unstructured zeros: {first} keep more than the four taps of a pattern (up to {most})"
    return f"{first} keep four taps without the centre, which every pattern has"


def _pattern_table(taps: NDArray[np.uint16], most: int) -> list[int] | str:
    """Rows of ``ALL_PATTERNS`` that hold every kernel, few of them, most frequent first; or why there is no such set."""
    counts = np.bincount(taps.reshape(-1), minlength=1 << TAPS)
    counts[0] = 0
    forced = np.flatnonzero((counts[_FORCED, None] * _FITS[_FORCED]).sum(axis=0))
    table = [int(pattern) for pattern in forced]
    open_counts = np.where(_FORCED, 0, counts)
    open_counts[_FITS[:, table].any(axis=1)] = 0
    while open_counts.any():  # greedy cover of kernels with fewer taps
        table.append(int((open_counts @ _FITS).argmax()))
        open_counts[_FITS[:, table[-1]]] = 0
    if len(table) > most:
        return f"its kernels follow {len(table)} patterns, and kernels take at most {most} a layer"
    frequency = (counts[_FORCED] @ _FITS[_FORCED]) + 1e-9 * (counts @ _FITS)
    return sorted(table, key=lambda pattern: (-frequency[pattern], pattern))


def _assigned(taps: NDArray[np.uint16], table: list[int]) -> NDArray[np.int8]:
    """The row of the table that each kernel follows, the most frequent of several; -1 for kernels that are removed."""
    row = np.where(_FITS[:, table].any(axis=1), _FITS[:, table].argmax(axis=1), -1)
    row[0] = -1
    return row.astype(np.int8)[taps]


# -- quads -------------------------------------------------------------------------------------------------------------------


def _by_quads(weight: NDArray[Any], redundancy: float) -> Structure | str:
    kept = _quads(weight)
    alone = np.count_nonzero(kept)
    if not alone:
        return "all its weights are zero"
    if alone > (1 - LEAST_PRUNED) * kept.size:
        zeros = 1 - np.count_nonzero(weight) / weight.size
        if zeros < LEAST_PRUNED:
            return UNPRUNED
        return (
            f"unstructured zeros: {zeros:.0%} of its weights are zero, but only {1 - alone / kept.size:.0%} of its quads of four "
            "consecutive inputs"
        )
    for share in SHARES:
        if kept.shape[0] % share:
            continue
        together = _joined(kept, share)
        if np.count_nonzero(together) <= (1 - LEAST_PRUNED) * together.size and _in_vain(together, share, alone) <= redundancy:
            break
    return Structure(np.where(together, 0, -1), QUAD, share)


def _quads(weight: NDArray[Any]) -> NDArray[np.bool_]:
    """``[O, quads]``: which quads of inputs hold a weight that is not zero; rows are inputs where the matrix is transposed."""
    filters, inputs = weight.shape
    whole, left = divmod(inputs, KEPT)
    kept = np.zeros((filters, whole + (left > 0)), np.bool_)
    if weight.flags.c_contiguous:
        for rows in _rows(weight):
            some = weight[rows, : whole * KEPT] != 0
            kept[rows, :whole] = some.reshape(len(some), whole, KEPT).any(axis=2)
    else:  # a matrix product's [inputs, filters]
        by_inputs = weight.T
        for quads in _rows(by_inputs[: whole * KEPT : KEPT]):
            inputs_of = slice(quads.start * KEPT, quads.stop * KEPT)
            part = by_inputs[: whole * KEPT][inputs_of] != 0
            kept[:, quads.start : quads.start + len(part) // KEPT] = part.reshape(-1, KEPT, filters).any(axis=1).T
    if left:
        kept[:, whole] = (weight[:, whole * KEPT :] != 0).any(axis=1)
    return kept


def _rows(array: NDArray[Any]) -> Iterator[slice]:
    """Rows a few at a time: masks of a large weight are not worth having whole."""
    step = max(1, ELEMENTS_AT_ONCE * array.shape[0] // max(array.size * KEPT, 1))
    for start in range(0, array.shape[0], step):
        yield slice(start, min(start + step, array.shape[0]))
