"""Operands of pruned 3x3 kernels on AArch64: how the dots of a tile of positions are prepared, and taken, kernel by kernel.

Two forms. :class:`GatheredTaps` prepares, for every input channel and pattern in use, the four codes under the pattern of every
position, side by side: four loads of rows and one ``st4`` make 16 positions, and the loop over kernels has nothing but loads and
``sdot`` by lane. :class:`kernels.isa.window_products.WindowProducts` prepares windows of 4x4 codes, each serving 2x2 positions:
``tbl`` of the windows of two kernels makes two positions' rows of eight codes, as ``smmla`` wants them, for two filters at once.

In numpy, for the plane ``x`` of a channel and taps ``(dy_k, dx_k)``::

    gathered[position][k] = x[y * stride_y + dy_k, x * stride_x + dx_k]
    window[2 * row + column] = x[y + row, x + column], rows and columns 0 to 3
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from tapdot.kernels.emit import Registers, Value, argument, load, splat, store
from tapdot.kernels.fkw import FKW
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.integer_neon import ADDP_8H, SADDLP, SDOT, SMULL_8H
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

LANES = 4
REGISTER = 16
TAP_ROWS = 3
SLACK = 64
"""Bytes behind the last operand that preparing it may overwrite."""


@dataclass(frozen=True)
class TileShape:
    """``rows`` x ``columns`` positions, read ``strides`` apart, of planes with that pitch and ``plane`` elements."""

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

    @property
    @abstractmethod
    def interleaved_stores(self) -> float:
        """About how many ``st4`` prepare a tile, each with its four loads."""

    @property
    @abstractmethod
    def vector_operations(self) -> float:
        """Arithmetic instructions of a kernel."""

    @property
    @abstractmethod
    def other_instructions(self) -> float:
        """Loads, addresses and the loop of a kernel."""

    @property
    def footprint(self) -> float:
        """About how many bytes of the scratch are used."""
        return self.units * self.unit

    @property
    @abstractmethod
    def reads(self) -> list[tuple[int, int, int]]:
        """Row and column, from the tile's first tap on, of the furthest loads of every step of :meth:`fill`, and their bytes."""

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

    @property
    def _pairs(self) -> float:
        """About how many patterns of channels are in use."""
        all_pairs = self.shape.channels * self.shape.patterns
        return all_pairs * (1.0 - exp(-self.shape.kernels / all_pairs))

    @property
    def interleaved_stores(self) -> float:
        return self._pairs * len(self.chunks)

    @property
    def vector_operations(self) -> float:
        return self.shape.share * self.vectors * (4 if self.widened else 1)

    @property
    def other_instructions(self) -> float:
        return self.vectors / 2 + 6

    @property
    def footprint(self) -> float:
        return self._pairs * self.unit

    @property
    def reads(self) -> list[tuple[int, int, int]]:
        down, right = self.shape.strides
        last = TAP_ROWS - 1
        return [(row * down + last, column * right + last, width * right) for row, column, width in self.chunks]

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
