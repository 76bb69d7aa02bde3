"""How curved the loss is in each layer's weights: the trace of the Hessian's block, by Hutchinson's estimator.

``E[v^T H v] = tr H`` for vectors of random signs (Hutchinson, 1990), and ``H v`` takes two backward passes and no Hessian;
HAWQ-V2 (NeurIPS 2020, section 3.1) averages it over probes and data. With ``v`` over all layers at once, as published, the
estimate of layer ``i`` also gets ``v_i^T H_ij v_j`` from every other layer ``j``: zero on average, but so large for layers whose
own trace is small that hundreds of probes leave some of them negative (on the miniature ResNet, errors of 9 to 290 % after 256).
So the Hessian is split, which leaves its trace as it is::

    H = G + R      G = J^T L J             J: outputs by weights, L: the loss's Hessian in the outputs
                   R = sum_k s_k d2 y_k    s: the loss's gradient in the outputs y

  1. ``tr G_i = E |J_i^T A u|^2`` with ``L = A A^T``: the random signs ``u`` are on the outputs' side, so one backward pass serves
     all layers, no layer disturbs another's estimate, and none is negative. Samples run one by one: nor do they disturb others.
  2. ``tr R_i`` by Hessian-vector products of ``<s, y>``. It is zero, and nothing is computed, where the loss is the difference
     from the model's own answers (``s = 0``), and for every layer behind which all is piecewise linear (ReLU, clips, pools,
     sums): the outputs are linear in such a layer's weights. With labels and other activations it is small beside G.

A round is one probe for every sample. Rounds end when the standard error, that of the mean over rounds with the data given, is
below :data:`TOLERANCE` of every layer's trace.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapdot.compiler.costs import node_macs
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import GraphModule
from tapdot.passes.distill import with_batch
from tapdot.passes.movement import MAXIMA, MOVES, POOLS
from tapdot.passes.sensitivity_answers import TINY, Answers, rademacher
from tapdot.passes.sensitivity_candidates import WeightLayer
from tapdot.passes.sensitivity_samples import Samples

TOLERANCE = 0.02
"""Rounds end when every layer's standard error is below this share of its trace."""
EFFORT = 1e13
"""What the rounds may cost altogether, in multiplies: some minutes on two cores of a server."""
PER_NODE = 4e6
"""Multiplies that take as long as getting a node to run, forward and backward."""
FEWEST_ROUNDS, MOST_ROUNDS = 8, 1024
ROUNDS_AT_ONCE = 8
"""Probes for which a sample goes forward once."""

RECTIFIERS = ("Relu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Clip", "Abs")
SUMS_AND_EXTREMES = ("Add", "Sub", "Neg", "Sum", "Mean", "Max", "Min", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
PIECEWISE_LINEAR = {*RECTIFIERS, *SUMS_AND_EXTREMES, *MOVES, *MAXIMA, *POOLS, "Concat", "Pad", "Resize", "Dropout"}
"""Operators that are so in all operands together."""
BILINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Mul", "Div", "PRelu", "BatchNormalization", "Where")
"""Linear in one operand when nothing else depends on it."""


@dataclass(frozen=True)
class Traces:
    """The answer, by the names of layers."""

    traces: Mapping[str, float]
    errors: Mapping[str, float]
    """Standard errors over the random probes, the data given."""
    rounds: int
    converged: bool
    curved: tuple[str, ...]
    """Layers for which Hessian-vector products were needed."""

    @property
    def worst(self) -> tuple[str, float]:
        """The layer whose trace is known least, and its standard error as a share of the trace."""
        shares = {name: self.errors[name] / max(abs(trace), TINY) for name, trace in self.traces.items()}
        name = max(shares, key=lambda name: shares[name])
        return name, shares[name]


def hessian_traces(
    graph: Graph,
    layers: Sequence[WeightLayer],
    samples: Samples,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    most_rounds: int | None = None,
    progress: Callable[[str], object] = lambda line: None,
) -> Traces:
    """The trace of each layer's block of the Hessian of the mean loss over the samples.

    ``graph`` gives scores (``sensitivity_answers.with_scores``) and has the layers' own weights. With labels the loss is their
    cross entropy; without, the difference from the model's own answers. The same seed gives the same traces. ``most_rounds`` is
    by default what :data:`EFFORT` allows, at least 8 and at most 1024.
    """
    narrow = with_batch(graph, 1) or graph
    answers = Answers(narrow)
    module = GraphModule(narrow).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    weights = [module.constant(layer.weight).requires_grad_() for layer in layers]
    labels = samples.labels if answers.classes else None
    curved = [not is_piecewise_linear_behind(narrow, layer.name) for layer in layers] if labels is not None else []
    if most_rounds is None:
        most_rounds = affordable_rounds(narrow, samples.count)
    generator = torch.Generator().manual_seed(seed)
    found: list[NDArray[np.float64]] = []
    while True:
        # [rounds, layers]: every batch counts by its samples.
        total = np.zeros((ROUNDS_AT_ONCE, len(layers)))
        for place, (inputs, kept) in enumerate(samples.batches(narrow)):
            known = None if labels is None else torch.from_numpy(labels[kept])
            estimates = _estimates(module, answers, weights, curved, inputs, known, len(kept), generator)
            total += estimates * (len(kept) / samples.count)
            progress(f"round {len(found) + 1}, sample {place + 1}: {_spread(found)}")
        if not np.isfinite(total).all():
            worst = layers[int(np.argmax(~np.isfinite(total).all(0)))].name
            raise TapdotError(f"The gradients of layer {worst!r} are not finite for these samples; look at the model's weights.")
        found += list(total)
        means, errors = _statistics(found)
        converged = bool((errors <= tolerance * np.abs(means)).all())
        if (converged and len(found) >= FEWEST_ROUNDS) or len(found) >= most_rounds:
            names = [layer.name for layer in layers]
            return Traces(
                dict(zip(names, means.tolist(), strict=True)),
                dict(zip(names, errors.tolist(), strict=True)),
                len(found),
                converged,
                tuple(name for name, is_curved in zip(names, curved, strict=False) if is_curved),
            )


def affordable_rounds(graph: Graph, count: int) -> int:
    """How many rounds over so many samples cost :data:`EFFORT`."""
    size = graph.type(graph.inputs[0]).shape[0]
    backward = sum(2 * node_macs(graph, node) + PER_NODE for node in graph.nodes) * -(-count // size)
    return int(np.clip(EFFORT / max(backward, 1), FEWEST_ROUNDS, MOST_ROUNDS))


def _estimates(
    module: GraphModule,
    answers: Answers,
    weights: Sequence[Tensor],
    curved: Sequence[bool],
    inputs: Sequence[Tensor],
    labels: Tensor | None,
    count: int,
    generator: torch.Generator,
) -> NDArray[np.float64]:
    """``[rounds, layers]`` for one batch of which the first ``count`` samples are new."""
    values = module.values(*inputs, keep=answers.names)
    outputs = [values[name][:count] for name in answers.names]
    chosen = [weight for weight, is_curved in zip(weights, curved, strict=False) if is_curved]
    rows = []
    for _ in range(ROUNDS_AT_ONCE):
        roots = answers.random_roots(outputs, generator)
        gradients = torch.autograd.grad(outputs, weights, roots, retain_graph=True, allow_unused=True)
        rows.append([0.0 if gradient is None else float(gradient.double().square().sum()) for gradient in gradients])
    if chosen and labels is not None:
        slopes = answers.slopes(outputs, labels)
        first = torch.autograd.grad(outputs, chosen, slopes, create_graph=True, allow_unused=True)
        places = [place for place, is_curved in enumerate(curved) if is_curved]
        reached = [at for at, gradient in enumerate(first) if gradient is not None and gradient.requires_grad]
        for row in rows if reached else []:
            probes = [rademacher(chosen[at].shape, generator) for at in reached]
            known = [first[at] for at in reached]
            products = torch.autograd.grad(known, [chosen[at] for at in reached], probes, retain_graph=True, allow_unused=True)
            for at, probe, product in zip(reached, probes, products, strict=True):
                row[places[at]] += 0.0 if product is None else float((probe * product).double().sum())
    return np.array(rows)


def _statistics(found: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rounds = np.array(found)
    return rounds.mean(0), rounds.std(0, ddof=1) / np.sqrt(len(rounds))


def _spread(found: Sequence[NDArray[np.float64]]) -> str:
    if not found:
        return "the first estimates of traces"
    means, errors = _statistics(found)
    return f"standard errors up to {float((errors / np.maximum(np.abs(means), TINY)).max()):.1%} of the traces"


def is_piecewise_linear_behind(graph: Graph, layer: str) -> bool:
    """Whether the outputs are piecewise linear functions of a layer's weights, all others fixed."""
    reached: set[str] = set()
    for node in graph.nodes:
        depends = [name for name in node.inputs if name in reached]
        if node.name == layer:
            reached.update(node.outputs)
        elif depends:
            if not _is_piecewise_linear(node.op, node.inputs, reached):
                return False
            reached.update(node.outputs)
    return True


def _is_piecewise_linear(op: str, operands: Sequence[str], reached: Collection[str]) -> bool:
    if op in PIECEWISE_LINEAR:
        return True
    depends = [index for index, name in enumerate(operands) if name in reached]
    if op == "Div":
        return depends == [0]
    return op in BILINEAR and len(depends) == 1
