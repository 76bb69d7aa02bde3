"""Answers of a network where one value on the way is another, compared with its own answers, over samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup
from tapdot.passes.codes import Codes
from tapdot.passes.distill import with_batch
from tapdot.passes.sensitivity_answers import Answers
from tapdot.passes.sensitivity_forks import Alternatives, Forks
from tapdot.passes.sensitivity_samples import Samples

TEMPERATURE = 4.0
"""Of the prediction difference."""
MOST_ELEMENTS = 2**25
"""Of the largest value, all samples of a batch together: a few of that size are in memory at once."""


Progress = Callable[[str], object]


class Comparison:
    """All samples through the graph, a batch at a time, each answer compared with that of the graph as it is."""

    def __init__(self, graph: Graph, samples: Samples, temperature: float, progress: Progress) -> None:
        largest = max(kind.elements // max(kind.shape[0], 1) for kind in graph.types.values() if kind.rank)
        batches = -(-samples.count // max(1, MOST_ELEMENTS // max(largest, 1)))
        self.graph = with_batch(graph, -(-samples.count // batches)) or graph
        self.samples, self.temperature, self.progress = samples, temperature, progress
        self.answers = Answers(self.graph)

    def __call__(self, at: Mapping[str, Alternatives], count: int) -> dict[Any, NDArray[np.float64]]:
        """``float64[samples]`` for each key; where a key comes several times, all its values."""
        forks = Forks(self.graph, self.answers.names)
        found: dict[Any, list[NDArray[np.float64]]] = defaultdict(list)
        done = 0
        with torch.inference_mode():
            for inputs, places in self.samples.batches(self.graph):
                named = dict(zip(self.graph.inputs, inputs, strict=True))
                reference: list[Tensor] = []
                seen: set[str] = set()
                for key, outputs in forks.run(named, at):
                    if key is None:
                        reference = outputs
                        self._check(outputs, places)
                        continue
                    name = key[0]  # type: ignore[index]
                    seen.add(name)
                    part = self.answers.differences(reference, outputs, self.temperature)[: len(places)]
                    found[key].append(part.numpy())
                    self.progress(f"samples {done + 1} to {done + len(places)}, {len(seen)} of {count}: {name}")
                done += len(places)
        differences = {key: np.concatenate(parts) for key, parts in found.items()}
        for key, values in differences.items():
            if not np.isfinite(values).all():
                raise TapdotError(f"With {key[0]!r} changed the answers are not finite; look at the model's weights.")
        return differences

    def _check(self, outputs: Sequence[Tensor], places: NDArray[np.int64]) -> None:
        for name, output in zip(self.answers.names, outputs, strict=True):
            if not bool(torch.isfinite(output[: len(places)]).all()):
                raise TapdotError(
                    f"The answer {name!r} is not finite for one of the samples {places[0]} to {places[-1]} although the inputs "
                    "are; look at the model's weights, or leave these samples out."
                )


def coded(name: str, meanings: Mapping[int, Codes]) -> Alternatives:
    """A tensor's values under each of several codes, by their keys."""

    def found(node: Node | None, operands: Sequence[Tensor | None], result: Tensor) -> Iterator[tuple[Hashable, Tensor]]:
        for key, codes in meanings.items():
            yield (name, key), fake_quantized(result, codes)

    return found


def fake_quantized(value: Tensor, codes: Codes) -> Tensor:
    """What is left of a tensor after its codes, as the FakeQuantize that ``calibrate`` inserts leaves it."""
    quantize = Node("FakeQuantize", ("x",), ("y",), codes.attributes)
    return lookup("FakeQuantize").apply(quantize, [value], {})[0]
