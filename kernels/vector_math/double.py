"""Exponential and logarithm of float64, for double tensors and for functions that need more bits than they return."""

from __future__ import annotations

import math

from tapdot.kernels.emit import Value
from tapdot.kernels.vector_math.arithmetic import Arithmetic

_EXP = (
    2.0915442297780109599e-9, 2.5106274733573294688e-8, 2.7557271810219799588e-7, 2.7557252833516909748e-6,
    2.4801587327007186731e-5, 1.9841269876864354929e-4, 1.3888888888883326674e-3, 8.3333333333255446996e-3,
    4.1666666666666670074e-2, 1.6666666666666671438e-1, 0.5,
)  # fmt: skip
"""``(exp(r) - 1 - r) / r^2`` for ``|r| <= log(2) / 2``; error below 2e-18."""
_LOG = (
    0.13100721383503491404, 0.13267418596474883397, 0.15386290534658991988, 0.18181794700897799585,
    0.22222222400547757297, 0.28571428570764450117, 0.40000000000000941266, 0.66666666666666666448,
)  # fmt: skip
"""``(log((1 + s) / (1 - s)) / s - 2) / s^2`` over ``s^2``, between the roots of 1/2 and 2; error below 3e-18."""
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
"""The logarithm of 2 in two parts; a multiple of the first by up to 2^11 is exact."""
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_SMALLEST_NORMAL, _LIFT = 2.0**-1022, 54


def exp(m: Arithmetic, x: Value) -> Value:
    """``e ** x`` of doubles, within 2 ulp."""
    x = m.minimum(m.like(x, 710.0), m.maximum(m.like(x, -746.0), x))
    n, integer = m.nearest(m.share(x * m.like(x, math.log2(math.e))))
    r = m.share((x - n * m.like(x, _LN2_HIGH)) - n * m.like(x, _LN2_LOW))
    tail = m.polynomial(r, _EXP)
    value = m.share(m.like(x, 1.0) + m.share(m.multiply_add(m.share(r * r), tail, r)))
    half = m.share(integer >> m.like(integer, 1))
    return m.share(value * m.power_of_two(half) * m.power_of_two(m.share(integer - half)))


def log(m: Arithmetic, x: Value) -> Value:
    """The natural logarithm of doubles, within 2 ulp."""
    tiny = m.share(x < m.like(x, _SMALLEST_NORMAL))
    lifted = m.select(tiny, x * m.like(x, 2.0**_LIFT), x)
    bits = m.share(m.bits(lifted))
    exponent = m.share((bits - m.like(bits, _SQRT_HALF_BITS)) >> m.like(bits, 52))
    mantissa = m.from_bits(m.share(bits - (exponent << m.like(bits, 52))))
    f = m.share(mantissa - m.like(x, 1.0))
    power = m.share(m.convert(m.convert(exponent, "int32"), "float64") - m.select(tiny, m.like(x, _LIFT), m.like(x, 0.0)))
    s = m.share(f / (f + m.like(x, 2.0)))
    square = m.share(s * s)
    tail = m.share(square * m.polynomial(square, _LOG))
    half = m.share(f * f * m.like(x, 0.5))
    value = m.share(f - (half - m.multiply_add(s, m.share(half + tail), m.share(power * m.like(x, _LN2_LOW)))))
    value = m.share(m.multiply_add(power, m.like(x, _LN2_HIGH), value))
    return logarithm_at_edges(m, x, value)


def logarithm_at_edges(m: Arithmetic, x: Value, value: Value) -> Value:
    """A logarithm's ``value`` where ``x`` is positive and finite; elsewhere -inf at zero, inf at inf, NaN for all others."""
    outside = m.select(m.equal(x, m.like(x, 0.0)), m.like(x, -math.inf), m.like(x, math.nan))
    return m.select(x > m.like(x, 0.0), m.select(x < m.like(x, math.inf), value, x), outside)
