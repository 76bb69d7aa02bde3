"""Concatenation along channels by copying, for the cases in which the parts could not be made slices of one buffer."""

from __future__ import annotations

import numpy as np

from tapdot.kernels.emit import argument, loop, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.layout import Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.relayout import DTYPES, Plane, copy_plane, vector_lanes
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, function
from tapdot.kernels.workload import Operand, Workload


class Concatenate(Family):
    """``Concat`` along axis 1 of four-dimensional tensors in channel vectors.

    Every part but the last fills its channel blocks, so that parts are whole blocks; otherwise the family does not serve.
    """

    name = "concat"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "Concat" or workload["axis"] not in (1, -3) or not workload.inputs:
            return False
        parts = [operand for operand in workload.inputs if operand is not None]
        return (
            len(parts) == len(workload.inputs)
            and len(workload.output.shape) == 4
            and workload.output.dtype in DTYPES
            and not any(part.constant for part in parts)
            and all(part.shape[1] % target.isa.lanes == 0 for part in parts[:-1])
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        block = Port((target.isa.lanes,))
        return Ports((block,) * len(workload.inputs), (block,))

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        parts: list[Operand] = [operand for operand in workload.inputs if operand is not None]
        result, block = workload.output, target.isa.lanes
        lanes = vector_lanes(target, result.dtype)
        parallel = pays(result.elements * np.dtype(result.dtype).itemsize / 8)
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            buffers = [argument(f"x{index}", part.elements, part.dtype) for index, part in enumerate(parts)]
            y = argument("y", result.elements, result.dtype)
            into = result.layout or Layout(block)
            first = 0
            for buffer, part in zip(buffers, parts, strict=True):
                layout = part.layout or Layout(block)
                blocks = layout.blocks(part.shape[1])
                with loop(part.shape[0] * blocks, parallel=parallel) as task:
                    n, index = task // blocks, task % blocks
                    write_halo(y, into, result.shape, n, first + index, result.dtype, lanes)
                    copy_plane(Plane(buffer, layout, part.shape, n, index), Plane(y, into, result.shape, n, first + index), lanes)
                first += blocks
        return finished[0]
