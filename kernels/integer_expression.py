"""The integer operators of an epilogue: what may be written, and the int32 vectors that it becomes.

Every operand and every intermediate result is a list of int32 vectors over consecutive channels, or one of the classes below
where more is known than that: codes as they lie in memory, and what is better computed together with what reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Value
from tapdot.kernels.expression import Apply, Expression, Leaf, Number, evaluate, leaves
from tapdot.kernels.isa.integer import IntegerVectors
from tapdot.kernels.tvm_adapter import Buffer, T

PAIRWISE = frozenset({"Add", "Sub", "Mul", "Max", "Min"})
INTO_FLOATS = frozenset({"Dequantize", "Reals"})
"""They stand at the root, and their result is what the network leaves the integers with."""
OPERATORS = PAIRWISE | INTO_FLOATS | {"Widen", "Dyadic", "Narrow", "Lookup"}


@dataclass(frozen=True)
class Stored:
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
class Widened:
    """A ``Widen`` of stored codes that has not been computed yet; scaled by literals, it becomes part of the product."""

    codes: Stored
    zero: int


@dataclass(frozen=True)
class Narrowed:
    """A ``Narrow`` that has not been computed yet; at the root it becomes part of the store."""

    values: Sequence[Value]
    zero: int
    low: int
    high: int
    dtype: str


@dataclass(frozen=True)
class Reals:
    """float32 vectors."""

    values: Sequence[Value]


@dataclass(frozen=True)
class Table:
    """256 codes of type ``dtype``, by code less the lowest of what is looked up."""

    buffer: Buffer
    dtype: str


Result = Any
"""int32 vectors as a list, an int, or one of the classes above; a multiplier or a shift is a list of its packed rows a vector."""


class IntegerOperators:
    """Emits expressions over int32 vectors of one instruction set."""

    def __init__(self, vectors: IntegerVectors) -> None:
        self.vectors = vectors

    def evaluate(self, expression: Expression, operands: Mapping[str, Result]) -> Result:
        """The value of ``expression`` where its leaves are ``operands``."""
        return evaluate(expression, operands, self._apply, int)

    def logical(self, codes: Result, minus: int = 0) -> list[Value]:
        """Codes (or int32 vectors) as int32 vectors of what they mean, less ``minus``."""
        if isinstance(codes, Narrowed):
            zero, low, high = codes.zero - minus, codes.low - minus, codes.high - minus
            return [self.vectors.clamp(value, zero, low, high) for value in codes.values]
        if isinstance(codes, Widened):
            codes, minus = codes.codes, minus + codes.zero
        shift = minus
        if isinstance(codes, Stored):
            codes, shift = codes.values, minus + codes.offset
        return [T.Bind(value - self.vectors.number(shift)) if shift else value for value in codes]

    def _apply(self, op: str, arguments: Sequence[Result], attributes: Mapping[str, Any]) -> Result:
        return getattr(self, f"_{op.lower()}")(*arguments, **attributes)

    def _widen(self, codes: Result, *, zero_point: int = 0) -> Result:
        return Widened(codes, zero_point) if isinstance(codes, Stored) else self.logical(codes, zero_point)

    def _dyadic(self, x: Result, m: Result = None, s: Result = None, *, multiplier: int = 0, shift: int = 0) -> Result:
        if m is None and isinstance(x, Widened):
            low, high = (limit - x.zero for limit in x.codes.limits)
            short = numerics.short_dyadic(multiplier, shift, low, high, x.zero + x.codes.offset)
            if short is not None:
                return self._short_dyadic(x, *short)
        values = self.logical(x)
        if m is None:
            ms, ss = self._literal_scale(multiplier, shift)
            return [self.vectors.dyadic(value, ms, ss) for value in values]
        return [self.vectors.dyadic(value, ms, ss) for value, ms, ss in zip(values, m, s, strict=True)]

    def _short_dyadic(self, x: Widened, multiplier: int, shift: int) -> list[Value]:
        """Codes times a short multiplier: all in 32 bits, the zero point and the stored sign in the term that rounds."""
        added = (1 << (shift - 1)) - (x.zero + x.codes.offset) * multiplier
        factor, term, places = (self.vectors.number(value) for value in (multiplier, added, shift))
        return [T.Bind(T.shift_right(T.Bind(value * factor + term), places)) for value in x.codes.values]

    def _literal_scale(self, multiplier: int, shift: int) -> tuple[list[Value], list[Value]]:
        """One multiplier and one shift for every channel, as packed rows of literals."""
        ones = np.ones((1, self.vectors.lanes), np.int32)
        rows = self.vectors.pack_multipliers(ones * multiplier)[0], self.vectors.pack_shifts(ones * shift)[0]
        # A row of odd lanes' values is read in the even lanes only: its largest element serves all.
        first, second = ([self.vectors.number(int(row.flat[np.abs(row).argmax()])) for row in part] for part in rows)
        return first, second

    def _narrow(self, x: Result, *, low: int, high: int, zero_point: int = 0, dtype: str) -> Result:
        return Narrowed(self.logical(x), zero_point, low, high, dtype)

    def _lookup(self, codes: Result, table: Table) -> Result:
        lowest = -128 if codes.dtype == "int8" else 0
        indices = self.logical(codes, lowest)
        return Stored([self.vectors.lookup(index, table.buffer) for index in indices], 0, table.dtype)

    def _dequantize(self, codes: Result, *, scale: float, zero_point: int = 0) -> Result:
        lanes = self.vectors.lanes
        factor = T.broadcast(T.float32(float(np.float32(scale))), lanes)
        return Reals([T.Bind(value.astype(f"float32x{lanes}") * factor) for value in self.logical(codes, zero_point)])

    def _reals(self, x: Result, factors: list[Value]) -> Result:
        floats = f"float32x{self.vectors.lanes}"
        return Reals([T.Bind(value.astype(floats) * factor) for value, factor in zip(self.logical(x), factors, strict=True)])

    def _pairwise(self, function: Callable[[Value, Value], Value], a: Result, b: Result) -> Result:
        if isinstance(a, int) and isinstance(b, int):
            raise ValueError("Expected an operand in every operation of an integer epilogue, found two numbers.")
        a, b = (x if isinstance(x, int) else self.logical(x) for x in (a, b))
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
    return len(inner) == (2 if tree.op in PAIRWISE else 1) and all(well_formed(argument) for argument in inner)


def shift_of_accumulator(tree: Expression) -> str | None:
    """The operand by which ``Dyadic`` shifts the accumulator, where that is all that reads the accumulator."""
    if not isinstance(tree, Apply):
        return None
    match tree:
        case Apply(op="Dyadic", arguments=(Leaf("acc"), _, Leaf(name))):
            return name
    readers = [argument for argument in tree.arguments if "acc" in leaves(argument)]
    return shift_of_accumulator(readers[0]) if len(readers) == 1 else None
