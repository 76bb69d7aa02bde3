"""What every integer kernel does between int32 accumulators and memory: the epilogue of codes.

The expression's values are int32 vectors over consecutive channels at one position; a ``Narrow`` at the root is fused with the
store. Stores are of one position, of a run of positions in a row, or of a tile of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapdot.kernels.emit import Registers, Value, store
from tapdot.kernels.integer_expression import IntegerOperators, Narrowed, Reals, Result, Stored, shift_of_accumulator
from tapdot.kernels.integer_operands import BLOCK, IntegerOperands, element_offset, side_by_side
from tapdot.kernels.isa import Isa
from tapdot.kernels.tvm_adapter import Buffer, T
from tapdot.kernels.workload import Workload


class IntegerEpilogue(IntegerOperands):
    """An expression over accumulators and the operands of a workload from index ``first`` on, written to the result."""

    def __init__(
        self, workload: Workload, first: int, isa: Isa, attribute: str = "epilogue", names: Sequence[str] | None = None
    ) -> None:
        super().__init__(workload, first, isa, attribute, names)
        self._operators = IntegerOperators(self.vectors)

    def group(self, vectors: int) -> int:
        """How many of ``vectors`` consecutive vectors are stored at once: those of a block where they fill it.

        Raises ValueError where ``vectors`` neither fill blocks nor divide one.
        """
        in_block = max(1, BLOCK // self.isa.lanes)
        if vectors % in_block == 0:
            return in_block
        if in_block % vectors:
            raise ValueError(f"Expected whole blocks of {in_block} vectors or a divisor of that, found {vectors} vectors.")
        return vectors

    def emit_store(
        self,
        channel_values: Sequence[Mapping[str, list[Value]]],
        accumulators: Sequence[Value],
        y_buffer: Buffer,
        n: Value,
        first_channel: Value,
        y: Value = 0,
        x: Value = 0,
        filled: int | None = None,
    ) -> None:
        """The expression over the accumulators of consecutive vectors at one position, written to the result.

        ``accumulators`` is empty in a chain without one, as many as ``channel_values`` otherwise. ``filled`` channels of a
        row-major result exist; None: all.
        """
        vectors, lanes = len(channel_values), self.isa.lanes
        size = self.group(vectors)
        for start in range(0, vectors, size):
            channel = first_channel + start * lanes
            operands = self.operands_at(channel_values[start : start + size], n, channel, y, x, filled, start)
            if accumulators:
                operands["acc"] = list(accumulators[start : start + size])
            result = self._operators.evaluate(self.expression, operands)
            place = element_offset(self.output, n, channel, y, x)
            count = size * lanes if filled is None else min(size * lanes, filled - start * lanes)
            if count > 0:
                self._store(y_buffer, place, result, count)

    def emit_run(
        self,
        channel_values: Sequence[Mapping[str, list[Value]]],
        runs: Sequence[Sequence[Value]],
        y_buffer: Buffer,
        n: Value,
        first_channel: Value,
        y: Value,
        x: Value,
    ) -> None:
        """:meth:`emit_store` at positions ``x``, ``x + 1``, ... of a row, each with its accumulators.

        Where a position holds a whole block, neighbours lie side by side: as many as fill a register are stored at once.
        """
        vectors, lanes = len(channel_values), self.isa.lanes
        together = 4 * lanes // BLOCK if vectors * lanes == BLOCK and len(self.output.shape) == 4 else 1
        for start in range(0, len(runs), max(1, together)):
            part = runs[start : start + max(1, together)]
            if len(part) == 1:
                self.emit_store(channel_values, part[0], y_buffer, n, first_channel, y, x + start)
                continue
            positions = [
                self.operands_at(channel_values, n, first_channel, y, x + start + index, None, 0) for index in range(len(part))
            ]
            operands = {name: side_by_side([position[name] for position in positions]) for name in positions[0]}
            if part[0]:
                operands["acc"] = [value for accumulators in part for value in accumulators]
            result = self._operators.evaluate(self.expression, operands)
            place = element_offset(self.output, n, first_channel, y, x + start)
            self._store(y_buffer, place, result, len(part) * BLOCK)

    def emit_tile(
        self,
        channel_values: Sequence[Mapping[str, list[Value]]],
        sums: Registers,
        places: Sequence[tuple[int, int]],
        y_buffer: Buffer,
        n: Value,
        first_channel: Value,
        y: Value,
        x: Value,
    ) -> None:
        """:meth:`emit_store` at every (row, column) of ``places``, counted from (y, x); the columns of a row are consecutive.

        The sum of vector ``v`` at place ``p`` is ``sums[v * len(places) + p]``; it may be overwritten.
        """
        channel_values = self._shift_ahead(channel_values, sums, len(places))
        size, lanes = self.group(len(channel_values)), self.isa.lanes
        for start in range(0, len(channel_values), size):
            for row in sorted({row for row, _ in places}):
                run = [place for place, (own, _) in enumerate(places) if own == row]
                here = [[T.Bind(sums[v * len(places) + place]) for v in range(start, start + size)] for place in run]
                values, channel = channel_values[start : start + size], first_channel + start * lanes
                self.emit_run(values, here, y_buffer, n, channel, y + row, x + places[run[0]][1])

    def _shift_ahead(
        self, channel_values: Sequence[Mapping[str, list[Value]]], sums: Registers, positions: int
    ) -> Sequence[Mapping[str, list[Value]]]:
        """Does the shift before the dyadic scaling of the accumulator for a whole tile behind one branch: few layers need it.

        Returns the channel values without that shift.
        """
        name = shift_of_accumulator(self.expression)
        if name is None or not self.vectors.shifts_ahead or name not in channel_values[0]:
            return channel_values
        before = [values[name][0] for values in channel_values]
        with T.If(self.vectors.any(before)), T.Then():
            for v, shift in enumerate(before):
                for register in range(v * positions, (v + 1) * positions):
                    sums[register] = T.shift_left(sums[register], shift)
        return [{**values, name: [self.vectors.number(0), *values[name][1:]]} for values in channel_values]

    def _store(self, buffer: Buffer, place: Value, result: Result, count: int) -> None:
        """Writes ``count`` consecutive elements of the result."""
        lanes = self.isa.lanes
        layout = self.output.layout
        offset = layout.code_offset if layout is not None else 0
        stored = self.output.stored_dtype
        if isinstance(result, Reals):
            pieces = [(value, lanes) for value in result.values]
        elif isinstance(result, Narrowed):
            low, high = result.low + offset, result.high + offset
            codes = self.vectors.narrow(result.values, result.zero + offset, low, high, stored)
            pieces = [(codes, len(result.values) * lanes)]
        elif isinstance(result, Stored):
            shift = offset - result.offset
            values = [value + self.vectors.number(shift) for value in result.values] if shift else result.values
            pieces = [(T.Bind(value.astype(f"{stored}x{lanes}")), lanes) for value in values]
        else:
            pieces = [(value, lanes) for value in self._operators.logical(result)]
        done = 0
        for value, width in pieces:
            here = min(width, count - done)
            if here == width:
                store(buffer, place + done, value, width)
            elif here > 0:
                scratch = Registers(1, width, stored)
                scratch[0] = value
                for lane in range(here):
                    T.buffer_store(buffer, scratch.lane(lane), [place + done + lane])
            done += width
