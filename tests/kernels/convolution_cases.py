"""Convolution workloads and their reference in torch, for the families that compute them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from kernel_runner import attributes, run

from tapdot.kernels.family import Config, Family
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Operand, Workload


def convolution(
    target: Target,
    shape: tuple[int, int, int, int],
    filters: int,
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilations: tuple[int, int] = (1, 1),
    group: int = 1,
    residual: bool = False,
    bias: bool = True,
    block: int | None = None,
    epilogue: str = "acc",
    more_halo: int = 0,
) -> Workload:
    """A ``FusedConv`` whose input has just the halo it needs (``more_halo`` positions more), with an output halo of its own."""
    lanes, spatial = target.isa.lanes, []
    for axis in (0, 1):
        room = shape[2 + axis] + pads[axis] + pads[axis + 2] - (kernel[axis] - 1) * dilations[axis] - 1
        spatial.append(room // strides[axis] + 1)
    result = (shape[0], filters, *spatial)
    x = Operand(shape, "float32", Layout(block or lanes, Halo(*(side + more_halo for side in pads))))
    w = Operand((filters, shape[1] // group, *kernel), "float32", None, True)
    operands: list[Operand | None] = [x, w, Operand((filters,), "float32", None, True) if bias else None]
    if residual:
        operands.append(Operand(result, "float32", Layout(lanes, Halo(0, 2, 1, 0))))
        epilogue = "Relu(Add(acc, r0))"
    options = attributes(strides=strides, pads=pads, dilations=dilations, group=group, epilogue=epilogue)
    return Workload("FusedConv", tuple(operands), (Operand(result, "float32", Layout(lanes, Halo(1, 1, 0, 2))),), options)


def check(family: Family, workload: Workload, target: Target, config: Config | None = None) -> None:
    """Runs the workload on random values and compares with torch in double precision."""
    generator = np.random.default_rng(0)
    arrays = [None if x is None else generator.standard_normal(x.shape).astype(np.float32) for x in workload.inputs]
    x, w, b, *extras = (None if array is None else torch.from_numpy(array).double() for array in arrays)
    top, left, bottom, right = workload["pads"]
    padded = F.pad(x, (left, right, top, bottom))
    wanted = F.conv2d(padded, w, b, workload["strides"], 0, workload["dilations"], workload["group"])
    match workload["epilogue"]:
        case "Relu(Add(acc, r0))":
            wanted = torch.relu(wanted + extras[0])
        case "Clip(acc, max=6.0, min=0.0)":
            wanted = wanted.clip(0, 6)
    got = run(family, workload, target, arrays, config)
    scale = float(np.sqrt(np.prod(workload.inputs[1].shape[1:])))
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4, atol=5e-6 * scale)
