"""Windows that slide over space: paddings and output sizes of convolutions and pools, in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tapdot.compiler.operators.table import Ints

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True)
class Window:
    """A sliding window with everything resolved: one number an axis, paddings as ONNX's ``begin..., end...`` split in two."""

    kernel: Ints
    strides: Ints
    dilations: Ints
    begin: Ints
    end: Ints

    @property
    def pads(self) -> Ints:
        """Both paddings, in ONNX's order."""
        return self.begin + self.end

    @property
    def extents(self) -> Ints:
        """Positions from the first tap to the last, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def output(self, spatial: Sequence[int], ceil_mode: bool = False) -> Ints:
        """Output sizes; with ``ceil_mode`` a last window may hang over the padding but never starts in the padding at the end."""
        sizes = []
        for size, extent, stride, begin, end in zip(spatial, self.extents, self.strides, self.begin, self.end, strict=True):
            room = size + begin + end - extent
            if room < 0:
                raise ValueError(f"a window of {extent} does not fit into {size} positions padded by {begin} and {end}")
            steps = room // stride
            if ceil_mode and room % stride and (steps + 1) * stride < size + begin:
                steps += 1
            sizes.append(steps + 1)
        return tuple(sizes)


def window(
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Ints | None,
    dilations: Ints | None,
    pads: Ints | None,
    auto_pad: str,
) -> Window:
    """The window that ONNX's attributes describe over those spatial sizes; raises ValueError where they do not fit."""
    rank = len(spatial)
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    pads = pads or (0,) * (2 * rank)
    if not len(kernel) == len(strides) == len(dilations) == rank or len(pads) != 2 * rank:
        raise ValueError(
            f"{rank} spatial axes need {rank} kernel sizes, strides and dilations and {2 * rank} pads, "
            f"not {len(kernel)}, {len(strides)}, {len(dilations)} and {len(pads)}"
        )
    if min((*strides, *dilations, *kernel), default=1) < 1 or min(pads, default=0) < 0:
        raise ValueError(
            f"kernel {tuple(kernel)}, strides {strides} and dilations {dilations} must be positive, pads {pads} not negative"
        )
    if auto_pad not in AUTO_PADS:
        raise ValueError(f"auto_pad must be one of {', '.join(AUTO_PADS)}, not {auto_pad!r}")
    begin, end = tuple(pads[:rank]), tuple(pads[rank:])
    if auto_pad == "VALID":
        begin = end = (0,) * rank
    elif auto_pad != "NOTSET":
        totals = [
            max((math.ceil(size / stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
            for size, k, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True)
        ]
        small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
        begin, end = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    return Window(tuple(kernel), tuple(strides), tuple(dilations), begin, end)


def torch_pads(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """The same paddings in the order of ``torch.nn.functional.pad``: last axis first, both sides of it together."""
    return [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]
