"""How much the network's answer changes when one layer takes a candidate, or one tensor its codes, and all else stays as it was.

``kl``
    The Kullback-Leibler divergence of the answers from those of the float network, a mean over samples (ZeroQ, CVPR 2020, eq. 6).
``prediction``
    The same at a temperature of 4, PD-Quant's prediction difference (CVPR 2023, eq. 4): it sees all classes, where the divergence
    of a confident answer sees little but the largest. Calibration can choose ranges by it, too; see ``passes.prediction_ranges``.
``masked``
    OHQ's mask-guided estimate: one for each layer, whatever the number of candidates, with nothing but forward runs. Random
    masks let the coarsest candidate into half of the output channels, and then into the other half; the divergence by the squared
    change of the weights says how much an error in this layer matters, and a candidate's sensitivity is that times
    ``||W - Q(W)||^2``. (The paper has no public code; halves that complete one another, so that every channel counts once, and
    the division by the squared change are ours.)

Only what lies behind a layer runs again; see ``passes.sensitivity_forks``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup
from tapdot.passes.codes import Codes
from tapdot.passes.sensitivity_candidates import Replacements, WeightForm, WeightLayer
from tapdot.passes.sensitivity_comparison import Comparison, coded
from tapdot.passes.sensitivity_forks import Alternatives
from tapdot.passes.sensitivity_samples import Samples

MASKS = 2
"""Pairs of masks that complete one another."""
Estimate = tuple[float, float | None]
"""Sensitivity and its standard error, where there is one."""
Progress = Callable[[str], object]


def layer_sensitivities(
    graph: Graph,
    layers: Sequence[WeightLayer],
    replacements: Replacements,
    samples: Samples,
    *,
    temperature: float = 1.0,
    progress: Progress = lambda line: None,
) -> dict[tuple[str, WeightForm], Estimate]:
    """By layer and candidate: the mean divergence of answers; its standard error is over samples."""
    run = Comparison(graph, samples, temperature, progress)

    def alternatives(layer: WeightLayer) -> Alternatives:
        def found(node: Node | None, operands: Sequence[Tensor | None], result: Tensor) -> Iterator[tuple[Hashable, Tensor]]:
            assert node is not None
            for candidate in replacements.of(layer):
                yield (layer.name, candidate), _with_weights(run.graph, node, operands, replacements.weights(layer, candidate))

        return found

    outputs = {node.name: node.output for node in graph.nodes}
    differences = run({outputs[layer.name]: alternatives(layer) for layer in layers}, len(layers))
    return {key: _mean(values) for key, values in differences.items()}


def masked_sensitivities(
    graph: Graph,
    layers: Sequence[WeightLayer],
    replacements: Replacements,
    samples: Samples,
    *,
    seed: int = 0,
    progress: Progress = lambda line: None,
) -> dict[tuple[str, WeightForm], Estimate]:
    """By layer and candidate: importance of the layer times the candidate's squared change; standard errors are over masks."""
    run = Comparison(graph, samples, 1.0, progress)
    coarsest = {}
    for layer in layers:
        if candidates := replacements.of(layer):
            coarsest[layer.name] = max(candidates, key=lambda candidate, layer=layer: replacements.square(layer, candidate))  # type: ignore[misc]

    def alternatives(place: int, layer: WeightLayer) -> Alternatives:
        def found(node: Node | None, operands: Sequence[Tensor | None], result: Tensor) -> Iterator[tuple[Hashable, Tensor]]:
            assert node is not None
            original, changed = replacements.original(layer), replacements.weights(layer, coarsest[layer.name])
            generator = np.random.default_rng((seed, place))
            for pair in range(MASKS):
                mask = _half(layer, generator)
                for half in (mask, ~mask):
                    if half.any():
                        mixed = np.where(half, changed, original)
                        yield (layer.name, pair), _with_weights(run.graph, node, operands, mixed)

        return found

    outputs = {node.name: node.output for node in graph.nodes}
    chosen = {outputs[layer.name]: alternatives(at, layer) for at, layer in enumerate(layers) if layer.name in coarsest}
    differences = run(chosen, len(chosen))
    found: dict[tuple[str, WeightForm], Estimate] = {}
    for layer in layers:
        if layer.name not in coarsest:
            continue
        whole = replacements.square(layer, coarsest[layer.name])
        halves = min(layer.shape[layer.axis], 2)  # which change every weight once between them
        pairs = [halves * float(np.mean(differences[layer.name, pair])) / whole if whole else 0.0 for pair in range(MASKS)]
        error = float(np.std(pairs, ddof=1) / math.sqrt(MASKS)) if halves > 1 else None
        for candidate in replacements.of(layer):
            square = replacements.square(layer, candidate)
            found[layer.name, candidate] = float(np.mean(pairs)) * square, None if error is None else error * square
    return found


def tensor_sensitivities(
    graph: Graph,
    codes: Mapping[str, Mapping[int, Codes]],
    samples: Samples,
    *,
    temperature: float = 1.0,
    progress: Progress = lambda line: None,
) -> dict[tuple[str, int], Estimate]:
    """By tensor and bits, of the codes that calibration would give it: as :func:`layer_sensitivities`."""
    run = Comparison(graph, samples, temperature, progress)
    differences = run({name: coded(name, meanings) for name, meanings in codes.items()}, len(codes))
    return {key: _mean(values) for key, values in differences.items()}


def _with_weights(graph: Graph, node: Node, operands: Sequence[Tensor | None], weights: NDArray[np.float32]) -> Tensor:
    changed = [operands[0], torch.from_numpy(np.ascontiguousarray(weights)), *operands[2:]]
    return lookup(node.op).apply(node, changed, graph.constants)[0]


def _half(layer: WeightLayer, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Half of a layer's output channels, in a shape that broadcasts over its weights."""
    channels = layer.shape[layer.axis]
    mask = np.zeros(channels, np.bool_)
    mask[generator.permutation(channels)[: channels // 2]] = True
    return mask.reshape([-1 if place == layer.axis else 1 for place in range(len(layer.shape))])


def _mean(values: NDArray[np.float64]) -> Estimate:
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return float(values.mean()), error
