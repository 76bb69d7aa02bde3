"""The family that serves what no other does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tapdot.kernels import estimates
from tapdot.kernels.emit import argument
from tapdot.kernels.fallback.table import BUILDERS, build
from tapdot.kernels.fallback.tensors import Builder, Tensor, UnsupportedError, buffer_tensor
from tapdot.kernels.family import ROW_MAJOR, Config, Family, Ports
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, function
from tapdot.kernels.workload import Workload


def static_name(index: int) -> str:
    """The attribute that holds the values of a static operand."""
    return f"static_{index}"


class Fallback(Family):
    """Row-major kernels made from the definition of the operator: correct and vectorized, not tuned.

    An operand whose values must be known (axes, pads, sizes) is a constant operand with its values in the attribute
    ``static_<index>``; it is no argument of the kernel. Other constants are packed, row-major; tables that a kernel looks things
    up in (where a resized axis reads) are packed after them.
    """

    name = "fallback"
    fast = False

    def serves(self, workload: Workload, target: Target) -> bool:
        return reason(workload, target) is None

    def ports(self, workload: Workload, target: Target) -> Ports:
        inputs = tuple(None if operand is None or operand.constant else ROW_MAJOR for operand in workload.inputs)
        return Ports(inputs, (ROW_MAJOR,) * len(workload.outputs))

    def cost(self, workload: Workload, target: Target) -> float:
        return estimates.fallback_cycles(workload)

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        return _build(workload, target, symbol, tables_of(workload, target))[0]

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        arrays = [np.ascontiguousarray(constants[index]).reshape(-1) for index in _packed(workload)]
        return arrays + [table.reshape(-1) for table in tables_of(workload, target)]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        arrays = {index: np.asarray(array) for index, array in zip(_packed(workload), packed, strict=False)}
        for index, operand in enumerate(workload.inputs):
            if operand is not None and static_name(index) in workload.options:
                arrays[index] = _static(workload, index)
        return {index: array.reshape(workload.inputs[index].shape) for index, array in arrays.items()}  # type: ignore[union-attr]


@lru_cache(maxsize=1024)
def reason(workload: Workload, target: Target) -> str | None:
    """Why the workload cannot be built for the target, or None when it can."""
    if workload.op not in BUILDERS:
        return f"there is no kernel for {workload.op}"
    kinds = {operand.dtype for operand in (*workload.inputs, *workload.outputs) if operand is not None}
    if "float16" in kinds and not target.isa.fma:
        return "the target has no float16 conversions"
    if any(0 in operand.shape for operand in (*workload.variable_inputs, *workload.outputs)):
        return "an operand or a result has no elements"
    try:
        tables_of(workload, target)
    except UnsupportedError as error:
        return str(error)
    return None


@lru_cache(maxsize=1024)
def tables_of(workload: Workload, target: Target) -> tuple[np.ndarray, ...]:
    """The arrays a kernel is packed with besides its operands, found out by a trial; raises UnsupportedError."""
    return tuple(_build(workload, target, "trial", ())[1].tables)


def _packed(workload: Workload) -> list[int]:
    """Indices of the constant operands that are arguments."""
    return [
        index
        for index, operand in enumerate(workload.inputs)
        if operand is not None and operand.constant and static_name(index) not in workload.options
    ]


def _static(workload: Workload, index: int) -> np.ndarray:
    operand = workload.inputs[index]
    assert operand is not None
    return np.asarray(workload[static_name(index)], operand.stored_dtype).reshape(operand.shape)


def _build(workload: Workload, target: Target, symbol: str, tables: Sequence[np.ndarray]) -> tuple[PrimFunc, Builder]:
    finished: list[PrimFunc] = []
    packed = _packed(workload)
    variable = [index for index, x in enumerate(workload.inputs) if x is not None and not x.constant]
    with function(symbol, finished):
        operands: list[Any] = [None] * len(workload.inputs)
        for index in packed:
            operands[index] = _operand(workload, index)
        table_buffers = [argument(f"table_{index}", table.size, table.dtype.name) for index, table in enumerate(tables)]
        for index in variable:
            operands[index] = _operand(workload, index)
        buffers = [
            argument(f"result_{index}", math.prod(output.shape), output.dtype) for index, output in enumerate(workload.outputs)
        ]
        for index in range(len(operands)):
            if static_name(index) in workload.options:
                operands[index] = _static(workload, index)
        results = [(output.shape, output.dtype) for output in workload.outputs]
        builder = Builder(target.isa, results, buffers, table_buffers)
        attributes = {name: value for name, value in workload.attributes if not name.startswith("static_")}
        for number, (result, _) in enumerate(zip(build(builder, workload.op, operands, attributes), buffers, strict=False)):
            builder.finish(number, result)
    return finished[0], builder


def _operand(workload: Workload, index: int) -> Tensor:
    """An argument of the function being built."""
    operand = workload.inputs[index]
    assert operand is not None
    kind = operand.stored_dtype
    return buffer_tensor(argument(f"operand_{index}", math.prod(operand.shape), kind), operand.shape, kind)
