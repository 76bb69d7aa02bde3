"""int32 expressions with the intervals they lie in: nothing is built that is not proved to fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tapdot.compiler.errors import ModelError
from tapdot.kernels import numerics
from tapdot.kernels.expression import Expression, Leaf, Number
from tapdot.passes.simulated import apply

HIGH_HALVES = (31, 32)
"""The halves of a product that cores can take."""
UNIT = 2**30
"""A multiplier that only shifts."""


class OverflowRefused(ModelError):
    """An integer that cannot be proved to fit."""


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


@dataclass(eq=False)
class Arithmetic:
    """Arithmetic of one node; new constants gather in ``constants`` under the names of their leaves.

    ``node`` is named in refusals, ``axis`` is the axis of channels in arrays that broadcast to the node's result.
    """

    node: str
    constants: dict[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    axis: int = field(default=1, kw_only=True)

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
