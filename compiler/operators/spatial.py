"""Convolutions of one, two and three spatial axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from tapdot.compiler.operators.elementwise import require_same_dtype
from tapdot.compiler.operators.geometry import torch_pads, window
from tapdot.compiler.operators.table import Ints, meta, operator
from tapdot.compiler.types import TensorType

CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}


def conv_macs(inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]) -> int:
    """Every element of the result sums over one filter; taps that fall into the padding count."""
    filters = inputs[1]
    assert filters is not None
    return outputs[0].elements * math.prod(filters.shape[1:])


def transposed_macs(inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]) -> int:
    """Every element of the input is multiplied with one filter of ``w: [C, M / group, *kernel]``."""
    x, filters = inputs[0], inputs[1]
    assert x is not None and filters is not None
    return x.elements * math.prod(filters.shape[1:])


def convolve(x: Tensor, w: Tensor, b: Tensor | None, strides: Ints, pads: Ints, dilations: Ints, group: int) -> Tensor:
    """Cross-correlation with explicit ONNX pads (``begin..., end...``)."""
    rank = x.ndim - 2
    begin, end = pads[:rank], pads[rank:]
    require_same_dtype(x, w)
    if x.shape[1] != w.shape[1] * group or w.shape[0] % group:
        raise ValueError(f"filters {tuple(w.shape)} in {group} groups do not fit {x.shape[1]} channels")
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"{w.shape[0]} filters need as many biases, found {tuple(b.shape)}")
    if x.is_meta:
        over = window(x.shape[2:], w.shape[2:], strides, dilations, pads, "NOTSET")
        return meta((x.shape[0], w.shape[0], *over.output(x.shape[2:])), x.dtype)
    if begin != end:
        x, begin = F.pad(x, torch_pads(begin, end)), (0,) * rank
    return CONVOLUTIONS[x.ndim](x, w, b, strides, begin, dilations, group)


def _check_rank(x: Tensor, w: Tensor, kernel_shape: Ints | None) -> None:
    if x.ndim not in CONVOLUTIONS or w.ndim != x.ndim:
        raise ValueError(f"1, 2 or 3 spatial axes are expected of both data and filters, found ranks {x.ndim} and {w.ndim}")
    if kernel_shape is not None and tuple(kernel_shape) != tuple(w.shape[2:]):
        raise ValueError(f"kernel_shape {kernel_shape} is not that of the filters, {tuple(w.shape[2:])}")


@operator("Conv", macs=conv_macs)
def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """``x: [N, C, *spatial]``, ``w: [M, C / group, *kernel]``, ``b: [M]``."""
    _check_rank(x, w, kernel_shape)
    over = window(x.shape[2:], w.shape[2:], strides, dilations, pads, auto_pad)
    return convolve(x, w, b, over.strides, over.pads, over.dilations, group)


@operator("ConvTranspose", macs=transposed_macs)
def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    output_padding: Ints | None = None,
    output_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The gradient of a convolution with respect to its data: ``x: [N, C, *spatial]``, ``w: [C, M / group, *kernel]``."""
    _check_rank(x, w, kernel_shape)
    rank = x.ndim - 2
    over = window(x.shape[2:], w.shape[2:], strides, dilations, pads, "NOTSET" if auto_pad.startswith("SAME") else auto_pad)
    grown = tuple(output_padding or (0,) * rank)
    full = tuple(
        (size - 1) * stride + extent + extra
        for size, stride, extent, extra in zip(x.shape[2:], over.strides, over.extents, grown, strict=True)
    )
    begin, end = over.begin, over.end
    if output_shape is not None or auto_pad.startswith("SAME"):
        wanted = output_shape or tuple(size * stride for size, stride in zip(x.shape[2:], over.strides, strict=True))
        totals = [have - want for have, want in zip(full, wanted[-rank:], strict=True)]
        small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
        begin, end = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    require_same_dtype(x, w)
    if x.shape[1] != w.shape[0] or w.shape[0] % group:
        raise ValueError(f"filters {tuple(w.shape)} in {group} groups do not fit {x.shape[1]} channels")
    if b is not None and b.shape != (w.shape[1] * group,):
        raise ValueError(f"{w.shape[1] * group} filters need as many biases, found {tuple(b.shape)}")
    if x.is_meta:
        sizes = [size - first - last for size, first, last in zip(full, begin, end, strict=True)]
        if min(sizes) < 1:
            raise ValueError(f"the pads leave nothing of {full}")
        return meta((x.shape[0], w.shape[1] * group, *sizes), x.dtype)
    y = TRANSPOSED[x.ndim](x, w, None, over.strides, 0, 0, group, over.dilations)
    y = F.pad(y, torch_pads([-side for side in begin], [extra - side for extra, side in zip(grown, end, strict=True)]))
    return y if b is None else y + b.reshape(-1, *(1,) * rank)
