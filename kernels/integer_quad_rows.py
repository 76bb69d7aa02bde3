"""The epilogue of strips: vectors of positions of a plane that is one line, codes written a register at a time.

Between the rows of the line lie the positions of the result's halo. Whatever was computed for them is replaced by the stored zero
on the way to memory, so that the line can be cut anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tapdot.kernels.emit import Value, argument, fill, load, store
from tapdot.kernels.integer_expression import Narrowed
from tapdot.kernels.integer_quad_plan import Piece, QuadPlan
from tapdot.kernels.integer_rows import HALO_VECTOR, PositionEpilogue, store_lanes
from tapdot.kernels.isa.channel_quads import STRIP, strip_code
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

    def _without_gaps(self, codes: Value, start: Value, size: int) -> Value:
        """Codes from a position on, with the stored zero where there is no position."""
        if not self.gaps:
            return codes
        dtype = self.output.stored_dtype
        mask = load(self._mask, start, size)
        zero = int(np.uint8(self.output.layout.zero % 256)) if self.output.layout is not None else 0
        kept = T.reinterpret(codes, dtype=f"uint8x{size}") & mask
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
        lines: Mapping[str, tuple[Buffer, Value]],
    ) -> None:
        """The expression over the sums of a piece, written to the result.

        ``lines``: of operands whose planes are lines of another pitch, a copy that is one of this pitch and where it begins.
        """

        def read(buffer: Buffer, operand: Operand) -> list[Value]:
            copy = next(
                (lines[name] for name, own in zip(self.names, self.operands, strict=True) if own is operand and name in lines),
                None,
            )
            if copy is not None:
                return self._residual(copy[0], piece.start - copy[1], piece.vectors)
            return self._residual(buffer, self._place(operand, n, channel, 0, 0) + piece.start, piece.vectors)

        operands = self._operands(values, n, channel, len(sums), read)
        operands["acc"] = list(sums)
        result = self._operators.evaluate(self.expression, operands)
        place = self._place(self.output, n, channel, 0, 0) + piece.start
        if isinstance(result, Narrowed):
            offset, stored = self._stored_offset, self.output.stored_dtype
            narrow = self.vectors.narrow_parts if piece.vectors == STRIP else self.vectors.narrow
            codes = narrow(result.values, result.zero + offset, result.low + offset, result.high + offset, stored)
            size = piece.vectors * self.isa.lanes
            store_lanes(y_buffer, place, self._without_gaps(codes, piece.start, size), size, 0, piece.valid)
            return
        self._store_lanes_of(self._results(result, None), y_buffer, place, piece)

    def _store_lanes_of(self, vectors: Sequence[tuple[Value, int]], y_buffer: Buffer, place: Value, piece: Piece) -> None:
        """Results that are not narrowed lie four by four; these have no gaps (:meth:`served`)."""
        for v, (vector, lanes) in enumerate(vectors):
            for lane in range(0, lanes, PART):
                code = strip_code(v, lane) if piece.vectors == STRIP else v * lanes + lane
                count = min(PART, piece.valid - code)
                if count > 0:
                    store_lanes(y_buffer, place + code, vector, lanes, lane, count)

    def _residual(self, buffer: Buffer, place: Value, vectors: int) -> list[Value]:
        """Stored numbers of consecutive positions in the lanes of a piece, as int32."""
        lanes = self.isa.lanes
        if vectors < STRIP or lanes == PART:
            return self.vectors.widen(buffer, place, vectors)
        size, dtype = STRIP * lanes, buffer.dtype
        found = []
        if dtype not in ("int8", "uint8"):
            for v in range(vectors):
                parts = [load(buffer, place + strip_code(v, lane), PART) for lane in range(0, lanes, PART)]
                found.append(T.Bind(T.Bind(T.Shuffle(parts, list(range(lanes)))).astype(self.vectors.vector)))
            return found
        codes, zeros = load(buffer, place, size), T.broadcast(tirx.const(0, dtype), size)
        byte = 3 if dtype == "int8" else 0  # signed codes come from the top, so that a shift brings their sign
        for v in range(vectors):
            picked = [strip_code(v, lane) if k == byte else size for lane in range(lanes) for k in range(4)]
            spread = T.Bind(T.reinterpret(T.Shuffle([codes, zeros], picked), dtype=self.vectors.vector))
            found.append(T.Bind(T.shift_right(spread, self.vectors.number(24))) if byte else spread)
        return found


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
    size: int,
) -> None:
    """Copies rows of ``width`` elements, every ``stride``-th of them, to rows ``pitch`` apart; each is overwritten behind by the
    next. ``starts``: the first element; ``step``: from a row to the next; ``place``: where the copy begins. ``size``: elements
    copied at once.
    """
    with T.serial(rows) as row:
        for first in range(0, width, size):
            codes = load(source, starts + row * step + first * stride, size * stride)
            if stride > 1:
                codes = T.Bind(T.Shuffle([codes], list(range(0, size * stride, stride))))
            store(target, place + row * pitch + first, codes, size)


def copy_size(width: int, most: int) -> int:
    """Elements to copy at once: a power of two that covers a row, if it may be that large."""
    return min(most, 1 << max(0, width - 1).bit_length())
