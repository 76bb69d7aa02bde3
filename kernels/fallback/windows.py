"""Sliding windows of any number of spatial axes: what convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.movement import padded
from tapdot.kernels.fallback.tensors import Builder, Index, Shape, Tensor
from tapdot.kernels.tvm_adapter import tirx


@dataclass(frozen=True)
class Window:
    """A window with everything resolved, one number an axis. ``begin`` and ``end`` are the paddings that are asked for."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    begin: Shape
    end: Shape
    spatial: Shape
    output: Shape

    @property
    def reach(self) -> Shape:
        """Positions, padding before included, that the windows touch."""
        return tuple(
            (out - 1) * stride + (k - 1) * dilation + 1
            for out, stride, k, dilation in zip(self.output, self.strides, self.kernel, self.dilations, strict=True)
        )

    def place(self, outputs: Index, taps: Index) -> Index:
        """Where a tap of an output's window lies in the padded data."""
        return tuple(
            position * stride + tap * dilation
            for position, stride, tap, dilation in zip(outputs, self.strides, taps, self.dilations, strict=True)
        )


def window(
    spatial: Shape,
    kernel: Sequence[int],
    output: Shape,
    strides: Shape | None,
    dilations: Shape | None,
    pads: Shape | None,
    auto_pad: str,
) -> Window:
    """Resolves ONNX's attributes; the sizes of the result are known, so SAME needs no formula for them."""
    rank = len(spatial)
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    pads = tuple(pads) if pads and auto_pad == "NOTSET" else (0,) * (2 * rank)
    begin, end = pads[:rank], pads[rank:]
    if auto_pad.startswith("SAME"):
        totals = [
            max((out - 1) * stride + (k - 1) * dilation + 1 - size, 0)
            for out, stride, k, dilation, size in zip(output, strides, kernel, dilations, spatial, strict=True)
        ]
        small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        begin, end = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    return Window(tuple(kernel), tuple(strides), tuple(dilations), begin, end, spatial, output)


def padded_data(b: Builder, x: Tensor, over: Window, value: float | int) -> Tensor:
    """``[N, C, *positions the windows touch]``, the border filled with ``value``, in memory unless there is no border."""
    if not any(over.begin) and all(reach <= size for reach, size in zip(over.reach, over.spatial, strict=True)):
        return x if x.flat else b.materialize(x)
    source = x if x.flat else b.materialize(x)
    return b.materialize(padded(b, source, (0, 0, *over.begin), (*x.shape[:2], *over.reach), value))


def covered(over: Window, axis: int, output: Value, with_padding: bool) -> Value:
    """Positions under a window along one axis: of the data, or of data and padding."""
    before, after = (over.begin[axis], over.end[axis]) if with_padding else (0, 0)
    start = output * over.strides[axis] - over.begin[axis]
    extent = (over.kernel[axis] - 1) * over.dilations[axis] + 1
    stop = tirx.min(_index(start + extent), _index(over.spatial[axis] + after))
    return stop - tirx.max(_index(start), _index(-before))


def _index(value: Value) -> Value:
    return tirx.const(value, "int32") if isinstance(value, int) else value
