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

from tapdot.kernels.emit import Value, argument, intrinsic, load, splat, store
from tapdot.kernels.isa.integer import IntegerVectors, integer_vectors
from tapdot.kernels.isa.integer_generic import WrittenOut
from tapdot.kernels.isa.integer_x86 import DotProducts, WidenedProducts
from tapdot.kernels.patterns import KEPT, TAPS
from tapdot.kernels.position_block import PART, Block
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

HALF = 32
"""Bytes of half a register."""
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

    like_dots = False
    """Whether gathers take the execution units of dots, not others beside them."""
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
        """int8 ``[kernels, share, 4]`` in the form of :meth:`weights`, flat."""
        return np.ascontiguousarray(weights).reshape(-1)

    def unpack_weights(self, packed: np.ndarray, share: int) -> np.ndarray:
        """The inverse of :meth:`pack_weights`."""
        return packed.reshape(-1, share, KEPT)

    def weights(self, buffer: Buffer, kernel: Value, share: int) -> list[Any]:
        """The weights of one kernel of every filter of a group, each in every lane."""
        places = [(kernel * share + member) * KEPT for member in range(share)]
        codes = f"int8x{KEPT * self.lanes}"
        return [
            T.Bind(T.reinterpret(T.broadcast(T.reinterpret(load(buffer, p, KEPT), dtype="int32"), self.lanes), dtype=codes))
            for p in places
        ]

    def dot(self, accumulator: Value, operand: Any, weights: Any) -> Value:
        """``accumulator[l] + sum_k operand[l][k] * weights[k]``."""
        return self.vectors.dot(accumulator, operand, weights)

    def operand_offset(self, stored_dtype: str) -> int:
        """What windows hold more than stored codes of that type."""
        return self.vectors.operand_offset(stored_dtype)


class TablePermutation(PatternGather):
    """``vpermb``: the window is one register, and one instruction a vector gathers all taps; with stride 2 it is two."""

    REGISTER = 64

    def __init__(self, target: Target, strides: tuple[int, int], plane: tuple[int, int], columns: int, vectors: int) -> None:
        super().__init__(target, strides)
        self.sources = 1 if strides == (1, 1) else 2
        rows = vectors * self.lanes // columns
        self.window = self.REGISTER * self.sources
        room = self.window // ((rows - 1) * strides[0] + TAP_ROWS)
        width = min(columns, (room - TAP_ROWS) // strides[1] + 1, plane[1])
        self.block = Block(rows, columns, min(rows, plane[0]), width, vectors, self.lanes)
        self.pitch = (width - 1) * strides[1] + TAP_ROWS
        self.entry = self.REGISTER * vectors
        self.registers = vectors + 1
        self.like_dots = self.sources == 2
        self.pairs = (self.sources, self.block.height, self.block.width) == (1, 4, 8)

    def table(self, patterns: np.ndarray) -> np.ndarray:
        stride_y, stride_x = self.strides
        row, column = self.block.lane_positions()
        dy, dx = np.divmod(patterns.astype(np.int64), TAP_ROWS)
        at = (row[:, None] * stride_y + dy[:, None, :]) * self.pitch + column[:, None] * stride_x + dx[:, None, :]
        return np.concatenate([at.astype(np.uint8).reshape(-1), self._pair_table().reshape(-1)])

    def _pair_table(self) -> np.ndarray:
        """For each block of a pair, where its window's bytes lie in rows 0 to 3, and in rows 4 and 5, of 32 bytes each."""
        if not self.pairs:
            return np.zeros((0, self.REGISTER), np.uint8)
        row, column = np.divmod(np.arange(self.REGISTER), self.pitch)
        row = np.minimum(row, self.block.height + 1)
        return np.array(
            [(row % 4 if part else np.minimum(row, 3)) * HALF + column + 8 * block for part in range(2) for block in range(2)],
            np.uint8,
        )

    def patterns(self, table: np.ndarray) -> np.ndarray:
        lookups = table[: len(table) - self._pair_table().size]
        dy, dx = np.divmod(lookups.reshape(-1, self.entry)[:, :KEPT], self.pitch)
        return (dy * TAP_ROWS + dx).astype(np.uint8)

    def declare_table(self, patterns: int) -> None:
        self._pair_at = patterns * self.entry
        self._table = argument("table", self._pair_at + self._pair_table().size, "uint8")

    @property
    def scratch_dtype(self) -> str:
        return "uint8"

    def pack_window(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, place: Value) -> None:
        size = 1 << (self.pitch - 1).bit_length()
        for row in range((self.block.height - 1) * self.strides[0] + TAP_ROWS):
            codes = self._unsigned(load(x, start + row * pitch, size), x.dtype, size)
            store(scratch, place + row * self.pitch, codes, size)

    def pack_pair(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, places: Sequence[Value]) -> None:
        """Two rows of 32 bytes fill a register; a permutation of two of them makes four rows of a window, another the rest."""
        size, codes = self.REGISTER, f"uint8x{self.REGISTER}"
        loaded = [self._unsigned(load(x, start + row * pitch, HALF), x.dtype, HALF) for row in range(self.block.height + 2)]
        a, b, c = (T.Bind(T.Shuffle(loaded[row : row + 2], list(range(size)))) for row in (0, 2, 4))
        rest = T.Shuffle([T.broadcast(T.bool(False), size), T.broadcast(T.bool(True), size)], [0] * 40 + [size] * 24)
        for block, place in enumerate(places):
            first, second = (load(self._table, self._pair_at + (2 * part + block) * size, size) for part in range(2))
            above = T.Bind(intrinsic("llvm.x86.avx512.vpermi2var.qi.512", codes, a, first, b))
            below = T.Bind(intrinsic("llvm.x86.avx512.permvar.qi.512", codes, c, second))
            store(scratch, place, T.Select(rest, below, above), size)

    def _unsigned(self, codes: Value, dtype: str, size: int) -> Value:
        """Codes as dots want them."""
        if not self.operand_offset(dtype):
            return codes
        return T.Bind(T.reinterpret(codes ^ T.broadcast(tirx.const(-128, "int8"), size), dtype=f"uint8x{size}"))

    def pattern(self, place: Value) -> Any:
        return [load(self._table, place + v * self.REGISTER, self.REGISTER) for v in range(self.block.vectors)]

    def operands(self, pattern: Any, scratch: Buffer, place: Value, last: bool = False) -> list[Any]:
        parts = [load(scratch, place + part * self.REGISTER, self.REGISTER) for part in range(self.sources)]
        name = "permvar.qi" if self.sources == 1 else "vpermi2var.qi"
        found = []
        for index in pattern:
            arguments = [parts[0], index] if self.sources == 1 else [parts[0], index, parts[1]]
            found.append(T.Bind(intrinsic(f"llvm.x86.avx512.{name}.512", f"uint8x{self.REGISTER}", *arguments)))
        return found


class StackedPermutation(TablePermutation):
    """Stride 2: blocks of one vector stand on each other, and a register holds the input rows that begin at a block.

    A block reads those and the first row of the next register, by one permutation of the two; the next block reads that register
    anyway. So a vector takes little more than one load.
    """

    stacked = True
    like_dots = True

    def __init__(self, target: Target, strides: tuple[int, int], plane: tuple[int, int], columns: int) -> None:
        PatternGather.__init__(self, target, strides)
        rows = self.lanes // columns
        self.rows_in_register = rows * strides[0]
        widest = (self.REGISTER // self.rows_in_register - TAP_ROWS) // strides[1] + 1
        widest = min(widest, columns)
        width = -(-plane[1] // -(-plane[1] // widest))
        self.sources, self.window, self.entry, self.registers = 2, self.REGISTER, self.REGISTER, 3
        self.block = Block(rows, columns, min(rows, plane[0]), width, 1, self.lanes)
        self.pitch = (width - 1) * strides[1] + TAP_ROWS

    def table(self, patterns: np.ndarray) -> np.ndarray:
        row, column = self.block.lane_positions()
        dy, dx = np.divmod(patterns.astype(np.int64), TAP_ROWS)
        register, below = np.divmod(row[:, None] * self.strides[0] + dy[:, None, :], self.rows_in_register)
        at = register * self.REGISTER + below * self.pitch + column[:, None] * self.strides[1] + dx[:, None, :]
        return at.astype(np.uint8).reshape(-1)

    def patterns(self, table: np.ndarray) -> np.ndarray:
        register, at = np.divmod(table.reshape(-1, self.entry)[:, :KEPT], self.REGISTER)
        below, dx = np.divmod(at, self.pitch)
        return ((register * self.rows_in_register + below) * TAP_ROWS + dx).astype(np.uint8)

    def pack_stack(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, place: Value, rows: int) -> None:
        size = 1 << (self.pitch - 1).bit_length()
        for row in range(rows):
            register, below = divmod(row, self.rows_in_register)
            codes = self._unsigned(load(x, start + row * pitch, size), x.dtype, size)
            store(scratch, place + register * self.REGISTER + below * self.pitch, codes, size)

    def operands(self, pattern: Any, scratch: Buffer, place: Value, last: bool = False) -> list[Any]:
        first = load(scratch, place, self.REGISTER)
        second = first if last else load(scratch, place + self.REGISTER, self.REGISTER)
        return [T.Bind(intrinsic("llvm.x86.avx512.vpermi2var.qi.512", f"uint8x{self.REGISTER}", first, pattern[0], second))]


class TapRows(PatternGather):
    """Without a byte permutation: a window holds every tap's codes side by side, and four of its rows are interleaved.

    Where there is no dot product at all, an operand is a list of four vectors, one a tap, and so are weights.
    """

    def __init__(self, target: Target, strides: tuple[int, int], plane: tuple[int, int], columns: int, vectors: int) -> None:
        super().__init__(target, strides)
        rows = vectors * self.lanes // columns
        self.block = Block(rows, columns, min(rows, plane[0]), min(columns, plane[1]), vectors, self.lanes)
        self.window = TAPS * vectors * self.lanes
        self.entry = KEPT
        self.registers = 5 + vectors
        self.separate = isinstance(self.vectors, WrittenOut)
        self.unsigned = isinstance(self.vectors, DotProducts | WidenedProducts)
        if isinstance(self.vectors, WidenedProducts):
            self.weight_dtype = "int16"

    def table(self, patterns: np.ndarray) -> np.ndarray:
        return (patterns.astype(np.int32) * self.block.vectors * self.lanes).reshape(-1)

    def patterns(self, table: np.ndarray) -> np.ndarray:
        return (table.reshape(-1, KEPT) // (self.block.vectors * self.lanes)).astype(np.uint8)

    def declare_table(self, patterns: int) -> None:
        self._table = argument("table", patterns * self.entry, "int32")

    @property
    def scratch_dtype(self) -> str:
        return "uint8" if self.unsigned else "int32" if self.separate else "int8"

    def pack_window(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, place: Value) -> None:
        (stride_y, stride_x), block, piece = self.strides, self.block, self.block.piece
        lanes = [(v * self.lanes + lane, block.code(v, lane)) for v in range(block.vectors) for lane in range(self.lanes)]
        size = min(piece, PART)
        for tap in range(TAPS):
            dy, dx = divmod(tap, TAP_ROWS)
            for lane, code in lanes[::size]:
                row, column = block.position(code)
                first = start + (row * stride_y + dy) * pitch + column * stride_x + dx
                codes = T.Bind(x[T.ramp(first, stride_x, size) if size > 1 else first])
                if self.separate:
                    codes = T.Bind(codes.astype(f"int32x{size}" if size > 1 else "int32"))
                elif self.operand_offset(x.dtype):
                    codes = T.reinterpret(
                        codes ^ splat(tirx.const(-128, "int8"), size), dtype=f"uint8x{size}" if size > 1 else "uint8"
                    )
                store(scratch, place + tap * block.vectors * self.lanes + lane, codes, size)

    def pattern(self, place: Value) -> Any:
        return [T.Bind(self._table[place + tap]) for tap in range(KEPT)]

    def operands(self, pattern: Any, scratch: Buffer, place: Value, last: bool = False) -> list[Any]:
        return [self._operand(pattern, scratch, place + v * self.lanes) for v in range(self.block.vectors)]

    def _operand(self, pattern: Any, scratch: Buffer, place: Value) -> Any:
        rows = [load(scratch, place + tap, self.lanes) for tap in pattern]
        if self.separate:
            return rows
        pairs = [_merge(rows[first], rows[first + 1], self.lanes, 1) for first in (0, 2)]
        halves = [_merge(a, b, self.lanes, 2) for a, b in zip(*pairs, strict=True)]
        quarters = [quarter for half in halves for quarter in half]
        codes = T.Bind(T.Shuffle(quarters, list(range(KEPT * self.lanes))))
        return self.vectors.taps(codes)

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        if self.weight_dtype == "int8":
            return super().pack_weights(weights)
        return np.ascontiguousarray(weights.reshape(*weights.shape[:-1], 2, 2).swapaxes(-1, -2), np.int16).reshape(-1)

    def unpack_weights(self, packed: np.ndarray, share: int) -> np.ndarray:
        if self.weight_dtype == "int8":
            return super().unpack_weights(packed, share)
        return packed.reshape(-1, share, 2, 2).swapaxes(-1, -2).reshape(-1, share, KEPT).astype(np.int8)

    def weights(self, buffer: Buffer, kernel: Value, share: int) -> list[Any]:
        if self.separate:
            places = [(kernel * share + member) * KEPT for member in range(share)]
            return [[T.Bind(splat(buffer[p + tap].astype("int32"), self.lanes)) for tap in range(KEPT)] for p in places]
        if self.weight_dtype == "int8":
            return super().weights(buffer, kernel, share)
        found = []
        for member in range(share):
            place = (kernel * share + member) * KEPT
            pairs = [T.reinterpret(load(buffer, place + 2 * part, 2), dtype="int32") for part in range(2)]
            wide = f"int16x{2 * self.lanes}"
            found.append([T.Bind(T.reinterpret(T.broadcast(pair, self.lanes), dtype=wide)) for pair in pairs])
        return found


def _merge(a: Value, b: Value, size: int, unit: int) -> list[Value]:
    """Elements of ``unit`` bytes of two vectors of ``size`` bytes in turn: of their lower halves, and of their upper halves."""
    found = []
    for half in (0, size // 2):
        pairs = [(start, start + size) for start in range(half, half + size // 2, unit)]
        indices = [start + byte for pair in pairs for start in pair for byte in range(unit)]
        found.append(T.Bind(T.Shuffle([a, b], indices)))
    return found


def gathers(target: Target, strides: tuple[int, int], plane: tuple[int, int]) -> tuple[PatternGather, ...]:
    """Every block shape of a target's gather for outputs of ``plane`` rows and columns; empty where there is no gather."""
    vectors, lanes = integer_vectors(target.isa), target.isa.lanes
    if isinstance(vectors, DotProducts) and "avx512vbmi" in target.features:
        if strides == (1, 1):
            return tuple(TablePermutation(target, strides, plane, columns, 2) for columns in (8, 16, 4))
        stacks = tuple(StackedPermutation(target, strides, plane, columns) for columns in (8, 16))
        return (*stacks, TablePermutation(target, strides, plane, 4, 1))
    if isinstance(vectors, DotProducts | WidenedProducts | WrittenOut):
        return tuple(TapRows(target, strides, plane, columns, 1) for columns in (8, 16, 4) if columns <= lanes)
    return ()
