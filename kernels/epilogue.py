"""Element-wise expressions as vector code: what a kernel does to a value before it stores it.

One table, operator name to emitter, with ONNX's semantics, attributes and defaults. Where a maximum or a minimum meets NaN the
result is NaN, as in torch and ONNX's reference; that is free but for Max and Min of two variables, one select more on x86.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from tapdot.kernels import vector_math
from tapdot.kernels.emit import Value
from tapdot.kernels.expression import Expression, Leaf, Number, evaluate
from tapdot.kernels.isa import Isa
from tapdot.kernels.numerics import inverse_scale
from tapdot.kernels.tvm_adapter import T, tirx
from tapdot.kernels.vector_math import Arithmetic

Emit = Callable[..., Value]
"""``emit(arithmetic, *operands, **attributes)``."""

_EMITTERS: dict[str, Emit] = {}


def emit(expression: Expression, operands: Mapping[str, Value], isa: Isa, lanes: int) -> Value:
    """The expression over float32 vectors of ``lanes`` elements.

    ``operands`` gives a vector for every leaf; literals become vectors here. Raises KeyError for an operator without an emitter
    (see :func:`supported_operators`).
    """
    m = vector_math.statements(isa)

    def number(value: float) -> Value:
        literal = T.float32(value)
        return literal if lanes == 1 else T.broadcast(literal, lanes)

    def visit(op: str, arguments: Sequence[Value], attributes: Mapping[str, float | int | str]) -> Value:
        return apply(m, op, arguments, attributes)

    return evaluate(_specialized(expression), operands, visit, number)


def apply(m: Arithmetic, op: str, operands: Sequence[Value], attributes: Mapping[str, float | int | str]) -> Value:
    """One operator by name; raises KeyError for one without an emitter."""
    return m.share(_EMITTERS[op](m, *operands, **attributes))


def supported_operators() -> frozenset[str]:
    """Operators an expression may apply."""
    return frozenset(name for name in _EMITTERS if not name.startswith("_"))


def _specialized(expression: Expression) -> Expression:
    """Powers with a literal exponent as products and roots: ``Pow(x, 2.0)`` is ``Mul(x, x)``."""
    if isinstance(expression, Leaf | Number):
        return expression
    arguments = tuple(_specialized(argument) for argument in expression.arguments)
    if expression.op == "Pow" and isinstance(arguments[1], Number) and arguments[1].value in _POWERS:
        return type(expression)(_POWERS[arguments[1].value], arguments[:1])
    return type(expression)(expression.op, arguments, expression.attributes)


_POWERS = {1.0: "Identity", 2.0: "_Square", 3.0: "_Cube", 0.5: "Sqrt", -1.0: "Reciprocal", -0.5: "_ReciprocalSqrt"}


def _operator(name: str) -> Callable[[Emit], Emit]:
    def register(emitter: Emit) -> Emit:
        _EMITTERS[name] = emitter
        return emitter

    return register


# -- arithmetic -------------------------------------------------------------------------------------------------------------

_EMITTERS |= {
    "Add": lambda m, a, b: a + b,
    "Sub": lambda m, a, b: a - b,
    "Mul": lambda m, a, b: a * b,
    "Div": lambda m, a, b: a / b,
    "Pow": vector_math.power,
    "Neg": lambda m, x: m.negate(x),
    "Abs": lambda m, x: m.absolute(x),
    "Reciprocal": lambda m, x: m.like(x, 1.0) / x,
    "Identity": lambda m, x: x,
    "_Square": lambda m, x: x * x,
    "_Cube": lambda m, x: x * x * x,
    "_ReciprocalSqrt": vector_math.rsqrt,
    "Sqrt": vector_math.sqrt,
    "Exp": vector_math.exp,
    "Log": vector_math.log,
    "Erf": vector_math.erf,
    "Floor": vector_math.floor,
    "Ceil": vector_math.ceil,
    "Round": vector_math.round_even,
    "Sin": vector_math.sin,
    "Cos": vector_math.cos,
    "Tan": vector_math.tan,
    "Asin": vector_math.asin,
    "Acos": vector_math.acos,
    "Atan": vector_math.atan,
    "Sinh": vector_math.sinh,
    "Cosh": vector_math.cosh,
    "Tanh": vector_math.tanh,
    "Asinh": vector_math.asinh,
    "Acosh": vector_math.acosh,
    "Atanh": vector_math.atanh,
    "Sigmoid": vector_math.sigmoid,
    "Softplus": vector_math.softplus,
}


@_operator("Sign")
def _sign(m: Arithmetic, x: Value) -> Value:
    one = m.with_sign_of(m.like(x, 1.0), x)
    return m.select(m.absolute(x) > m.like(x, 0.0), one, x)


@_operator("Sum")
def _sum(m: Arithmetic, first: Value, *rest: Value) -> Value:
    for value in rest:
        first = m.share(first + value)
    return first


@_operator("Mean")
def _mean(m: Arithmetic, *xs: Value) -> Value:
    return _sum(m, *xs) / m.like(xs[0], len(xs))


def _extreme(m: Arithmetic, pick: Callable[[Value, Value], Value], xs: Sequence[Value]) -> Value:
    """Folds with an operation that passes on NaN from its second operand only; the check covers the first."""
    first, *rest = xs
    for value in rest:
        picked = pick(first, value)
        if "neon" not in m.isa.features and not isinstance(first, tirx.FloatImm | tirx.Broadcast):
            picked = m.select(first <= m.like(first, math.inf), picked, first)
        first = picked
    return first


@_operator("Max")
def _max(m: Arithmetic, *xs: Value) -> Value:
    return _extreme(m, m.maximum, _literals_first(xs))


@_operator("Min")
def _min(m: Arithmetic, *xs: Value) -> Value:
    return _extreme(m, m.minimum, _literals_first(xs))


def _literals_first(xs: Sequence[Value]) -> list[Value]:
    return sorted(xs, key=lambda x: not isinstance(x, tirx.FloatImm | tirx.Broadcast))


@_operator("Clip")
def _clip(m: Arithmetic, x: Value, *, min: float = -math.inf, max: float = math.inf) -> Value:  # noqa: A002 ONNX's names
    if min > -math.inf:
        x = m.maximum(m.like(x, min), x)
    return m.minimum(m.like(x, max), x) if max < math.inf else x


@_operator("FakeQuantize")
def _fake_quantize(m: Arithmetic, x: Value, *, scale: float, low: int, high: int, zero_point: int = 0, dtype: str = "") -> Value:
    scaled = m.share(vector_math.round_even(m, m.share(x * m.like(x, inverse_scale(scale)))))
    known = m.share(m.select(scaled <= m.like(x, math.inf), scaled, m.like(x, 0.0)))
    return _clip(m, known, min=low - zero_point, max=high - zero_point) * m.like(x, scale)


# -- activations ------------------------------------------------------------------------------------------------------------


def _positive(m: Arithmetic, x: Value) -> Value:
    return m.maximum(m.like(x, 0.0), x)


def _unit(m: Arithmetic, x: Value) -> Value:
    """Between 0 and 1."""
    return _clip(m, x, min=0.0, max=1.0)


_EMITTERS["Relu"] = _positive


@_operator("LeakyRelu")
def _leaky_relu(m: Arithmetic, x: Value, *, alpha: float = 0.01) -> Value:
    scaled = m.share(x * m.like(x, alpha))
    return m.maximum(scaled, x) if 0 <= alpha <= 1 else m.select(x < m.like(x, 0.0), scaled, x)


@_operator("PRelu")
def _prelu(m: Arithmetic, x: Value, slope: Value) -> Value:
    return m.select(x < m.like(x, 0.0), x * slope, x)


@_operator("ThresholdedRelu")
def _thresholded_relu(m: Arithmetic, x: Value, *, alpha: float = 1.0) -> Value:
    return m.select(x > m.like(x, alpha), x, m.like(x, 0.0))


@_operator("Shrink")
def _shrink(m: Arithmetic, x: Value, *, bias: float = 0.0, lambd: float = 0.5) -> Value:
    above = m.select(x > m.like(x, lambd), x - m.like(x, bias), m.like(x, 0.0))
    return m.select(x < m.like(x, -lambd), x + m.like(x, bias), above)


@_operator("Elu")
def _elu(m: Arithmetic, x: Value, *, alpha: float = 1.0) -> Value:
    return m.select(x < m.like(x, 0.0), m.like(x, alpha) * vector_math.expm1(m, x), x)


@_operator("Selu")
def _selu(
    m: Arithmetic, x: Value, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> Value:
    return _elu(m, x, alpha=alpha) * m.like(x, gamma)


@_operator("Celu")
def _celu(m: Arithmetic, x: Value, *, alpha: float = 1.0) -> Value:
    curved = m.like(x, alpha) * vector_math.expm1(m, m.share(x * m.like(x, 1 / alpha)))
    return _positive(m, x) + m.minimum(m.like(x, 0.0), m.share(curved))


@_operator("HardSigmoid")
def _hard_sigmoid(m: Arithmetic, x: Value, *, alpha: float = 0.2, beta: float = 0.5) -> Value:
    return _unit(m, m.share(m.multiply_add(x, m.like(x, alpha), m.like(x, beta))))


@_operator("HardSwish")
def _hard_swish(m: Arithmetic, x: Value) -> Value:
    return x * _hard_sigmoid(m, x, alpha=1 / 6, beta=0.5)


@_operator("Softsign")
def _softsign(m: Arithmetic, x: Value) -> Value:
    return x / (m.like(x, 1.0) + m.absolute(x))


@_operator("Mish")
def _mish(m: Arithmetic, x: Value) -> Value:
    """``tanh(log(1 + e))`` is ``(e^2 + 2 e) / (e^2 + 2 e + 2)``; ``e`` is bounded where the quotient is 1 already."""
    e = vector_math.exp(m, m.minimum(m.like(x, 20.0), x))
    above = m.share(e * (e + m.like(x, 2.0)))
    return x * m.share(above / (above + m.like(x, 2.0)))


@_operator("Gelu")
def _gelu(m: Arithmetic, x: Value, *, approximate: str = "none") -> Value:
    half = x * m.like(x, 0.5)
    if approximate == "tanh":
        cube = m.share(x * x * x)
        inner = m.share(m.multiply_add(cube, m.like(x, 0.044715), x) * m.like(x, math.sqrt(2 / math.pi)))
        return half * (m.like(x, 1.0) + vector_math.tanh(m, inner))
    return half * (m.like(x, 1.0) + vector_math.erf(m, m.share(x * m.like(x, math.sqrt(0.5)))))
