"""The integer dialect: what runs between the first quantize and the last dequantize; the bit-exact reference.

Every integer node sums products or codes into an int32 accumulator, and its epilogue, an expression over integers, turns that
into codes again (``kernels.numerics`` holds the rules)::

    Narrow(Dyadic(acc, r0, r1), zero_point=0, low=0, high=255, dtype='uint8')
    Narrow(Add(Dyadic(acc, r0, r1), Dyadic(Widen(r2, zero_point=0), multiplier=1518500250, shift=31)), low=0, ...)
    Lookup(Narrow(Dyadic(acc, r0, r1), ...), r2)
    Reals(acc, r0)

Sums of products are computed in float64, where they are exact: ``passes.requantize`` proves every accumulator below 2^31.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tapdot.compiler.operators.fused import as_shape
from tapdot.compiler.operators.geometry import torch_pads
from tapdot.compiler.operators.linear import matmul_macs
from tapdot.compiler.operators.spatial import conv_macs, convolve
from tapdot.compiler.operators.table import TORCH_DTYPES, Ints, meta, operator
from tapdot.kernels import numerics
from tapdot.kernels.expression import ACCUMULATOR

# -- the edges ---------------------------------------------------------------------------------------------------------------


def _codes(x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    scaled = torch.round(x * torch.tensor(numerics.inverse_scale(scale), dtype=torch.float32))
    return torch.nan_to_num(scaled, nan=0.0).clamp(low - zero_point, high - zero_point) + zero_point


def _reals(codes: Tensor, scale: float, zero_point: int) -> Tensor:
    return (codes - zero_point).float() * torch.tensor(scale, dtype=torch.float32)


@operator("Quantize", elementwise=True)
def quantize(x: Tensor, *, scale: float, low: int, high: int, zero_point: int = 0, dtype: str) -> Tensor:
    """float32 to codes: ``clamp(rint(x * f32(1/scale)) + zero_point, low, high)``; ties to even, NaN gives the zero point."""
    return _codes(x, scale, zero_point, low, high).to(TORCH_DTYPES[dtype])


@operator("Dequantize", elementwise=True)
def dequantize(q: Tensor, *, scale: float, zero_point: int = 0) -> Tensor:
    """Codes to float32: ``f32(q - zero_point) * f32(scale)``."""
    return _reals(q.int(), scale, zero_point)


class _StraightThrough(torch.autograd.Function):
    """Rounds in the forward direction; the gradient passes where nothing was clamped (Bengio et al., 2013)."""

    @staticmethod
    def forward(context: Any, x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
        codes = _codes(x, scale, zero_point, low, high)
        context.save_for_backward((codes > low) & (codes < high))
        return _reals(codes, scale, zero_point)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (inside,) = context.saved_tensors
        return gradient * inside, None, None, None, None


@operator("FakeQuantize", elementwise=True)
def fake_quantize(x: Tensor, *, scale: float, low: int, high: int, zero_point: int = 0, dtype: str) -> Tensor:
    """What is left of float values after Quantize and Dequantize; differentiable. ``passes.requantize`` makes it real."""
    return _StraightThrough.apply(x, scale, zero_point, low, high)  # type: ignore[no-any-return]


# -- inside expressions ------------------------------------------------------------------------------------------------------


@operator("Widen", elementwise=True)
def widen(q: Tensor, *, zero_point: int = 0) -> Tensor:
    """Codes to int32, the zero point taken away."""
    return q.int() - zero_point


@operator("Dyadic", elementwise=True)
def dyadic(x: Tensor, m: Tensor | None = None, s: Tensor | None = None, *, multiplier: int = 0, shift: int = 0) -> Tensor:
    """int32 times ``multiplier * 2^-shift``, rounded half up; one pair for all, or operands ``m`` and ``s`` for one a channel."""
    if m is None or s is None:
        return numerics.rounding_shift(x.long() * multiplier, shift).int()
    return numerics.rounding_shift(x.long() * m.long(), s.long()).int()


@operator("Reals", elementwise=True)
def reals(x: Tensor, scales: Tensor) -> Tensor:
    """int32 to float32, one multiply by a float32 scale a channel: ``f32(x) * scales``. Ends the last integer epilogue."""
    return x.float() * scales


@operator("Narrow", elementwise=True)
def narrow(x: Tensor, *, low: int, high: int, zero_point: int = 0, dtype: str) -> Tensor:
    """int32 to codes: ``clamp(x + zero_point, low, high)``."""
    return (x.long() + zero_point).clamp(low, high).to(TORCH_DTYPES[dtype])


@operator("Lookup", elementwise=True, tables=lambda attributes: [1])
def lookup(q: Tensor, table: Tensor) -> Tensor:
    """``table[q - lowest code of the type]``: any function of a code, from a table of 256 codes."""
    return table.reshape(-1)[q.long() - torch.iinfo(q.dtype).min]


LARGEST_PRODUCT = 256 * 127
"""Of a code without its zero point and a weight."""

# -- sums with an epilogue ---------------------------------------------------------------------------------------------------


def _exact(x: Tensor, zero_point: int) -> Tensor:
    """Codes as float64 without their zero point; on the meta device nothing is computed."""
    return x if x.is_meta else x.double() - zero_point


def _finish(epilogue: str, total: Tensor, bias: Tensor | None, extras: Sequence[Tensor]) -> Tensor:
    """The epilogue over the int32 accumulator; ``bias`` has the accumulator's rank."""
    if total.is_meta:
        return as_shape(epilogue, meta(total.shape, torch.int32), extras)
    return as_shape(epilogue, (total.long() if bias is None else total.long() + bias).int(), extras)


@operator("QConv", macs=conv_macs)
def qconv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *extras: Tensor,
    strides: Ints,
    pads: Ints,
    dilations: Ints,
    group: int = 1,
    zero_point: int = 0,
    epilogue: str = ACCUMULATOR,
) -> Tensor:
    """``epilogue(acc, *extras)`` with ``acc = sum (x - zero_point) * w + b``; codes ``x``, int8 ``w``, int32 ``b``."""
    if x.is_meta:
        total = convolve(x, meta(w.shape, x.dtype), None, strides, pads, dilations, group)
    else:
        # Few products fit float32's 24 bits, and its convolutions are faster.
        kind = torch.float32 if math.prod(w.shape[1:]) * LARGEST_PRODUCT < 2**24 else torch.float64
        total = convolve((x.int() - zero_point).to(kind), w.to(kind), None, strides, pads, dilations, group)
    return _finish(epilogue, total, None if b is None else b.reshape(-1, *[1] * (x.ndim - 2)), extras)


@operator("QGemm", macs=matmul_macs)
def qgemm(
    a: Tensor, w: Tensor, b: Tensor | None = None, *extras: Tensor, zero_point: int = 0, epilogue: str = ACCUMULATOR
) -> Tensor:
    """``epilogue(acc, *extras)``, ``acc = (a - zero_point) @ w + b``; codes ``a: [M, K]``, int8 ``w: [K, N]``, int32 ``b``."""
    if a.is_meta:
        return _finish(epilogue, meta((a.shape[0], w.shape[1]), torch.int32), b, extras)
    return _finish(epilogue, _exact(a, zero_point) @ w.double(), b, extras)


@operator("QSumPool")
def qsum_pool(
    x: Tensor, *extras: Tensor, kernel_shape: Ints, strides: Ints, pads: Ints, zero_point: int = 0, epilogue: str = ACCUMULATOR
) -> Tensor:
    """``epilogue(acc, *extras)`` with ``acc`` the sum of ``x - zero_point`` under each window of a plane; outside counts 0.

    An average pool is this with a :func:`dyadic` division by the count; windows that all lie inside share one, others differ.
    """
    spatial = x.shape[2:]
    ends = pads[len(spatial) :]
    shape = [
        (size + begin + end - kernel) // stride + 1
        for size, begin, end, kernel, stride in zip(spatial, pads, ends, kernel_shape, strides, strict=False)
    ]
    if x.is_meta:
        return _finish(epilogue, meta((*x.shape[:2], *shape), torch.int32), None, extras)
    padded = F.pad(_exact(x, zero_point), torch_pads(pads[: len(spatial)], ends))
    windows = padded
    for axis, (kernel, stride) in enumerate(zip(kernel_shape, strides, strict=True)):
        windows = windows.unfold(2 + axis, kernel, stride)
    return _finish(epilogue, windows.sum(dim=tuple(range(-len(spatial), 0))), None, extras)


@operator("QGlobalSum")
def qglobal_sum(x: Tensor, *extras: Tensor, zero_point: int = 0, epilogue: str = ACCUMULATOR) -> Tensor:
    """``epilogue(acc, *extras)`` with ``acc`` the sum of ``x - zero_point`` over all positions of a channel, ``[N, C, 1, 1]``."""
    axes = tuple(range(2, x.ndim))
    if x.is_meta:
        return _finish(epilogue, meta((*x.shape[:2], *[1] * len(axes)), torch.int32), None, extras)
    return _finish(epilogue, _exact(x, zero_point).sum(dim=axes, keepdim=True), None, extras)
