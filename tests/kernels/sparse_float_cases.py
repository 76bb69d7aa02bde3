"""Workloads of sparse float operators with pruned weights, and their reference in torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from kernel_runner import attributes, run

from tapdot.kernels.family import Config, Family
from tapdot.kernels.fkw import FKW, Structure
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.patterns import ALL_PATTERNS, QUAD
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Operand, Workload

OPERANDS = ("reorder", "offset", "index", "stride", "weight", "patterns")


def pruned(
    filters: int, inputs: int, kernel: tuple[int, ...], share: int, kept: float, seed: int = 0, patterns: int = 8
) -> tuple[np.ndarray, FKW]:
    """A random dense weight pruned by the norm of its kernels (or quads), and its arrays; the largest groups come first."""
    random = np.random.default_rng(seed)
    by_quads = kernel != (3, 3)
    table = QUAD if by_quads else ALL_PATTERNS[random.permutation(len(ALL_PATTERNS))[:patterns]]
    groups, units = filters // share, -(-inputs // 4) if by_quads else inputs
    norms = random.random((groups, units)) * random.uniform(0.7, 1.3, (groups, 1))
    structure = np.where(norms > np.quantile(norms, 1 - kept), random.integers(0, len(table), norms.shape), -1)
    if groups > 2:
        structure[groups // 2] = -1  # a group without a kernel
    shape = (filters, inputs, *kernel)
    whole = Structure(structure, table, share)
    dense = (random.standard_normal(shape) * whole.mask(shape)).astype(np.float32)
    return dense, FKW.compress(dense, whole, np.argsort(-whole.counts, kind="stable"))


@dataclass(frozen=True)
class SparseCase:
    """A workload and the values of its operands."""

    workload: Workload
    arrays: tuple[np.ndarray | None, ...]
    dense: np.ndarray


def constants(stored: FKW) -> tuple[list[Operand], list[np.ndarray]]:
    """The six arrays as operands."""
    arrays = [getattr(stored, name) for name in OPERANDS]
    return [Operand(array.shape, str(array.dtype), None, True) for array in arrays], arrays


def convolution(
    shape: tuple[int, int, int, int],
    filters: int,
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    share: int = 1,
    kept: float = 0.4,
    epilogue: str = "acc",
    residual_halo: Halo | None = None,
    bias: bool = True,
    halo: Halo | None = None,
    output_halo: Halo | None = None,
    seed: int = 0,
) -> SparseCase:
    """A ``SparseConv``; halos are by default those of the pads, on both sides."""
    random = np.random.default_rng(seed + 1)
    dense, stored = pruned(filters, shape[1], kernel, share, kept, seed)
    spatial = [(shape[2 + a] + pads[a] + pads[a + 2] - kernel[a]) // strides[a] + 1 for a in (0, 1)]
    result = (shape[0], filters, *spatial)
    operands, arrays = constants(stored)
    x = Operand(shape, "float32", Layout(1, Halo(*pads) if halo is None else halo))
    inputs: list[Operand | None] = [x, *operands, Operand((filters,), "float32", None, True) if bias else None]
    values: list[np.ndarray | None] = [random.standard_normal(shape).astype(np.float32), *arrays]
    values.append(random.standard_normal(filters).astype(np.float32) if bias else None)
    if "r0" in epilogue:
        inputs.append(Operand(result, "float32", Layout(1, residual_halo or Halo())))
        values.append(random.standard_normal(result).astype(np.float32))
    if "r1" in epilogue:
        inputs.append(Operand((1, filters, 1, 1), "float32", None, True))
        values.append(random.standard_normal((1, filters, 1, 1)).astype(np.float32))
    y = Operand(result, "float32", Layout(1, Halo(*pads) if output_halo is None else output_halo))
    options = attributes(kernel_shape=kernel, strides=strides, pads=pads, epilogue=epilogue)
    return SparseCase(Workload("SparseConv", tuple(inputs), (y,), options), tuple(values), dense)


def gemm(
    rows: int, inputs: int, columns: int, share: int = 1, kept: float = 0.3, epilogue: str = "acc", bias: bool = True
) -> SparseCase:
    """A ``SparseGemm``."""
    random = np.random.default_rng(7)
    dense, stored = pruned(columns, inputs, (), share, kept)
    operands, arrays = constants(stored)
    inside: list[Operand | None] = [Operand((rows, inputs), "float32"), *operands]
    inside.append(Operand((columns,), "float32", None, True) if bias else None)
    values: list[np.ndarray | None] = [random.standard_normal((rows, inputs)).astype(np.float32), *arrays]
    values.append(random.standard_normal(columns).astype(np.float32) if bias else None)
    if "r0" in epilogue:
        inside.append(Operand((rows, columns), "float32"))
        values.append(random.standard_normal((rows, columns)).astype(np.float32))
    y = Operand((rows, columns), "float32")
    return SparseCase(Workload("SparseGemm", tuple(inside), (y,), attributes(epilogue=epilogue)), tuple(values), dense)


def reference(case: SparseCase) -> np.ndarray:
    """The result in double precision."""
    x, bias, *extras = (
        None if array is None else torch.from_numpy(array).double() for array in (case.arrays[0], *case.arrays[7:])
    )
    weight = torch.from_numpy(case.dense).double()
    if case.workload.op == "SparseGemm":
        value = F.linear(x, weight, bias)
    else:
        top, left, bottom, right = case.workload["pads"]
        value = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, case.workload["strides"])
    match case.workload["epilogue"]:
        case "Relu(acc)":
            value = torch.relu(value)
        case "Relu(Add(acc, r0))":
            value = torch.relu(value + extras[0])
        case "Mul(Add(acc, r0), r1)":
            value = (value + extras[0]) * extras[1]
        case "Clip(acc, max=6.0, min=0.0)":
            value = value.clip(0, 6)
    return value.numpy()


def check(family: Family, case: SparseCase, target: Target, config: Config | None = None) -> None:
    """Runs the workload and compares."""
    got = run(family, case.workload, target, case.arrays, config)
    scale = float(np.sqrt(max(1, np.count_nonzero(case.dense) / case.dense.shape[0])))
    np.testing.assert_allclose(got, reference(case), rtol=1e-4, atol=5e-6 * scale)
