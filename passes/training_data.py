"""Samples with labels in memory, epoch by epoch: what retraining goes through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapdot.compiler.data import model_input, open_data
from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph

Inputs = NDArray[np.float32]


@dataclass(frozen=True)
class TrainingData:
    """``inputs(epoch)`` gives float32 ``[N, ...]`` in the order of ``labels``, int64 ``[N]``; noise may be that epoch's."""

    inputs: Callable[[int], Inputs]
    labels: NDArray[np.int64]


def training_data(graph: Graph, data: object, *, validation: bool = False) -> TrainingData:
    """All samples of the data, read into memory (larger sets need a training loop of their own; see ``passes.admm``).

    ``data`` is what ``compiler.data`` opens, or a :class:`TrainingData`; ``validation`` says that nothing is trained on it.
    Raises InputError for data that does not fit the model, has no labels, or labels that are no class of the model.
    """
    classes = class_count(graph)
    if isinstance(data, TrainingData):
        _check_labels(data.labels, classes, "the data")
        return data
    opened = open_data(data)
    name, kind = model_input(graph)
    inputs, labels = [], []
    for batch in opened.for_input(name).batches(kind):
        if batch.labels is None and validation:
            raise InputError(
                f"Accuracy on validation samples needs the class of every one, and {opened.name} has none; give y beside x, or a "
                "folder of class folders of images, or leave validation (--validation) away."
            )
        if batch.labels is None:
            raise InputError(
                f"Pruning retrains the network, which needs the class of every sample, and {opened.name} has none; give y beside "
                "x, or a folder of class folders of images. (Without data, --one-shot removes weights and trains nothing.)"
            )
        inputs.append(batch.inputs[: batch.count])
        labels.append(batch.labels)
    images, numbers = np.concatenate(inputs), np.concatenate(labels)
    _check_labels(numbers, classes, opened.name)
    return TrainingData(lambda epoch: images, numbers)


def class_count(graph: Graph) -> int:
    """How many classes the model tells apart; InputError where it is no classifier of one input and one output."""
    _, kind = model_input(graph)
    answers = [graph.type(output) for output in graph.outputs]
    shape = answers[0].shape
    elements = int(np.prod(shape[1:])) if shape else 0
    if len(answers) != 1 or len(shape) < 2 or elements != max(shape[1:]) or shape[0] != kind.shape[0]:
        kinds = ", ".join(f"{output}: {graph.type(output)}" for output in graph.outputs)
        raise InputError(
            f"Retraining here is for classifiers, whose one output is a score for each class, and graph {graph.name!r} gives "
            f"{kinds}; for others call tapdot.Pruner in your own training loop."
        )
    return elements


def _check_labels(labels: NDArray[np.int64], classes: int, name: str) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise InputError(
            f"Expected labels from 0 to {classes - 1} in {name}, as the model tells {classes} classes apart, found {wrong[0]}."
        )


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch before it is learned from, so that the network does not learn the samples by heart."""

    shift: int = 0
    """Images move by up to so many pixels each way, the border repeated; the whole batch alike."""
    flip: bool = False
    """Half of the batches are mirrored left to right."""

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        if batch.ndim != 4:
            return batch
        if self.shift:
            padded = torch.nn.functional.pad(batch, (self.shift,) * 4, mode="replicate")
            top, left = torch.randint(0, 2 * self.shift + 1, (2,), generator=generator).tolist()
            batch = padded[:, :, top : top + batch.shape[2], left : left + batch.shape[3]]
        if self.flip and torch.rand((), generator=generator) < 0.5:
            batch = batch.flip(3)
        return batch


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The share of samples whose class has the highest score."""
    return float((scores.argmax(1) == labels).float().mean())


def evaluate(module: Any, data: TrainingData, size: int) -> float:
    """Top-1 of a module in eval mode, over all samples in batches of ``size``; a share of one."""
    was_training = module.training
    module.eval()
    inputs, labels = torch.from_numpy(data.inputs(0)), torch.from_numpy(data.labels)
    right = 0.0
    with torch.inference_mode():
        for start in range(0, len(labels), size):
            batch = inputs[start : start + size]
            missing = size - len(batch)
            filled = torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])]) if missing else batch
            scores = module(filled).reshape(size, -1)[: len(batch)]
            right += accuracy(scores, labels[start : start + size]) * len(batch)
    module.train(was_training)
    return right / len(labels)
