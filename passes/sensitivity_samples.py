"""The samples that sensitivity is measured on: some of the data, picked at random but repeatably, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapdot.compiler.data import model_input, open_data
from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph
from tapdot.passes.samples import feeds


@dataclass(frozen=True)
class Samples:
    """Arrays by the names of the graph's inputs, samples along axis 0, and labels where every sample has one."""

    inputs: Mapping[str, NDArray[np.float32]]
    labels: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        """How many."""
        return len(next(iter(self.inputs.values())))

    def batches(self, graph: Graph) -> Iterator[tuple[list[Tensor], NDArray[np.int64]]]:
        """Inputs of the graph's own batch size, in the order of its inputs, and the places of the samples that are new.

        Where the samples run out in the middle of a batch, the last one fills the rest.
        """
        size = graph.type(graph.inputs[0]).shape[0]
        for start in range(0, self.count, size):
            places = np.arange(start, min(start + size, self.count))
            filled = np.concatenate([places, np.full(size - len(places), places[-1])])
            yield [torch.from_numpy(self.inputs[name][filled]) for name in graph.inputs], places


def take_samples(graph: Graph, data: object, most: int, seed: int, classes: int | None) -> Samples:
    """At most ``most`` of the samples; of arrays and folders, picked at random, of what comes as a stream, the first ones.

    ``data`` is what ``passes.samples`` reads. Raises InputError for data that does not fit the graph or is not finite, and for
    labels that are no class of the ``classes`` there are.
    """
    if most < 1:
        raise InputError(f"Expected at least one sample, found {most}.")
    if len(graph.inputs) != 1 or _holds_mappings(data):
        found = list(feeds(graph, data, most))
        arrays = {name: [feed.inputs[name][: feed.count].numpy() for feed in found] for name in graph.inputs}
        return Samples({name: np.concatenate(parts) for name, parts in arrays.items()})
    name, kind = model_input(graph)
    opened = open_data(data).for_input(name)
    batches = list(opened.some(most, seed).batches(kind, most))
    inputs = np.concatenate([batch.inputs[: batch.count] for batch in batches])
    known = [batch.labels for batch in batches if batch.labels is not None]
    labels = np.concatenate(known) if len(known) == len(batches) else None
    if labels is not None and classes is not None and ((labels < 0) | (labels >= classes)).any():
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise InputError(
            f"Expected labels from 0 to {classes - 1} in {opened.name}, as the model tells {classes} classes apart, found "
            f"{wrong}."
        )
    return Samples({name: inputs}, labels)


def _holds_mappings(data: object) -> bool:
    """Whether the data are batches of arrays by input name, as distilled samples are."""
    return isinstance(data, Sequence) and bool(data) and isinstance(data[0], Mapping)
