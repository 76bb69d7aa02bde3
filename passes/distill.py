"""Inputs made of nothing but batch norms: what a network was trained on left its statistics there.

Gradient descent on the inputs so that the mean and deviation entering each batch norm match the stored ones (Cai et al., "ZeroQ",
CVPR 2020, eq. 3 and 4)::

    loss = 1/L sum_i  mean_c ((mean_i,c(x) - mean_i,c)^2 + (deviation_i,c(x) - deviation_i,c)^2) / variance_i,c

over the L batch norms, and a little of the same for the inputs' own statistics. Eq. 3 has no division; with it no layer counts
for more because its numbers are larger. Statistics are taken per edge of the graph, whatever produces the value, so
convolutions without a batch norm, shared inputs and concatenations need no care.

What makes it fast, with the same minima:
  1. the batch norms are folded, and a folded value's statistics are those of the batch norm's result: mean beta and deviation
     |gamma| (gamma 0 says nothing about its input);
  2. nothing after the last batch norm is computed, and no gradient of a weight;
  3. an image is the sum of planes of 1, 7, 14, 28, ... pixels a side, enlarged; descent on these has gradients of the same order
     for colour, shape and texture, and needs a tenth of the steps that descent on pixels does;
  4. it starts at the best of a few usual ranges of inputs (normalised, [-1, 1], [0, 1], [0, 255]).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tapdot.compiler.errors import GraphError, TapdotError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.interpreter import GraphModule, to_array
from tapdot.compiler.operators import lookup
from tapdot.compiler.types import TensorType
from tapdot.passes.fold_batch_norm import FoldBatchNorm

EFFORT = 1.7e12
"""What the steps may cost altogether, in multiplies: half a minute on two cores of a server."""
PER_ELEMENT = 200
"""Multiplies that take as long as bringing one element of a value from memory and back, both directions."""
FEWEST_STEPS, MOST_STEPS = 8, 100
PATIENCE, LEAST_GAIN = 12, 0.01
"""Descent ends when the last so many steps did not lower the loss by this share."""
LEARNING_RATE = 0.05
"""Of a hundred steps, as a share of the inputs' deviation; fewer have no time to recover from leaps and take shorter ones."""
INPUT_WEIGHT = 0.02
"""Of the inputs' own statistics beside those at the batch norms: enough to settle what these leave open."""
STARTS = ((0.0, 1.0), (0.0, 0.5), (0.5, 0.25), (127.5, 64.0))
"""Mean and deviation of usual inputs: normalised, [-1, 1], [0, 1], [0, 255]."""
SMALLEST_PLANE = 4
VARIANCE_FLOOR = 1e-3
"""Share of a layer's mean variance that is added to each channel's, so that dead channels do not rule."""


@dataclass(frozen=True)
class Distilled:
    """The samples, and how well they match."""

    samples: Mapping[str, np.ndarray]
    """For each input, ``[count, ...]``."""
    loss: float
    gaussian_loss: float
    """Of white Gaussian input, mean 0 and deviation 1."""
    steps: int

    @property
    def data(self) -> list[Mapping[str, np.ndarray]]:
        """As passes that run the network take it."""
        return [self.samples]


def distill(
    graph: Graph,
    count: int = 16,
    *,
    seed: int = 0,
    batch: int = 8,
    steps: int | None = None,
    learning_rate: float | None = None,
    gaussian: bool = False,
    progress: Callable[[str], object] = lambda line: None,
) -> Distilled:
    """``count`` samples, made ``batch`` at a time; the same for the same seed (on one machine and number of threads).

    ``graph`` still has its batch norms: run this after cleaning up and before ``fold_batch_norm``. ``steps`` is by default what
    :data:`EFFORT` allows, at least 8 and at most 100. ``learning_rate`` is a share of the inputs' deviation, by default
    :data:`LEARNING_RATE` times ``sqrt(steps / 100)``. ``progress`` gets a line a step. With ``gaussian`` nothing is distilled and
    the samples are white noise: for models without batch norms, when nothing better is at hand.

    Raises TapdotError for a graph without batch norms (or whose statistics are not known, or not finite), and for inputs that
    are not float32.
    """
    if count < 1 or batch < 1:
        raise TapdotError(f"Expected at least one sample to distill, found count={count} and batch={batch}.")
    if steps is not None and steps < 0:
        raise TapdotError(f"Expected no fewer than 0 steps of descent, found steps={steps}.")
    for name in graph.inputs:
        if graph.type(name).dtype != "float32" or not graph.type(name).rank:
            raise TapdotError(f"Only float32 inputs can be distilled, and {name!r} is {graph.type(name)}; give data with --data.")
    if gaussian:
        return Distilled({name: array[:count] for name, array in _noise(graph, count, seed).items()}, math.nan, math.nan, 0)
    targets = _targets(graph)
    if not targets:
        raise TapdotError(
            f"Graph {graph.name!r} has no batch norm with stored statistics, so there is nothing to distill inputs from. Compile "
            "the model's .pt2 file (many ONNX exports have folded the batch norms, torch.export keeps them), or give data with "
            "--data. Gaussian inputs (--set distill_samples.gaussian=true) only stand in where accuracy does not matter."
        )
    batch = min(batch, count)
    network = _Network(graph, targets, batch)
    rounds = -(-count // network.batch)
    steps = network.affordable_steps(rounds) if steps is None else steps
    learning_rate = LEARNING_RATE * math.sqrt(min(steps / 100, 1.0)) if learning_rate is None else learning_rate
    made = []
    for index in range(rounds):
        label = f"batch {index + 1} of {rounds}, " if rounds > 1 else ""
        made.append(_descend(network, seed + index, steps, learning_rate, lambda line, label=label: progress(label + line)))  # type: ignore[misc]
    samples = {name: np.concatenate([part.samples[name] for part in made])[:count] for name in graph.inputs}
    return Distilled(
        samples,
        float(np.mean([part.loss for part in made])),
        float(np.mean([part.gaussian_loss for part in made])),
        max(part.steps for part in made),
    )


def _noise(graph: Graph, count: int, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal((count, *graph.type(name).shape[1:]), np.float32) for name in graph.inputs}


# -- statistics --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What enters a batch norm, by channel: ``entering = (result - beta) / factor + mean``; float32[C] each."""

    factor: Tensor
    beta: Tensor
    deviation: Tensor
    weight: Tensor
    """One over the variance; 0 for channels whose factor is 0, of which the result says nothing."""

    def loss(self, result: Tensor) -> Tensor:
        """How far the statistics of a batch norm's result are from what its input should have."""
        mean, deviation = _Moments.apply(result)  # type: ignore[no-untyped-call]
        error = ((mean - self.beta) / self.factor) ** 2
        if result.numel() > result.shape[1]:
            error = error + (deviation / self.factor.abs() - self.deviation) ** 2
        return (error * self.weight).mean()


def _targets(graph: Graph) -> dict[str, Target]:
    """By the name of each batch norm's result."""
    found = {}
    for node in graph.nodes:
        if node.op != "BatchNormalization" or any(name not in graph.constants for name in node.inputs[1:5]):
            continue
        gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in node.inputs[1:5])
        if not all(np.isfinite(array).all() for array in (gamma, beta, mean, variance)) or (variance < 0).any():
            raise TapdotError(
                f"The statistics of batch norm {node.name!r} are not finite, or a variance is negative; look at the model's "
                "weights."
            )
        factor = gamma / np.sqrt(variance + lookup(node.op).defaults(node.attributes)["epsilon"])
        known = np.abs(factor) > 1e-6 * np.abs(factor).max(initial=1e-30)
        weight = known / (variance + VARIANCE_FLOOR * variance.mean() + 1e-12)
        arrays = (np.where(known, factor, 1.0), beta, np.sqrt(variance), weight)
        found[node.output] = Target(*(torch.from_numpy(array.astype(np.float32)) for array in arrays))
    return found


class _Moments(torch.autograd.Function):
    """Mean and deviation of each channel (axis 1); reads the value once in either direction."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        axes, size = _all_but_channels(x), x.numel() / x.shape[1]
        mean = x.mean(axes)
        square = torch.linalg.vector_norm(x, dim=axes).double() ** 2 / size
        deviation = (square - mean.double() ** 2).clamp_min(1e-20).sqrt().float()
        context.save_for_backward(x, mean, deviation)
        return mean, deviation

    @staticmethod
    def backward(context: Any, of_mean: Tensor, of_deviation: Tensor) -> Tensor:  # type: ignore[override]
        x, mean, deviation = context.saved_tensors
        size, shape = x.numel() / x.shape[1], (1, -1, *(1,) * (x.ndim - 2))
        slope = of_deviation / (size * deviation)
        return torch.addcmul((of_mean / size - slope * mean).view(shape), x, slope.view(shape))


def _all_but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


# -- the network -------------------------------------------------------------------------------------------------------------


class _Network:
    """The graph up to its batch norms, folded (1, 2), for batches of ``batch`` samples if its shapes allow, else of its own."""

    def __init__(self, graph: Graph, targets: Mapping[str, Target], batch: int) -> None:
        trunk = graph.replace(outputs=tuple(targets)).pruned()
        folded = FoldBatchNorm()(trunk)
        wider = with_batch(folded, batch)
        self.graph = folded if wider is None else wider
        self.batch = self.graph.type(self.graph.inputs[0]).shape[0]
        self.targets = targets
        self.module = GraphModule(self.graph).eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)

    def loss(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of a batch, at the batch norms."""
        values = self.module.values(*inputs)
        return torch.stack([target.loss(values[name]) for name, target in self.targets.items()]).mean()

    def affordable_steps(self, rounds: int) -> int:
        """How many steps :data:`EFFORT` pays for."""
        cost = 0
        for node in self.graph.nodes:
            kinds = [self.graph.type(name) for name in node.outputs]
            cost += lookup(node.op).macs(self.graph.input_types(node), kinds, lookup(node.op).defaults(node.attributes))
            cost += PER_ELEMENT * sum(kind.elements for kind in kinds)
        return int(np.clip(EFFORT / (max(cost, 1) * rounds), FEWEST_STEPS, MOST_STEPS))


def with_batch(graph: Graph, batch: int) -> Graph | None:
    """The graph for another number of samples along axis 0 of its inputs; None where a shape is fixed by more than that."""
    sizes = {graph.type(name).shape[0] for name in graph.inputs}
    if len(sizes) != 1:
        return None
    (size,) = sizes
    builder = GraphBuilder(graph.name)
    for name in graph.inputs:
        kind = graph.type(name)
        builder.input(name, TensorType((batch, *kind.shape[1:]), kind.dtype))
    shapes = {node.inputs[1] for node in graph.nodes if node.op in ("Reshape", "Expand") and node.inputs[1] in graph.constants}
    for name, array in graph.constants.items():
        counts = name in shapes and array.size and array.reshape(-1)[0] == size
        builder.constants[name] = np.concatenate([[batch], array.reshape(-1)[1:]]).astype(array.dtype) if counts else array
        builder.types[name] = TensorType.of(builder.constants[name])
    try:
        for node in graph.nodes:
            builder.add(node.op, node.inputs, node.attributes, name=node.name, outputs=node.outputs)
    except GraphError:
        return None
    if any(builder.types[name].shape != (batch, *graph.type(name).shape[1:]) for name in graph.outputs):
        return None
    return builder.build(graph.outputs)


def input_loss(inputs: Sequence[Tensor], start: tuple[float, float]) -> Tensor:
    """How far the statistics of inputs are from a usual mean and deviation."""
    losses = [torch.zeros(())]
    for x in inputs:
        if x.ndim > 1:
            mean, deviation = _Moments.apply(x)  # type: ignore[no-untyped-call]
            losses.append((((mean - start[0]) / start[1]) ** 2 + (deviation / start[1] - 1) ** 2).mean())
    return torch.stack(losses).sum()


# -- descent -----------------------------------------------------------------------------------------------------------------


class _Planes:
    """A batch of inputs as a sum of planes (3); inputs that are no images are one plane."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator) -> None:
        self.shape = shape
        sizes = [shape[2:]]
        if len(shape) == 4:
            while min(sizes[-1]) >= 2 * SMALLEST_PLANE:
                sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
            sizes.append((1, 1))
        share = 1 / math.sqrt(len(sizes))
        self.planes = [(share * torch.randn(*shape[:2], *size, generator=generator)).requires_grad_() for size in sizes]

    def render(self) -> Tensor:
        """The inputs, mean 0 and deviation about 1 at the start."""
        total = self.planes[0]
        for plane in self.planes[1:]:
            total = total + F.interpolate(plane, size=self.shape[2:], mode="bilinear", align_corners=False)
        return total


def _descend(network: _Network, seed: int, steps: int, learning_rate: float, progress: Callable[[str], object]) -> Distilled:
    """One batch, by Adam with a learning rate that falls to zero along a cosine; the best inputs on the way."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [network.graph.type(name).shape for name in network.graph.inputs]
    with torch.no_grad():
        gaussian = float(network.loss([torch.randn(shape, generator=generator) for shape in shapes]))
        images = [_Planes(shape, generator) for shape in shapes]
        losses = [float(network.loss([d * image.render() + m for image in images])) for m, d in STARTS]
    if not math.isfinite(gaussian) or not math.isfinite(min(losses)):
        raise TapdotError("The network gives no finite statistics for Gaussian inputs; look at the model's weights.")
    mean, deviation = STARTS[int(np.argmin(losses))]
    optimizer = torch.optim.Adam([plane for image in images for plane in image.planes], lr=learning_rate, betas=(0.9, 0.99))
    history: list[float] = []
    best: list[np.ndarray] = []
    for step in range(steps + 1):
        inputs = [deviation * image.render() + mean for image in images]
        loss = network.loss(inputs)
        if not history or loss.item() < min(history):
            best = [np.array(to_array(x)) for x in inputs]
        history.append(loss.item())
        share = history[-1] / gaussian if gaussian else 1.0  # batch norms whose gamma is 0 ask for nothing
        progress(f"step {step} of {steps}: loss {history[-1]:.4g}, {share:.1%} of Gaussian input's")
        is_flat = step > PATIENCE and min(history[-PATIENCE:]) > (1 - LEAST_GAIN) * min(history[:-PATIENCE])
        if step == steps or is_flat:
            break
        optimizer.param_groups[0]["lr"] = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        (loss + INPUT_WEIGHT * input_loss(inputs, (mean, deviation))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Distilled(dict(zip(network.graph.inputs, best, strict=True)), min(history), gaussian, len(history) - 1)
