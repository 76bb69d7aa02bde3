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
(``numerics.high_half_shifts``), is refused: ``integer_arithmetic.OverflowRefused``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tapdot.compiler.errors import ModelError
from tapdot.compiler.operators.fused import apply_expression
from tapdot.kernels.expression import ACCUMULATOR, Apply, Expression, Leaf, Number
from tapdot.passes.codes import Codes, check_width
from tapdot.passes.integer_arithmetic import UNIT, Arithmetic, Integers
from tapdot.passes.simulated import apply, clamped, clip_bounds, defaults, exchanged

FINEST = 20
"""The largest ``t`` of rule 3: rounding its factors costs less than a thousandth of a code."""


class Inexpressible(Exception):
    """An expression without an integer form; the text says why, to stand after "because"."""


# -- what leaves stand for -----------------------------------------------------------------------------------------------------


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
class IntegerExpressions(Arithmetic):
    """Converts the expressions of one node, given what their leaves stand for."""

    meanings: Mapping[str, Meaning]

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
        """``max(x, 0) + slope * min(x, 0)``, which is ``max(x, slope * x)`` for slopes up to 1."""
        linear = self.linear(x)
        if linear is None:
            raise Inexpressible("a leaky rectifier of a curve has no integer form")
        above, below = self.combination(linear, scale), self.combination(linear.scaled(slope), scale)
        if (slope <= 1).all():
            return self.maximum(above, below)
        if (slope >= 0).all():
            return self.sum(self.maximum(above, self.whole(0)), self.minimum(below, self.whole(0)))
        raise Inexpressible("its slopes below zero are partly negative, partly above 1")

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
