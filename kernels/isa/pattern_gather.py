"""Four taps of a pattern as one dot: how the operands of a pruned 3x3 kernel are gathered for a block of positions.

A *block* (:class:`Block`) is a rectangle of outputs whose lanes fill one or more vectors. A *window* holds what a block reads of
one channel, compact; a gather takes from it, for every lane, the four codes under the pattern. The meaning, in numpy, for the
window ``w`` of a channel and taps ``(dy_0, dx_0), ...``::

    operand[lane][k] = w[row(lane) * stride_y + dy_k, column(lane) * stride_x + dx_k]

:meth:`PatternGather.dot` then adds ``sum_k operand[lane][k] * weight[k]`` to the sums of every filter that keeps this kernel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapdot.kernels.emit import Value, load
from tapdot.kernels.isa.integer import IntegerVectors, integer_vectors
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.position_block import Block
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, T

TAP_ROWS = 3
"""Rows and columns of a kernel."""


class PatternGather(ABC):
    """Emits windows, gathers and dots of one instruction set for blocks of one shape."""

    block: Block
    window: int
    """Bytes of the window of a block in the scratch."""
    registers: int
    """Vector registers that the lookup of a pattern and the operands of a window take."""

    def __init__(self, target: Target, strides: tuple[int, int]) -> None:
        self.vectors: IntegerVectors = integer_vectors(target.isa)
        self.lanes = target.isa.lanes
        self.strides = strides

    # -- lookup tables ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def table(self, patterns: np.ndarray) -> np.ndarray:
        """The lookup of every pattern ``[K, 4]``, flat; a gather finds it at ``pattern * entry`` elements."""

    @abstractmethod
    def patterns(self, table: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`table`."""

    entry: int
    """Elements of :meth:`table` for one pattern."""

    @abstractmethod
    def declare_table(self, patterns: int) -> None:
        """Declares the table as an argument."""

    # -- code ---------------------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def scratch_dtype(self) -> str:
        """The element type of windows."""

    @abstractmethod
    def pack_window(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, place: Value) -> None:
        """Copies what a block reads of a channel into its window.

        ``start`` is the element of the first tap of the block's first output. Windows are written in the order of their places:
        up to 64 bytes past a window may be overwritten.
        """

    calibrated = False
    """Whether the estimates of a plan were compared with measurements of this gather."""
    like_dots = False
    """Whether gathers take the execution units of dots, not others beside them."""
    operations = 1
    """Instructions that gather the operand of a dot, loads left out."""
    packing = 1.0
    """What :meth:`pack_window` takes, as a multiple of copying the rows of a window."""
    dot_operations = 1
    """Instructions of a dot."""
    stacked = False
    """Whether the blocks of a tile stand on each other, each reading the register below its own too: see :meth:`pack_stack`."""

    def pack_stack(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, place: Value, rows: int) -> None:
        """Copies ``rows`` rows of a channel, all that the blocks of a tile read, from ``start`` on."""
        raise NotImplementedError

    pairs = False
    """Whether :meth:`pack_pair` copies the windows of two neighbouring blocks faster than one at a time."""

    def pack_pair(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, places: Sequence[Value]) -> None:
        """:meth:`pack_window` of a block and of the one to its right; no byte around the windows is touched."""
        raise NotImplementedError

    @abstractmethod
    def pattern(self, place: Value) -> Any:
        """The lookup of the pattern whose entry in the table begins at ``place``, for all windows of a kernel."""

    @abstractmethod
    def operands(self, pattern: Any, scratch: Buffer, place: Value, last: bool = False) -> list[Any]:
        """The four codes of every lane of the block's vectors, as operands of :meth:`dot`.

        ``last``: of stacked blocks, the one below which nothing was copied.
        """

    # -- weights ------------------------------------------------------------------------------------------------------------

    weight_dtype = "int8"

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        """int8 ``[kernels, share, 4]`` in the form of :meth:`weights`, flat: 16 bits wide they lie as taps 0, 2, 1, 3."""
        if self.weight_dtype == "int8":
            return np.ascontiguousarray(weights).reshape(-1)
        return np.ascontiguousarray(weights.reshape(*weights.shape[:-1], 2, 2).swapaxes(-1, -2), np.int16).reshape(-1)

    def unpack_weights(self, packed: np.ndarray, share: int) -> np.ndarray:
        """The inverse of :meth:`pack_weights`."""
        if self.weight_dtype == "int8":
            return packed.reshape(-1, share, KEPT)
        return packed.reshape(-1, share, 2, 2).swapaxes(-1, -2).reshape(-1, share, KEPT).astype(np.int8)

    def weights(self, buffer: Buffer, kernel: Value, share: int) -> list[Any]:
        """The weights of one kernel of every filter of a group, each in every lane."""
        places = [(kernel * share + member) * KEPT for member in range(share)]
        if self.weight_dtype == "int8":
            return [self._in_every_lane(load(buffer, place, KEPT), f"int8x{KEPT * self.lanes}") for place in places]
        wide = f"int16x{2 * self.lanes}"
        return [[self._in_every_lane(load(buffer, place + part, 2), wide) for part in (0, 2)] for place in places]

    def _in_every_lane(self, weights: Value, dtype: str) -> Value:
        """32 bits of weights in every lane."""
        return T.Bind(T.reinterpret(T.broadcast(T.reinterpret(weights, dtype="int32"), self.lanes), dtype=dtype))

    def dot(self, accumulator: Value, operand: Any, weights: Any) -> Value:
        """``accumulator[l] + sum_k operand[l][k] * weights[k]``."""
        return self.vectors.dot(accumulator, operand, weights)

    def operand_offset(self, stored_dtype: str) -> int:
        """What windows hold more than stored codes of that type."""
        return self.vectors.operand_offset(stored_dtype)


def gathers(target: Target, strides: tuple[int, int], plane: tuple[int, int]) -> tuple[PatternGather, ...]:
    """Every block shape of a target's gather for outputs of ``plane`` rows and columns; empty where there is no gather."""
    from tapdot.kernels.isa import pattern_gather_generic, pattern_gather_x86

    if target.isa.dot in ("vpdpbusd", "vpmaddwd"):
        return pattern_gather_x86.gathers(target, strides, plane)
    return () if target.isa.dot else pattern_gather_generic.gathers(target, strides, plane)
