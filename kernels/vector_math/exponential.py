"""Exponentials, logarithms, hyperbolic functions and powers of float32 vectors."""

from __future__ import annotations

import math

import numpy as np

from tapdot.kernels.emit import Value
from tapdot.kernels.vector_math import double
from tapdot.kernels.vector_math.arithmetic import Arithmetic
from tapdot.kernels.vector_math.double import logarithm_at_edges
from tapdot.kernels.vector_math.table import function

_EXP = (0.001392692661, 0.008363773874, 0.04166655011, 0.1666657338, 0.5)
"""``(exp(r) - 1 - r) / r^2`` for ``|r| <= log(2) / 2``; error below 7e-8 of at most 0.03."""
_LOG = (
    0.06971611471, -0.1147973385, 0.1168541992, -0.1242568733, 0.1424905765,
    -0.1666780232, 0.2000071575, -0.2499999696, 0.3333333118,
)  # fmt: skip
"""``(log(1 + f) - f + f^2 / 2) / f^3`` for ``1 + f`` between the roots of 1/2 and 2; error below 3e-8."""
_SINH = (2.806280258e-6, 1.983810197e-4, 8.333339676e-3, 0.1666666665)
"""``(sinh(x) / x - 1) / x^2`` over ``x^2`` for ``|x| <= 1``; error below 3e-10."""
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.42860682030941723e-6
"""The logarithm of 2 in two parts; a multiple of the first by up to 2^8 is exact."""
_SQRT_HALF_BITS = 0x3F3504F3
_SMALLEST_NORMAL, _LIFT = 2.0**-126, 23
_LARGE = 2.0**28
"""From here on adding one changes nothing."""


def _reduced(m: Arithmetic, x: Value) -> tuple[Value, Value]:
    """``n`` and ``exp(r) - 1`` where ``x = n log 2 + r`` and ``|r| <= log(2) / 2``."""
    n, integer = m.nearest(m.share(x * m.like(x, math.log2(math.e))))
    r = m.share(m.multiply_add(n, m.like(x, -_LN2_HIGH), x))
    r = m.share(m.multiply_add(n, m.like(x, -_LN2_LOW), r))
    return integer, m.share(m.multiply_add(m.share(r * r), m.polynomial(r, _EXP), r))


def _clamp(m: Arithmetic, x: Value, low: float, high: float) -> Value:
    """Into the range; NaN stays NaN."""
    return m.minimum(m.like(x, high), m.maximum(m.like(x, low), x))


def _scaled_exp(m: Arithmetic, x: Value, shift: int) -> Value:
    """``2 ** shift * e ** x``; the power is applied in two halves: nothing overflows or underflows before the result does."""
    integer, rest = _reduced(m, _clamp(m, x, -104.0, 90.0))
    half = m.share(integer >> m.like(integer, 1))
    other = m.share(integer - half + m.like(integer, shift))
    return m.share((rest + m.like(x, 1.0)) * m.power_of_two(half) * m.power_of_two(other))


@function(np.exp, ulp=2)
def exp(m: Arithmetic, x: Value) -> Value:
    """``e ** x``; subnormal results are made, not flushed."""
    return _scaled_exp(m, x, 0)


@function(np.expm1, ulp=3)
def expm1(m: Arithmetic, x: Value) -> Value:
    """``e ** x - 1`` without cancellation near zero."""
    integer, rest = _reduced(m, _clamp(m, x, -30.0, 89.0))
    # Half the power, because 2^128 is no float32.
    half = m.share(m.power_of_two(integer - m.like(integer, 1)))
    value = m.multiply_add(half, rest, m.share(half - m.like(x, 0.5)))
    # Zeros keep their sign, and the smallest numbers are their own result.
    small = m.share(m.absolute(x) < m.like(x, 2.0**-25))
    return m.select(small, x, value * m.like(x, 2.0))


@function(np.log, ulp=2)
def log(m: Arithmetic, x: Value) -> Value:
    """The natural logarithm; subnormal operands are taken for what they are."""
    tiny = m.share(x < m.like(x, _SMALLEST_NORMAL))
    bits = m.share(m.bits(m.select(tiny, x * m.like(x, 2.0**_LIFT), x)))
    exponent = m.share((bits - m.like(bits, _SQRT_HALF_BITS)) >> m.like(bits, 23))
    mantissa = m.from_bits(m.share(bits - (exponent << m.like(bits, 23))))
    power = m.share(m.convert(exponent, "float32") - m.select(tiny, m.like(x, _LIFT), m.like(x, 0.0)))
    f = m.share(mantissa - m.like(x, 1.0))
    square = m.share(f * f)
    tail = m.share(square * m.share(f * m.polynomial(f, _LOG)))
    tail = m.multiply_add(square, m.like(x, -0.5), m.multiply_add(power, m.like(x, _LN2_LOW), tail))
    value = m.share(m.multiply_add(power, m.like(x, _LN2_HIGH), m.share(f + m.share(tail))))
    return logarithm_at_edges(m, x, value)


@function(np.log1p, ulp=3)
def log1p(m: Arithmetic, x: Value) -> Value:
    """``log(1 + x)``, what the sum loses put back in first order."""
    one = m.like(x, 1.0)
    whole = m.share(x + one)
    lost = m.share((x - m.share(whole - one)) / whole)
    usable = m.both(whole > m.like(x, 0.0), whole < m.like(x, math.inf))
    value = m.share(log(m, whole) + m.select(usable, lost, m.like(x, 0.0)))
    return m.select(m.equal(x, m.like(x, 0.0)), x, value)


@function(lambda x: 1 / (1 + np.exp(-x)), ulp=3, absolute=2.0**-126)
def sigmoid(m: Arithmetic, x: Value) -> Value:
    """``1 / (1 + exp(-x))``; results that would be subnormal are zero."""
    return m.share(m.like(x, 1.0) / (m.like(x, 1.0) + exp(m, m.share(m.like(x, 0.0) - x))))


@function(np.tanh, ulp=3)
def tanh(m: Arithmetic, x: Value) -> Value:
    """By ``e / (e + 2)`` with ``e = exp(2 |x|) - 1``."""
    doubled = m.minimum(m.like(x, 20.0), m.share(m.absolute(x) * m.like(x, 2.0)))
    e = expm1(m, doubled)
    return m.with_sign_of(m.share(e / (e + m.like(x, 2.0))), x)


@function(np.sinh, ulp=3)
def sinh(m: Arithmetic, x: Value) -> Value:
    """A polynomial below 1, from there on by half an exponential, which overflows no sooner than the result."""
    magnitude = m.absolute(x)
    square = m.share(x * x)
    small = m.share(m.multiply_add(m.share(x * square), m.polynomial(square, _SINH), x))
    half = _scaled_exp(m, magnitude, -1)
    large = m.with_sign_of(m.share(half - m.like(x, 0.25) / half), x)
    return m.select(magnitude < m.like(x, 1.0), small, large)


@function(np.cosh, ulp=3)
def cosh(m: Arithmetic, x: Value) -> Value:
    """Half the sum of an exponential and its inverse."""
    half = _scaled_exp(m, m.absolute(x), -1)
    return m.share(half + m.like(x, 0.25) / half)


@function(lambda x: np.logaddexp(x, 0), ulp=3)
def softplus(m: Arithmetic, x: Value) -> Value:
    """``log(1 + exp(x))`` as ``max(x, 0) + log1p(exp(-|x|))``."""
    fading = exp(m, m.share(m.like(x, 0.0) - m.absolute(x)))
    return m.share(m.maximum(m.like(x, 0.0), x) + log1p(m, fading))


@function(np.arcsinh, ulp=4)
def asinh(m: Arithmetic, x: Value) -> Value:
    """By ``log1p(x + x^2 / (1 + sqrt(x^2 + 1)))``; of large operands the logarithm of the double."""
    magnitude, one = m.absolute(x), m.like(x, 1.0)
    square = m.share(magnitude * magnitude)
    exact = m.share(magnitude + square / (one + m.sqrt(m.share(square + one))))
    large = m.share(magnitude > m.like(x, _LARGE))
    value = log1p(m, m.select(large, magnitude, exact))
    return m.with_sign_of(m.share(value + m.select(large, m.like(x, math.log(2)), m.like(x, 0.0))), x)


@function(np.arccosh, ulp=4)
def acosh(m: Arithmetic, x: Value) -> Value:
    """By ``log1p(t + sqrt(2 t + t^2))``, ``t = x - 1``; NaN below 1."""
    t = m.share(x - m.like(x, 1.0))
    exact = m.share(t + m.sqrt(m.share(m.share(t * t) + m.share(t + t))))
    large = m.share(x > m.like(x, _LARGE))
    value = log1p(m, m.select(large, x, exact))
    value = m.share(value + m.select(large, m.like(x, math.log(2)), m.like(x, 0.0)))
    return m.select(t >= m.like(x, 0.0), value, m.like(x, math.nan))


@function(np.arctanh, ulp=4)
def atanh(m: Arithmetic, x: Value) -> Value:
    """By ``log1p(2 x / (1 - x)) / 2``; infinite at 1, NaN beyond."""
    magnitude = m.absolute(x)
    ratio = m.share(m.share(magnitude + magnitude) / (m.like(x, 1.0) - magnitude))
    value = m.absolute(m.share(log1p(m, ratio) * m.like(x, 0.5)))
    return m.with_sign_of(value, x)


@function(np.power, ulp=1)
def power(m: Arithmetic, x: Value, y: Value) -> Value:
    """``x ** y`` with C's special cases, through float64, so that large exponents cost no accuracy."""
    zero, one, infinity = m.like(x, 0.0), m.like(x, 1.0), m.like(x, math.inf)
    magnitude = m.absolute(x)
    product = m.share(m.convert(y, "float64") * double.log(m, m.share(m.convert(magnitude, "float64"))))
    # float32 ends well inside these bounds.
    product = m.minimum(m.like(product, 150.0), m.maximum(m.like(product, -150.0), product))
    value = m.convert(double.exp(m, product), "float32")
    surely_one = m.either(m.equal(y, zero), m.equal(x, one))
    balanced = m.both(m.equal(magnitude, one), m.equal(m.absolute(y), infinity))
    value = m.select(m.either(surely_one, balanced), one, value)
    halved = m.share(y * m.like(y, 0.5))
    fractional = m.share(m.floor(y) < y)
    odd = m.both(m.equal(m.floor(y), y), m.floor(halved) < halved)
    signed = m.select(odd, m.with_sign_of(value, x), value)
    undefined = m.both(m.both(x < zero, magnitude < infinity), fractional)
    return m.select(undefined, m.like(x, math.nan), signed)
