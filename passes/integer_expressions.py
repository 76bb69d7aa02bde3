"""Element-wise expressions of simulated reals, rewritten over the integers that stand for them.

``FakeQuantize(Relu(Add(acc, r0)), scale=S, ...)`` over an accumulator and a residual becomes::

    Narrow(Add(Dyadic(acc, r0, r1), Dyadic(Widen(r2, zero_point=0), multiplier=m, shift=s)), low=0, ...)

1. Clamps (``Relu``, ``Clip``) outside of everything become the bounds of ``Narrow``; inside a sum they are ``Max`` and ``Min``.
2. In a sum with an accumulator every term is requantized to the scale ``S``, then added (HAWQ-V3, eq. 6).
3. A sum of codes alone, with constants or factors by channel, is exact up to one rounding:
   ``Dyadic(Add(Mul(Widen(a), A), Mul(Widen(b), B)), 2^30, 30 + t)``, ``A = rint(S_a / S * 2^t)``, ``t`` as large as int32 allows.
4. A product of two codes is ``Dyadic(Mul(Widen(a), Widen(b)), m, s)``.
5. Any function of one code becomes a table of 256, computed in float64 and rounded half up.

What is none of these is :class:`Inexpressible`. Every int32 on the way carries the interval it can lie in, by channel where
that matters, and what may leave int32, or may leave it when a kernel shifts it before the high half of a product
(``numerics.high_half_shifts``), is refused: :class:`OverflowRefused`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np
import torch

from tapdot.compiler.errors import ModelError
from tapdot.compiler.operators import lookup
from tapdot.compiler.operators.fused import apply_expression
from tapdot.compiler.types import Quant
from tapdot.kernels import numerics
from tapdot.kernels.expression import ACCUMULATOR, Apply, Expression, Leaf, Number

FINEST = 20
"""The largest ``t`` of rule 3: rounding its factors costs less than a thousandth of a code."""
HIGH_HALVES = (31, 32)
"""The halves of a product that cores can take."""
UNIT = 2**30
"""A multiplier that only shifts."""


class Inexpressible(Exception):
    """An expression without an integer form; the text says why, to stand after "because"."""


class OverflowRefused(ModelError):
    """An integer that cannot be proved to fit."""


# -- what leaves stand for -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Codes:
    """A tensor of codes in [low, high]: ``real = scale * (code - zero_point)``."""

    scale: float
    zero_point: int
    low: int
    high: int
    dtype: str

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Codes:
        """What the attributes of a FakeQuantize, Quantize or Dequantize say."""
        return cls(
            float(attributes["scale"]),
            int(attributes.get("zero_point", 0)),
            int(attributes["low"]),
            int(attributes["high"]),
            str(attributes["dtype"]),
        )

    @property
    def attributes(self) -> dict[str, float | int | str]:
        """As attributes of a FakeQuantize or Quantize."""
        return {
            "scale": self.scale,
            "zero_point": self.zero_point,
            "low": self.low,
            "high": self.high,
            "dtype": self.dtype,
        }

    @property
    def bits(self) -> int:
        """Bits that hold every code."""
        return max((self.high - self.low).bit_length(), 1)

    @property
    def quant(self) -> Quant:
        """For the tensor's type."""
        return Quant(self.bits, (self.scale,), (self.zero_point,))

    def means_the_same_as(self, other: Codes) -> bool:
        """Whether a code stands for the same real number here and there."""
        return (self.scale, self.zero_point, self.dtype) == (other.scale, other.zero_point, other.dtype)

    def quantize(self, reals: np.ndarray | float) -> np.ndarray:
        """Codes of numbers, as a Quantize makes them."""
        return numerics.quantize(np.asarray(reals), self.scale, self.zero_point, self.low, self.high)


@dataclass(frozen=True, eq=False)
class Accumulator:
    """int32 sums in [low, high] with ``real = scale * sum``; arrays broadcast to the tensor."""

    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Real:
    """A float tensor without codes."""


Meaning = Codes | Accumulator | Real | np.ndarray
"""Of a leaf; an array is a constant."""


@dataclass(frozen=True, eq=False)
class Integers:
    """An int32 expression and the interval it lies in; bounds broadcast to the tensor."""

    expression: Expression
    low: np.ndarray
    high: np.ndarray

    @property
    def magnitude(self) -> np.ndarray:
        """The largest absolute value there can be."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True, eq=False)
class Linear:
    """``sum(factor * part) + offset`` of parts that have an integer form of their own."""

    terms: Mapping[Expression, np.ndarray]
    offset: np.ndarray

    def scaled(self, factor: np.ndarray) -> Linear:
        """Times a constant."""
        return Linear({part: own * factor for part, own in self.terms.items()}, self.offset * factor)

    def plus(self, other: Linear) -> Linear:
        """The sum."""
        terms = dict(self.terms)
        for part, factor in other.terms.items():
            terms[part] = terms[part] + factor if part in terms else factor
        return Linear(terms, self.offset + other.offset)

    @property
    def is_constant(self) -> bool:
        return not self.terms


# -- the conversion ------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class IntegerExpressions:
    """Converts the expressions of one node; new constants gather in ``constants`` under the names of their leaves.

    ``node`` is named in refusals, ``axis`` is the axis of channels in arrays that broadcast to the node's result.
    """

    node: str
    meanings: Mapping[str, Meaning]
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    axis: int = 1

    # -- codes ------------------------------------------------------------------------------------------------------------

    def quantized(self, simulated: Apply) -> tuple[Expression, Codes]:
        """``FakeQuantize(...)`` as an expression of codes, and what these mean.

        Raises Inexpressible, OverflowRefused, and ModelError for scales out of reach.
        """
        codes = Codes.of(dict(simulated.attributes))
        check_width(self.node, codes)
        inside, low, high = clamped(simulated.arguments[0], codes)
        known = self.codes(inside)
        if known is not None and known[1].means_the_same_as(codes) and low <= known[1].low and known[1].high <= high:
            return known[0], replace(codes, low=known[1].low, high=known[1].high)
        try:
            total = self.at_scale(inside, np.float64(codes.scale))
        except Inexpressible:
            made = self.table(simulated.arguments[0], codes)
            if made is None:
                raise
            return made, codes
        bounds: dict[str, Any] = {"zero_point": codes.zero_point, "low": low, "high": high, "dtype": codes.dtype}
        self.checked(Integers(total.expression, total.low + codes.zero_point, total.high + codes.zero_point), "a sum")
        return apply("Narrow", total.expression, **bounds), replace(codes, low=low, high=high)

    def codes(self, part: Expression) -> tuple[Expression, Codes] | None:
        """A part that is codes already: a tensor of them, or a FakeQuantize further in."""
        match part:
            case Leaf(name) if isinstance(meaning := self.meanings[name], Codes):
                return part, meaning
            case Apply(op="FakeQuantize"):
                return self.quantized(part)
        return None

    def table(self, function: Expression, codes: Codes) -> Expression | None:
        """Rule 5, or None for a function of more than one code, or of what is none."""
        inputs = set(self._reads(function))
        known = self.codes(next(iter(inputs))) if len(inputs) == 1 else None
        if known is None:
            return None
        argument, given = known
        smallest = np.iinfo(given.dtype).min
        x = torch.from_numpy((np.arange(256) + smallest - given.zero_point) * np.float64(given.scale))
        with torch.no_grad():
            y = apply_expression(exchanged(function, next(iter(inputs)), Leaf(ACCUMULATOR)), [x]).expand(256).numpy()
        with np.errstate(all="ignore"):
            rounded = np.nan_to_num(np.floor(y / codes.scale + 0.5), nan=0.0) + codes.zero_point
        entries = np.clip(rounded, codes.low, codes.high).astype(codes.dtype)
        return apply("Lookup", argument, self.constant(entries, "table"))

    def _reads(self, part: Expression) -> list[Expression]:
        """The outermost parts of an expression that are codes, and leaves that are not."""
        match part:
            case Leaf() | Apply(op="FakeQuantize"):
                return [part]
            case Apply(arguments=arguments):
                return [found for argument in arguments for found in self._reads(argument)]
        return []

    # -- int32 at a scale ---------------------------------------------------------------------------------------------------

    def at_scale(self, part: Expression, scale: np.ndarray | np.float64) -> Integers:
        """``part / scale`` as int32, rounded half up term by term."""
        linear = self.linear(part)
        if linear is not None:
            return self.combination(linear, scale)
        match part:
            case Apply(op="Relu", arguments=(x,)):
                return self.maximum(self.at_scale(x, scale), self.whole(0))
            case Apply(op="Clip", arguments=(x,)):
                clipped = self.at_scale(x, scale)
                for bound, combine in zip(clip_bounds(part), (self.maximum, self.minimum), strict=True):
                    if math.isfinite(bound):
                        clipped = combine(clipped, self.whole(np.rint(bound / scale)))
                return clipped
            case Apply(op="Max", arguments=(x, y)):
                return self.maximum(self.at_scale(x, scale), self.at_scale(y, scale))
            case Apply(op="Min", arguments=(x, y)):
                return self.minimum(self.at_scale(x, scale), self.at_scale(y, scale))
            case Apply(op="LeakyRelu", arguments=(x,)):
                return self._leaky(x, np.asarray(defaults(part)["alpha"], np.float64), scale)
            case Apply(op="PRelu", arguments=(x, y)) if (slope := self.linear(y)) is not None and slope.is_constant:
                return self._leaky(x, slope.offset, scale)
            case Apply(op="Add", arguments=(x, y)):
                return self.sum(self.at_scale(x, scale), self.at_scale(y, scale))
            case Apply(op="Sub", arguments=(x, y)):
                return self.sum(self.at_scale(x, scale), self.at_scale(apply("Neg", y), scale))
            case Apply(op="Mul", arguments=(x, y)):
                for inner, other in ((x, y), (y, x)):
                    factor = self.linear(other)
                    if factor is not None and factor.is_constant and (factor.offset > 0).all():
                        return self.at_scale(inner, scale / factor.offset)
        raise Inexpressible(self._obstacle(part))

    def _leaky(self, x: Expression, slope: np.ndarray, scale: np.ndarray | np.float64) -> Integers:
        """``max(x, slope * x)``."""
        if not ((slope >= 0) & (slope <= 1)).all():
            raise Inexpressible("its negative slope is not between 0 and 1")
        linear = self.linear(x)
        if linear is None:
            raise Inexpressible("a leaky rectifier of a curve has no integer form")
        return self.maximum(self.combination(linear, scale), self.combination(linear.scaled(slope), scale))

    def _obstacle(self, part: Expression) -> str:
        match part:
            case Leaf(name) if isinstance(self.meanings[name], Real):
                return "an operand is float"
            case Apply(op=op, arguments=arguments):
                if any(isinstance(x, Leaf) and isinstance(self.meanings[x.name], Real) for x in arguments):
                    return "an operand is float"
                return f"{op} of values without codes has no integer form"
        return f"{part} has no integer form"

    def linear(self, part: Expression) -> Linear | None:
        """The part as a linear combination; None where it is none."""
        zero, one = np.zeros(()), np.ones(())
        match part:
            case Number(value):
                return Linear({}, np.asarray(value, np.float64))
            case Leaf(name):
                meaning = self.meanings[name]
                if isinstance(meaning, np.ndarray):
                    return Linear({}, meaning.astype(np.float64))
                return None if isinstance(meaning, Real) else Linear({part: one}, zero)
            case Apply(op="FakeQuantize"):
                return Linear({part: one}, zero)
            case Apply(op="Identity", arguments=(x,)):
                return self.linear(x)
            case Apply(op="Neg", arguments=(x,)):
                return linear.scaled(-one) if (linear := self.linear(x)) is not None else None
            case Apply(op="Add" | "Sub" | "Mul" | "Div" as op, arguments=(x, y)):
                left, right = self.linear(x), self.linear(y)
                if left is None or right is None:
                    return None
                return self._combined(op, left, right, part)
        return None

    def _combined(self, op: str, left: Linear, right: Linear, part: Apply) -> Linear | None:
        if op in ("Add", "Sub"):
            return left.plus(right.scaled(np.asarray(1.0 if op == "Add" else -1.0)))
        if right.is_constant:
            with np.errstate(all="ignore"):
                factor = right.offset if op == "Mul" else 1 / right.offset
            return left.scaled(factor) if np.isfinite(factor).all() else None
        if op == "Div":
            return None
        if left.is_constant:
            return right.scaled(left.offset)
        is_code = [isinstance(x, Leaf) and isinstance(self.meanings[x.name], Codes) for x in part.arguments]
        is_code = [
            known or (isinstance(x, Apply) and x.op == "FakeQuantize") for known, x in zip(is_code, part.arguments, strict=True)
        ]
        return Linear({part: np.ones(())}, np.zeros(())) if all(is_code) else None  # rule 4

    def combination(self, linear: Linear, scale: np.ndarray | np.float64) -> Integers:
        """A linear combination in units of ``scale``: rules 2 and 3."""
        if linear.is_constant:
            return self.whole(np.rint(linear.offset / scale))
        parts = [(*self.part(part), factor) for part, factor in linear.terms.items()]
        sums = [isinstance(part, Leaf) and isinstance(self.meanings[part.name], Accumulator) for part in linear.terms]
        if not any(sums):
            one = len(parts) == 1 and not linear.offset.any() and (parts[0][2] > 0).all()
            return self.rescaled(parts[0][0], parts[0][1] * parts[0][2] / scale) if one else self._exact(parts, linear, scale)
        offset = linear.offset
        total: Integers | None = None
        for (integers, own, factor), is_sum in zip(parts, sums, strict=True):
            if is_sum and offset.any() and (own * factor != 0).all():
                integers = self.sum(integers, self.whole(np.rint(offset / (own * factor))))
                offset = np.zeros(())
            term = self.rescaled(integers, own * factor / scale)
            total = term if total is None else self.sum(total, term)
        assert total is not None
        return self.sum(total, self.whole(np.rint(offset / scale))) if offset.any() else total

    def part(self, part: Expression) -> tuple[Integers, np.ndarray]:
        """An int32 expression for a term of a linear combination, and its scale."""
        match part:
            case Leaf(name) if isinstance(meaning := self.meanings[name], Accumulator):
                return Integers(part, meaning.low, meaning.high), meaning.scale
            case Apply(op="Mul", arguments=(x, y)):
                (left, left_scale), (right, right_scale) = self.part(x), self.part(y)
                return self.product(left, right), left_scale * right_scale
        known = self.codes(part)
        assert known is not None
        expression, codes = known
        wide = apply("Widen", expression, zero_point=codes.zero_point)
        bounds = (np.asarray(bound - codes.zero_point, np.int64) for bound in (codes.low, codes.high))
        return Integers(wide, *bounds), np.asarray(codes.scale)

    def _exact(
        self, parts: Sequence[tuple[Integers, np.ndarray, np.ndarray]], linear: Linear, scale: np.ndarray | np.float64
    ) -> Integers:
        """Rule 3."""
        ratios = [own * factor / scale for _, own, factor in parts]
        offset = linear.offset / scale
        reach = np.abs(offset) + sum(np.abs(r) * x.magnitude for r, (x, _, _) in zip(ratios, parts, strict=True))
        if not np.isfinite(reach).all():
            raise ModelError(f"Expected finite scales at node {self.node!r}, found a sum that reaches {np.max(reach)}.")
        if all((r == np.rint(r)).all() for r in (*ratios, offset)):
            finest = np.zeros_like(reach)  # whole numbers need no rounding
        else:
            finest = np.clip(np.floor(np.log2(2.0**30 / np.maximum(reach + len(parts) + 1, 1))), 0, FINEST)
        total: Integers | None = None
        for ratio, (integers, _, _) in zip(ratios, parts, strict=True):
            factor = np.rint(ratio * 2**finest)
            term = integers if (factor == 1).all() else self.product(integers, self.whole(factor))
            total = term if total is None else self.sum(total, term)
        assert total is not None
        if offset.any():
            total = self.sum(total, self.whole(np.rint(offset * 2**finest)))
        if not finest.any():
            return total
        return self.requantized(total, np.full(finest.shape, UNIT), (30 + finest).astype(np.int64))

    # -- integer arithmetic, with its bounds ---------------------------------------------------------------------------------

    def rescaled(self, x: Integers, ratio: np.ndarray) -> Integers:
        """``x * ratio``, rounded half up; negative and zero ratios turn or clear ``x`` first, exactly."""
        sign = np.sign(ratio)
        if (sign != 1).any():
            x = self.product(x, self.whole(sign))
            ratio = np.where(sign == 0, 1.0, np.abs(ratio))
        if (ratio == 1).all():
            return x
        return self.requantized(x, *self.parameters(ratio))

    def parameters(self, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Multipliers and shifts, in the shape of ``ratio``.

        A channel of many whose ratio is below 2^-32, as dead ones are, gets the smallest there is: either way no int32 reaches
        half a code. Raises ModelError for ratios out of reach.
        """
        flat = np.atleast_1d(ratio).reshape(-1)
        multipliers, shifts = np.empty(flat.size, np.int64), np.empty(flat.size, np.int64)
        for index, value in enumerate(flat):
            try:
                if flat.size > 1 and 0 < value < 2.0 ** (numerics.MULTIPLIER_BITS - 1 - numerics.LARGEST_SHIFT):
                    multipliers[index], shifts[index] = UNIT, numerics.LARGEST_SHIFT
                else:
                    multipliers[index], shifts[index] = numerics.dyadic_parameters(float(value))
            except numerics.DyadicRangeError as error:
                where = f", channel {index}" if flat.size > 1 else ""
                raise ModelError(
                    f"The scales at node {self.node!r}{where} are too far apart to requantize: {error}. Calibrate its tensors to "
                    f"ranges nearer to each other, or keep it in float (--set requantize.keep_float={self.node})."
                ) from None
        return multipliers.reshape(np.shape(ratio)), shifts.reshape(np.shape(ratio))

    def requantized(self, x: Integers, multipliers: np.ndarray, shifts: np.ndarray) -> Integers:
        """``Dyadic(x, m, s)``, proved to fit the high halves of products that cores take."""
        for half in HIGH_HALVES:
            before = np.maximum(0, half + 1 - shifts)  # k of numerics.high_half_shifts
            shifted = x.magnitude * 2.0**before
            self._refuse(shifted >= 2.0**31, shifted, "an int32 before its requantization, shifted for the multiply,")
        low, high = (numerics.dyadic(bound, multipliers, shifts) for bound in (x.low, x.high))
        if (multipliers == multipliers.flat[0]).all() and (shifts == shifts.flat[0]).all():
            made = apply("Dyadic", x.expression, multiplier=int(multipliers.flat[0]), shift=int(shifts.flat[0]))
        else:
            pair = (self.constant(multipliers.astype(np.int32), "multiplier"), self.constant(shifts.astype(np.int32), "shift"))
            made = apply("Dyadic", x.expression, *pair)
        return self.checked(Integers(made, low, high), "a requantized sum")

    def whole(self, values: np.ndarray | float) -> Integers:
        """Known integers: a literal, or a constant operand where they differ."""
        array = np.asarray(values, np.float64)
        self._refuse(np.abs(array) >= 2.0**31, array, "a constant")
        exact = array.astype(np.int64)
        if (exact == exact.flat[0]).all():
            only = np.asarray(exact.flat[0])
            return Integers(Number(float(only)), only, only)
        return Integers(self.constant(exact.astype(np.int32), "constant"), exact, exact)

    def sum(self, x: Integers, y: Integers) -> Integers:
        return self.checked(Integers(apply("Add", x.expression, y.expression), x.low + y.low, x.high + y.high), "a sum")

    def product(self, x: Integers, y: Integers) -> Integers:
        corners = [a * b for a in (x.low, x.high) for b in (y.low, y.high)]
        low, high = np.minimum.reduce(np.broadcast_arrays(*corners)), np.maximum.reduce(np.broadcast_arrays(*corners))
        return self.checked(Integers(apply("Mul", x.expression, y.expression), low, high), "a product")

    def maximum(self, x: Integers, y: Integers) -> Integers:
        return Integers(apply("Max", x.expression, y.expression), np.maximum(x.low, y.low), np.maximum(x.high, y.high))

    def minimum(self, x: Integers, y: Integers) -> Integers:
        return Integers(apply("Min", x.expression, y.expression), np.minimum(x.low, y.low), np.minimum(x.high, y.high))

    def checked(self, x: Integers, what: str) -> Integers:
        """The integers themselves, proved to be int32."""
        self._refuse((x.high > numerics.INT32_MAX) | (x.low < -numerics.INT32_MAX - 1), x.magnitude, what)
        return x

    def _refuse(self, beyond: np.ndarray, magnitude: np.ndarray, what: str) -> None:
        if not np.any(beyond):
            return
        beyond, magnitude = np.broadcast_arrays(np.asarray(beyond), np.abs(np.asarray(magnitude, np.float64)))
        worst = np.unravel_index(int(np.argmax(np.where(beyond, magnitude, -1))), beyond.shape)
        channel = f"channel {worst[self.axis]} of " if beyond.ndim > self.axis and beyond.shape[self.axis] > 1 else ""
        raise OverflowRefused(
            f"Expected every integer of {channel}node {self.node!r} to fit 32 bits, but with these weights {what} may reach "
            f"{magnitude[worst]:.4g}, beyond 2^31; keep the node in float (--set requantize.keep_float={self.node})."
        )

    def constant(self, array: np.ndarray, kind: str) -> Leaf:
        """A leaf for a new constant; equal ones share it. ``kind`` begins the leaf's name."""
        for name, known in self.constants.items():
            if name.startswith(kind) and known.dtype == array.dtype and np.array_equal(known, array):
                return Leaf(name)
        name = f"{kind}.{len(self.constants)}"
        self.constants[name] = array
        return Leaf(name)


# -- pieces of expressions -----------------------------------------------------------------------------------------------------


def apply(op: str, *arguments: Expression, **attributes: float | int | str) -> Apply:
    """An operator applied."""
    return Apply(op, arguments, tuple(sorted(attributes.items())))


def defaults(part: Apply) -> dict[str, Any]:
    """Attributes with the table's defaults filled in."""
    return lookup(part.op).defaults(dict(part.attributes))


def clip_bounds(part: Apply) -> tuple[float, float]:
    """Lower and upper bound of a Clip, infinite where there is none."""
    given = dict(part.attributes)
    return float(given.get("min", -math.inf)), float(given.get("max", math.inf))


def clamped(part: Expression, codes: Codes) -> tuple[Expression, int, int]:
    """Rule 1: what stands inside the outermost clamps, and the codes these leave."""
    low, high = codes.low, codes.high
    while isinstance(part, Apply) and part.op in ("Relu", "Clip", "Identity"):
        bounds = {"Relu": (0.0, math.inf), "Identity": (-math.inf, math.inf)}.get(part.op) or clip_bounds(part)
        inner = [int(codes.quantize(bound)) for bound in bounds]
        low, high = (min(max(bound, low), high) for bound in inner)
        part = part.arguments[0]
    return part, low, high


def exchanged(expression: Expression, part: Expression, other: Expression) -> Expression:
    """The expression with every occurrence of a part replaced."""
    if expression == part:
        return other
    if isinstance(expression, Apply):
        arguments = tuple(exchanged(argument, part, other) for argument in expression.arguments)
        return Apply(expression.op, arguments, expression.attributes)
    return expression


def is_simulated(expression: Expression) -> TypeGuard[Apply]:
    """Whether an expression ends in FakeQuantize."""
    return isinstance(expression, Apply) and expression.op == "FakeQuantize"


def without_simulation(expression: Expression) -> Expression:
    """The expression in plain floats, every FakeQuantize left out."""
    match expression:
        case Apply(op="FakeQuantize", arguments=(x,)):
            return without_simulation(x)
        case Apply(op, arguments, attributes):
            return Apply(op, tuple(without_simulation(argument) for argument in arguments), attributes)
    return expression


def check_width(node: str, codes: Codes) -> None:
    """Raises ModelError for codes that no kernel holds."""
    kinds = ("int8", "uint8")
    if codes.dtype not in kinds:
        raise ModelError(
            f"Expected codes of 8 bits or fewer (int8, uint8) at node {node!r}, found {codes.dtype}; calibrate with 8 bits."
        )
    bounds = np.iinfo(codes.dtype)
    if not bounds.min <= codes.low <= codes.high <= bounds.max or not math.isfinite(codes.scale) or codes.scale <= 0:
        raise ModelError(
            f"Expected codes within {codes.dtype}'s {bounds.min} to {bounds.max} and a positive scale at node {node!r}, found "
            f"codes {codes.low} to {codes.high} at scale {codes.scale}; calibrate with 8 bits or fewer."
        )
