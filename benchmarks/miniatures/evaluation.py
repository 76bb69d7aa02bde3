"""Accuracy of compiled networks and paired differences between them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import tapdot
from benchmarks.miniatures.dataset import Dataset, Inputs
from tapdot.compiler.data import Data, open_data
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.package import Package
from tapdot.compiler.types import TensorType
from tapdot.runtime.devices import connect
from tapdot.runtime.program import LoadedProgram

Correct = NDArray[np.bool_]
"""Of each test image, whether its class was found."""
NORMAL_95 = 1.959964
"""Standard errors from the mean to the end of a 95 % interval of a normal distribution."""


# -- answers -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """Which samples were classified right, in the data's order."""

    correct: Correct

    @property
    def accuracy(self) -> float:
        """As a share of one."""
        return float(self.correct.mean())


def package_score(package: Package, data: Data, device: str = "host", limit: int | None = None, top: int = 1) -> Score:
    """Of a compiled package, by its kernels on a device, in batches of the size it was compiled for.

    An answer is right where the class is among the ``top`` first.
    """
    program = package.program
    (source,), (answer,) = program.inputs, program.outputs
    with connect(device).open() as session:
        loaded = LoadedProgram(session, package)
        kind = TensorType(source.shape, source.dtype)
        return _score(lambda inputs: loaded.run({source.name: inputs})[answer.name], kind, data, limit, top)


def graph_score(graph: Graph, data: Data, limit: int | None = None) -> Score:
    """Of a graph of any precision, by the reference interpreter."""
    (source,), (answer,) = graph.inputs, graph.outputs

    def run(inputs: Inputs) -> np.ndarray:
        with torch.no_grad():
            return interpret(graph, {source: torch.from_numpy(inputs)})[answer].numpy()

    kind = graph.type(source)
    return _score(run, TensorType(kind.shape, kind.dtype), data, limit)


def module_score(module: nn.Module, data: Data, kind: TensorType, limit: int | None = None) -> Score:
    """Of a torch module that takes inputs of this type."""

    def run(inputs: Inputs) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(inputs)).numpy()

    return _score(run, kind, data, limit)


def _score(run: Callable[[Inputs], np.ndarray], kind: TensorType, data: Data, limit: int | None, top: int = 1) -> Score:
    parts = []
    for batch in data.batches(kind, limit):
        if batch.labels is None:
            raise ValueError(f"Accuracy needs labels, and {data.name} has none; give y beside x, or a folder of class folders.")
        logits = run(batch.inputs)
        logits = logits.reshape(len(logits), -1)[: batch.count]
        first = logits.argmax(1)[:, None] if top == 1 else np.argsort(-logits, axis=1, kind="stable")[:, :top]
        parts.append((first == batch.labels[:, None]).any(1))
    return Score(np.concatenate(parts))


# -- differences -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies with its 95 % interval, in points (hundredths)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ± {(self.high - self.low) / 2:.2f}"


def paired_difference(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Difference:
    """How much more often `ours` is right than `theirs`, both bool [seeds, images] over the same networks and images.

    Pairing takes out what both get wrong alike. The images are the sample: what an image's answers differ by is averaged over
    seeds first, so that an image that is hard for every seed counts as one observation. The networks of the seeds are taken as
    they are; what they spread by is seen in their single differences.
    """
    per_image = (ours.astype(np.int64) - theirs.astype(np.int64)).mean(0) * 100
    mean = float(per_image.mean())
    error = float(per_image.std(ddof=1)) / math.sqrt(len(per_image)) if len(per_image) > 1 else math.inf
    return Difference(mean, mean - NORMAL_95 * error, mean + NORMAL_95 * error)


# -- ways to compile ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """One way to compile a network: what the table calls it, and what tapdot.compile gets besides the network."""

    title: str
    options: Callable[[Dataset, int, int], dict[str, Any]]
    """From the data, the number of calibration images and the seed."""


def gaussian_inputs(dataset: Dataset, count: int, seed: int) -> Inputs:
    """Standard normal noise in the shape of the test images: what zero-shot calibration has to beat."""
    shape = (count, *dataset.test_inputs.shape[1:])
    return np.random.default_rng((seed, 77)).standard_normal(shape, np.float32)


def ways(recipe: str) -> tuple[Way, ...]:
    """The ways a recipe is measured in: one for float, three for those that need to know ranges."""
    if recipe == "float":
        return (Way("float, compiled", lambda dataset, count, seed: {"recipe": "float"}),)
    return (
        Way(f"{recipe}, data", lambda dataset, count, seed: {"recipe": recipe, "data": dataset.calibration_inputs(count)}),
        Way(f"{recipe}, zero-shot", lambda dataset, count, seed: {"recipe": recipe, "zero_shot": True}),
        Way(
            f"{recipe}, Gaussian", lambda dataset, count, seed: {"recipe": recipe, "data": gaussian_inputs(dataset, count, seed)}
        ),
    )


@dataclass(frozen=True)
class Settings:
    """How accuracy is measured: on the kernels of a device or by the reference interpreter."""

    batch: int = 50
    calibration_images: int = 256
    device: str = "host"
    reference: bool = False
    test_images: int | None = None


@dataclass(frozen=True)
class Result:
    """One network in all ways: of each, bool [seeds, images]; the first is the float network in torch."""

    network: str
    seeds: tuple[int, ...]
    correct: dict[str, NDArray[np.bool_]]

    @property
    def images(self) -> int:
        """Test images."""
        return next(iter(self.correct.values())).shape[1]

    def accuracies(self, title: str) -> list[float]:
        """A share of one for each seed."""
        return [float(row.mean()) for row in self.correct[title]]

    def difference(self, title: str, basis: str, seed: int | None = None) -> Difference:
        """Over all seeds, or of the one at this place."""
        chosen = slice(None) if seed is None else slice(seed, seed + 1)
        return paired_difference(self.correct[title][chosen], self.correct[basis][chosen])

    def json(self) -> dict[str, Any]:
        """Plain data: accuracies in shares of one, differences in points."""
        return {
            "network": self.network,
            "seeds": list(self.seeds),
            "images": self.images,
            "accuracy": {title: self.accuracies(title) for title in self.correct},
            "differences": {
                f"{title} - {basis}": {
                    "mean": _points(self.difference(title, basis)),
                    "seeds": [_points(self.difference(title, basis, place)) for place in range(len(self.seeds))],
                }
                for title, basis in self.pairs()
            },
        }

    def pairs(self) -> list[tuple[str, str]]:
        """What is compared with what: every way with float, and zero-shot with Gaussian input."""
        first, *others = self.correct
        pairs = [(title, first) for title in others]
        for title in others:
            basis = title.replace(", zero-shot", ", Gaussian")
            if basis != title and basis in self.correct:
                pairs.append((title, basis))
        return pairs


def _points(difference: Difference) -> dict[str, float]:
    return {"mean": difference.mean, "low": difference.low, "high": difference.high}


FLOAT = "float"


def measure(
    network: str,
    seeds: tuple[int, ...],
    recipes: tuple[str, ...],
    build: Callable[[int], nn.Module],
    dataset: Dataset,
    settings: Settings,
    report: Callable[[str], object] = lambda line: None,
) -> Result:
    """Every seed's network as it is and compiled in every way of the recipes, on the test images.

    `build(seed)` gives the trained network. Raises TapdotError where a compilation fails.
    """
    kind = TensorType((settings.batch, *dataset.test_inputs.shape[1:]), "float32")
    test = open_data((dataset.test_inputs, dataset.test_labels))
    rows: dict[str, list[Correct]] = {}
    for seed in seeds:
        module = build(seed)
        rows.setdefault(FLOAT, []).append(module_score(module, test, kind, settings.test_images).correct)
        for recipe in recipes:
            for way in ways(recipe):
                report(f"{network}, seed {seed}: {way.title}")
                options = way.options(dataset, settings.calibration_images, seed)
                package = tapdot.compile(module, (torch.zeros(kind.shape),), **options)
                score = (
                    graph_score(package.graph, test, settings.test_images)
                    if settings.reference
                    else package_score(package, test, settings.device, settings.test_images)
                )
                rows.setdefault(way.title, []).append(score.correct)
    return Result(network, seeds, {title: np.stack(correct) for title, correct in rows.items()})
