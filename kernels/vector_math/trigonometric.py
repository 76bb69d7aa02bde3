"""Circular functions and the error function of float32 vectors."""

from __future__ import annotations

import math

import numpy as np
import scipy.special

from tapdot.kernels.emit import Value
from tapdot.kernels.vector_math.arithmetic import Arithmetic
from tapdot.kernels.vector_math.exponential import exp
from tapdot.kernels.vector_math.table import function

_SIN = (2.724686872e-6, -1.984006304e-4, 8.333331831e-3, -0.1666666666)
"""``(sin(x) / x - 1) / x^2`` over ``x^2`` for ``|x| <= pi / 4``; error below 3e-11."""
_COS = (2.454541908e-5, -1.38882913e-3, 0.0416666646)
"""``(cos(x) - 1 + x^2 / 2) / x^4`` over ``x^2`` for ``|x| <= pi / 4``; error below 3e-9."""
_ATAN = (-0.06410238548, 0.1073102649, -0.1426276829, 0.1999950587, -0.3333333161)
"""``(atan(x) / x - 1) / x^2`` over ``x^2`` for ``|x| <= tan(pi / 8)``; error below 2e-8."""
_ASIN = (0.0336908472, 0.01714923836, 0.03110066274, 0.04459940153, 0.07500094543, 0.1666666634)
"""``(asin(x) / x - 1) / x^2`` over ``x^2`` for ``|x| <= 1/2``; error below 5e-9."""
_ERF = (7.875875063e-5, -8.016864287e-4, 5.189087423e-3, -0.02685421201, 0.1128359472, -0.3761262667, 0.1283791658)
"""``erf(x) / x - 1`` over ``x^2`` for ``|x| <= 1``; error below 2e-9."""
_LOG_ERFC = (
    -1.637151415e-6, 4.605804269e-5, -5.968056257e-4, 4.759596293e-3, -0.02642113601,
    0.1100800829, 0.6318260516, 1.130233435, -3.201380497e-4,
)  # fmt: skip
"""``-log(1 - erf(x))`` for ``1 <= x <= 4``; error below 2e-8."""
_HALF_PI_HIGH, _HALF_PI_LOW = 1.5707963267341256142, 6.0771005065061926015e-11
"""A quarter turn in two parts; a multiple of the first by up to 2^20 is an exact float64."""
_ACCURATE_UP_TO = 2.0**20


def _reduced(m: Arithmetic, x: Value) -> tuple[Value, Value, Value]:
    """Number of quarter turns in ``x``, sine and cosine of what is left.

    The reduction is done in float64; from 2^20 on its error grows as ``2^-52 |x|``.
    """
    wide = m.share(m.convert(x, "float64"))
    n, integer = m.nearest(m.share(wide * m.like(wide, 2 / math.pi)))
    rest = m.share((wide - n * m.like(wide, _HALF_PI_HIGH)) - n * m.like(wide, _HALF_PI_LOW))
    r = m.share(m.convert(rest, "float32"))
    square = m.share(r * r)
    sine = m.share(m.multiply_add(m.share(r * square), m.polynomial(square, _SIN), r))
    tail = m.multiply_add(m.share(square * square), m.polynomial(square, _COS), square * m.like(x, -0.5))
    return m.share(m.convert(integer, "int32")), sine, m.share(m.share(tail) + m.like(x, 1.0))


def _is_odd(m: Arithmetic, quarter: Value) -> Value:
    return m.equal(quarter & m.like(quarter, 1), m.like(quarter, 1))


@function(np.sin, ulp=2, domain=(-_ACCURATE_UP_TO, _ACCURATE_UP_TO))
def sin(m: Arithmetic, x: Value) -> Value:
    """Sine and cosine of the rest take turns."""
    quarter, sine, cosine = _reduced(m, x)
    value = m.flip_sign(m.select(_is_odd(m, quarter), cosine, sine), m.share(quarter >> m.like(quarter, 1)))
    return m.select(m.equal(x, m.like(x, 0.0)), x, value)


@function(np.cos, ulp=2, domain=(-_ACCURATE_UP_TO, _ACCURATE_UP_TO))
def cos(m: Arithmetic, x: Value) -> Value:
    """A quarter turn ahead of the sine."""
    quarter, sine, cosine = _reduced(m, x)
    ahead = m.share(quarter + m.like(quarter, 1))
    return m.flip_sign(m.select(_is_odd(m, quarter), sine, cosine), m.share(ahead >> m.like(quarter, 1)))


@function(np.tan, ulp=4, domain=(-_ACCURATE_UP_TO, _ACCURATE_UP_TO))
def tan(m: Arithmetic, x: Value) -> Value:
    """The quotient of sine and cosine of the rest, or minus its inverse."""
    quarter, sine, cosine = _reduced(m, x)
    odd = _is_odd(m, quarter)
    ratio = m.share(m.select(odd, cosine, sine) / m.select(odd, sine, cosine))
    value = m.flip_sign(ratio, quarter)
    return m.select(m.equal(x, m.like(x, 0.0)), x, value)


@function(np.arctan, ulp=3)
def atan(m: Arithmetic, x: Value) -> Value:
    """Turned by a quarter or a half of a right angle until the tangent is below ``tan(pi / 8)``."""
    magnitude, one = m.absolute(x), m.like(x, 1.0)
    far = m.share(magnitude > m.like(x, math.tan(3 * math.pi / 8)))
    middle = m.share(magnitude > m.like(x, math.tan(math.pi / 8)))
    above = m.select(far, m.like(x, -1.0), m.select(middle, magnitude - one, magnitude))
    below = m.select(far, magnitude, m.select(middle, magnitude + one, one))
    turned = m.select(far, m.like(x, math.pi / 2), m.select(middle, m.like(x, math.pi / 4), m.like(x, 0.0)))
    t = m.share(above / below)
    square = m.share(t * t)
    rest = m.share(m.multiply_add(m.share(t * square), m.polynomial(square, _ATAN), t))
    return m.with_sign_of(m.absolute(m.share(turned + rest)), x)


def _small_arc(m: Arithmetic, magnitude: Value) -> tuple[Value, Value]:
    """Whether the magnitude is at most 1/2, and the arc sine of it or else of ``sqrt((1 - magnitude) / 2)``."""
    small = m.share(magnitude <= m.like(magnitude, 0.5))
    other = m.share((m.like(magnitude, 1.0) - magnitude) * m.like(magnitude, 0.5))
    square = m.select(small, magnitude * magnitude, other)
    s = m.select(small, magnitude, m.sqrt(other))
    return small, m.share(m.multiply_add(m.share(s * square), m.polynomial(square, _ASIN), s))


@function(np.arcsin, ulp=3)
def asin(m: Arithmetic, x: Value) -> Value:
    """A polynomial up to 1/2, beyond it through the half angle; NaN beyond 1."""
    small, arc = _small_arc(m, m.absolute(x))
    value = m.select(small, arc, m.like(x, math.pi / 2) - (arc + arc))
    return m.with_sign_of(m.absolute(value), x)


@function(np.arccos, ulp=4)
def acos(m: Arithmetic, x: Value) -> Value:
    """The complement of the arc sine, near 1 through the half angle; NaN beyond 1."""
    small, arc = _small_arc(m, m.absolute(x))
    negative = m.share(x < m.like(x, 0.0))
    near = m.like(x, math.pi / 2) - m.select(negative, m.like(x, 0.0) - arc, arc)
    twice = m.share(arc + arc)
    far = m.select(negative, m.like(x, math.pi) - twice, twice)
    return m.select(small, near, far)


@function(scipy.special.erf, ulp=3)
def erf(m: Arithmetic, x: Value) -> Value:
    """A polynomial below 1, beyond it one minus an exponential."""
    magnitude = m.absolute(x)
    square = m.share(x * x)
    small = m.share(m.multiply_add(x, m.polynomial(square, _ERF), x))
    bounded = m.minimum(m.like(x, 4.0), magnitude)
    rest = exp(m, m.share(m.like(x, 0.0) - m.polynomial(bounded, _LOG_ERFC)))
    large = m.with_sign_of(m.absolute(m.share(m.like(x, 1.0) - rest)), x)
    return m.select(magnitude < m.like(x, 1.0), small, large)
