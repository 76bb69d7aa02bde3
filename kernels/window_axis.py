"""Windows along the two axes of a plane, as pools have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tapdot.kernels.tvm_adapter import T
from tapdot.kernels.workload import Workload


@dataclass(frozen=True)
class Axis:
    """Windows along one axis; output ``o`` sees inputs ``o * stride - begin + t * dilation`` for ``t`` in ``range(kernel)``."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int

    def taps(self, output: Any) -> tuple[Any, Any]:
        """The taps (first, stop) of a window that fall on the input; for ints and for TIR expressions."""
        return self._within(output, 0, self.inputs)

    def counted(self, output: Any) -> tuple[Any, Any]:
        """The taps that fall on the input or its pads; an overhang beyond the pads, as ``ceil_mode`` makes, does not count."""
        return self._within(output, -self.begin, self.inputs + self.end)

    def _within(self, output: Any, low: int, high: int) -> tuple[Any, Any]:
        start = output * self.stride - self.begin
        first, stop = ((bound - start + self.dilation - 1) // self.dilation for bound in (low, high))
        if isinstance(output, int):
            return max(0, first), min(self.kernel, stop)
        return T.max(0, first), T.min(self.kernel, stop)

    @property
    def interior(self) -> tuple[int, int]:
        """Outputs (first, stop) whose whole window falls on the input."""
        whole = [o for o in range(self.outputs) if self.taps(o) == (0, self.kernel)]
        return (whole[0], whole[-1] + 1) if whole else (0, 0)

    @property
    def clipped(self) -> bool:
        """Whether any window reaches beyond the input."""
        return self.interior != (0, self.outputs)


def axes(workload: Workload) -> tuple[Axis, Axis]:
    """The two axes of a pool's workload, from ONNX's attributes."""
    options: Mapping[str, Any] = workload.options
    spatial = workload.inputs[0].shape[2:]  # type: ignore[union-attr]
    strides, dilations = options.get("strides", (1, 1)), options.get("dilations", (1, 1))
    pads = options.get("pads", (0, 0, 0, 0))
    rows, columns = (
        Axis(
            spatial[axis],
            workload.output.shape[2 + axis],
            workload["kernel_shape"][axis],
            strides[axis],
            dilations[axis],
            pads[axis],
            pads[axis + 2],
        )
        for axis in (0, 1)
    )
    return rows, columns
