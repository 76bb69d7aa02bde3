"""The epilogue of strips: vectors of positions of a plane that is one line, codes written a register at a time.

Between the rows of the line lie the positions of the result's halo. Whatever was computed for them is replaced by the stored zero
on the way to memory, so that the line can be cut anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tapdot.kernels.emit import Value, argument, fill, intrinsic, load, store
from tapdot.kernels.integer_expression import Narrowed
from tapdot.kernels.integer_quad_plan import Piece, QuadPlan
from tapdot.kernels.integer_rows import HALO_VECTOR, PositionEpilogue, store_lanes
from tapdot.kernels.isa.channel_quads import STRIP, strip_code
from tapdot.kernels.layout import CODES, READ_SLACK
from tapdot.kernels.position_block import PART
from tapdot.kernels.tvm_adapter import Buffer, T, tirx
from tapdot.kernels.workload import Operand, Workload


class LineEpilogue(PositionEpilogue):
    """:class:`PositionEpilogue` for pieces of a line."""

    def __init__(self, workload: Workload, first: int, plan: QuadPlan) -> None:
        super().__init__(workload, first, plan.isa)
        self.plan = plan
        self.gaps = plan.pitch > plan.geometry.width and plan.geometry.height > 1

    # -- what lies between rows ---------------------------------------------------------------------------------------------

    @property
    def masks(self) -> list[np.ndarray]:
        """Packed arrays: 255 for every position of the line that is one of the result, 0 between rows; none without gaps."""
        if not self.gaps:
            return []
        plan = self.plan
        line = np.arange(plan.length + plan.strip) % plan.pitch < plan.geometry.width
        return [np.where(line, 255, 0).astype(np.uint8)]

    def declare_masks(self) -> None:
        """Declares :attr:`masks` as arguments."""
        if self.gaps:
            self._mask = argument("mask", self.plan.length + self.plan.strip, "uint8")

    def _mask_at(self, piece: Piece) -> Value:
        """The mask of the positions of a piece, in their order; None without gaps."""
        return load(self._mask, piece.start, piece.vectors * self.isa.lanes) if self.gaps else None

    def _without_gaps(self, values: Value, mask: Value, size: int) -> Value:
        """``size`` elements of the result, with the stored zero where their ``mask`` is 0; as they are without a mask."""
        if mask is None:
            return values
        dtype = self.output.stored_dtype
        stored_zero = self.output.layout.zero if self.output.layout is not None else 0
        if dtype not in CODES:
            inside = mask != T.broadcast(T.uint8(0), size)
            return T.Bind(T.Select(inside, values, T.broadcast(tirx.const(stored_zero, dtype), size)))
        zero = int(np.uint8(stored_zero % 256))
        kept = T.reinterpret(values, dtype=f"uint8x{size}") & mask
        if zero:
            kept = kept | (T.broadcast(tirx.const(zero, "uint8"), size) & (mask ^ T.broadcast(T.uint8(255), size)))
        return T.Bind(T.reinterpret(kept, dtype=f"{dtype}x{size}"))

    def emit_border(self, y_buffer: Buffer, n: Value, channel: Value) -> None:
        """Writes what lies before and behind the line of a channel."""
        layout, shape = self.output.layout, self.output.shape
        if layout is None or not layout.halo:
            return
        start = layout.offset(shape, n, channel, 0, 0)
        before = layout.origin(shape[3])
        after = layout.plane(*shape[2:]) - before - self.plan.length
        value = tirx.const(layout.zero, self.output.stored_dtype)
        fill(y_buffer, start - before, before, value, HALO_VECTOR)
        fill(y_buffer, start + self.plan.length, after, value, HALO_VECTOR)

    def buffer(self, name: str) -> Buffer:
        """The argument of an operand."""
        return self._buffers[name]

    # -- results ------------------------------------------------------------------------------------------------------------

    def emit_piece(
        self,
        values: Mapping[str, list[Value]],
        sums: Sequence[Value],
        y_buffer: Buffer,
        n: Value,
        channel: Value,
        piece: Piece,
        lines: Mapping[str, Line],
    ) -> None:
        """The expression over the sums of a piece, written to the result.

        ``lines``: by name, the planes of operands whose rows are not as far apart as those of the result.
        """

        def read(name: str, operand: Operand) -> list[Value]:
            line = lines.get(name) or Line(self.buffer(name), self._place(operand, n, channel, 0, 0))
            return self._residual(line, piece)

        operands = self._operands(values, n, channel, len(sums), read)
        operands["acc"] = list(sums)
        result = self._operators.evaluate(self.expression, operands)
        place = self._place(self.output, n, channel, 0, 0) + piece.start
        if isinstance(result, Narrowed):
            offset, stored = self._stored_offset, self.output.stored_dtype
            narrow = self.vectors.narrow_parts if piece.vectors == STRIP else self.vectors.narrow
            codes = narrow(result.values, result.zero + offset, result.low + offset, result.high + offset, stored)
            size = piece.vectors * self.isa.lanes
            store_lanes(y_buffer, place, self._without_gaps(codes, self._mask_at(piece), size), size, 0, piece.valid)
            return
        self._store_lanes_of(self._results(result, None), y_buffer, place, piece)

    def _store_lanes_of(self, vectors: Sequence[tuple[Value, int]], y_buffer: Buffer, place: Value, piece: Piece) -> None:
        """Results that are not narrowed lie four by four."""
        mask = self._mask_at(piece)
        for v, (vector, lanes) in enumerate(vectors):
            codes = [strip_code(v, lane) if piece.vectors == STRIP else v * lanes + lane for lane in range(lanes)]
            vector = self._without_gaps(vector, None if mask is None else T.Bind(T.Shuffle([mask], codes)), lanes)
            for lane in range(0, lanes, PART):
                count = min(PART, piece.valid - codes[lane])
                if count > 0:
                    store_lanes(y_buffer, place + codes[lane], vector, lanes, lane, count)

    def _residual(self, line: Line, piece: Piece) -> list[Value]:
        """Stored numbers of the positions of a piece in its lanes, as int32."""
        lanes, dtype = self.isa.lanes, line.buffer.dtype
        size = STRIP * lanes
        if dtype not in ("int8", "uint8"):
            found = []
            for v in range(piece.vectors):
                firsts = [strip_code(v, lane) if piece.vectors == STRIP else v * lanes + lane for lane in range(0, lanes, PART)]
                parts = [load(line.buffer, line.start + piece.start + first, PART) for first in firsts]
                found.append(T.Bind(T.Shuffle(parts, list(range(lanes)))) if len(parts) > 1 else parts[0])
            return found
        if line.step == 0 and (piece.vectors < STRIP or lanes == PART):
            return self.vectors.widen(line.buffer, line.start + piece.start, piece.vectors)
        codes, zeros = line.read(piece, size), T.broadcast(tirx.const(0, dtype), size)
        byte, found = 3 if dtype == "int8" else 0, []  # signed codes come from the top, so that a shift brings their sign
        for v in range(piece.vectors):
            order = [strip_code(v, lane) if piece.vectors == STRIP else v * lanes + lane for lane in range(lanes)]
            picked = [code if k == byte else size for code in order for k in range(4)]
            spread = T.Bind(T.reinterpret(T.Shuffle([codes, zeros], picked), dtype=self.vectors.vector))
            found.append(T.Bind(T.shift_right(spread, self.vectors.number(24))) if byte else spread)
        return found


@dataclass(frozen=True)
class Line:
    """A plane in memory: position 0 of the result is element ``start``; every further row begins ``step`` elements before the
    place that the result's pitch says.
    """

    buffer: Buffer
    start: Value
    step: int = 0
    pitch: int = 1
    rows: int = 1
    """Rows that a strip may touch."""

    def read(self, piece: Piece, size: int) -> Value:
        """``size`` consecutive positions from a piece's first on; what lies between rows may be anything.

        Every row is a masked load of the lanes from its first position on; lanes that are not read cannot fault.
        """
        if not self.step:
            return load(self.buffer, self.start + piece.start, size)
        row = piece.start // self.pitch
        codes = load(self.buffer, self.start + piece.start - row * self.step, size)
        lanes = T.ramp(tirx.const(0, "int8"), tirx.const(1, "int8"), size)
        for further in range(1, self.rows):
            # LLVM's minimum, which TVM does not see through: it would draw the product into the difference, and overflow there.
            first = intrinsic("llvm.smin", "int32", (row + further) * self.pitch - piece.start, tirx.const(LARGEST_LANE, "int32"))
            bytes_of_it = T.reinterpret(T.broadcast(first * FOUR_BYTES, size // 4), dtype=f"int8x{size}")
            inside = lanes >= bytes_of_it
            place = self.start + piece.start - (row + further) * self.step
            pointer = T.address_of(self.buffer[place])
            codes = T.Bind(intrinsic("llvm.masked.load", f"{self.buffer.dtype}x{size}", pointer, inside, codes))
        return codes


LARGEST_LANE = 127
"""A number of a lane that no vector has."""
FOUR_BYTES = 0x01010101
"""Times a small number: four bytes of it. (A cast to 8 bits would be drawn into the arithmetic before it, and overflow there.)"""


def copy_rows(
    source: Buffer,
    starts: Value,
    step: Value,
    stride: int,
    width: int,
    rows: Value,
    target: Buffer,
    place: int,
    pitch: int,
) -> None:
    """Copies rows of ``width`` elements, every ``stride``-th of them, to rows ``pitch`` apart; each is overwritten behind by the
    next. ``starts``: the first element; ``step``: from a row to the next; ``place``: where the copy begins.
    """
    size = copy_size(width, stride, source.dtype)
    with T.serial(rows) as row:
        for first in range(0, width, size):
            codes = load(source, starts + row * step + first * stride, size * stride)
            if stride > 1:
                codes = T.Bind(T.Shuffle([codes], list(range(0, size * stride, stride))))
            store(target, place + row * pitch + first, codes, size)


def copy_size(width: int, stride: int, dtype: str) -> int:
    """Elements to copy at once: a power of two that covers a row, or what the bytes that may be read behind it allow."""
    most = READ_SLACK // (np.dtype(dtype).itemsize * stride)
    return min(most, 1 << max(0, width - 1).bit_length())
