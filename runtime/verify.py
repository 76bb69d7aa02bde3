"""Does the device compute what the reference computes? First every kernel on the reference's own inputs, then the whole.

Integer packages are compared byte for byte, up to the input of every float island and tolerantly after it; float packages within
a tolerance.
"""

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
from tapdot.kernels.layout import CODES, Layout
from tapdot.runtime.devices.base import Session
from tapdot.runtime.exactness import WHOLE_TOLERANCE, Classification, Exactness
from tapdot.runtime.program import DIRTY, NOT_NUMBERS, LoadedProgram, check_inputs

KERNEL_TOLERANCE = 1e-4
"""Largest difference allowed for float kernels, as a share of the reference's largest magnitude."""

GARBAGE = {"int8": 77, "uint8": 0xA5}
"""What codes hold in lanes that are no channels."""


@dataclass(frozen=True)
class Comparison:
    """Two arrays: the ``error`` relative to the reference's largest magnitude, and which elements differ at all."""

    error: float
    elements: int
    differing: int
    first: tuple[int, ...] | None
    """The index of the first element that differs."""

    @classmethod
    def of(cls, expected: np.ndarray, found: np.ndarray) -> Comparison:
        """Compares a result with the reference; NaN equals NaN, and zeros of either sign are the same."""
        error = relative_error(expected, found)
        if expected.shape != found.shape or expected.dtype != found.dtype:
            return cls(error, expected.size, expected.size, None)
        differs = expected != found
        if expected.dtype.kind == "f":
            differs &= ~(np.isnan(expected) & np.isnan(found))
        count = int(np.count_nonzero(differs))
        first = tuple(int(axis) for axis in np.unravel_index(int(np.argmax(differs)), differs.shape)) if count else None
        return cls(error, expected.size, count, first)

    def __str__(self) -> str:
        return f"{self.differing} of {self.elements} elements differ, the first at {list(self.first or ())}"


@dataclass(frozen=True)
class KernelResult:
    """One kernel against the reference; an ``exact`` one must give the same bytes."""

    node: str
    family: str
    exact: bool
    passed: bool
    comparison: Comparison
    border: bool
    """Whether the halos of the results hold what they must."""

    @property
    def error(self) -> float:
        """Relative to the reference's largest magnitude; infinite where a halo is wrong."""
        return self.comparison.error if self.border else float("inf")

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "node": self.node,
            "family": self.family,
            "error": self.error,
            "passed": self.passed,
            "exact": self.exact,
            "elements": self.comparison.elements,
            "differing": self.comparison.differing,
            "first": None if self.comparison.first is None else list(self.comparison.first),
        }


@dataclass(frozen=True)
class OutputResult:
    """One output of the whole program against the reference."""

    exactness: Exactness
    comparison: Comparison

    @property
    def passed(self) -> bool:
        if self.exactness is Exactness.EXACT:
            return self.comparison.differing == 0
        return self.comparison.error <= self.exactness.tolerance


@dataclass(frozen=True)
class Verification:
    """What was compared and how it went."""

    device: str
    kernels: tuple[KernelResult, ...]
    results: Mapping[str, OutputResult]
    """Every output of the whole program."""
    repeatable: bool
    """Two runs on differently dirty memory gave the same bytes."""
    integer: bool = False
    """Whether the package computes with codes, so that bytes were compared."""
    islands: tuple[str, ...] = ()
    """First nodes of the float parts of an integer package."""

    @property
    def outputs(self) -> Mapping[str, float]:
        """Relative error of each output of the whole program."""
        return {name: result.comparison.error for name, result in self.results.items()}

    @property
    def first_differing(self) -> KernelResult | None:
        """The first kernel that is not what it must be."""
        return next((result for result in self.kernels if not result.passed), None)

    @property
    def passed(self) -> bool:
        return self.first_differing is None and self.repeatable and all(result.passed for result in self.results.values())

    @property
    def bit_exact(self) -> bool:
        """Whether every kernel and every output was compared byte for byte and found equal."""
        exact_outputs = all(result.exactness is Exactness.EXACT for result in self.results.values())
        return self.passed and self.integer and exact_outputs and all(kernel.exact for kernel in self.kernels)

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "device": self.device,
            "passed": self.passed,
            "bit_exact": self.bit_exact,
            "repeatable": self.repeatable,
            "islands": list(self.islands),
            "first_differing": self.first_differing.node if self.first_differing else None,
            "outputs": dict(self.outputs),
            "output_comparisons": {
                name: {"exact": result.exactness is Exactness.EXACT, **dataclasses.asdict(result.comparison)}
                for name, result in self.results.items()
            },
            "kernels": [result.json() for result in self.kernels],
        }

    def __str__(self) -> str:
        if not self.passed:
            return f"FAILED on {self.device}: {self._failure()}"
        return f"verified on {self.device}: {self._integer_success() if self.integer else self._float_success()}"

    def _float_success(self) -> str:
        return (
            f"{len(self.kernels)} kernels within {KERNEL_TOLERANCE:.0e} of the reference (worst "
            f"{_worst_kernel(self.kernels):.1e}), outputs within {WHOLE_TOLERANCE:.0e} (worst {self._worst_output():.1e}), "
            "repeatable"
        )

    def _integer_success(self) -> str:
        exact = [result for result in self.kernels if result.exact]
        values = sum(result.comparison.elements for result in exact)
        text = f"bit-exact: {len(exact)} kernels gave {values:,} values as the reference does, "
        if not self.islands:
            return text + "outputs are equal byte for byte, repeatable"
        floats = [result for result in self.kernels if not result.exact]
        equal = sum(result.exactness is Exactness.EXACT for result in self.results.values())
        names = ", ".join(repr(name) for name in self.islands)
        outputs = f"{equal} of {len(self.results)} outputs equal byte for byte, the others" if equal else "outputs"
        return text + (
            f"up to {len(self.islands)} float {'islands' if len(self.islands) > 1 else 'island'} ({names}); there {len(floats)} "
            f"kernels within {KERNEL_TOLERANCE:.0e} (worst {_worst_kernel(floats):.1e}); {outputs} within "
            f"{max(result.exactness.tolerance for result in self.results.values()):.0e} (worst {self._worst_output():.1e}), "
            "repeatable"
        )

    def _failure(self) -> str:
        if (first := self.first_differing) is not None:
            which = f"the kernel of {first.node!r} ({first.family}) is the first that differs"
            if not first.border:
                return f"{which}: the border it writes around its result is not what its readers rely on"
            if first.exact:
                return f"{which}: {first.comparison}, where none may"
            return f"{which}, by {first.error:.3g} of the reference's largest magnitude where {KERNEL_TOLERANCE:.0e} is allowed"
        if not self.repeatable:
            return "two runs gave different bytes, so some kernel reads memory that nobody wrote"
        name, wrong = next((name, result) for name, result in self.results.items() if not result.passed)
        if wrong.exactness is Exactness.EXACT:
            return f"every kernel is right alone, but in the output {name!r} of the whole {wrong.comparison}, where none may"
        return (
            f"every kernel is right alone, but the whole differs by {wrong.comparison.error:.3g} where "
            f"{wrong.exactness.tolerance:.0e} is allowed"
        )

    def _worst_output(self) -> float:
        return max(self.outputs.values(), default=0.0)


def _worst_kernel(kernels: list[KernelResult] | tuple[KernelResult, ...]) -> float:
    return max((result.error for result in kernels), default=0.0)


def verify(session: Session, package: Package, inputs: Mapping[str, np.ndarray] | None = None, seed: int = 0) -> Verification:
    """Compares a package with its reference on a device; ``inputs`` default to seeded ones."""
    graph = package.graph
    inputs = made_up_inputs(graph, seed) if inputs is None else inputs
    check_inputs(package, inputs)
    classes = Classification(graph)
    exact = {node.name: classes.is_exact(node) for node in graph.nodes}
    values = reference_values(graph, inputs)
    loaded = LoadedProgram(session, package)
    kernels = tuple(_verify_kernel(loaded, graph, call, values, exact[call.node]) for call in loaded.program.calls)
    loaded.dirty(DIRTY)
    first = loaded.run(inputs)
    loaded.dirty(NOT_NUMBERS)
    second = loaded.run(inputs)
    repeatable = all(first[name].tobytes() == second[name].tobytes() for name in first)
    results = {
        tensor.name: OutputResult(
            classes.of_output(name),
            Comparison.of(values[name], first[tensor.name]),
        )
        for tensor, name in zip(loaded.program.outputs, graph.outputs, strict=True)
    }
    return Verification(session.line, kernels, results, repeatable, classes.is_integer, classes.islands)


def made_up_inputs(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs; codes take every value of their type where the graph computes with codes."""
    inputs = seeded_inputs(graph, seed)
    if Classification(graph).is_integer:
        generator = np.random.default_rng(seed)
        for name in graph.inputs:
            kind = graph.type(name)
            if kind.dtype in CODES:
                limits = np.iinfo(kind.dtype)
                inputs[name] = generator.integers(limits.min, limits.max + 1, kind.shape).astype(kind.dtype)
    return inputs


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
    """The tensor as it lies in memory; lanes that are no channels hold NaN, or codes that mean nothing.

    No kernel may lean on what a producer left there.
    """
    if kind.layout is None:
        return np.ascontiguousarray(array).reshape(-1)
    missing = -array.shape[1] % kind.layout.channel_block
    if missing and (array.dtype.kind == "f" or array.dtype.name in CODES):
        garbage = GARBAGE.get(array.dtype.name, np.nan)
        array = np.pad(array, ((0, 0), (0, missing), (0, 0), (0, 0)), constant_values=garbage)
    return kind.layout.store(array)


def halo_holds(flat: np.ndarray, layout: Layout, shape: tuple[int, ...]) -> bool:
    """Whether every position around the planes holds the layout's ``zero``, as the readers of a halo take for granted."""
    batch, channels, height, width = shape
    whole = (batch, layout.blocks(channels) * layout.channel_block, height, width)
    around = replace(layout, zero=0, code_offset=0).store(np.ones(whole, np.int8)) == 0
    return bool(np.all(flat[around] == layout.zero))


def _verify_kernel(
    loaded: LoadedProgram, graph: Graph, call: KernelCall, values: Mapping[str, np.ndarray], exact: bool
) -> KernelResult:
    flats = loaded.run_kernel(call, [flat_in_layout(values[name], graph.type(name)) for name in call.inputs])
    comparisons = []
    border = True
    for name, flat in zip(call.outputs, flats, strict=True):
        kind = graph.type(name)
        found = flat.reshape(kind.shape) if kind.layout is None else kind.layout.load(flat, kind.shape)
        comparisons.append(Comparison.of(values[name], found))
        border &= kind.layout is None or halo_holds(flat, kind.layout, kind.shape)
    worst = max(comparisons, key=lambda comparison: comparison.differing if exact else comparison.error)
    right = worst.differing == 0 if exact else worst.error <= KERNEL_TOLERANCE
    return KernelResult(call.node, call.family, exact, right and border, worst, border)
