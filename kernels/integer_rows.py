"""The epilogue of kernels whose vectors run over positions: planar rows of codes, one channel at a time.

The counterpart of :class:`kernels.integer_epilogue.IntegerEpilogue`. What differs by channel is a scalar here, broadcast when it
is used; residuals and results are runs of consecutive positions. A vector may hold several runs: of a block of 4 x 8 positions,
for instance, a vector of 16 lanes holds two rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod

import numpy as np

from tapdot.kernels.emit import Registers, Value, fill, load, splat, store, when, write_halo
from tapdot.kernels.family import Port
from tapdot.kernels.integer_expression import IntegerOperators, Narrowed, Reals, Result, Stored, Table, shift_of_accumulator
from tapdot.kernels.integer_operands import CHANNEL, FULL, MULTIPLIER, SCALAR, SHIFT, TABLE, IntegerOperands
from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.position_block import NARROWED, PART, Block
from tapdot.kernels.tvm_adapter import Buffer, T, tirx
from tapdot.kernels.workload import Operand, Workload

PLANAR = 1
"""The channel block of planar rows."""
HALO_VECTOR = 16
"""Codes that one store of a halo writes."""

Runs = Sequence[tuple[Value, Value] | None]
"""Where runs of consecutive positions begin: (row, column); None for lanes that are no positions."""

StoredPiece = tuple[int, Value, int, int, int, int, int]
"""Number of the block, vector, its lanes, first lane, positions, row and column in the block."""


class PositionEpilogue(IntegerOperands):
    """An expression over sums of one channel at many positions, and the operands of a workload from index ``first`` on."""

    def __init__(
        self, workload: Workload, first: int, isa: Isa, attribute: str = "epilogue", names: Sequence[str] | None = None
    ) -> None:
        super().__init__(workload, first, isa, attribute, names)
        self._operators = IntegerOperators(self.vectors)
        sample = np.full((1, isa.lanes), 2**30 + 1, np.int32)
        self._one_multiplier = len(set(_largest(self.vectors.pack_multipliers(sample)).flat)) == 1

    def served(self) -> bool:
        roles = {TABLE, MULTIPLIER, SHIFT, FULL, CHANNEL, SCALAR}
        return len(self.output.shape) == 4 and set(self.roles) <= roles and super().served()

    def ports(self) -> list[Port | None]:
        """Where the operands may lie: variable ones in planar rows."""
        planar = Port((PLANAR,), behind=True)
        return [None if operand.constant else planar if len(operand.shape) == 4 else Port() for operand in self.operands]

    # -- constants ----------------------------------------------------------------------------------------------------------

    def pack(self, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        """Constant operands: as they are, but scales as the rows that the instructions want, ``[channels, rows]``."""
        packed = []
        for index, (operand, role) in enumerate(zip(self.operands, self.roles, strict=True)):
            if operand.constant:
                flat = np.ascontiguousarray(constants[self.first + index]).reshape(-1)
                if role in (MULTIPLIER, SHIFT):
                    pack = self.vectors.pack_multipliers if role == MULTIPLIER else self.vectors.pack_shifts
                    rows = _largest(pack(np.repeat(flat[:, np.newaxis], self.isa.lanes, axis=1)))
                    flat = np.ascontiguousarray(rows[:, : self._rows(role)]).reshape(-1)
                packed.append(flat)
        return packed

    def unpack(self, packed: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """The inverse of :meth:`pack`."""
        found, arrays = {}, iter(packed)
        for index, (operand, role) in enumerate(zip(self.operands, self.roles, strict=True)):
            if not operand.constant:
                continue
            array = np.asarray(next(arrays))
            if role in (MULTIPLIER, SHIFT):
                unpack = self.vectors.unpack_multipliers if role == MULTIPLIER else self.vectors.unpack_shifts
                rows = array.reshape(-1, self._rows(role))
                if role == MULTIPLIER:
                    rows = np.broadcast_to(rows, (len(rows), self.vectors.multiplier_rows)) if self._one_multiplier else rows
                array = unpack(np.repeat(rows[:, :, np.newaxis], self.isa.lanes, axis=2))[:, 0]
            found[self.first + index] = array.astype(operand.dtype).reshape(operand.shape)
        return found

    def _rows(self, role: str | None) -> int:
        return 1 if role == MULTIPLIER and self._one_multiplier else super()._rows(role)

    def _packed_size(self, operand: Operand, role: str | None) -> int:
        return prod(operand.shape) * self._rows(role)

    # -- code ---------------------------------------------------------------------------------------------------------------

    def channel(self, channel: Value) -> dict[str, list[Value]]:
        """The constants of one channel in every lane, loaded once for many positions."""
        found = {}
        for name, operand, role in zip(self.names, self.operands, self.roles, strict=True):
            if not operand.constant or role == TABLE:
                continue
            rows, buffer = self._rows(role), self._buffers[name]
            place = 0 if prod(operand.shape) == 1 else channel * rows
            scalars = [buffer[place + row] for row in range(rows)]
            if operand.dtype in CODES:
                scalars = [scalar.astype("int32") for scalar in scalars]
            values = [T.Bind(splat(scalar, self.isa.lanes)) for scalar in scalars]
            if role == MULTIPLIER and self._one_multiplier:
                values = values * self.vectors.multiplier_rows
            found[name] = values
        return found

    def shift_ahead(
        self, values: Mapping[str, list[Value]], channel: Value, sums: Registers, registers: Sequence[int]
    ) -> Mapping[str, list[Value]]:
        """Does the shift before the dyadic scaling of a channel's sums behind one branch: few layers need it.

        Returns the constants of the channel without that shift.
        """
        name = shift_of_accumulator(self.expression)
        if name is None or not self.vectors.shifts_ahead or name not in values:
            return values
        role = self.roles[self.names.index(name)]
        operand = self.operands[self.names.index(name)]
        place = 0 if prod(operand.shape) == 1 else channel * self._rows(role)
        with when(self._buffers[name][place] != 0):
            for register in registers:
                sums[register] = T.shift_left(sums[register], values[name][0])
        return {**values, name: [self.vectors.number(0), *values[name][1:]]}

    def emit(
        self,
        values: Mapping[str, list[Value]],
        vectors: Sequence[Value],
        y_buffer: Buffer,
        n: Value,
        channel: Value,
        runs: Runs,
        columns: int,
        valid: int | None = None,
        finish: Callable[[Value], Value] | None = None,
    ) -> None:
        """The expression over sums of one channel, written to the result.

        ``vectors`` are int32 vectors of ``len(runs) * columns`` positions: run ``i`` begins at ``runs[i]``. The first ``valid``
        of every run are written. ``finish`` changes a vector of narrowed codes before it is stored. Without an accumulator
        pass ``vectors`` of numbers.
        """
        lanes = self.isa.lanes
        valid = columns if valid is None else valid
        for start in range(0, len(vectors), NARROWED):
            part = vectors[start : start + NARROWED]
            first = start * lanes

            def read(name: str, operand: Operand, first: int = first, count: int = len(part)) -> list[Value]:
                return self._load_runs(self._buffers[name], operand, n, channel, runs, columns, first, count)

            operands = self._operands(values, n, channel, len(part), read)
            operands.setdefault("acc", list(part))  # in a chain the name is an operand's
            result = self._operators.evaluate(self.expression, operands)
            done = first
            for piece, width in self._results(result, finish):
                for run, column, lane, count in pieces(columns, valid, done, width):
                    begin = runs[run]
                    if begin is not None:
                        place = self._place(self.output, n, channel, begin[0], begin[1] + column)
                        store_lanes(y_buffer, place, piece, width, lane, count)
                done += width

    def emit_blocks(
        self,
        values: Mapping[str, list[Value]],
        vectors: Sequence[Value],
        y_buffer: Buffer,
        n: Value,
        channel: Value,
        block: Block,
        corners: Sequence[tuple[Value, Value]],
        heights: Sequence[int] | None = None,
    ) -> None:
        """:meth:`emit` for blocks whose first positions are ``corners``; their lanes lie as :class:`Block` says.

        ``vectors`` are those of the first block, of the second, ... ``heights`` are the rows of each block that are written, by
        default all. No code is moved between packing and storing.
        """
        together = NARROWED // block.vectors
        for start in range(0, len(corners), together):
            here = corners[start : start + together]
            part = vectors[start * block.vectors : (start + together) * block.vectors]

            def read(name: str, operand: Operand, here: Sequence[tuple[Value, Value]] = here) -> list[Value]:
                buffer = self._buffers[name]
                return [vector for corner in here for vector in self._load_block(buffer, operand, n, channel, block, corner)]

            operands = self._operands(values, n, channel, len(part), read)
            operands.setdefault("acc", list(part))
            result = self._operators.evaluate(self.expression, operands)
            if isinstance(result, Narrowed):
                pieces_of_codes = self._code_pieces(result, block, len(here))
            else:
                pieces_of_codes = self._lane_pieces(result, block)
            for number, value, width, lane, count, row, column in pieces_of_codes:
                y, x = here[number]
                if heights is None or row < heights[start + number]:
                    place = self._place(self.output, n, channel, y + row, x + column)
                    store_lanes(y_buffer, place, value, width, lane, count)

    def _code_pieces(self, result: Narrowed, block: Block, blocks: int) -> Iterator[StoredPiece]:
        """Pieces of narrowed codes: where each lies in the register, and in its block."""
        offset, stored = self._stored_offset, self.output.stored_dtype
        limits = result.zero + offset, result.low + offset, result.high + offset
        codes = self.vectors.narrow_parts(result.values, *limits, stored)
        if block.reorder is not None:
            codes = T.Bind(T.Shuffle([codes], block.reorder))
        part = PART * NARROWED
        for number in range(blocks):
            for code, row, column in block.pieces():
                lane = code // block.run * part + number * block.run + code % block.run
                yield number, codes, part * self.isa.lanes // PART, lane, block.stored, row, column

    def _lane_pieces(self, result: Result, block: Block) -> Iterator[StoredPiece]:
        """Pieces of int32 or float32 vectors; within a part of lanes codes are neighbours."""
        size = min(block.piece, 2 if block.reorder else PART)
        for index, (value, width) in enumerate(self._results(result, None)):
            number, v = divmod(index, block.vectors)
            for lane in range(0, width, size):
                code = block.code(v, lane)
                row, column = block.position(code)
                if block.row(code) < block.height and column < block.width:
                    yield number, value, width, lane, min(size, block.width - column), row, column

    def _load_block(
        self, buffer: Buffer, operand: Operand, n: Value, channel: Value, block: Block, corner: tuple[Value, Value]
    ) -> list[Value]:
        """An operand at the positions of a block, as int32 vectors."""
        places = [block.position(code) for code in range(0, block.rows * block.columns, block.piece)]
        loaded = [
            load(buffer, self._place(operand, n, channel, corner[0] + row, corner[1] + column), block.piece)
            for row, column in places
        ]
        found = []
        for v in range(block.vectors):
            order = [block.code(v, lane) for lane in range(self.isa.lanes)]
            together = loaded[0] if len(loaded) == 1 else T.Bind(T.Shuffle(loaded, order))
            found.append(T.Bind(together.astype(self.vectors.vector)))
        return found

    @property
    def _stored_offset(self) -> int:
        """What the result's codes are stored higher by."""
        return self.output.layout.code_offset if self.output.layout is not None else 0

    def emit_halo(self, y_buffer: Buffer, n: Value, channel: Value, between_rows: bool = True) -> None:
        """Writes everything of the plane of a channel that is no position; ``between_rows`` False: but the ends of rows."""
        output = self.output
        if output.layout is not None:
            write_halo(y_buffer, output.layout, output.shape, n, channel, output.stored_dtype, HALO_VECTOR, between_rows)

    def emit_row_ends(self, y_buffer: Buffer, n: Value, channel: Value, first: Value, count: Value) -> None:
        """Writes what lies between a row and the next, for ``count`` rows of a channel from ``first`` on."""
        output = self.output
        if output.layout is None or not output.layout.side:
            return
        zero, end = tirx.const(output.layout.zero, output.stored_dtype), output.shape[3]
        with T.serial(count) as row:  # the end is no position: _place would move it to column 0 of a plane of width 1
            place = T.Bind(output.layout.offset(output.shape, n, channel, first + row, 0) + end)
            fill(y_buffer, place, output.layout.side, zero, HALO_VECTOR)

    def _results(self, result: Result, finish: Callable[[Value], Value] | None) -> list[tuple[Value, int]]:
        """The vectors that are stored, each with its elements."""
        lanes, stored, offset = self.isa.lanes, self.output.stored_dtype, self._stored_offset
        if isinstance(result, Reals):
            return [(value, lanes) for value in result.values]
        if isinstance(result, Narrowed):
            low, high = result.low + offset, result.high + offset
            codes = self.vectors.narrow(result.values, result.zero + offset, low, high, stored)
            return [(finish(codes) if finish else codes, len(result.values) * lanes)]
        if isinstance(result, Stored):
            shift = offset - result.offset
            values = [value + self.vectors.number(shift) for value in result.values] if shift else result.values
            return [(T.Bind(value.astype(f"{stored}x{lanes}")), lanes) for value in values]
        return [(value, lanes) for value in self._operators.logical(result)]

    def _operands(
        self,
        values: Mapping[str, list[Value]],
        n: Value,
        channel: Value,
        count: int,
        read: Callable[[str, Operand], list[Value]],
    ) -> dict[str, Result]:
        """Every operand at ``count`` vectors of positions; ``read`` loads, by name, those that differ from place to place."""
        found: dict[str, Result] = {}
        for name, operand, role in zip(self.names, self.operands, self.roles, strict=True):
            if role == TABLE:
                found[name] = Table(self._buffers[name], operand.dtype)
            elif role in (MULTIPLIER, SHIFT):
                found[name] = [values[name]] * count
            elif operand.constant:
                found[name] = [values[name][0]] * count
                if operand.dtype in CODES:
                    found[name] = Stored(found[name], 0, operand.dtype)
            else:
                if role == FULL:
                    found_values = read(name, operand)
                else:
                    buffer = self._buffers[name]
                    place = self._place(operand, n, channel if role == CHANNEL else 0, 0, 0)
                    found_values = [T.Bind(splat(buffer[place].astype("int32"), self.isa.lanes))] * count
                offset = operand.layout.code_offset if operand.layout is not None else 0
                found[name] = Stored(found_values, offset, operand.dtype) if operand.dtype in CODES else found_values
        return found

    def _load_runs(
        self,
        buffer: Buffer,
        operand: Operand,
        n: Value,
        channel: Value,
        runs: Runs,
        columns: int,
        first: int,
        count: int,
    ) -> list[Value]:
        """An operand at ``count`` vectors of positions from lane ``first`` of the runs on."""
        lanes = self.isa.lanes
        found: list[Value] = []
        anywhere = next(run for run in runs if run is not None)
        while len(found) < count:
            start, left = first + len(found) * lanes, count - len(found)
            together = max(v for v in (1, 2, 4) if v == 1 or (v <= left and start % columns + v * lanes <= columns))
            parts = []
            for run, column, _, width in pieces(columns, columns, start, together * lanes):
                y, x = runs[run] or anywhere
                parts.append((self._place(operand, n, channel, y, x + column), width))
            if len(parts) == 1:
                found += self.vectors.widen(buffer, parts[0][0], together)
                continue
            loaded = [load(buffer, place, width) for place, width in parts]
            found.append(T.Bind(T.Bind(T.Shuffle(loaded, list(range(lanes)))).astype(self.vectors.vector)))
        return found

    @staticmethod
    def _place(operand: Operand, n: Value, channel: Value, y: Value, x: Value) -> Value:
        """The element of a position in memory; what an operand broadcasts along counts as 0."""
        layout = operand.layout or Layout(PLANAR)
        batch, channels, height, width = operand.shape
        at = (n if batch > 1 else 0, channel if channels > 1 else 0, y if height > 1 else 0, x if width > 1 else 0)
        return layout.offset(operand.shape, *at)


def pieces(columns: int, valid: int, first: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """The parts of runs in lanes ``first .. first + count``: (run, first column, lane less ``first``, positions).

    Runs are ``columns`` lanes apart, of which the first ``valid`` count.
    """
    lane = first
    while lane < first + count:
        run, column = divmod(lane, columns)
        width = min(columns - column, first + count - lane)
        if column < valid:
            yield run, column, lane - first, min(width, valid - column)
        lane += width


def store_lanes(buffer: Buffer, place: Value, vector: Value, width: int, lane: int, count: int) -> None:
    """Writes ``count`` of a vector's ``width`` lanes, from ``lane`` on, to consecutive elements: by one store, or by two."""
    size = 1 << (count.bit_length() - 1)
    for start in dict.fromkeys((0, count - size)):
        part = vector
        if size != width:
            part = T.Shuffle([vector], list(range(lane + start, lane + start + size)))
        store(buffer, place + start, part, size)


def _largest(rows: np.ndarray) -> np.ndarray:
    """Of packed rows ``[channels, rows, lanes]``, what all lanes hold; lanes that an instruction skips hold zero."""
    largest = np.abs(rows).argmax(axis=2)[..., np.newaxis]
    return np.take_along_axis(rows, largest, axis=2)[..., 0]
