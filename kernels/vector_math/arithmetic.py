"""What every function of this package is written with: sums, products, comparisons and bits of float vectors.

Two things are settled here. *Hardware*: whether there is a fused multiply-add, which instruction is a maximum that passes NaN on,
whether rounding is one instruction; whatever the hardware lacks is written out, because LLVM would call a C library that kernels
are not linked with. *Sharing*: a value used twice must be given a name, or its code is there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tapdot.kernels.emit import Value, intrinsic, local_buffer, ramp, store
from tapdot.kernels.isa import Isa
from tapdot.kernels.tvm_adapter import T, tirx

_MAGIC = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}
"""Added and subtracted again, it rounds to an integer, which then also stands in the low bits of the sum."""
_INTEGERS_FROM = {32: 2.0**23, 64: 2.0**52}
"""From here on every floating-point number is an integer."""
_SIGN = {32: -(2**31), 64: -(2**63)}


def dtype_of(value: Value) -> str:
    """TVM's name of a value's type, for instance ``float32x8``."""
    return str(value.ty)


def bits_of(value: Value) -> int:
    """Bits of one lane."""
    return int(value.ty.dtype.bits)


def lanes_of(value: Value) -> int:
    """Lanes of a value; 1 for a scalar."""
    return int(value.ty.dtype.lanes)


def vector_of(kind: str, lanes: int) -> str:
    """The type of ``lanes`` values of type ``kind``."""
    return kind if lanes == 1 else f"{kind}x{lanes}"


@dataclass(frozen=True)
class Arithmetic:
    """Emits operations for one instruction set; ``share`` gives a value a name and returns the name."""

    isa: Isa
    share: Callable[[Value], Value]

    # -- constants and types ----------------------------------------------------------------------------------------------------

    def like(self, value: Value, number: float | int) -> Value:
        """A literal of the type of ``value``, in every lane."""
        kind = f"{'float' if 'float' in dtype_of(value) else 'int'}{bits_of(value)}"
        literal = tirx.const(number, kind)
        lanes = lanes_of(value)
        return literal if lanes == 1 else T.broadcast(literal, lanes)

    def opaque(self, value: Value, number: float) -> Value:
        """A literal that TVM's simplifier does not see through: it would cancel ``x + c - c``, as if floats were exact."""
        kind, pattern = (np.float32, np.int32) if bits_of(value) == 32 else (np.float64, np.int64)
        return self.from_bits(self.like(self.bits(value), int(kind(number).view(pattern))))

    def convert(self, value: Value, kind: str) -> Value:
        """The values converted to another element type."""
        return T.Cast(vector_of(kind, lanes_of(value)), value)

    def bits(self, value: Value) -> Value:
        """A float's bits as an integer of the same size."""
        return T.reinterpret(vector_of(f"int{bits_of(value)}", lanes_of(value)), value)

    def from_bits(self, value: Value) -> Value:
        """The float with those bits."""
        return T.reinterpret(vector_of(f"float{bits_of(value)}", lanes_of(value)), value)

    # -- arithmetic -------------------------------------------------------------------------------------------------------------

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """``a * b + c``: rounded once where the hardware can, twice where it cannot."""
        return intrinsic("llvm.fma", dtype_of(a), a, b, c) if self.isa.fma else a * b + c

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """By Horner's rule; the coefficient of the highest power comes first."""
        result = self.like(x, coefficients[0])
        for coefficient in coefficients[1:]:
            result = self.multiply_add(result, x, self.like(x, coefficient))
        return self.share(result)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """``yes`` in lanes where the condition holds."""
        return self.share(tirx.Select(condition, yes, no))

    def equal(self, a: Value, b: Value) -> Value:
        """Whether two values are equal, lane by lane; never where one is NaN."""
        return self.share(tirx.EQ(a, b))

    def both(self, a: Value, b: Value) -> Value:
        """Lanes where both conditions hold."""
        return tirx.And(a, b)

    def either(self, a: Value, b: Value) -> Value:
        """Lanes where one of the conditions holds."""
        return tirx.Or(a, b)

    def _neon(self) -> bool:
        return "neon" in self.isa.features

    def maximum(self, a: Value, b: Value) -> Value:
        """The larger; NaN where ``b`` is NaN. One instruction everywhere: x86 gives the second operand where one is NaN."""
        if self._neon():
            return self.share(intrinsic("llvm.maximum", dtype_of(b), a, b))
        return self.select(a > b, a, b)

    def minimum(self, a: Value, b: Value) -> Value:
        """The smaller; NaN where ``b`` is NaN."""
        if self._neon():
            return self.share(intrinsic("llvm.minimum", dtype_of(b), a, b))
        return self.select(a < b, a, b)

    def sqrt(self, x: Value) -> Value:
        """Exactly rounded; an instruction everywhere."""
        return self.share(intrinsic("llvm.sqrt", dtype_of(x), x))

    # -- signs ------------------------------------------------------------------------------------------------------------------

    def absolute(self, x: Value) -> Value:
        """Without its sign bit."""
        return self.share(self.from_bits(self.bits(x) & self.like(self.bits(x), ~_SIGN[bits_of(x)])))

    def with_sign_of(self, magnitude: Value, x: Value) -> Value:
        """A magnitude whose sign bit is clear, with the sign bit of ``x``."""
        sign = self.bits(x) & self.like(self.bits(x), _SIGN[bits_of(x)])
        return self.share(self.from_bits(self.bits(magnitude) | sign))

    def negate(self, x: Value) -> Value:
        """With the sign bit flipped."""
        return self.share(self.from_bits(self.bits(x) ^ self.like(self.bits(x), _SIGN[bits_of(x)])))

    def flip_sign(self, x: Value, odd: Value) -> Value:
        """``-x`` in lanes where the lowest bit of the integer ``odd`` is set."""
        shift = self.like(odd, bits_of(odd) - 1)
        return self.share(self.from_bits(self.bits(x) ^ (odd << shift)))

    # -- rounding ---------------------------------------------------------------------------------------------------------------

    def nearest(self, x: Value) -> tuple[Value, Value]:
        """The nearest integer as a float and as an integer; only for magnitudes below 2^22 (2^51 for doubles)."""
        magic = _MAGIC[bits_of(x)]
        shifted = self.share(x + self.opaque(x, magic))
        integer = self.bits(shifted) - self.bits(self.like(x, magic))
        return self.share(shifted + self.opaque(x, -magic)), self.share(integer)

    def power_of_two(self, exponent: Value) -> Value:
        """``2 ** exponent`` of an integer whose power is a normal number."""
        mantissa, bias = (23, 127) if bits_of(exponent) == 32 else (52, 1023)
        return self.from_bits((exponent + self.like(exponent, bias)) << self.like(exponent, mantissa))

    def round_even(self, x: Value) -> Value:
        """To the nearest integer, halves to the even one."""
        if self.isa.fma:
            return self.share(intrinsic("llvm.roundeven", dtype_of(x), x))
        limit = _INTEGERS_FROM[bits_of(x)]
        magnitude = self.absolute(x)
        rounded = self.share(self.share(magnitude + self.opaque(x, limit)) + self.opaque(x, -limit))
        return self.select(magnitude < self.like(x, limit), self.with_sign_of(rounded, x), x)

    def floor(self, x: Value) -> Value:
        """Down to an integer; the zero of a value in (-1, 0) does not arise, that of -0.0 keeps its sign."""
        if self.isa.fma:
            return self.share(intrinsic("llvm.floor", dtype_of(x), x))
        rounded = self.round_even(x)
        return self.select(rounded > x, rounded - self.like(x, 1.0), rounded)

    def ceil(self, x: Value) -> Value:
        """Up to an integer; a value in (-1, 0] gives -0.0."""
        if self.isa.fma:
            return self.share(intrinsic("llvm.ceil", dtype_of(x), x))
        rounded = self.round_even(x)
        up = self.share(rounded + self.like(x, 1.0))
        return self.select(rounded < x, self.with_sign_of(self.absolute(up), x), rounded)

    def trunc(self, x: Value) -> Value:
        """Towards zero to an integer."""
        if self.isa.fma:
            return self.share(intrinsic("llvm.trunc", dtype_of(x), x))
        magnitude = self.floor(self.absolute(x))
        return self.with_sign_of(magnitude, x)


def statements(isa: Isa) -> Arithmetic:
    """Arithmetic inside a function being built.

    A shared value lives in a local buffer, which LLVM keeps in a register. TVM's own bindings will not do: its simplifier sees
    through them, cancels float sums as if they were exact, and takes exponential time in the depth of the code. Conditions stay
    as they are: LLVM finds the equal ones.
    """
    return Arithmetic(isa, _kept)


def _kept(value: Value) -> Value:
    kind, lanes = dtype_of(value).split("x")[0], lanes_of(value)
    if kind == "bool" or isinstance(value, tirx.FloatImm | tirx.IntImm | tirx.Broadcast):
        return value
    local = local_buffer(lanes, kind)
    store(local, 0, value, lanes)
    return local[ramp(0, lanes)]
