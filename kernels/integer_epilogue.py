"""What every integer kernel does between int32 accumulators and memory: the epilogue of codes.

The expression's values are int32 vectors over consecutive channels at one position; a ``Narrow`` at the root is fused with the
store. Results lie in channel blocks of 16 or in row-major matrices ``[M, N]``, whose columns count as channels here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Registers, Value, argument, splat, store
from tapdot.kernels.expression import Apply, Expression, Leaf, Number, evaluate, leaves, parse, tables
from tapdot.kernels.family import Port
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.integer import integer_vectors
from tapdot.kernels.layout import CODES, Layout, round_up
from tapdot.kernels.tvm_adapter import Buffer, T
from tapdot.kernels.workload import Operand, Workload

BLOCK = 16
"""Channels in a block of stored codes."""

FULL, CHANNEL, SCALAR, TABLE, MULTIPLIER, SHIFT = "full", "channel", "scalar", "table", "multiplier", "shift"
POSITION, MULTIPLIER_THERE, SHIFT_THERE = "position", "multiplier there", "shift there"
"""Constants that differ from position to position instead: the scales of an average over windows of several sizes."""
OPERATORS = frozenset({"Widen", "Dyadic", "Add", "Sub", "Mul", "Max", "Min", "Narrow", "Lookup", "Dequantize", "Reals"})
INTO_FLOATS = ("Dequantize", "Reals")
"""They stand at the root, and their result is what the network leaves the integers with."""
TABLE_CODES = 256
NEUTRAL_SHIFT = 32
"""The shift of channels that are padding."""


@dataclass(frozen=True)
class _Stored:
    """Codes in int32 vectors as they are stored: ``offset`` more than what they mean, of type ``dtype`` in the graph."""

    values: Sequence[Value]
    offset: int
    dtype: str

    @property
    def limits(self) -> tuple[int, int]:
        """What the codes may mean, both ends included."""
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)


@dataclass(frozen=True)
class _Widened:
    """A ``Widen`` of stored codes that has not been computed yet; scaled by literals, it becomes part of the product."""

    codes: _Stored
    zero: int


@dataclass(frozen=True)
class _Narrowed:
    """A ``Narrow`` that has not been computed yet; at the root it becomes part of the store."""

    values: Sequence[Value]
    zero: int
    low: int
    high: int
    dtype: str


@dataclass(frozen=True)
class _Reals:
    """float32 vectors."""

    values: Sequence[Value]


Result = Any
"""int32 vectors as a list, an int, or one of the classes above."""


class IntegerEpilogue:
    """The operands of a workload from index ``first`` on, and the expression over them and the accumulator.

    The operands are the leaves ``r0``, ``r1``, ... of the expression in ``attribute``; ``names`` overrides that, for chains
    without an accumulator: ``["acc", "r0", ...]``.
    """

    def __init__(
        self, workload: Workload, first: int, isa: Isa, attribute: str = "epilogue", names: Sequence[str] | None = None
    ) -> None:
        self.workload, self.first, self.isa = workload, first, isa
        self.vectors = integer_vectors(isa)
        self.expression = parse(str(workload.options.get(attribute, "acc")))
        self.output = workload.output
        self.operands = [operand for operand in workload.inputs[first:] if operand is not None]
        self.names = list(names) if names else [f"r{index}" for index in range(len(self.operands))]
        self.roles = [self._role(name, operand) for name, operand in zip(self.names, self.operands, strict=True)]
        self._buffers: dict[str, Buffer] = {}

    def _role(self, name: str, operand: Operand) -> str | None:
        if name in tables(self.expression):
            return TABLE if operand.constant and operand.dtype in CODES and prod(operand.shape) == TABLE_CODES else None
        kind = broadcast_kind(operand, self.output.shape)
        uses = dyadic_uses(self.expression).get(name)
        if uses is not None:
            scales = operand.constant and operand.dtype == "int32" and kind not in (FULL, None) and len(uses) == 1
            return None if not scales else next(iter(uses)) + (" there" if kind == POSITION else "")
        if kind in (None, POSITION) or (kind == FULL and operand.constant):
            return None
        if operand.dtype == "float32":
            return kind if operand.constant and name == scales_of_reals(self.expression) else None
        return kind if operand.dtype in ("int32", *CODES) else None

    def served(self) -> bool:
        """Whether every operand and every operator of the expression can be emitted."""
        return (
            None not in self.roles
            and len(self.output.shape) in (2, 4)
            and set(leaves(self.expression)) <= {"acc", *self.names}
            and well_formed(self.expression, root=True)
            and self._result_type() == self.output.dtype
        )

    def _result_type(self) -> str | None:
        match self.expression:
            case Apply(op="Narrow", attributes=attributes):
                return str(dict(attributes)["dtype"])
            case Apply(op="Lookup", arguments=(_, Leaf(name))):
                return dict(zip(self.names, self.operands, strict=True))[name].dtype if name in self.names else None
            case Apply(op=op) if op in INTO_FLOATS:
                return "float32"
            case Leaf(name) if name in self.names:
                return dict(zip(self.names, self.operands, strict=True))[name].dtype
        return "int32"

    def ports(self) -> list[Port | None]:
        """Where the operands may lie: variable ones of four dimensions in channel blocks, others row-major."""
        return [None if operand.constant else Port((BLOCK,)) if len(operand.shape) == 4 else Port() for operand in self.operands]

    # -- constants ----------------------------------------------------------------------------------------------------------

    def pack(self, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        """Constant operands: tables as they are, others padded to whole blocks, scales in the form of the instructions."""
        packed = []
        for index, (operand, role) in enumerate(zip(self.operands, self.roles, strict=True)):
            if not operand.constant:
                continue
            flat = np.ascontiguousarray(constants[self.first + index]).reshape(-1)
            if role == TABLE:
                packed.append(flat)
                continue
            padded = np.full(self._padded(operand), NEUTRAL_SHIFT if role == SHIFT else 0, flat.dtype)
            padded[: flat.size] = flat
            if flat.size == 1:
                padded[:] = flat
            if role in (MULTIPLIER_THERE, SHIFT_THERE):
                packed.append(self._at_positions(role, flat))
                continue
            by_vector = padded.reshape(-1, self.isa.lanes)
            if role == MULTIPLIER:
                padded = self.vectors.pack_multipliers(by_vector).reshape(-1)
            elif role == SHIFT:
                padded = self.vectors.pack_shifts(by_vector).reshape(-1)
            packed.append(np.ascontiguousarray(padded))
        return packed

    def unpack(self, packed: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """The inverse of :meth:`pack`."""
        found = {}
        arrays = iter(packed)
        for index, (operand, role) in enumerate(zip(self.operands, self.roles, strict=True)):
            if not operand.constant:
                continue
            array = np.asarray(next(arrays))
            if role in (MULTIPLIER_THERE, SHIFT_THERE):
                array = np.repeat(array.reshape(-1, self._rows(role), 1), self.isa.lanes, axis=2)
                unpack = self.vectors.unpack_multipliers if role == MULTIPLIER_THERE else self.vectors.unpack_shifts
                array = unpack(array)[:, 0]
            if role == MULTIPLIER:
                array = self.vectors.unpack_multipliers(array.reshape(-1, self.vectors.multiplier_rows, self.isa.lanes))
            elif role == SHIFT:
                array = self.vectors.unpack_shifts(array.reshape(-1, self.vectors.shift_rows, self.isa.lanes))
            array = array.reshape(-1)[: prod(operand.shape)].astype(operand.dtype)
            found[self.first + index] = array.reshape(operand.shape)
        return found

    def _at_positions(self, role: str, scales: np.ndarray) -> np.ndarray:
        """One multiplier or shift a position as ``[positions, rows]`` of what all lanes of a packed row hold."""
        pack = self.vectors.pack_multipliers if role == MULTIPLIER_THERE else self.vectors.pack_shifts
        rows = pack(np.repeat(scales[:, np.newaxis], self.isa.lanes, axis=1))
        # A row of odd lanes' values is read in the even lanes only: its largest element serves all.
        largest = np.abs(rows).argmax(axis=2)[..., np.newaxis]
        return np.ascontiguousarray(np.take_along_axis(rows, largest, axis=2)).reshape(-1)

    def _padded(self, operand: Operand) -> int:
        return round_up(prod(operand.shape), BLOCK)

    def _packed_size(self, operand: Operand, role: str | None) -> int:
        if role == TABLE:
            return TABLE_CODES
        if role in (MULTIPLIER_THERE, SHIFT_THERE):
            return prod(operand.shape) * self._rows(role)
        return self._padded(operand) * self._rows(role)

    def _rows(self, role: str | None) -> int:
        if role in (MULTIPLIER, MULTIPLIER_THERE):
            return self.vectors.multiplier_rows
        return self.vectors.shift_rows if role in (SHIFT, SHIFT_THERE) else 1

    # -- code ---------------------------------------------------------------------------------------------------------------

    def declare_constants(self) -> None:
        """Declares the packed constant operands as arguments, in order."""
        for name, operand, role in zip(self.names, self.operands, self.roles, strict=True):
            if operand.constant:
                self._buffers[name] = argument(name, self._packed_size(operand, role), operand.dtype)

    def declare_variables(self) -> None:
        """Declares the operands known at run time as arguments, in order."""
        for name, operand in zip(self.names, self.operands, strict=True):
            if not operand.constant:
                self._buffers[name] = argument(name, operand.elements, operand.stored_dtype)

    def channels(self, first_channel: Value, vectors: int) -> list[dict[str, list[Value]]]:
        """The constants of ``vectors`` consecutive vectors of channels, loaded once for many positions.

        ``first_channel`` is a multiple of the channels of a group (:meth:`group`).
        """
        lanes = self.isa.lanes
        found: list[dict[str, list[Value]]] = [{} for _ in range(vectors)]
        for name, operand, role in zip(self.names, self.operands, self.roles, strict=True):
            if not operand.constant or role in (TABLE, MULTIPLIER_THERE, SHIFT_THERE):
                continue
            rows, buffer = self._rows(role), self._buffers[name]
            for v in range(vectors):
                start = 0 if prod(operand.shape) == 1 else (first_channel // lanes + v) * rows * lanes
                values = [T.Bind(buffer[T.ramp(start + row * lanes, 1, lanes)]) for row in range(rows)]
                if operand.dtype in CODES:
                    values = [T.Bind(value.astype(self.vectors.vector)) for value in values]
                found[v][name] = values
        return found

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
            operands = self._operands(channel_values[start : start + size], n, channel, y, x, filled, start)
            if accumulators:
                operands["acc"] = list(accumulators[start : start + size])
            result = evaluate(self.expression, operands, self._apply, int)
            place = self._place(self.output, n, channel, y, x)
            count = size * lanes if filled is None else min(size * lanes, filled - start * lanes)
            if count > 0:
                self._store(y_buffer, place, result, count)

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
                self._operands(channel_values, n, first_channel, y, x + start + index, None, 0) for index in range(len(part))
            ]
            operands = {name: _side_by_side([position[name] for position in positions]) for name in positions[0]}
            if part[0]:
                operands["acc"] = [value for accumulators in part for value in accumulators]
            result = evaluate(self.expression, operands, self._apply, int)
            place = self._place(self.output, n, first_channel, y, x + start)
            self._store(y_buffer, place, result, len(part) * BLOCK)

    def _place(self, operand: Operand, n: Value, channel: Value, y: Value, x: Value) -> Value:
        """Offset of a channel at a position of an operand in memory; what it broadcasts along counts as 0."""
        if len(operand.shape) < 4:
            own = (1,) * (2 - len(operand.shape)) + operand.shape
            return (n * own[1] if own[0] > 1 else 0) + channel
        layout = operand.layout or Layout(BLOCK)
        batch, _, height, width = operand.shape
        block, inside = channel // layout.channel_block, channel % layout.channel_block
        return layout.offset(operand.shape, n if batch > 1 else 0, block, y if height > 1 else 0, x if width > 1 else 0) + inside

    def _operands(
        self,
        channel_values: Sequence[Mapping[str, list[Value]]],
        n: Value,
        channel: Value,
        y: Value,
        x: Value,
        filled: int | None,
        start: int,
    ) -> dict[str, Result]:
        size, lanes = len(channel_values), self.isa.lanes
        found: dict[str, Result] = {}
        for name, operand, role in zip(self.names, self.operands, self.roles, strict=True):
            if role == TABLE:
                found[name] = (self._buffers[name], operand.dtype)
            elif role in (MULTIPLIER, SHIFT):
                found[name] = [values[name] for values in channel_values]
            elif role in (MULTIPLIER_THERE, SHIFT_THERE):
                place = (y * operand.shape[3] + x) * self._rows(role)
                rows = [T.Bind(splat(self._buffers[name][place + row], lanes)) for row in range(self._rows(role))]
                found[name] = [rows] * size
            elif operand.constant:
                found[name] = [values[name][0] for values in channel_values]
                if operand.dtype in CODES:
                    found[name] = _Stored(found[name], 0, operand.dtype)
            else:
                count = size * lanes if filled is None else filled - start * lanes
                values = self._load(name, operand, role, n, channel, y, x, size, count)
                offset = operand.layout.code_offset if operand.layout is not None else 0
                found[name] = _Stored(values, offset, operand.dtype) if operand.dtype in CODES else values
        return found

    def _load(
        self, name: str, operand: Operand, role: str | None, n: Value, channel: Value, y: Value, x: Value, size: int, count: int
    ) -> list[Value]:
        buffer, lanes = self._buffers[name], self.isa.lanes
        if role == SCALAR:
            one = T.Bind(splat(buffer[self._place(operand, 0, 0, 0, 0)].astype("int32"), lanes))
            return [one] * size
        place = self._place(operand, n, channel, y, x)
        if count >= size * lanes:
            return self.vectors.widen(buffer, place, size)
        scratch = Registers(size, lanes, "int32")
        for v in range(size):
            scratch[v] = self.vectors.number(0)
        for lane in range(max(0, count)):
            scratch.set_lane(lane, buffer[place + lane].astype("int32"))
        return [T.Bind(scratch[v]) for v in range(size)]

    def _store(self, buffer: Buffer, place: Value, result: Result, count: int) -> None:
        """Writes ``count`` consecutive elements of the result."""
        lanes = self.isa.lanes
        layout = self.output.layout
        offset = layout.code_offset if layout is not None else 0
        stored = self.output.stored_dtype
        if isinstance(result, _Reals):
            pieces = [(value, lanes) for value in result.values]
        elif isinstance(result, _Narrowed):
            low, high = result.low + offset, result.high + offset
            codes = self.vectors.narrow(result.values, result.zero + offset, low, high, stored)
            pieces = [(codes, len(result.values) * lanes)]
        elif isinstance(result, _Stored):
            shift = offset - result.offset
            values = [value + self.vectors.number(shift) for value in result.values] if shift else result.values
            pieces = [(T.Bind(value.astype(f"{stored}x{lanes}")), lanes) for value in values]
        else:
            pieces = [(value, lanes) for value in self._logical(result)]
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

    # -- operators ----------------------------------------------------------------------------------------------------------

    def _apply(self, op: str, arguments: Sequence[Result], attributes: Mapping[str, Any]) -> Result:
        return getattr(self, f"_{op.lower()}")(*arguments, **attributes)

    def _logical(self, codes: Result, minus: int = 0) -> list[Value]:
        """Codes (or int32 vectors) as int32 vectors of what they mean, less ``minus``."""
        if isinstance(codes, _Narrowed):
            zero, low, high = codes.zero - minus, codes.low - minus, codes.high - minus
            return [self.vectors.clamp(value, zero, low, high) for value in codes.values]
        if isinstance(codes, _Widened):
            codes, minus = codes.codes, minus + codes.zero
        shift = minus
        if isinstance(codes, _Stored):
            codes, shift = codes.values, minus + codes.offset
        return [T.Bind(value - self.vectors.number(shift)) if shift else value for value in codes]

    def _widen(self, codes: Result, *, zero_point: int = 0) -> Result:
        return _Widened(codes, zero_point) if isinstance(codes, _Stored) else self._logical(codes, zero_point)

    def _dyadic(self, x: Result, m: Result = None, s: Result = None, *, multiplier: int = 0, shift: int = 0) -> Result:
        if m is None and isinstance(x, _Widened):
            low, high = (limit - x.zero for limit in x.codes.limits)
            short = numerics.short_dyadic(multiplier, shift, low, high)
            if short is not None:
                return self._short_dyadic(x, *short)
        values = self._logical(x)
        if m is None:
            ms, ss = self._literal_scale(multiplier, shift)
            return [self.vectors.dyadic(value, ms, ss) for value in values]
        return [self.vectors.dyadic(value, ms, ss) for value, ms, ss in zip(values, m, s, strict=True)]

    def _short_dyadic(self, x: _Widened, multiplier: int, shift: int) -> list[Value]:
        """Codes times a short multiplier: all in 32 bits, the zero point and the stored sign in the term that rounds."""
        added = (1 << (shift - 1)) - (x.zero + x.codes.offset) * multiplier
        added = (added + 2**31) % 2**32 - 2**31
        factor, term, places = (self.vectors.number(value) for value in (multiplier, added, shift))
        return [T.Bind(T.shift_right(T.Bind(value * factor + term), places)) for value in x.codes.values]

    def _literal_scale(self, multiplier: int, shift: int) -> tuple[list[Value], list[Value]]:
        """One multiplier and one shift for every channel, as packed rows of literals."""
        ones = np.ones((1, self.isa.lanes), np.int32)
        rows = self.vectors.pack_multipliers(ones * multiplier)[0], self.vectors.pack_shifts(ones * shift)[0]
        # A row of odd lanes' values is read in the even lanes only: its largest element serves all.
        first, second = ([self.vectors.number(int(row.flat[np.abs(row).argmax()])) for row in part] for part in rows)
        return first, second

    def _narrow(self, x: Result, *, low: int, high: int, zero_point: int = 0, dtype: str) -> Result:
        return _Narrowed(self._logical(x), zero_point, low, high, dtype)

    def _lookup(self, codes: Result, table: tuple[Buffer, str]) -> Result:
        buffer, dtype = table
        lowest = -128 if codes.dtype == "int8" else 0
        indices = self._logical(codes, lowest)
        return _Stored([self.vectors.lookup(index, buffer) for index in indices], 0, dtype)

    def _dequantize(self, codes: Result, *, scale: float, zero_point: int = 0) -> Result:
        lanes = self.isa.lanes
        factor = T.broadcast(T.float32(float(np.float32(scale))), lanes)
        return _Reals([T.Bind(value.astype(f"float32x{lanes}") * factor) for value in self._logical(codes, zero_point)])

    def _reals(self, x: Result, factors: list[Value]) -> Result:
        floats = f"float32x{self.isa.lanes}"
        return _Reals([T.Bind(value.astype(floats) * factor) for value, factor in zip(self._logical(x), factors, strict=True)])

    def _pairwise(self, function: Callable[[Value, Value], Value], a: Result, b: Result) -> Result:
        if isinstance(a, int) and isinstance(b, int):
            raise ValueError("Expected an operand in every operation of an integer epilogue, found two numbers.")
        a, b = (x if isinstance(x, int) else self._logical(x) for x in (a, b))
        size = max(len(x) for x in (a, b) if not isinstance(x, int))
        first, second = ([self.vectors.number(x)] * size if isinstance(x, int) else x for x in (a, b))
        return [T.Bind(function(p, q)) for p, q in zip(first, second, strict=True)]

    def _add(self, a: Result, b: Result) -> Result:
        return self._pairwise(lambda p, q: p + q, a, b)

    def _sub(self, a: Result, b: Result) -> Result:
        return self._pairwise(lambda p, q: p - q, a, b)

    def _mul(self, a: Result, b: Result) -> Result:
        return self._pairwise(lambda p, q: p * q, a, b)

    def _max(self, a: Result, b: Result) -> Result:
        return self._pairwise(T.max, a, b)

    def _min(self, a: Result, b: Result) -> Result:
        return self._pairwise(T.min, a, b)


def _side_by_side(values: Sequence[Result]) -> Result:
    """An operand at several positions as one list of vectors; a table stays what it is."""
    first = values[0]
    if isinstance(first, _Stored):
        return _Stored([vector for value in values for vector in value.values], first.offset, first.dtype)
    if isinstance(first, list):
        return [vector for value in values for vector in value]
    return first


def broadcast_kind(operand: Operand, shape: tuple[int, ...]) -> str | None:
    """How an operand broadcasts to a result whose axis 1 are the channels: full, per channel, scalar, or None (not served)."""
    own = (1,) * (len(shape) - len(operand.shape)) + operand.shape
    if prod(own) == 1:
        return SCALAR
    if len(own) != len(shape) or (len(operand.shape) != len(shape) == 4 and not operand.constant):
        return None
    if operand.constant and len(own) == 4 and own[:2] == (1, 1) and own[2:] == shape[2:]:
        return POSITION
    per_channel = own[1] == shape[1] and set(own[2:]) <= {1}
    if own == shape and not (per_channel and operand.constant):
        return FULL
    return CHANNEL if per_channel and (own[0] == 1 or (own[0] == shape[0] and not operand.constant)) else None


def dyadic_uses(tree: Expression) -> dict[str, set[str]]:
    """For operands of ``Dyadic``: whether they are multipliers or shifts."""
    found: dict[str, set[str]] = {}
    if isinstance(tree, Apply):
        for argument in tree.arguments:
            for name, uses in dyadic_uses(argument).items():
                found.setdefault(name, set()).update(uses)
        if tree.op == "Dyadic":
            for role, argument in zip((MULTIPLIER, SHIFT), tree.arguments[1:], strict=False):
                if isinstance(argument, Leaf):
                    found.setdefault(argument.name, set()).add(role)
    return found


def scales_of_reals(tree: Expression) -> str | None:
    """The operand that the integers at the root are multiplied by to become floats; it is nothing else."""
    match tree:
        case Apply(op="Reals", arguments=(inner, Leaf(name))) if name not in leaves(inner):
            return name
    return None


def shift_of_accumulator(tree: Expression) -> str | None:
    """The operand by which ``Dyadic`` shifts the accumulator, where that is all that reads the accumulator."""
    if not isinstance(tree, Apply):
        return None
    match tree:
        case Apply(op="Dyadic", arguments=(Leaf("acc"), _, Leaf(name))):
            return name
    readers = [argument for argument in tree.arguments if "acc" in leaves(argument)]
    return shift_of_accumulator(readers[0]) if len(readers) == 1 else None


def well_formed(tree: Expression, root: bool = False) -> bool:
    """Whether every operator is known and stands where it may: floats at the root, scales and tables are operands."""
    if isinstance(tree, Number):
        return tree.value.is_integer()
    if not isinstance(tree, Apply):
        return True
    if tree.op not in OPERATORS or (tree.op in INTO_FLOATS and not root):
        return False
    inner = tree.arguments
    if tree.op in ("Dyadic", "Lookup", "Reals"):
        if not all(isinstance(argument, Leaf) for argument in inner[1:]):
            return False
        inner = inner[:1]
    if tree.op == "Lookup" and isinstance(inner[0], Apply) and inner[0].op not in ("Narrow", "Lookup"):
        return False
    binary = tree.op in ("Add", "Sub", "Mul", "Max", "Min")
    return len(inner) == (2 if binary else 1) and all(well_formed(argument) for argument in inner)
