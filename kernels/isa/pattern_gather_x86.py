"""Gathers of patterns on x86: ``vpermb`` where there is one, else ``vpshufb``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapdot.kernels.emit import Value, argument, intrinsic, load, store
from tapdot.kernels.isa.integer_x86 import WidenedProducts
from tapdot.kernels.isa.pattern_gather import TAP_ROWS, PatternGather
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.position_block import PART, Block, SquareBlock
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

HALF = 32
"""Bytes of half a register."""


class ByteWindows(PatternGather):
    """What all of them share: windows of unsigned codes, and a lookup table of byte indices."""

    @property
    def scratch_dtype(self) -> str:
        return "uint8"

    def declare_table(self, patterns: int) -> None:
        self._table = argument("table", self.table_size(patterns), "uint8")

    def table_size(self, patterns: int) -> int:
        """Elements of the table."""
        return patterns * self.entry

    def unsigned(self, codes: Value, dtype: str, size: int) -> Value:
        """Codes as dots want them."""
        if not self.operand_offset(dtype):
            return codes
        return T.Bind(T.reinterpret(codes ^ T.broadcast(tirx.const(-128, "int8"), size), dtype=f"uint8x{size}"))


class TablePermutation(ByteWindows):
    """``vpermb``: the window is one register, and one instruction a vector gathers all taps; with stride 2 it is two."""

    REGISTER = 64
    calibrated = True

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

    def table_size(self, patterns: int) -> int:
        self._pair_at = patterns * self.entry
        return self._pair_at + self._pair_table().size

    def pack_window(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, place: Value) -> None:
        size = 1 << (self.pitch - 1).bit_length()
        for row in range((self.block.height - 1) * self.strides[0] + TAP_ROWS):
            codes = self.unsigned(load(x, start + row * pitch, size), x.dtype, size)
            store(scratch, place + row * self.pitch, codes, size)

    def pack_pair(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, places: Sequence[Value]) -> None:
        """Two rows of 32 bytes fill a register; a permutation of two of them makes four rows of a window, another the rest."""
        size, codes = self.REGISTER, f"uint8x{self.REGISTER}"
        loaded = [self.unsigned(load(x, start + row * pitch, HALF), x.dtype, HALF) for row in range(self.block.height + 2)]
        a, b, c = (T.Bind(T.Shuffle(loaded[row : row + 2], list(range(size)))) for row in (0, 2, 4))
        rest = T.Shuffle([T.broadcast(T.bool(False), size), T.broadcast(T.bool(True), size)], [0] * 40 + [size] * 24)
        for block, place in enumerate(places):
            first, second = (load(self._table, self._pair_at + (2 * part + block) * size, size) for part in range(2))
            above = T.Bind(intrinsic("llvm.x86.avx512.vpermi2var.qi.512", codes, a, first, b))
            below = T.Bind(intrinsic("llvm.x86.avx512.permvar.qi.512", codes, c, second))
            store(scratch, place, T.Select(rest, below, above), size)

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
            codes = self.unsigned(load(x, start + row * pitch, size), x.dtype, size)
            store(scratch, place + register * self.REGISTER + below * self.pitch, codes, size)

    def operands(self, pattern: Any, scratch: Buffer, place: Value, last: bool = False) -> list[Any]:
        first = load(scratch, place, self.REGISTER)
        second = first if last else load(scratch, place + self.REGISTER, self.REGISTER)
        return [T.Bind(intrinsic("llvm.x86.avx512.vpermi2var.qi.512", f"uint8x{self.REGISTER}", first, pattern[0], second))]


class LaneShuffle(ByteWindows):
    """``vpshufb``, which moves bytes inside parts of 16: a window of 4 x 4 codes there serves the 2 x 2 outputs of four lanes.

    With stride 2 a window is 5 x 5 codes, the first three rows in one register and the others in a second. A shuffle gives zero
    for indices above 127: the two shuffled registers are joined by an or.
    """

    calibrated = True
    ROWS_IN_REGISTER = (4, 3)
    ELSEWHERE = 128

    def __init__(self, target: Target, strides: tuple[int, int], plane: tuple[int, int], columns: int, vectors: int) -> None:
        super().__init__(target, strides)
        rows = vectors * self.lanes // columns
        self.block = SquareBlock(rows, columns, min(rows, plane[0]), min(columns, plane[1]), vectors, self.lanes)
        self.side = strides[0] + TAP_ROWS
        self.sources = strides[0]
        self.rows_in_register = self.ROWS_IN_REGISTER[strides[0] - 1]
        self.register = KEPT * self.lanes
        self.window = vectors * self.sources * self.register
        self.entry, self.registers = self.sources * self.register, 2 * self.sources + 1
        self.operations, self.packing = 2 * self.sources - 1, (2.3, 3.4)[self.sources - 1]
        if isinstance(self.vectors, WidenedProducts):
            self.weight_dtype = "int16"
            self.operations, self.dot_operations = self.operations + 2, 4

    def table(self, patterns: np.ndarray) -> np.ndarray:
        row, column = np.divmod(np.arange(PART), 2)
        dy, dx = np.divmod(patterns.astype(np.int64), TAP_ROWS)
        below = row[:, None] * self.strides[0] + dy[:, None, :]
        source, inside = np.divmod(below, self.rows_in_register)
        at = inside * self.side + column[:, None] * self.strides[1] + dx[:, None, :]
        found = [np.where(source == number, at, self.ELSEWHERE) for number in range(self.sources)]
        parts = np.stack(found, axis=1).astype(np.uint8).reshape(len(patterns), self.sources, -1)
        return np.tile(parts, self.lanes // PART).reshape(-1)

    def patterns(self, table: np.ndarray) -> np.ndarray:
        first = table.reshape(-1, self.entry)[:, :KEPT]  # lane 0 reads rows 0 to 2: all in the first register
        dy, dx = np.divmod(first, self.side)
        return (dy * TAP_ROWS + dx).astype(np.uint8)

    def pack_window(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, place: Value) -> None:
        block, (stride_y, stride_x) = self.block, self.strides
        last = (block.height - 1) * stride_y + TAP_ROWS - 1
        for part in range(self.lanes // PART):
            first = block.run * part
            row, column = block.position(first)
            if block.row(first) >= block.height:
                continue
            rows = [min(row * stride_y + side, last) * pitch + column * stride_x for side in range(self.side)]
            for vector, loaded in enumerate(self._rows(x, [start + row for row in rows])):
                for source in range(self.sources):
                    here = loaded[source * self.rows_in_register :][: self.rows_in_register]
                    codes = self.unsigned(self._squeezed(here), x.dtype, 16)
                    store(scratch, place + (vector * self.sources + source) * self.register + part * 16, codes, 16)

    def _rows(self, x: Buffer, starts: Sequence[Value]) -> list[list[tuple[Value, int, int]]]:
        """For every vector, the rows of its window: (loaded codes, how many, the first that belongs to the window)."""
        step = 2 * self.strides[1]
        if step * (self.block.vectors - 1) + self.side <= 16:
            loaded = [load(x, start, 16) for start in starts]
            return [[(codes, 16, step * v) for codes in loaded] for v in range(self.block.vectors)]
        return [[(load(x, start + step * v, 8), 8, 0) for start in starts] for v in range(self.block.vectors)]

    def _squeezed(self, rows: Sequence[tuple[Value, int, int]]) -> Value:
        """The codes of some rows of a window side by side, in 16 bytes."""
        order = [number * size + first + byte for number, (_, size, first) in enumerate(rows) for byte in range(self.side)]
        codes = [row for row, _, _ in rows]
        return T.Bind(T.Shuffle(codes, (order + [order[-1]] * 16)[:16]))

    def pattern(self, place: Value) -> Any:
        return [load(self._table, place + source * self.register, self.register) for source in range(self.sources)]

    def operands(self, pattern: Any, scratch: Buffer, place: Value, last: bool = False) -> list[Any]:
        name = "llvm.x86.avx512.pshuf.b.512" if self.lanes == 16 else "llvm.x86.avx2.pshuf.b"
        size, found = self.register, []
        for vector in range(self.block.vectors):
            codes = None
            for source, index in enumerate(pattern):
                window = load(scratch, place + (vector * self.sources + source) * size, size)
                shuffled = T.Bind(intrinsic(name, f"uint8x{size}", window, index))
                codes = shuffled if codes is None else T.Bind(codes | shuffled)
            found.append(self.vectors.taps(codes))
        return found


def gathers(target: Target, strides: tuple[int, int], plane: tuple[int, int]) -> tuple[PatternGather, ...]:
    """Every block shape for outputs of ``plane`` rows and columns, preferred first."""
    if target.isa.dot != "vpdpbusd" or "avx512vbmi" not in target.features:
        return tuple(LaneShuffle(target, strides, plane, columns, 4) for columns in (8, 16))
    if strides == (1, 1):
        return tuple(TablePermutation(target, strides, plane, columns, 2) for columns in (8, 16, 4))
    stacks = tuple(StackedPermutation(target, strides, plane, columns) for columns in (8, 16))
    return (*stacks, TablePermutation(target, strides, plane, 4, 1))
