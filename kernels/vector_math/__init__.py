"""Mathematical functions of float32 vectors, of any number of lanes, as plain instructions.

A kernel library is linked with nothing, so there is no ``expf`` to call, and one that works on vectors would differ from system
to system. Each function here is a short polynomial or an identity, with its bound stated and its meaning beside it (see
:data:`FUNCTIONS`); infinities, NaN, overflow and underflow come out as in numpy. The same code serves every instruction set:
``exp(statements(isa), x)`` inside a function being built.
"""

from tapdot.kernels.vector_math import double
from tapdot.kernels.vector_math.arithmetic import Arithmetic, statements
from tapdot.kernels.vector_math.basic import absolute, ceil, floor, round_even, rsqrt, sqrt, trunc
from tapdot.kernels.vector_math.exponential import (
    acosh,
    asinh,
    atanh,
    cosh,
    exp,
    expm1,
    log,
    log1p,
    power,
    sigmoid,
    sinh,
    softplus,
    tanh,
)
from tapdot.kernels.vector_math.table import FUNCTIONS, Function
from tapdot.kernels.vector_math.trigonometric import acos, asin, atan, cos, erf, sin, tan

__all__ = [
    "FUNCTIONS", "Arithmetic", "Function", "absolute", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil",
    "cos", "cosh", "double", "erf", "exp", "expm1", "floor", "log", "log1p", "power", "round_even", "rsqrt", "sigmoid", "sin",
    "sinh", "softplus", "sqrt", "statements", "tan", "tanh", "trunc",
]  # fmt: skip
