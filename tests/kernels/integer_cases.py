"""Workloads over codes, their values, and their reference: the integer dialect's own semantics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from kernel_runner import attributes, run

from tapdot.compiler.operators import lookup
from tapdot.kernels.family import Config, Family
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Operand, Workload

BLOCK = 16
TARGETS = ("host", "host:avx512", "host:avx2", "host:generic")
SCALED = "Narrow(Dyadic(acc, r0, r1), zero_point={zero}, low={low}, high={high}, dtype='{dtype}')"
RESIDUAL = (
    "Narrow(Add(Dyadic(acc, r0, r1), Dyadic(Widen(r2, zero_point=3), multiplier=1518500250, shift=31)), "
    "zero_point={zero}, low={low}, high={high}, dtype='{dtype}')"
)
TABLE = "Lookup(" + SCALED + ", r2)"
REALS, REALS_MOVED = "Reals(acc, r0)", "Reals(Max(Add(acc, -700.0), 0.0), r0)"
"""The last layer of a network, whose sums become floats by one multiply a channel."""


def code_layout(dtype: str, target: Target, zero: int, halo: Halo = Halo(), block: int = BLOCK, offset: bool = True) -> Layout:  # noqa: B008
    """Channel blocks in the sign that the target stores (``offset`` False: in the sign of the type)."""
    stored = {"int8": True, "uint8": False}[dtype]
    shift = 0 if not offset or stored == target.isa.stores_signed else (128 if dtype == "int8" else -128)
    return Layout(block, halo, zero + shift, shift)


def scales(channels: int) -> list[Operand]:
    """One multiplier and one shift a channel."""
    return [Operand((1, channels, 1, 1), "int32", None, True) for _ in range(2)]


def limits(dtype: str) -> dict[str, int]:
    info = np.iinfo(dtype)
    return {"low": int(info.min), "high": int(info.max)}


def integer_convolution(
    target: Target,
    shape: tuple[int, int, int, int],
    filters: int,
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilations: tuple[int, int] = (1, 1),
    group: int = 1,
    bias: bool = True,
    epilogue: str = SCALED,
    dtype: str = "uint8",
    result: str = "uint8",
    zero_point: int = 0,
    result_zero: int = 0,
    block: int = BLOCK,
    offset: bool = True,
    more_halo: int = 0,
    weights: str = "int8",
) -> Workload:
    """A ``QConv`` whose input has just the halo it needs (``more_halo`` more), with an output halo of its own."""
    spatial = []
    for axis in (0, 1):
        room = shape[2 + axis] + pads[axis] + pads[axis + 2] - (kernel[axis] - 1) * dilations[axis] - 1
        spatial.append(room // strides[axis] + 1)
    output = (shape[0], filters, *spatial)
    halo = Halo(*(side + more_halo for side in pads))
    x = Operand(shape, dtype, code_layout(dtype, target, zero_point, halo, block, offset))
    w = Operand((filters, shape[1] // group, *kernel), weights, None, True)
    operands: list[Operand | None] = [x, w, Operand((filters,), "int32", None, True) if bias else None]
    if epilogue in (REALS, REALS_MOVED):
        operands.append(Operand((1, filters, 1, 1), "float32", None, True))
    elif epilogue != "acc":
        operands += scales(filters)
    if epilogue == RESIDUAL:
        operands.append(Operand(output, dtype, code_layout(dtype, target, 3, Halo(0, 2, 1, 0), BLOCK, offset)))
    if epilogue == TABLE:
        operands.append(Operand((256,), result, None, True))
    text = epilogue.format(zero=result_zero, dtype=result, **limits(result))
    kind = "int32" if epilogue == "acc" else "float32" if epilogue.startswith(("Dequantize", "Reals")) else result
    layout = code_layout(result, target, result_zero, Halo(1, 1, 0, 2), BLOCK, offset) if kind == result else Layout(BLOCK)
    options = attributes(strides=strides, pads=pads, dilations=dilations, group=group, zero_point=zero_point, epilogue=text)
    return Workload("QConv", tuple(operands), (Operand(output, kind, layout),), options)


def values(workload: Workload, extreme: bool = False) -> list[np.ndarray | None]:
    """Random operands: all codes and weights (``extreme``: the largest and smallest), scales that use the range of results."""
    generator = np.random.default_rng(0)
    found: list[np.ndarray | None] = []
    weight = workload.inputs[1]
    terms = int(np.prod(weight.shape[1:])) if workload.op == "QConv" else weight.shape[0]
    scale_number = 0
    for index, operand in enumerate(workload.inputs):
        if operand is None:
            found.append(None)
        elif index == 1:
            most = {"int4": 7, "int2": 1}.get(operand.dtype, 127)
            choice = (
                generator.choice([-most, most], operand.shape) if extreme else generator.integers(-most, most + 1, operand.shape)
            )
            found.append(choice.astype(np.int8))
        elif operand.dtype in ("int8", "uint8"):
            info = np.iinfo(operand.dtype)
            choice = generator.choice([info.min, info.max], operand.shape) if extreme else None
            codes = generator.integers(info.min, info.max + 1, operand.shape) if choice is None else choice
            found.append(codes.astype(operand.dtype))
        elif index == 2:
            found.append(generator.integers(-3000, 3000, operand.shape).astype(np.int32))
        elif operand.dtype == "float32":
            found.append(generator.uniform(1e-4, 1e-2, operand.shape).astype(np.float32))
        elif scale_number == 0:
            scale_number = 1
            found.append(generator.integers(2**30, 2**31, operand.shape).astype(np.int32))
        else:
            typical = 31 + max(0, int(np.log2(np.sqrt(terms) * 128 * 73 / 100)))
            found.append(generator.integers(typical - 2, typical + 2, operand.shape).astype(np.int32))
    return found


def reference(workload: Workload, arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    """The answer of the operator table."""
    stored = range(1, 7) if "Sparse" in workload.op else ()  # the arrays of FKW are read, not computed with
    tensors = [array if array is None or index in stored else torch.from_numpy(array) for index, array in enumerate(arrays)]
    options: Mapping[str, object] = dict(workload.options)
    return lookup(workload.op).compute(*tensors, **options).numpy()


def check(
    family: Family,
    workload: Workload,
    target: Target,
    config: Config | None = None,
    extreme: bool = False,
    arrays: Sequence[np.ndarray | None] | None = None,
) -> np.ndarray:
    """Runs the workload and compares with the reference, bit for bit; returns the result."""
    arrays = values(workload, extreme) if arrays is None else arrays
    wanted = reference(workload, arrays)
    got = run(family, workload, target, arrays, config)
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    np.testing.assert_array_equal(got, wanted)
    return got
