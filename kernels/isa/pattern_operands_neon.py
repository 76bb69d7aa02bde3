"""Operands of pruned 3x3 kernels on AArch64: how the dots of a tile of positions are prepared, and taken, one kernel after another.

Two forms. :class:`GatheredTaps` prepares, for every input channel and pattern in use, the four codes under the pattern of every
position, side by side: four loads of rows and one ``st4`` make 16 positions, and the loop over kernels has nothing but loads and
``sdot`` by lane. :class:`WindowProducts` prepares windows of 4x4 codes, each serving 2x2 positions: ``tbl`` of the windows of two
kernels makes two positions' rows of eight codes, as ``smmla`` wants them, for two filters at once.

In numpy, for the plane ``x`` of a channel and taps ``(dy_k, dx_k)``::

    gathered[position][k] = x[y * stride_y + dy_k, x * stride_x + dx_k]
    window[2 * row + column] = x[y + row, x + column], rows and columns 0 to 3
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tapdot.kernels.emit import Registers, Value, argument, load, splat, store
from tapdot.kernels.fkw import FKW
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.integer_neon import ADDP_8H, SADDLP, SDOT, SMMLA, SMULL_8H, TBL2
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

LANES = 4
REGISTER = 16
TAP_ROWS = 3
SLACK = 64
"""Bytes behind the last operand that preparing it may overwrite."""


@dataclass(frozen=True)
class TileShape:
    """``rows`` x ``columns`` positions, read ``strides`` apart, of planes with that pitch, ``plane`` elements after each other."""

    pitch: int
    plane: int
    rows: int
    columns: int
    strides: tuple[int, int]
    channels: int
    share: int
    kernels: int
    groups: int
    patterns: int


class PatternOperands(ABC):
    """What a tile of positions needs of the input, and the sums over it.

    The sums of filter ``member`` of a group come out as vectors over positions, row by row: a row takes ``row_lanes`` lanes.
    """

    row_lanes: int
    """Lanes from a row of the tile to the next."""
    vectors: int
    """Vectors of positions of one filter."""
    sums: int
    """Registers that hold the sums of one filter, on average."""
    step: int
    """Kernels that one iteration takes."""
    units: int
    """Units of the scratch: what is prepared for a channel, or for a channel and a pattern."""
    unit: int
    """Bytes of one of them."""

    def __init__(self, shape: TileShape) -> None:
        self.shape = shape

    @property
    def scratch(self) -> int:
        """Bytes of the prepared operands of a tile."""
        return self.units * self.unit + SLACK

    def operand_offset(self, stored_dtype: str) -> int:
        """What operands hold more than stored codes of that type: products are of signed codes."""
        return -128 if stored_dtype == "uint8" else 0

    def _signed(self, codes: Value, dtype: str, lanes: int) -> Value:
        """Codes with the sign of products: 128 less is the highest bit inverted."""
        if dtype == "int8":
            return codes
        return T.Bind(T.reinterpret(codes ^ T.broadcast(tirx.const(128, "uint8"), lanes), dtype=f"int8x{lanes}"))

    @property
    @abstractmethod
    def fits(self) -> bool:
        """Whether sums, weights and operands stay in registers."""

    @abstractmethod
    def pack(self, fkw: FKW) -> list[np.ndarray]:
        """The arrays of the weights: what is prepared, where, and what multiplies it."""

    @abstractmethod
    def unpack(self, packed: Sequence[np.ndarray], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Index and pattern of every kernel, its weights, and the patterns, of groups with that many kernels."""

    @abstractmethod
    def declare(self) -> None:
        """Declares those arrays as arguments."""

    @abstractmethod
    def fill(self, scratch: Buffer, x: Buffer, start: Value) -> None:
        """Prepares the operands of the tile whose first tap is element ``start`` of channel 0."""

    @abstractmethod
    def begin(self, sums: Registers, bias: Sequence[Value]) -> None:
        """Sums of nothing but the filters' biases."""

    @abstractmethod
    def kernels(self, sums: Registers, scratch: Buffer, group: Value, first: Value, count: Value) -> None:
        """Adds the kernels ``first .. first + count`` of a group."""

    @abstractmethod
    def of_filter(self, sums: Registers, member: int) -> list[Value]:
        """The vectors of one filter."""


class GatheredTaps(PatternOperands):
    """Every pattern in use of every channel gathered once a tile; dots straight from memory."""

    def __init__(self, shape: TileShape, isa: Isa) -> None:
        super().__init__(shape)
        self.isa = isa
        self.widened = isa.dot == "smlal"
        self.row_lanes = shape.columns
        self.vectors = self.sums = -(-shape.rows * shape.columns // LANES)
        self.step = 1 if self.widened else max(1, LANES // shape.share)
        self.units = max(1, min(shape.channels * shape.patterns, shape.kernels))
        self.unit = self.vectors * REGISTER

    @property
    def fits(self) -> bool:
        """Two operands pass; a register holds the weights of four filters by lane, of one where products are widened."""
        weights = self.shape.share if self.widened else -(-self.step * self.shape.share // LANES)
        return self.shape.share * self.vectors + weights + (5 if self.widened else 2) <= self.isa.registers

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, fkw: FKW) -> list[np.ndarray]:
        shape = self.shape
        keys, slots = np.unique(fkw.pattern_ids.astype(np.int64) * shape.channels + fkw.index, return_inverse=True)
        channels = np.zeros(self.units, np.int32)
        channels[: len(keys)] = keys % shape.channels * shape.plane
        starts = np.searchsorted(keys, np.arange(shape.patterns + 1) * shape.channels)
        places = np.zeros(max(1, shape.kernels), np.int32)  # buffers have elements, also where nothing is left
        weights = np.zeros((len(places), shape.share, KEPT), np.int8)
        places[: shape.kernels], weights[: shape.kernels] = slots * self.unit, fkw.weight
        return [fkw.patterns.reshape(-1), channels, starts.astype(np.int32), places, weights.reshape(-1)]

    def unpack(self, packed: Sequence[np.ndarray], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        patterns, channels, starts, places, weights = packed
        shape = self.shape
        slots = places[: shape.kernels] // self.unit
        ids = np.searchsorted(starts, slots, side="right") - 1
        kept = weights[: shape.kernels * shape.share * KEPT].reshape(-1, shape.share, KEPT)
        return channels[slots] // shape.plane, ids, kept, patterns.reshape(-1, KEPT)

    def declare(self) -> None:
        shape = self.shape
        kernels = max(1, shape.kernels)
        self._patterns = argument("patterns", shape.patterns * KEPT, "uint8")
        self._channels = argument("channels", self.units, "int32")
        self._starts = argument("starts", shape.patterns + 1, "int32")
        self._places = argument("places", kernels, "int32")
        self._weights = argument("weights", kernels * shape.share * KEPT, "int8")

    # -- operands -----------------------------------------------------------------------------------------------------------

    def fill(self, scratch: Buffer, x: Buffer, start: Value) -> None:
        """Rows are written one after another: what a chunk writes past its row, the next row or pair overwrites."""
        shape, pitch = self.shape, self.shape.pitch
        with T.serial(shape.patterns) as pattern:
            # Of 64 bits: the vectorizer would keep four addresses of 32 bits in one vector register.
            taps: list[Value] = []
            for tap in range(KEPT):
                number = T.Bind(self._patterns[pattern * KEPT + tap].astype("int32"))
                taps.append(T.Bind((number // TAP_ROWS * (pitch - TAP_ROWS) + number + start).astype("int64")))
            first = T.Bind(self._starts[pattern])
            with T.serial(T.Bind(self._starts[pattern + 1] - first)) as pair:
                channel = T.Bind(self._channels[first + pair].astype("int64"))
                bases = [T.Bind(channel + base) for base in taps]
                place = T.Bind((first + pair) * self.unit)
                chunks = self.chunks
                for two in (chunks[start : start + 2] for start in range(0, len(chunks), 2)):  # neighbours are one ``ldp``
                    rows = [
                        [self._row(x, base + row * shape.strides[0] * pitch + column * shape.strides[1], width) for base in bases]
                        for row, column, width in two
                    ]
                    for (row, column, width), taps in zip(two, rows, strict=True):
                        mixed = T.Shuffle(taps, [tap * width + lane for lane in range(width) for tap in range(KEPT)])
                        store(scratch, place + (row * shape.columns + column) * KEPT, mixed, KEPT * width)

    @property
    def chunks(self) -> list[tuple[int, int, int]]:
        """Row, column and width of what is read at once; lanes that fill the last vector are read too, and are no positions."""
        shape, found = self.shape, []
        for row in range(shape.rows):
            for column in range(0, shape.columns, REGISTER):
                left = shape.columns - column
                if row == shape.rows - 1:
                    left = self.vectors * LANES - row * shape.columns - column
                found.append((row, column, REGISTER if left > REGISTER // 2 else REGISTER // 2))
        return found

    def _row(self, x: Buffer, offset: Value, width: int) -> Value:
        step = self.shape.strides[1]
        codes = load(x, offset, step * width)
        if step == 2:  # the even ones of bytes: the lower halves of 16 bits; of a shuffle, LLVM would make single bytes' moves
            pairs = T.reinterpret(codes, dtype=f"int16x{width}")
            codes = T.Bind(T.reinterpret(pairs.astype(f"int8x{width}"), dtype=f"{x.dtype}x{width}"))
        return self._signed(codes, x.dtype, width)

    # -- sums ---------------------------------------------------------------------------------------------------------------

    def begin(self, sums: Registers, bias: Sequence[Value]) -> None:
        for member, value in enumerate(bias):
            for vector in range(self.vectors):
                sums[member * self.vectors + vector] = value

    def kernels(self, sums: Registers, scratch: Buffer, group: Value, first: Value, count: Value) -> None:
        if self.step == 1:
            with T.serial(count) as kernel:
                self._step(sums, scratch, first + kernel, 1)
            return
        with T.serial(count // self.step) as index:
            self._step(sums, scratch, first + index * self.step, self.step)
        done = T.Bind(first + count // self.step * self.step)
        with T.serial(count % self.step) as index:
            self._step(sums, scratch, done + index, 1)

    def _step(self, sums: Registers, scratch: Buffer, kernel: Value, kernels: int) -> None:
        share = self.shape.share
        weights = self._multipliers(kernel * share * KEPT, kernels * share)
        for index in range(kernels):
            place = T.Bind(self._places[kernel + index])
            for vector in range(self.vectors):
                codes = load(scratch, place + vector * REGISTER, REGISTER)
                for member in range(share):
                    register = member * self.vectors + vector
                    sums[register] = self._dot(sums[register], codes, weights[index * share + member])

    def _multipliers(self, start: Value, quads: int) -> list[Value]:
        """Consecutive quads of weights, each in every lane."""
        found = []
        for first in range(0, quads, LANES):
            here = min(LANES, quads - first)
            codes = load(self._weights, start + first * KEPT, here * KEPT)
            words = T.Bind(T.reinterpret(codes, dtype="int32" if here == 1 else f"int32x{here}"))
            for lane in range(here):
                spread = splat(words, LANES) if here == 1 else T.Shuffle([words, words], [lane] * LANES)
                found.append(T.reinterpret(spread, dtype="int8x16"))
        return [T.Bind(quad) for quad in found] if self.widened else found

    def _dot(self, sums: Value, codes: Value, weights: Value) -> Value:
        """``sums[l] + sum_k codes[l][k] * weights[k]``.

        Without dot products: the sum of two products of codes and weights fits 16 bits, as no weight is -128.
        """
        if not self.widened:
            return SDOT(sums, codes, weights)
        halves = [
            SMULL_8H(T.Shuffle([codes], lanes), T.Shuffle([weights], lanes)) for lanes in (list(range(8)), list(range(8, 16)))
        ]
        return sums + SADDLP(ADDP_8H(*halves))

    def of_filter(self, sums: Registers, member: int) -> list[Value]:
        return [T.Bind(sums[member * self.vectors + vector]) for vector in range(self.vectors)]


class WindowProducts(PatternOperands):
    """Windows of 4x4 codes of every channel; two kernels, two positions and two filters a matrix product.

    A row of the tile takes whole fours of columns: windows of columns 4j and 4j + 1 lie before those of columns 4j + 2 and 4j + 3,
    so that one ``st4`` of four rows makes four windows. Kernels go two by two; a last one alone has a partner of weights 0.
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
        """Two index vectors, four windows, and the weights of two filters a register."""
        share = self.shape.share
        return share % 2 == 0 and share * self.windows + 2 + 4 + share // 2 <= self.isa.registers

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, fkw: FKW) -> list[np.ndarray]:
        """``records`` hold the places of two kernels and of their lookup."""
        shape, ids = self.shape, fkw.pattern_ids.astype(np.int64)
        counts = np.diff(fkw.offset.astype(np.int64))
        steps = -(-counts // self.step)
        starts = np.concatenate([[0], np.cumsum(steps)])
        rank = np.arange(shape.kernels) - np.repeat(fkw.offset[:-1].astype(np.int64), counts)
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
        rank = np.arange(shape.kernels) - np.repeat(np.cumsum(counts) - counts, counts)
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
            for row in range(self.window_rows):
                for odd in range(2):
                    for column in range(odd, self.window_columns, 8):
                        at = begin + row * 2 * pitch + column * 2
                        rows = [self._signed(load(x, at + line * pitch, REGISTER), x.dtype, REGISTER) for line in range(4)]
                        words = [T.reinterpret(codes, dtype="int32x4") for codes in rows]
                        mixed = T.Shuffle(words, [4 * line + lane for lane in range(4) for line in range(4)])
                        place = channel * self.unit + self._place(row, column) * REGISTER
                        store(scratch, place, T.reinterpret(mixed, dtype="int8x64"), 4 * REGISTER)

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

