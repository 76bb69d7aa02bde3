"""Weights and biases as integers, with the scales that belong to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tapdot.compiler.errors import ModelError
from tapdot.compiler.types import TensorType
from tapdot.kernels import numerics

ELEMENTS_AT_ONCE = 2**22
LARGEST_BIAS = 2**30
"""Bias codes stay below this, which leaves as much again to the products."""


@dataclass(frozen=True, eq=False)
class IntegerWeights:
    """``real = scales[c] * code`` for weights and ``scales[c] * input_scale * code`` for the bias."""

    codes: np.ndarray
    bias: np.ndarray | None
    scales: np.ndarray
    """float64 ``[C]``."""
    bits: int = 8
    """Width of the codes."""
    axis: int = 0
    """Of the output channels."""
    input_scale: float = 1.0
    adopted: bool = False
    """Whether the model came with them."""
    remark: str = ""
    """What a report should say."""

    def real(self) -> np.ndarray:
        """The weights as their codes give them back, float32."""
        along = self.scales.reshape([-1 if place == self.axis else 1 for place in range(self.codes.ndim)])
        return np.asarray(self.codes * along, np.float32)

    def real_bias(self) -> np.ndarray | None:
        """The bias as its codes give it back, float32 ``[C]``; None where there is none."""
        return None if self.bias is None else np.asarray(self.bias * (self.scales * self.input_scale), np.float32)


def integer_weights(
    node: str,
    weight: np.ndarray,
    bias: np.ndarray | None,
    input_scale: float,
    *,
    axis: int,
    bits: int = 8,
    per_channel: bool = True,
    kind: TensorType | None = None,
    only: bool = False,
) -> IntegerWeights:
    """int8 codes of a constant weight whose output channels run along ``axis``, and the int32 bias at ``S_w[c] * S_x``.

    Symmetric scales ``max|w| / (2^(bits-1) - 1)``, one an output channel or one for all. A weight whose ``kind`` carries a Quant
    keeps its scales and codes; with ``only``, a ModelError refuses codes of more than ``bits``. Where a bias is so much larger
    than the weights of its channel that its code would pass ``LARGEST_BIAS``, as in channels that training left dead, the
    channel's scale grows until it does not: what these weights lose is below the bias's own rounding in float32.
    """
    adopted, remark = _adopted(node, weight, axis, kind)
    if adopted is not None:
        codes, scales = adopted
        own = _width(codes)
        if only and own > bits:
            raise ModelError(
                f"Expected weights of {bits} bits for the layer {node!r}, but the model came with their codes, which need {own}; "
                "leave it out of the bit widths, or give the model in floats."
            )
        return IntegerWeights(codes, _bias(node, bias, scales * input_scale), scales, own, axis, input_scale, adopted=True)
    scales = numerics.weight_scales(weight, bits, axis)
    if bias is not None:
        needed = np.abs(bias.astype(np.float64)) / (input_scale * LARGEST_BIAS)
        scales = np.where(~_live(weight, axis) & (needed > 0), needed, np.maximum(scales, needed))
    if not per_channel:
        scales = np.full_like(scales, scales[_live(weight, axis)].max(initial=0.0) or scales.max())
    codes = np.empty(weight.shape, np.int8)
    for place, part in _channels(weight, axis):
        codes[(slice(None),) * axis + (place,)] = numerics.weight_codes(part, scales[place], bits, axis)
    return IntegerWeights(codes, _bias(node, bias, scales * input_scale), scales, bits, axis, input_scale, remark=remark)


def _width(codes: np.ndarray) -> int:
    """The fewest bits that these symmetric codes fit."""
    largest = int(np.abs(codes).max(initial=0))
    return next(bits for bits in (2, 4, 8) if largest <= numerics.weight_limit(bits))


def _channels(weight: np.ndarray, axis: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Output channels a few at a time, because large weights are not worth having in float64 at once."""
    channels = weight.shape[axis]
    step = max(1, ELEMENTS_AT_ONCE * channels // max(weight.size, 1))
    for start in range(0, channels, step):
        place = slice(start, start + step)
        yield place, weight[(slice(None),) * axis + (place,)]


def _live(weight: np.ndarray, axis: int) -> np.ndarray:
    """Channels with a weight that is not zero."""
    return np.asarray(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).any(axis=1))


def _bias(node: str, bias: np.ndarray | None, scales: np.ndarray) -> np.ndarray | None:
    if bias is None:
        return None
    codes = np.rint(bias.astype(np.float64) / scales)
    channel = int(np.abs(codes).argmax())
    if abs(codes[channel]) > numerics.INT32_MAX:
        raise ModelError(
            f"Expected the bias of node {node!r} to fit 32 bits, but channel {channel} needs the code {codes[channel]:.4g} at "
            f"its scale {scales[channel]:.3g}; keep the node in float (--set requantize.keep_float={node})."
        )
    return codes.astype(np.int32)


def _adopted(
    node: str, weight: np.ndarray, axis: int, kind: TensorType | None
) -> tuple[tuple[np.ndarray, np.ndarray] | None, str]:
    """Codes and scales that the weight came with, or None with a remark where they cannot be kept."""
    quant = None if kind is None else kind.quant
    if quant is None:
        return None, ""
    channels = weight.shape[axis]
    if quant.axis not in (None, axis) or len(quant.scale) not in (1, channels):
        return None, f"The weights of {node!r} came with scales along another axis than output channels and were quantized anew."
    scales = np.broadcast_to(np.asarray(quant.scale, np.float64), (channels,)).copy()
    shape = [1] * weight.ndim
    shape[axis] = -1
    codes = np.rint(weight.astype(np.float64) / scales.reshape(shape))
    limit = numerics.weight_limit(8)
    if np.abs(codes).max(initial=0) > limit:
        return None, (
            f"The weights of {node!r} came with codes that reach {int(np.abs(codes).max())} from their zero point, beyond "
            f"{limit}, and were quantized anew."
        )
    return (codes.astype(np.int8), scales), ""
