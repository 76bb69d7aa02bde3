"""Roots, rounding and remainders of float32 vectors."""

from __future__ import annotations

import numpy as np

from tapdot.kernels.emit import Value
from tapdot.kernels.vector_math.arithmetic import Arithmetic
from tapdot.kernels.vector_math.table import function


@function(np.sqrt, ulp=0.5)
def sqrt(m: Arithmetic, x: Value) -> Value:
    """The square root."""
    return m.sqrt(x)


@function(lambda x: 1 / np.sqrt(x), ulp=1.5)
def rsqrt(m: Arithmetic, x: Value) -> Value:
    """One over the square root."""
    return m.share(m.like(x, 1.0) / m.sqrt(x))


@function(np.floor, ulp=0)
def floor(m: Arithmetic, x: Value) -> Value:
    """Down to an integer."""
    return m.floor(x)


@function(np.ceil, ulp=0)
def ceil(m: Arithmetic, x: Value) -> Value:
    """Up to an integer."""
    return m.ceil(x)


@function(np.trunc, ulp=0)
def trunc(m: Arithmetic, x: Value) -> Value:
    """Towards zero to an integer."""
    return m.trunc(x)


@function(np.rint, ulp=0)
def round_even(m: Arithmetic, x: Value) -> Value:
    """To the nearest integer, halves to the even one."""
    return m.round_even(x)


@function(np.abs, ulp=0)
def absolute(m: Arithmetic, x: Value) -> Value:
    """Without its sign."""
    return m.absolute(x)
