"""What there is to tune in a compiled model: workloads with a choice of configurations, and all it takes to run one alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

from tapdot.compiler.costs import node_macs
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.package import Package
from tapdot.compiler.types import TensorType
from tapdot.compiler.workloads import constant_operands, workload_of
from tapdot.kernels.family import Config, Family
from tapdot.kernels.registry import family_by_name, select
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Workload
from tapdot.runtime.exactness import Classification
from tapdot.runtime.verify import KERNEL_TOLERANCE, Comparison, flat_in_layout, halo_holds, made_up_inputs, reference_values

MOST_POINTS = 60_000
"""Points of a space that are looked at; of larger ones a seeded part."""


@dataclass(frozen=True)
class Subject:
    """A workload with the weights and inputs of one of the nodes that have it, and the right answer.

    ``inputs`` are flat, as they lie in memory; ``expected`` are the results as row-major tensors. ``nodes`` are all nodes of the
    model with this workload, ``macs`` those of one of them.
    """

    workload: Workload
    family: Family
    target: Target
    nodes: tuple[str, ...]
    macs: int
    constants: Mapping[int, np.ndarray]
    inputs: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    kinds: tuple[TensorType, ...]
    exact: bool
    """Whether there is one right answer, byte for byte."""
    limited_to: tuple[Config, ...] = ()
    """The only configurations to try, where it is not the whole space."""

    @property
    def occurrences(self) -> int:
        """Nodes of the model that run this kernel."""
        return len(self.nodes)

    @property
    def title(self) -> str:
        """The first node's name, and of how many."""
        return self.nodes[0] + (f" and {self.occurrences - 1} more" if self.occurrences > 1 else "")

    @cached_property
    def default(self) -> dict[str, int]:
        """The family's own choice."""
        return dict(self.family.default_config(self.workload, self.target))

    @cached_property
    def estimate(self) -> float:
        """Estimated cycles of all occurrences: their share before anything was measured."""
        return self.family.cost(self.workload, self.target) * self.occurrences

    @cached_property
    def configurations(self) -> tuple[Config, ...]:
        """Every configuration worth building, the default first."""
        return self.limited_to or configurations(self.family, self.workload, self.target, self.default)

    @property
    def results(self) -> tuple[tuple[int, str], ...]:
        """Elements and type in memory of each flat result."""
        return tuple((operand.elements, operand.stored_dtype) for operand in self.workload.outputs)

    def packed(self, config: Config) -> list[np.ndarray]:
        """The kernel's own arrays."""
        arrays = self.family.pack(self.workload, config, self.target, self.constants)
        return [np.ascontiguousarray(array) for array in arrays]

    def mistake(self, flats: Sequence[np.ndarray]) -> str:
        """What is wrong with the flat results of a kernel; empty where nothing is."""
        for flat, expected, kind in zip(flats, self.expected, self.kinds, strict=True):
            found = flat.reshape(kind.shape) if kind.layout is None else kind.layout.load(flat, kind.shape)
            comparison = Comparison.of(expected, found)
            if comparison.differing and (self.exact or not comparison.error <= KERNEL_TOLERANCE):
                return f"{comparison}, by {comparison.error:.3g} of the largest magnitude"
            if kind.layout is not None and not halo_holds(flat, kind.layout, kind.shape):
                return "the border around the result is not what its readers rely on"
        return ""


def configurations(
    family: Family, workload: Workload, target: Target, default: Config, most: int = MOST_POINTS
) -> tuple[Config, ...]:
    """The distinct configurations a family's space settles on, the default first.

    Of a space with more than ``most`` points the same part is taken every time.
    """
    space = {name: list(values) for name, values in family.space(workload, target).items()}
    sizes = [len(values) for values in space.values()]
    total = math.prod(sizes) if sizes else 0
    points: Iterable[tuple[int, ...]] = product(*space.values())
    if total > most:
        chosen = np.random.default_rng(0).choice(total, most, replace=False)
        places = np.stack(np.unravel_index(np.sort(chosen), sizes), axis=1)
        points = (tuple(values[place] for values, place in zip(space.values(), row, strict=True)) for row in places)
    found: dict[tuple[tuple[str, int], ...], Config] = {tuple(sorted(default.items())): dict(default)}
    for point in points if total > 1 else ():
        settled = family.settle(workload, dict(zip(space, point, strict=True)), target)
        if settled is not None:
            found.setdefault(tuple(sorted(settled.items())), dict(settled))
    return tuple(found.values())


def subjects_of_package(package: Package, seed: int = 0) -> tuple[Subject, ...]:
    """What there is to tune in a package: every distinct workload whose family offers a choice."""
    graph, target = package.graph, package.target
    families = {call.node: call.family for call in package.program.calls}
    return subjects(graph, [node for node in graph.nodes if node.name in families], target, seed, families)


def subjects(
    graph: Graph,
    nodes: Sequence[Node],
    target: Target,
    seed: int = 0,
    families: Mapping[str, str] | None = None,
    choices_only: bool = True,
) -> tuple[Subject, ...]:
    """The distinct workloads of some nodes of a graph with layouts, dearest by estimate first.

    Inputs are what the nodes get when the reference computes the graph on seeded inputs. ``families`` names the family of each
    node; without it they are selected as a compilation does. Workloads whose family offers no choice are left out, unless
    ``choices_only`` says otherwise.
    """
    first: dict[str, tuple[Node, Workload, Family]] = {}
    names: dict[str, list[str]] = {}
    for node in nodes:
        workload = workload_of(graph, node)
        if workload.key not in first:
            family = family_by_name(families[node.name]) if families else select(workload, target)
            first[workload.key] = (node, workload, family)
        names.setdefault(workload.key, []).append(node.name)
    wanted = {key: entry for key, entry in first.items() if not choices_only or _has_choice(*entry[1:], target)}
    if not wanted:
        return ()
    values = reference_values(graph, made_up_inputs(graph, seed))
    classes = Classification(graph)
    found = [
        replace(_subject(graph, node, workload, family, target, values, classes), nodes=tuple(names[key]))
        for key, (node, workload, family) in wanted.items()
    ]
    return tuple(sorted(found, key=lambda subject: -subject.estimate))


def _has_choice(workload: Workload, family: Family, target: Target) -> bool:
    return math.prod(len(values) for values in family.space(workload, target).values()) > 1


def _subject(
    graph: Graph,
    node: Node,
    workload: Workload,
    family: Family,
    target: Target,
    values: Mapping[str, np.ndarray],
    classes: Classification,
) -> Subject:
    constants = constant_operands(graph, node)
    variables = [
        name
        for name, operand in zip(node.inputs, workload.inputs, strict=True)
        if operand is not None and not operand.constant and name not in graph.constants
    ]
    outputs = [name for name in node.outputs if name]
    return Subject(
        workload,
        family,
        target,
        (node.name,),
        node_macs(graph, node),
        constants,
        tuple(flat_in_layout(values[name], graph.type(name)) for name in variables),
        tuple(values[name] for name in outputs),
        tuple(graph.type(name) for name in outputs),
        classes.is_exact(node),
    )
