"""One convolution as a node of a whole graph: its kernel, the operands it gets there, and the answer it must give.

A node reads what another kernel wrote and writes what the next one reads: codes (or floats) in the layout that the compiler
chose, halo included. So two convolutions are compiled one after the other, and the first is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tapdot.compiler import pipeline
from tapdot.compiler.graph import Graph, GraphBuilder, Node
from tapdot.compiler.operators import lookup
from tapdot.compiler.types import TensorType
from tapdot.compiler.workloads import constant_operands, workload_of
from tapdot.kernels.family import Config, Family
from tapdot.kernels.layout import CODES, READ_SLACK
from tapdot.kernels.registry import select
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import build, tvm
from tapdot.kernels.workload import Operand, Workload
from tapdot.passes.assign_layouts import AssignLayouts
from tapdot.passes.recipes import Calibration, recipe
from tapdot.passes.reorder_filters import ReorderFilters
from tapdot.passes.sparsity_plan import Pruning, prune_by_projection

DENSE_RECIPES = {"float": "float", "int8": "int8"}
SPARSE_RECIPES = {"float": "pattern", "int8": "pattern-int8"}
CONVOLUTIONS = ("FusedConv", "QConv", "SparseConv", "QSparseConv")
SAMPLES = 2
"""Images that ranges are chosen by."""
READER_FILTERS = 16
"""Of the convolution that reads what the measured one writes."""


@dataclass(frozen=True)
class Shape:
    """A square layer with 3x3 kernels and pads of 1, or 1x1 without."""

    channels: int
    filters: int
    size: int
    stride: int = 1
    kernel: int = 3

    @property
    def title(self) -> str:
        """As in ``256 ch, 56x56``."""
        channels = f"{self.channels}" if self.channels == self.filters else f"{self.channels} to {self.filters}"
        kind = "" if self.kernel == 3 else f", {self.kernel}x{self.kernel}"
        return f"{channels} ch, {self.size}x{self.size}{kind}" + (f", stride {self.stride}" if self.stride > 1 else "")

    @property
    def macs(self) -> int:
        """Of the dense layer."""
        return self.channels * self.filters * self.kernel**2 * (self.size // self.stride) ** 2


@dataclass(frozen=True)
class Form:
    """How a layer is stored and computed. ``share`` 0: dense. ``reorder``: filters are visited in FKR's order."""

    rate: float = 1.0
    share: int = 0
    reorder: bool = True

    @property
    def title(self) -> str:
        """For tables."""
        return "dense" if not self.share else f"{self.rate:g}x, share {self.share}"


def network(shape: Shape, seed: int = 0) -> Graph:
    """The layer with seeded weights, a ReLU, and a layer of the same kind that reads what it writes."""
    numbers = np.random.default_rng(seed)
    builder = GraphBuilder("layer")
    value = builder.input("input", TensorType((1, shape.channels, shape.size, shape.size), "float32"))
    channels, pad = shape.channels, shape.kernel // 2
    for filters, stride in ((shape.filters, shape.stride), (READER_FILTERS, 1)):
        scale = np.sqrt(2 / (channels * shape.kernel**2))
        weight = numbers.standard_normal((filters, channels, shape.kernel, shape.kernel)) * scale
        constants = [
            builder.constant(array.astype(np.float32), name)
            for name, array in (("weight", weight), ("bias", numbers.standard_normal(filters) * 0.05))
        ]
        (value,) = builder.add("Conv", [value, *constants], {"pads": (pad,) * 4, "strides": (stride, stride)})
        (value,) = builder.add("Relu", [value], {})
        channels = filters
    return builder.build([value])


def pruned(graph: Graph, shape: Shape, form: Form) -> Graph:
    """Kernels (or quads) of least norm are removed, at the same rate in every layer."""
    rates = (form.rate, 1.0) if shape.kernel == 3 else (1.0, form.rate)
    return prune_by_projection(graph, Pruning(*rates, form.share, allocation="uniform"))


def compiled(shape: Shape, form: Form, precision: str, target: Target, seed: int = 0) -> tuple[Graph, Node]:
    """The graph with layouts, and its first convolution."""
    graph = network(shape, seed)
    samples = np.maximum(np.random.default_rng(seed + 1).standard_normal((SAMPLES, *graph.type("input").shape[1:])), 0)
    calibration = Calibration(samples.astype(np.float32)) if precision == "int8" else None
    layout = (pipeline.Phase("layout", (AssignLayouts(target),)),)
    if form.share:
        graph = pruned(graph, shape, form)
        always = ["compress_weights.choice=sparse"]
        phases = recipe(SPARSE_RECIPES[precision], always, calibration, target=target, then=layout)
    else:
        phases = recipe(DENSE_RECIPES[precision], (), calibration, target=target, then=layout)
    if not form.reorder:
        phases = tuple(replace(phase, passes=tuple(filter(_keeps_order, phase.passes))) for phase in phases)
    made = pipeline.run(graph, phases).graph
    return made, next(node for node in made.nodes if node.op in CONVOLUTIONS)


def _keeps_order(step: pipeline.Pass) -> bool:
    return not isinstance(step, ReorderFilters)


@dataclass(frozen=True)
class Kernel:
    """A node with the code that computes it, ready to be called."""

    shape: Shape
    form: Form
    workload: Workload
    family: Family
    config: Config
    target: Target
    constants: Mapping[int, NDArray[Any]]

    @classmethod
    def of(cls, shape: Shape, form: Form, precision: str, target: Target, seed: int = 0) -> Kernel:
        """The kernel that the compiler takes, in its default configuration."""
        graph, node = compiled(shape, form, precision, target, seed)
        workload = workload_of(graph, node)
        family = select(workload, target)
        config = family.default_config(workload, target)
        return cls(shape, form, workload, family, config, target, constant_operands(graph, node))

    @property
    def macs(self) -> int:
        """Those that are of use: of the weights that are stored, at the positions that exist."""
        if not self.form.share:
            return self.shape.macs
        stored = self.workload.inputs[5]
        assert stored is not None
        return prod(stored.shape) * prod(self.workload.output.shape[2:])

    @property
    def rate(self) -> float:
        """Dense multiply-adds over those that are left."""
        return self.shape.macs / self.macs

    @cached_property
    def inputs(self) -> Sequence[NDArray[Any] | None]:
        """Values of every operand, by index: the constants, and seeded ones for what is known at run time."""
        numbers = np.random.default_rng(1)
        return [
            None if operand is None else self.constants.get(index, _random(operand, numbers))
            for index, operand in enumerate(self.workload.inputs)
        ]

    @cached_property
    def expected(self) -> NDArray[Any]:
        """The reference's answer."""
        tensors = [None if array is None else torch.from_numpy(np.ascontiguousarray(array)) for array in self.inputs]
        entry = lookup(self.workload.op)
        arguments = [
            array if entry.is_static(index) else tensor
            for index, (array, tensor) in enumerate(zip(self.inputs, tensors, strict=True))
        ]
        result: NDArray[Any] = entry.compute(*arguments, **dict(self.workload.options)).numpy()
        return result

    def prepare(self) -> Prepared:
        """The machine code and its arguments."""
        packed = self.family.pack(self.workload, self.config, self.target, self.constants)
        function = self.family.build(self.workload, self.config, self.target, "kernel")
        module = build({"kernel": function}, self.target.llvm())
        arguments = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in packed]
        for operand, array in zip(self.workload.inputs, self.inputs, strict=True):
            if operand is not None and not operand.constant and array is not None:
                flat = array.reshape(-1) if operand.layout is None else operand.layout.store(array)
                whole = tvm.runtime.tensor(np.concatenate([flat, np.zeros(READ_SLACK, flat.dtype)]))
                arguments.append(whole._create_view((flat.size,)))
        output = self.workload.output
        arguments.append(tvm.runtime.tensor(np.zeros(output.elements, output.stored_dtype)))
        return Prepared(module, arguments)

    def check(self, prepared: Prepared) -> None:
        """Raises ValueError where the kernel's answer is not the reference's: bytes for codes, nearly so for floats."""
        prepared.module["kernel"](*prepared.arguments)
        flat, output = prepared.arguments[-1].numpy(), self.workload.output
        found = flat.reshape(output.shape) if output.layout is None else output.layout.load(flat, output.shape)
        if found.dtype.kind == "f":
            wrong = float(np.abs(found - self.expected).max() / np.abs(self.expected).max()) > 1e-4
        else:
            wrong = not np.array_equal(found, self.expected)
        if wrong:
            raise ValueError(
                f"{self.shape.title}, {self.form.title}: the kernel's answer is not the reference's; it is not timed."
            )


@dataclass(frozen=True)
class Prepared:
    """A module with a function ``kernel`` and its arguments."""

    module: Any
    arguments: Sequence[Any]

    def timer(self, number: int) -> Callable[[], float]:
        """Seconds a call, the mean over so many after one that is not counted."""
        evaluator = self.module.time_evaluator("kernel", tvm.cpu(), number=number, repeat=1)
        return lambda: float(evaluator(*self.arguments).results[0])


def _random(operand: Operand, numbers: np.random.Generator) -> NDArray[Any]:
    """Values of an operand as a ReLU leaves them: half of them zero."""
    if operand.dtype in CODES:
        limits = np.iinfo(operand.dtype)
        codes = numbers.integers(limits.min, limits.max + 1, operand.shape)
        return np.where(numbers.random(operand.shape) < 0.5, limits.min, codes).astype(operand.dtype)
    return np.maximum(numbers.standard_normal(operand.shape), 0).astype(operand.dtype)
