"""Matrix products of the windows of two pruned kernels: ``tbl`` gathers the taps of both, ``smmla`` serves two filters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tapdot.kernels.emit import Registers, Value, argument, load, store
from tapdot.kernels.fkw import FKW
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.integer_neon import SMMLA, TBL2
from tapdot.kernels.isa.pattern_operands_neon import LANES, REGISTER, TAP_ROWS, PatternOperands, TileShape
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.tvm_adapter import Buffer, T


class WindowProducts(PatternOperands):
    """Windows of 4x4 codes of every channel; two kernels, two positions and two filters a matrix product.

    A row of the tile takes whole fours of columns. The windows of columns 4j and 4j + 1 lie before those of columns 4j + 2 and
    4j + 3: one ``st4`` of four rows makes four windows. Kernels go two by two; a last one alone has a partner of weights 0.
    """

    step = 2
    SIDE = 2

    def __init__(self, shape: TileShape, isa: Isa) -> None:
        super().__init__(shape)
        self.isa = isa
        self.window_rows = -(-shape.rows // self.SIDE)
        self.window_columns = -(-shape.columns // self.SIDE)
        self.quads = -(-self.window_columns // 2)
        self.row_lanes = self.quads * LANES
        self.vectors = self.window_rows * self.SIDE * self.quads
        self.windows = self.sums = self.window_rows * self.window_columns
        self.units, self.unit = shape.channels, self.windows * REGISTER
        self.steps = max(1, (shape.kernels + shape.groups) // self.step)

    @property
    def fits(self) -> bool:
        """Half of the registers for sums: with more, LLVM reads windows too early and spills."""
        share = self.shape.share
        return share % 2 == 0 and share * self.windows <= self.isa.registers // 2

    @property
    def interleaved_stores(self) -> float:
        return self.shape.channels * self.window_rows * 2 * -(-self.quads // 4)

    @property
    def vector_operations(self) -> float:
        """Of one of two kernels: a lookup a row of windows (one and a half on wide cores), and a product for two filters."""
        return self.windows * (1.5 + self.shape.share / 2)

    @property
    def other_instructions(self) -> float:
        return self.windows / 2 + 5

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, fkw: FKW) -> list[np.ndarray]:
        """``records`` hold the places of two kernels and of their lookup."""
        shape, ids = self.shape, fkw.pattern_ids.astype(np.int64)
        counts = fkw.offset[1:].astype(np.int64) - fkw.offset[:-1]
        steps = -(-counts // self.step)
        starts = np.concatenate([[0], np.cumsum(steps)])
        rank = np.arange(shape.kernels) - _first_of_group(counts)
        slot = 2 * np.repeat(starts[:-1], counts) + rank
        index, pattern = np.zeros((2, 2 * self.steps), np.int64)
        weights = np.zeros((2 * self.steps, shape.share, KEPT), np.int8)
        index[slot], pattern[slot], weights[slot] = fkw.index, ids, fkw.weight
        records = np.zeros((self.steps, 4), np.int32)
        records[:, :2] = index.reshape(-1, 2) * self.unit
        records[:, 2] = (pattern.reshape(-1, 2) @ [shape.patterns, 1]) * 2 * REGISTER
        by_filters = weights.reshape(self.steps, 2, -1, 2, KEPT).transpose(0, 2, 3, 1, 4)
        table = self._table(fkw.patterns.astype(np.int64))
        return [table, starts.astype(np.int32), records.reshape(-1), np.ascontiguousarray(by_filters).reshape(-1)]

    def unpack(self, packed: Sequence[np.ndarray], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        table, starts, records, weights = packed
        shape = self.shape
        rank = np.arange(shape.kernels) - _first_of_group(counts)
        slot = 2 * np.repeat(starts[:-1].astype(np.int64), counts) + rank
        records = records.reshape(-1, 4)
        index = records[:, :2].reshape(-1)[slot] // self.unit
        both = np.stack(np.divmod(records[:, 2] // (2 * REGISTER), shape.patterns), axis=1)
        kept = weights.reshape(self.steps, -1, 2, 2, KEPT).transpose(0, 3, 1, 2, 4).reshape(-1, shape.share, KEPT)
        first = table.reshape(shape.patterns, shape.patterns, 2, 2, 2, KEPT)[:, 0, 0, 0, 0].astype(np.int64)
        return index, both.reshape(-1)[slot], kept[slot], (first // 4 * TAP_ROWS + first % 4).astype(np.uint8)

    @staticmethod
    def _table(patterns: np.ndarray) -> np.ndarray:
        """``[pattern, pattern, row, column, kernel, tap]``: where the code lies in the windows of two kernels side by side."""
        count = len(patterns)
        tap = patterns // TAP_ROWS * 4 + patterns % TAP_ROWS
        found = np.zeros((count, count, 2, 2, 2, KEPT), np.int64)
        for row in range(2):
            for column in range(2):
                found[:, :, row, column, 0] = tap[:, None] + 4 * row + column
                found[:, :, row, column, 1] = tap[None, :] + 4 * row + column + REGISTER
        return found.astype(np.int8).reshape(-1)

    def declare(self) -> None:
        shape = self.shape
        self._lookup = argument("table", shape.patterns**2 * 2 * REGISTER, "int8")
        self._starts = argument("starts", shape.groups + 1, "int32")
        self._records = argument("records", 4 * self.steps, "int32")
        self._weights = argument("weights", 2 * self.steps * shape.share * KEPT, "int8")

    # -- operands -----------------------------------------------------------------------------------------------------------

    def _place(self, row: int, column: int) -> int:
        """Number of a window of a tile: those of even columns of a row first."""
        return row * self.window_columns + column % 2 * self.quads + column // 2

    def fill(self, scratch: Buffer, x: Buffer, start: Value) -> None:
        with T.serial(self.shape.channels) as channel:
            begin, pitch = T.Bind(start + channel * self.shape.plane), self.shape.pitch
            for row, column in self._chunks:
                places = [begin + line * pitch + column * self.SIDE for line in self._lines(row)]
                rows = [self._signed(load(x, place, REGISTER), x.dtype, REGISTER) for place in places]
                words = [T.reinterpret(codes, dtype="int32x4") for codes in rows]
                mixed = T.Shuffle(words, [4 * line + lane for lane in range(4) for line in range(4)])
                place = channel * self.unit + self._place(row, column) * REGISTER
                store(scratch, place, T.reinterpret(mixed, dtype="int8x64"), 4 * REGISTER)

    @property
    def _chunks(self) -> list[tuple[int, int]]:
        """Row and column of the first of the windows that are made at once."""
        return [
            (row, column) for row in range(self.window_rows) for odd in range(2) for column in range(odd, self.window_columns, 8)
        ]

    def _lines(self, row: int) -> list[int]:
        """Input rows of a row of windows.

        Of an odd number of tile rows the last windows lack a row: the last one is read again, as behind it the buffer may end.
        """
        last = self.shape.rows + TAP_ROWS - 2
        return [min(row * self.SIDE + line, last) for line in range(4)]

    @property
    def reads(self) -> list[tuple[int, int, int]]:
        return [(max(self._lines(row)), column * self.SIDE, REGISTER) for row, column in self._chunks]

    # -- sums ---------------------------------------------------------------------------------------------------------------

    def _register(self, member: int, window: int, row: int) -> int:
        """The sums of filters ``member`` and ``member + 1`` (an even one) at both columns of a row of a window."""
        return (member // 2 * self.windows + window) * 2 + row

    def begin(self, sums: Registers, bias: Sequence[Value]) -> None:
        for member in range(0, self.shape.share, 2):
            both = T.Bind(T.Shuffle(list(bias[member : member + 2]), [0, 4, 1, 5]))
            for window in range(self.windows):
                for row in range(2):
                    sums[self._register(member, window, row)] = both

    def kernels(self, sums: Registers, scratch: Buffer, group: Value, first: Value, count: Value) -> None:
        share = self.shape.share
        start = T.Bind(self._starts[group])
        with T.serial(T.Bind(self._starts[group + 1] - start)) as index:
            step = T.Bind(start + index)
            places = [T.Bind(self._records[4 * step + number]) for number in range(3)]
            weights = [load(self._weights, 2 * step * share * KEPT + pair * REGISTER, REGISTER) for pair in range(share // 2)]
            lookups = [load(self._lookup, places[2] + row * REGISTER, REGISTER) for row in range(2)]
            for window in range(self.windows):
                two = [load(scratch, place + window * REGISTER, REGISTER) for place in places[:2]]
                for row in range(2):
                    codes = T.Bind(TBL2(*two, lookups[row]))
                    for member in range(0, share, 2):
                        register = self._register(member, window, row)
                        sums[register] = SMMLA(sums[register], codes, weights[member // 2])

    def of_filter(self, sums: Registers, member: int) -> list[Value]:
        found = []
        for line in range(2 * self.window_rows):
            for quad in range(self.quads):
                columns = [2 * quad, min(2 * quad + 1, self.window_columns - 1)]
                windows = [self._place(line // 2, column) for column in columns]
                two = [sums[self._register(member, window, line % 2)] for window in windows]
                found.append(T.Bind(T.Shuffle(two, [member % 2 + 2 * lane for lane in range(4)])))
        return found


def _first_of_group(counts: np.ndarray) -> np.ndarray:
    """For every kernel, the number of its group's first one."""
    return np.repeat(np.cumsum(counts) - counts, counts)
