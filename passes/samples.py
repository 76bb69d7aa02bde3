"""Samples for passes that run the network: data in any form, as inputs of the graph's own batch size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.data import NamedArrays, Stream, model_input, open_data
from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import to_tensor


@dataclass(frozen=True)
class Feed:
    """One run of the graph: a tensor for each of its inputs.

    The first ``count`` samples are new; where the data ran out in the middle of a batch, the last sample fills the rest.
    """

    inputs: Mapping[str, Tensor]
    count: int
    size: int

    def rows(self, value: Tensor) -> Tensor:
        """A value of the graph as ``[samples, elements]``, only new samples; one row where axis 0 does not count samples."""
        if value.ndim and value.shape[0] == self.size:
            return value[: self.count].reshape(self.count, -1)
        return value.reshape(1, -1)


def feeds(graph: Graph, data: object, limit: int | None = None) -> Iterator[Feed]:
    """The first ``limit`` samples of the data, in order.

    For a graph of one input, whatever ``compiler.data`` opens. For any graph, arrays by the names of its inputs, samples along
    axis 0, or an iterable of such mappings, however many samples in each. How data is split into batches changes nothing.

    Raises InputError, naming the sample, for data of another shape, with a NaN or infinity, or without any sample.
    """
    if isinstance(data, Iterator):
        data = open_data(data)  # keeps what it reads, so that a look at the first batch loses nothing
    batches = _mappings(graph, data)
    if batches is None:
        name, kind = model_input(graph)
        for batch in open_data(data).for_input(name).batches(kind, limit):
            yield Feed({name: torch.from_numpy(batch.inputs)}, batch.count, kind.shape[0])
        return
    sizes = {graph.type(name).shape[0] if graph.type(name).rank else 0 for name in graph.inputs}
    if len(sizes) != 1 or 0 in sizes:
        kinds = ", ".join(f"{name}: {graph.type(name)}" for name in graph.inputs)
        raise InputError(f"Data needs inputs that all count samples along axis 0, and graph {graph.name!r} takes {kinds}.")
    (size,) = sizes
    waiting: list[dict[str, np.ndarray]] = []
    seen = 0
    for sample in _samples(graph, batches):
        if limit is not None and seen == limit:
            break
        seen += 1
        waiting.append(sample)
        if len(waiting) == size:
            yield _feed(waiting, size)
            waiting = []
    if waiting:
        yield _feed(waiting, size)
    if not seen:
        raise InputError("The data holds no samples; at least one is needed.")


Named = tuple[str, Mapping[str, Any]]
"""Where arrays are from, for messages, and the arrays by the names of the inputs."""


def _mappings(graph: Graph, data: object) -> Iterable[Named] | None:
    """The data as arrays by input name, where it is that."""
    opened = open_data(data)
    if isinstance(opened, NamedArrays) and len(graph.inputs) > 1:
        return [(opened.name, opened.for_inputs(graph.inputs))]
    if not isinstance(opened, Stream) or not isinstance(next(iter(opened.replayed()), None), Mapping):
        return None
    return ((f"batch {place} of the data", batch) for place, batch in enumerate(opened.replayed()))


def _samples(graph: Graph, batches: Iterable[Named]) -> Iterator[dict[str, np.ndarray]]:
    seen = 0
    for where, batch in batches:
        if not isinstance(batch, Mapping):
            raise InputError(f"Expected {where} to be a mapping as those before it, found {type(batch).__name__}.")
        arrays = {}
        for name in graph.inputs:
            kind = graph.type(name)
            if name not in batch:
                raise InputError(f"Expected an array for input {name!r} in {where}, found {', '.join(batch)}.")
            array = np.asarray(batch[name])
            if array.shape[1:] != kind.shape[1:] or array.ndim != kind.rank:
                raise InputError(
                    f"Expected {where} to hold samples of {list(kind.shape[1:])} for input {name!r}, found an array of "
                    f"{list(array.shape)}."
                )
            arrays[name] = array.astype(kind.dtype)
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) > 1:
            raise InputError(f"Expected as many samples for every input in {where}, found {counts}.")
        for index in range(min(counts.values())):
            sample = {name: array[index] for name, array in arrays.items()}
            for name, array in sample.items():
                if not np.isfinite(array).all():
                    found = "NaN" if np.isnan(array).any() else "an infinity"
                    raise InputError(f"Sample {seen} of the data holds {found} in input {name!r}; every value must be finite.")
            seen += 1
            yield sample


def _feed(samples: list[dict[str, np.ndarray]], size: int) -> Feed:
    filled = samples + samples[-1:] * (size - len(samples))
    return Feed({name: to_tensor(np.stack([sample[name] for sample in filled])) for name in samples[0]}, len(samples), size)
