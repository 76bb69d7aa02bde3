"""A package loaded on a device: run it, or any one of its kernels, or time either."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tapdot.compiler.errors import InputError
from tapdot.compiler.package import Package
from tapdot.compiler.program import ENTRY, KernelCall
from tapdot.runtime.devices.base import Session
from tapdot.runtime.devices.targets import check_fits

DIRTY = 0xA5
NOT_NUMBERS = 0xFF
"""Bytes that memory is filled with before a kernel may write it, small floats and NaN: what reads them shows itself."""


class LoadedProgram:
    """A package in a session. Inputs and outputs are row-major numpy arrays by the model's own names."""

    def __init__(self, session: Session, package: Package) -> None:
        self.session = session
        self.package = package
        self.program = package.program
        check_fits(package.target, session.information(), session.line)  # before the loader says it in its own words
        self.module = session.load_library(package.library)
        where = package.weights
        self.weights = session.map_weights(where.path, where.sha256, where.offset, where.size)
        self.arena = session.empty((self.program.arena_bytes,), "uint8")
        self.outputs = [session.empty(tensor.shape, tensor.dtype) for tensor in self.program.outputs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference. Raises InputError where the arrays are not what the model takes."""
        self.session.call(self.module, ENTRY, self.arguments(inputs))
        return {
            tensor.name: self.session.array(output) for tensor, output in zip(self.program.outputs, self.outputs, strict=True)
        }

    def dirty(self, byte: int = DIRTY) -> None:
        """Fills the arena and the outputs with a pattern no kernel may depend on."""
        self.arena = self.session.tensor(filled((self.program.arena_bytes,), "uint8", byte))
        self.outputs = [self.session.tensor(filled(tensor.shape, tensor.dtype, byte)) for tensor in self.program.outputs]

    def arguments(self, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        """Arguments of the entry function for these inputs."""
        checked = check_inputs(self.package, inputs)
        return [self.weights, self.arena, *(self.session.tensor(array) for array in checked), *self.outputs]

    def time(self, inputs: Mapping[str, np.ndarray], number: int = 1, repeat: int = 1) -> list[float]:
        """Seconds an inference, ``repeat`` times."""
        return self.session.time(self.module, ENTRY, self.arguments(inputs), number, repeat)

    def kernel_arguments(self, call: KernelCall, inputs: list[np.ndarray]) -> list[Any]:
        """Flat tensors for running one kernel alone: its packed weights, ``inputs`` already in their layouts, dirty outputs."""
        tensors = [self.session.tensor(array) for array in self.package.packed(call)]
        tensors += [self.session.tensor_with_slack(array) for array in inputs]
        for argument in call.arguments[len(tensors) :]:
            tensors.append(self.session.tensor(filled((argument.elements,), argument.dtype, DIRTY)))
        return tensors

    def run_kernel(self, call: KernelCall, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Flat outputs of one kernel run alone."""
        arguments = self.kernel_arguments(call, inputs)
        self.session.call(self.module, call.symbol, arguments)
        return [self.session.array(tensor) for tensor in arguments[call.packed + len(inputs) :]]

    def time_kernel(self, call: KernelCall, inputs: list[np.ndarray], number: int = 1, repeat: int = 1) -> list[float]:
        """Seconds a call of one kernel alone."""
        return self.session.time(self.module, call.symbol, self.kernel_arguments(call, inputs), number, repeat)


def filled(shape: tuple[int, ...], dtype: str, byte: int) -> np.ndarray:
    """An array whose every byte is ``byte``."""
    return np.full((*shape[:-1], math.prod(shape[-1:]) * np.dtype(dtype).itemsize), byte, np.uint8).view(dtype).reshape(shape)


def check_inputs(package: Package, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays in the program's order; raises InputError naming what is missing, unknown, or of another shape or type."""
    expected = package.program.inputs
    known = {tensor.name for tensor in expected}
    for name in inputs:
        if name not in known:
            raise InputError(f"The model has no input {name!r}; it takes: {', '.join(map(str, sorted(known)))}.")
    arrays = []
    for tensor in expected:
        if tensor.name not in inputs:
            raise InputError(f"The input {tensor.name!r} is missing; expected {tensor.dtype}{list(tensor.shape)}.")
        array = np.asarray(inputs[tensor.name])
        if array.shape != tensor.shape or array.dtype.name != tensor.dtype:
            several = array.shape[1:] == tensor.shape[1:] and array.ndim > 0
            hint = " The package takes one batch at a time: give it a part of the file." if several else ""
            raise InputError(
                f"Expected {tensor.dtype}{list(tensor.shape)} for the input {tensor.name!r}, found "
                f"{array.dtype.name}{list(array.shape)}.{hint}"
            )
        arrays.append(array)
    return arrays
