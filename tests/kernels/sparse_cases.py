"""Sparse convolutions of codes, their pruned weights, and a check against the operator's own semantics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from integer_cases import RESIDUAL, SCALED, TABLE, code_layout, limits, scales
from integer_cases import check as check_arrays
from kernel_runner import attributes

from tapdot.kernels.family import Config, Family
from tapdot.kernels.fkw import FKW, Structure
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.patterns import ALL_PATTERNS, QUAD
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Operand, Workload

PLANAR = 1
REALS = "Reals(acc, r0)"
TWO_RESIDUALS = (
    "Narrow(Add(Add(Dyadic(acc, r0, r1), Dyadic(Widen(r2, zero_point=3), multiplier=1518500250, shift=31)), "
    "Dyadic(Widen(r3, zero_point=3), multiplier=1148500250, shift=32)), "
    "zero_point={zero}, low={low}, high={high}, dtype='{dtype}')"
)
"""Of one type and one layout: nothing but their place tells them apart."""
WIDE_RESIDUAL = "Narrow(Add(Dyadic(acc, r0, r1), r2), zero_point={zero}, low={low}, high={high}, dtype='{dtype}')"
"""A residual of int32."""


def pruned_weight(
    filters: int, channels: int, share: int, patterns: int = 8, rate: float = 3.6, kernel: int = 3, seed: int = 0
) -> FKW:
    """Random int8 weights of which one kernel (one quad) in ``rate`` is left, unequal groups, one of them empty; some are 0."""
    random = np.random.default_rng(seed)
    table = ALL_PATTERNS[random.permutation(56)[:patterns]] if kernel == 3 else QUAD
    groups, units = filters // share, channels if kernel == 3 else -(-channels // 4)
    kept = random.integers(0, len(table), (groups, units))
    kept[random.random((groups, units)) >= random.uniform(0.5, 1.5, (groups, 1)) / rate] = -1
    if groups > 2:
        kept[1] = -1
    structure = Structure(kept, table, share)
    shape = (filters, channels, kernel, kernel)
    dense = random.integers(-127, 128, shape)
    dense[random.random(shape) < 0.05] = 0
    dense = np.where(structure.mask(shape), dense, 0).astype(np.int8)
    order = np.argsort(-structure.counts, kind="stable")
    return FKW.compress(dense, structure, order)


def sparse_convolution(
    target: Target,
    fkw: FKW,
    shape: tuple[int, int, int, int],
    kernel: int = 3,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    bias: bool = True,
    epilogue: str = SCALED,
    dtype: str = "uint8",
    result: str = "uint8",
    zero_point: int = 0,
    result_zero: int = 0,
    offset: bool = True,
    more_halo: int = 0,
    result_halo: Halo = Halo(1, 1, 0, 2),  # noqa: B008
) -> Workload:
    """A ``QSparseConv`` of planar rows with the weights of ``fkw``."""
    spatial = [(shape[2 + axis] + pads[axis] + pads[axis + 2] - kernel) // strides[axis] + 1 for axis in (0, 1)]
    output = (shape[0], fkw.filters, *spatial)
    halo = Halo(*(side + more_halo for side in pads))
    operands: list[Operand | None] = [Operand(shape, dtype, code_layout(dtype, target, zero_point, halo, PLANAR, offset))]
    operands += [Operand(array.shape, array.dtype.name, None, True) for array in fkw.arrays.values()]
    operands.append(Operand((fkw.filters,), "int32", None, True) if bias else None)
    if epilogue == REALS:
        operands.append(Operand((1, fkw.filters, 1, 1), "float32", None, True))
    elif epilogue != "acc":
        operands += scales(fkw.filters)
    residuals = {RESIDUAL: 1, TWO_RESIDUALS: 2}.get(epilogue, 0)
    operands += [Operand(output, dtype, code_layout(dtype, target, 3, Halo(0, 2, 1, 0), PLANAR, offset))] * residuals
    if epilogue == WIDE_RESIDUAL:
        operands.append(Operand(output, "int32", Layout(PLANAR, Halo(0, 2, 1, 0))))
    if epilogue == TABLE:
        operands.append(Operand((256,), result, None, True))
    text = epilogue.format(zero=result_zero, dtype=result, **limits(result))
    kind = "int32" if epilogue == "acc" else "float32" if epilogue == REALS else result
    layout = Layout(PLANAR, result_halo)
    if kind == result:
        layout = code_layout(result, target, result_zero, result_halo, PLANAR, offset)
    options = attributes(kernel_shape=(kernel, kernel), strides=strides, pads=pads, zero_point=zero_point, epilogue=text)
    return Workload("QSparseConv", tuple(operands), (Operand(output, kind, layout),), options)


def values(workload: Workload, fkw: FKW, small_shift: bool = False) -> list[np.ndarray | None]:
    """Random operands; scales that use the range of results (``small_shift``: some above 1/2, of tiny sums)."""
    random = np.random.default_rng(0)
    found: list[np.ndarray | None] = []
    terms = max(1.0, fkw.kernels / fkw.groups * 4)
    for index, operand in enumerate(workload.inputs):
        if operand is None:
            found.append(None)
        elif 1 <= index <= 6:
            found.append(list(fkw.arrays.values())[index - 1])
        elif operand.dtype in ("int8", "uint8"):
            info = np.iinfo(operand.dtype)
            found.append(random.integers(info.min, info.max + 1, operand.shape).astype(operand.dtype))
        elif operand.dtype == "float32":
            found.append(random.uniform(1e-4, 1e-2, operand.shape).astype(np.float32))
        elif not operand.constant:
            found.append(random.integers(-100, 101, operand.shape).astype(np.int32))
        elif index == 7:
            found.append(random.integers(-3000, 3000, operand.shape).astype(np.int32))
        elif index == 8:
            found.append(random.integers(2**30, 2**31, operand.shape).astype(np.int32))
        else:
            typical = 31 + max(0, int(np.log2(np.sqrt(terms) * 128 * 73 / 100)))
            low, high = (29, 33) if small_shift else (typical - 2, typical + 2)
            found.append(random.integers(low, high, operand.shape).astype(np.int32))
    return found


def check(
    family: Family,
    workload: Workload,
    fkw: FKW,
    target: Target,
    config: Config | None = None,
    arrays: Sequence[np.ndarray | None] | None = None,
) -> np.ndarray:
    """Runs the workload and compares with the reference, bit for bit; returns the result."""
    return check_arrays(family, workload, target, config, arrays=values(workload, fkw) if arrays is None else arrays)
