"""Does the device compute what the reference computes? First every kernel on the reference's own inputs, then the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.package import Package
from tapdot.compiler.pipeline import relative_error, seeded_inputs
from tapdot.compiler.program import KernelCall
from tapdot.compiler.types import TensorType
from tapdot.kernels.layout import Layout
from tapdot.runtime.devices.base import Session
from tapdot.runtime.program import DIRTY, NOT_NUMBERS, LoadedProgram, check_inputs

KERNEL_TOLERANCE = 1e-4
WHOLE_TOLERANCE = 1e-3
"""Largest difference allowed for float kernels and networks, as a share of the reference's largest magnitude."""


@dataclass(frozen=True)
class KernelResult:
    """One kernel against the reference: ``error`` is relative to the reference's largest magnitude."""

    node: str
    family: str
    error: float
    passed: bool


@dataclass(frozen=True)
class Verification:
    """What was compared and how it went."""

    device: str
    kernels: tuple[KernelResult, ...]
    outputs: Mapping[str, float]
    """Relative error of each output of the whole program."""
    repeatable: bool
    """Two runs on differently dirty memory gave the same bytes."""

    @property
    def first_differing(self) -> KernelResult | None:
        """The first kernel outside its tolerance."""
        return next((result for result in self.kernels if not result.passed), None)

    @property
    def passed(self) -> bool:
        return (
            self.first_differing is None and self.repeatable and all(error <= WHOLE_TOLERANCE for error in self.outputs.values())
        )

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "device": self.device,
            "passed": self.passed,
            "repeatable": self.repeatable,
            "first_differing": self.first_differing.node if self.first_differing else None,
            "outputs": dict(self.outputs),
            "kernels": [dataclasses.asdict(result) for result in self.kernels],
        }

    def __str__(self) -> str:
        worst = max((result.error for result in self.kernels), default=0.0)
        whole = max(self.outputs.values(), default=0.0)
        if self.passed:
            return (
                f"verified on {self.device}: {len(self.kernels)} kernels within {KERNEL_TOLERANCE:.0e} of the reference (worst "
                f"{worst:.1e}), outputs within {WHOLE_TOLERANCE:.0e} (worst {whole:.1e}), repeatable"
            )
        if (first := self.first_differing) is not None:
            return (
                f"FAILED on {self.device}: the kernel of {first.node!r} ({first.family}) is the first that differs, by "
                f"{first.error:.3g} of the reference's largest magnitude where {KERNEL_TOLERANCE:.0e} is allowed"
            )
        if not self.repeatable:
            return f"FAILED on {self.device}: two runs gave different bytes, so some kernel reads memory that nobody wrote"
        return (
            f"FAILED on {self.device}: every kernel is right alone, but the whole differs by {whole:.3g} where "
            f"{WHOLE_TOLERANCE:.0e} is allowed"
        )


def verify(session: Session, package: Package, inputs: Mapping[str, np.ndarray] | None = None, seed: int = 0) -> Verification:
    """Compares a package with its reference on a device; ``inputs`` default to seeded ones."""
    graph = package.graph
    inputs = seeded_inputs(graph, seed) if inputs is None else inputs
    check_inputs(package, inputs)
    values = reference_values(graph, inputs)
    loaded = LoadedProgram(session, package)
    kernels = tuple(_verify_kernel(loaded, graph, call, values) for call in loaded.program.calls)
    loaded.dirty(DIRTY)
    first = loaded.run(inputs)
    loaded.dirty(NOT_NUMBERS)
    second = loaded.run(inputs)
    repeatable = all(first[name].tobytes() == second[name].tobytes() for name in first)
    outputs = {
        tensor.name: relative_error(values[name], first[tensor.name])
        for tensor, name in zip(loaded.program.outputs, graph.outputs, strict=True)
    }
    return Verification(session.line, kernels, outputs, repeatable)


def reference_values(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value of the graph as the torch reference computes it."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()}
    names = [name for name in graph.types if name not in graph.constants]
    with torch.no_grad():
        found = interpret(graph, tensors, keep=names)
    return {
        **{name: np.asarray(array) for name, array in inputs.items()},
        **{name: value.numpy() for name, value in found.items()},
    }


def flat_in_layout(array: np.ndarray, kind: TensorType) -> np.ndarray:
    """The tensor as it lies in memory; lanes that are no channels hold NaN, for no kernel may lean on what a producer left."""
    if kind.layout is None:
        return np.ascontiguousarray(array).reshape(-1)
    missing = -array.shape[1] % kind.layout.channel_block
    if missing and array.dtype.kind == "f":
        array = np.pad(array, ((0, 0), (0, missing), (0, 0), (0, 0)), constant_values=np.nan)
    return kind.layout.store(array)


def halo_holds(flat: np.ndarray, layout: Layout, shape: tuple[int, ...]) -> bool:
    """Whether every position around the planes holds the layout's ``zero``, as the readers of a halo take for granted."""
    batch, channels, height, width = shape
    whole = (batch, layout.blocks(channels) * layout.channel_block, height, width)
    around = replace(layout, zero=0).store(np.ones(whole, np.int8)) == 0
    return bool(np.all(flat[around] == layout.zero))


def _verify_kernel(loaded: LoadedProgram, graph: Graph, call: KernelCall, values: Mapping[str, np.ndarray]) -> KernelResult:
    flats = loaded.run_kernel(call, [flat_in_layout(values[name], graph.type(name)) for name in call.inputs])
    error = 0.0
    for name, flat in zip(call.outputs, flats, strict=True):
        kind = graph.type(name)
        found = flat.reshape(kind.shape) if kind.layout is None else kind.layout.load(flat, kind.shape)
        error = max(error, relative_error(values[name], found))
        if kind.layout is not None and not halo_holds(flat, kind.layout, kind.shape):
            error = float("inf")
    return KernelResult(call.node, call.family, error, error <= KERNEL_TOLERANCE)
