"""What a network answers, and by how much another answer differs: what every measure of sensitivity is taken of.

A classifier's answer is a score for each class, and differences are Kullback-Leibler divergences of the softmaxes (ZeroQ, CVPR
2020, eq. 6). Where the graph ends in a softmax, the scores are what goes into it. Any other output is compared by its squared
error, relative to its squares; several outputs count alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph
from tapdot.compiler.operators import lookup

TINY = 1e-30


def with_scores(graph: Graph) -> Graph:
    """The graph whose outputs are scores where they were softmaxes of scores."""
    outputs = []
    for name in graph.outputs:
        node = graph.producer(name)
        if node is not None and node.op in ("Softmax", "LogSoftmax") and _is_classes(graph, name):
            axis = lookup(node.op).defaults(node.attributes)["axis"]
            name = node.inputs[0] if axis % graph.type(name).rank == 1 else name
        outputs.append(name)
    return graph if tuple(outputs) == graph.outputs else graph.replace(outputs=tuple(outputs)).pruned()


def _is_classes(graph: Graph, name: str) -> bool:
    """Whether a value is ``[N, classes]``, perhaps with axes of one element behind."""
    shape = graph.type(name).shape
    return len(shape) >= 2 and shape[1] > 1 and math.prod(shape[2:]) == 1


class Answers:
    """The outputs of a graph, each as what it is."""

    def __init__(self, graph: Graph) -> None:
        kinds = {name: graph.type(name) for name in graph.outputs}
        floats = [name for name in graph.outputs if kinds[name].dtype == "float32" and kinds[name].rank]
        if not floats:
            found = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
            raise InputError(f"Expected a float32 output to compare answers by, and graph {graph.name!r} gives {found}.")
        self.names = tuple(dict.fromkeys(floats))
        self.are_classes = tuple(_is_classes(graph, name) for name in self.names)
        self.classes = kinds[self.names[0]].shape[1] if self.are_classes == (True,) else None
        """How many, of a graph whose one output is a score for each class."""

    @property
    def description(self) -> str:
        """What differences are, for reports."""
        if all(self.are_classes):
            return "KL divergence"
        return "relative squared error" if not any(self.are_classes) else "KL divergence and relative squared error"

    def differences(self, reference: Sequence[Tensor], found: Sequence[Tensor], temperature: float = 1.0) -> Tensor:
        """``float64[N]``: by how much each sample's answer differs from the reference.

        ``temperature`` divides the scores before the softmax, and the divergence is multiplied by its square, so that it stays of
        one size (Hinton et al., 2015).
        """
        total = torch.zeros(())
        for is_classes, old, new in zip(self.are_classes, reference, found, strict=True):
            old, new = old.flatten(1).double(), new.flatten(1).double()
            if is_classes:
                p, q = ((scores / temperature).log_softmax(1) for scores in (old, new))
                part = (p.exp() * (p - q)).sum(1).clamp_min(0) * temperature**2
            else:
                part = (new - old).square().sum(1) / (old.square().sum(1) + TINY)
            total = total + part / len(self.names)
        return total

    def slopes(self, outputs: Sequence[Tensor], labels: Tensor) -> list[Tensor]:
        """The gradient of the labels' mean cross entropy in the scores; a classifier's only."""
        scores = outputs[0].detach().flatten(1)
        slope = scores.softmax(1)
        slope[torch.arange(len(labels)), labels] -= 1
        return [(slope / len(labels)).reshape(outputs[0].shape)]

    def random_roots(self, outputs: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        """``A u`` for each output: ``A A^T`` is the loss's Hessian in the outputs, ``u`` a vector of random signs.

        The loss is a mean over samples. Of a cross entropy its Hessian is ``diag(p) - p p^T`` whatever the label, with the root
        ``diag(sqrt p) - p sqrt(p)^T``; of the relative squared error ``2 / |y|^2``.
        """
        roots = []
        for is_classes, output in zip(self.are_classes, outputs, strict=True):
            flat = output.detach().flatten(1)
            signs = rademacher(flat.shape, generator)
            if is_classes:
                p = flat.softmax(1)
                signed = p.sqrt() * signs
                root = signed - p * signed.sum(1, keepdim=True)
            else:
                root = signs * (2 / (flat.square().sum(1, keepdim=True) + TINY)).sqrt()
            roots.append((root / math.sqrt(len(flat) * len(self.names))).reshape(output.shape))
        return roots


def rademacher(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """-1 and 1 with equal chances, float32."""
    return torch.randint(0, 2, tuple(shape), generator=generator).float().mul_(2).sub_(1)
