"""Workloads of fully connected layers of codes pruned by quads."""

from __future__ import annotations

from typing import Any

import numpy as np
from integer_cases import SCALED, limits
from kernel_runner import attributes

from tapdot.kernels.fkw import FKW, Structure
from tapdot.kernels.patterns import QUAD
from tapdot.kernels.workload import Operand, Workload


def pruned(outputs: int, inputs: int, share: int, kept: float, seed: int = 0, order: bool = True) -> FKW:
    """Random int8 weights of which about ``kept`` of the quads stay: lists of unequal length, the first group's empty."""
    generator = np.random.default_rng(seed)
    quads, groups = -(-inputs // 4), outputs // share
    rates = np.clip(kept * generator.uniform(0.5, 1.5, (groups, 1)), 0, 1)
    stays = generator.random((groups, quads)) < rates
    if groups > 1:
        stays[0] = False
    structure = Structure(np.where(stays, 0, -1), QUAD, share)
    weight = generator.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    weight = np.where(structure.mask(weight.shape), weight, 0).astype(np.int8)
    return FKW.compress(weight, structure, generator.permutation(groups) if order else None)


def sparse_operands(fkw: FKW) -> list[Operand]:
    """The six arrays as constant operands."""
    return [Operand(array.shape, array.dtype.name, None, True) for array in fkw.arrays.values()]


def sparse_gemm(
    fkw: FKW,
    rows: int,
    inputs: int,
    epilogue: str = SCALED,
    dtype: str = "uint8",
    result: str = "uint8",
    zero_point: int = 0,
    bias: bool = True,
    **extra: Any,
) -> tuple[Workload, list[np.ndarray | None]]:
    """A ``QSparseGemm`` and its operands."""
    generator = np.random.default_rng(1)
    info = np.iinfo(dtype)
    columns = fkw.filters
    operands: list[Operand | None] = [Operand((rows, inputs), dtype), *sparse_operands(fkw)]
    arrays: list[np.ndarray | None] = [
        generator.integers(info.min, info.max + 1, (rows, inputs)).astype(dtype),
        *fkw.arrays.values(),
    ]

    def add(array: np.ndarray | None, constant: bool = True) -> None:
        operands.append(None if array is None else Operand(array.shape, array.dtype.name, None, constant))
        arrays.append(array)

    add(generator.integers(-3000, 3000, columns).astype(np.int32) if bias else None)
    if epilogue.startswith("Reals"):
        add(generator.uniform(1e-4, 1e-2, (1, columns)).astype(np.float32))
    elif epilogue != "acc":
        terms = max(1.0, 4 * fkw.kernels * fkw.share / columns)
        typical = 31 + max(0, int(np.log2(np.sqrt(terms) * 128 * 73 / 100)))
        add(generator.integers(2**30, 2**31, (1, columns)).astype(np.int32))
        add(generator.integers(typical - 2, typical + 2, columns).astype(np.int32))
    if "r2" in epilogue:
        add(generator.integers(info.min, info.max + 1, (rows, columns)).astype(dtype), constant=False)
    kind = "int32" if epilogue == "acc" else "float32" if epilogue.startswith("Reals") else result
    text = epilogue.format(zero=4, dtype=result, **limits(result))
    options = attributes(epilogue=text, zero_point=zero_point)
    return Workload("QSparseGemm", tuple(operands), (Operand((rows, columns), kind),), options), arrays
