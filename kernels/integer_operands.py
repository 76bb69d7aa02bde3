"""The operands of an integer epilogue: what each is for, how it is packed, and how it is read at a position.

Residuals, scales, tables and other constants, each read the way its shape broadcasts. Results lie in channel blocks of 16 or in
row-major matrices ``[M, N]``, whose columns count as channels here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from tapdot.kernels.emit import Registers, Value, argument, splat
from tapdot.kernels.expression import Apply, Expression, Leaf, leaves, parse, tables
from tapdot.kernels.family import Port
from tapdot.kernels.integer_expression import INTO_FLOATS, Result, Stored, Table, well_formed
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
TABLE_CODES = 256
NEUTRAL_SHIFT = 32
"""The shift of channels that are padding."""


class IntegerOperands:
    """The operands of a workload from index ``first`` on, bound to the leaves of the expression in ``attribute``.

    The leaves are ``r0``, ``r1``, ...; ``names`` overrides that, for chains without an accumulator: ``["acc", "r0", ...]``.
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

    def operands_at(
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
                found[name] = Table(self._buffers[name], operand.dtype)
            elif role in (MULTIPLIER, SHIFT):
                found[name] = [values[name] for values in channel_values]
            elif role in (MULTIPLIER_THERE, SHIFT_THERE):
                place = (y * operand.shape[3] + x) * self._rows(role)
                rows = [T.Bind(splat(self._buffers[name][place + row], lanes)) for row in range(self._rows(role))]
                found[name] = [rows] * size
            elif operand.constant:
                found[name] = [values[name][0] for values in channel_values]
                if operand.dtype in CODES:
                    found[name] = Stored(found[name], 0, operand.dtype)
            else:
                count = size * lanes if filled is None else filled - start * lanes
                values = self._load(name, operand, role, n, channel, y, x, size, count)
                offset = operand.layout.code_offset if operand.layout is not None else 0
                found[name] = Stored(values, offset, operand.dtype) if operand.dtype in CODES else values
        return found

    def _load(
        self, name: str, operand: Operand, role: str | None, n: Value, channel: Value, y: Value, x: Value, size: int, count: int
    ) -> list[Value]:
        buffer, lanes = self._buffers[name], self.isa.lanes
        if role == SCALAR:
            one = T.Bind(splat(buffer[element_offset(operand, 0, 0, 0, 0)].astype("int32"), lanes))
            return [one] * size
        place = element_offset(operand, n, channel, y, x)
        if count >= size * lanes:
            return self.vectors.widen(buffer, place, size)
        scratch = Registers(size, lanes, "int32")
        for v in range(size):
            scratch[v] = self.vectors.number(0)
        for lane in range(max(0, count)):
            scratch.set_lane(lane, buffer[place + lane].astype("int32"))
        return [T.Bind(scratch[v]) for v in range(size)]


def side_by_side(values: Sequence[Result]) -> Result:
    """An operand at several positions as one list of vectors; a table stays what it is."""
    first = values[0]
    if isinstance(first, Stored):
        return Stored([vector for value in values for vector in value.values], first.offset, first.dtype)
    if isinstance(first, list):
        return [vector for value in values for vector in value]
    return first


def element_offset(operand: Operand, n: Value, channel: Value, y: Value, x: Value) -> Value:
    """Offset of a channel at a position of an operand in memory; what it broadcasts along counts as 0."""
    if len(operand.shape) < 4:
        own = (1,) * (2 - len(operand.shape)) + operand.shape
        return (n * own[1] if own[0] > 1 else 0) + channel
    layout = operand.layout or Layout(BLOCK)
    batch, _, height, width = operand.shape
    block, inside = channel // layout.channel_block, channel % layout.channel_block
    return layout.offset(operand.shape, n if batch > 1 else 0, block, y if height > 1 else 0, x if width > 1 else 0) + inside


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
