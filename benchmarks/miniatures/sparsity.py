"""What pruning costs in accuracy: miniature networks pruned by ADMM and at once, beside dense ones trained as long.

All three ways start from the same trained network and get the same epochs, on the same samples in the same order, and the same
share of distillation from it. All are measured as integers, with the same calibration images, on the same test images.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tapdot
from benchmarks.miniatures import evaluation
from benchmarks.miniatures.dataset import Dataset, code_digest
from benchmarks.miniatures.trained import MINIATURES, data, trained, weights_folder
from tapdot.compiler import pipeline
from tapdot.compiler.cache import build_once
from tapdot.compiler.costs import node_macs
from tapdot.compiler.data import open_data
from tapdot.compiler.graph import Graph
from tapdot.passes import prune as pruning_pass
from tapdot.passes.prune_rates import SIZE_EXPONENT
from tapdot.passes.prune_training import Step, Training
from tapdot.passes.recipe_names import RECIPE_NAMES
from tapdot.passes.recipes import Calibration, recipe
from tapdot.passes.sparsity_plan import Pruning
from tapdot.passes.training_data import TrainingData

DENSE, ADMM, ONE_SHOT = "dense", "ADMM", "one-shot"
WAYS = (DENSE, ADMM, ONE_SHOT)
FIRST_EPOCH = 500
"""Of noise: other than the dense network has seen."""
TRAINING = Training(epochs=6, retrain_epochs=18)
"""Learning rates and shifts are each network's own."""
BY_QUADS = ("mobilenet_v2",)
"""Networks without 3x3 layers that could be pruned: rates are those of their 1x1 layers."""
WEIGHTS_FILE = "weights.npz"


@dataclass(frozen=True)
class Setting:
    """One way to prune."""

    rate: float
    share: int
    way: str
    allocation: str = "energy"
    size_exponent: float = SIZE_EXPONENT

    @property
    def title(self) -> str:
        """For tables."""
        return DENSE if self.way == DENSE else f"{self.way}, {self.rate:g}x, share {self.share}"

    def pruning(self, network: str) -> Pruning:
        """As the pass takes it."""
        by_quads = network in BY_QUADS
        return Pruning(
            1.0 if by_quads else self.rate,
            self.rate if by_quads else 1.0,
            self.share,
            allocation=self.allocation,  # type: ignore[arg-type]
            size_exponent=self.size_exponent,
        )


def settings(
    rates: Sequence[float], shares: Sequence[int], allocation: str = "energy", size_exponent: float = SIZE_EXPONENT
) -> tuple[Setting, ...]:
    """The dense baseline, and both ways at every rate and share."""
    return (
        Setting(1.0, 1, DENSE),
        *(Setting(rate, share, way, allocation, size_exponent) for rate in rates for share in shares for way in WAYS[1:]),
    )


def training_of(network: str, epochs: int | None, retrain_epochs: int | None, seed: int) -> Training:
    """The training that every way of a network gets."""
    miniature = MINIATURES[network]
    peak = miniature.peak_learning_rate
    return replace(
        TRAINING,
        epochs=TRAINING.epochs if epochs is None else epochs,
        retrain_epochs=TRAINING.retrain_epochs if retrain_epochs is None else retrain_epochs,
        learning_rate=peak / 2,
        retrain_learning_rate=peak,
        shift=miniature.largest_shift,
        seed=seed,
    )


def pruned(
    network: str, seed: int, setting: Setting, training: Training, report: Callable[[str], object] = lambda line: None
) -> Graph:
    """The network's graph after training in one way, from the cache or trained now. Batches are of the training's size."""
    dataset = data(network)
    graph = tapdot.trace(trained(network, seed), (torch.zeros(training.batch, *dataset.test_inputs.shape[1:]),))

    def build(folder: Path) -> None:
        samples = TrainingData(lambda epoch: dataset.train_inputs(FIRST_EPOCH + epoch), dataset.train_labels)

        def progress(step: Step) -> None:
            if step.step + 1 == step.steps:
                report(str(step))

        if setting.way == DENSE:
            after = pruning_pass.train_dense(graph, samples, training, progress=progress)
        else:
            asked = training if setting.way == ADMM else pruning_pass.equal_epochs(training)
            after = pruning_pass.prune(graph, samples, setting.pruning(network), asked, progress=progress).graph
        np.savez(folder / WEIGHTS_FILE, **dict(after.constants))  # type: ignore[arg-type]

    folder = build_once(_folder(network, seed, setting, training), build)
    with np.load(folder / WEIGHTS_FILE, allow_pickle=False) as stored:
        return graph.replace(constants={name: stored[name] for name in graph.constants})


def _folder(network: str, seed: int, setting: Setting, training: Training) -> Path:
    """Its name says the trained network and the code and settings that the pruned one follows from."""
    dense = weights_folder(network, seed, MINIATURES[network].epochs)
    passes, kernels = Path(pruning_pass.__file__).parent, Path(pruning_pass.__file__).parent.parent / "kernels"
    names = (
        "admm",
        "prune",
        "prune_training",
        "prune_rates",
        "sparse_layers",
        "sparse_projection",
        "sparsity_plan",
        "training_data",
    )
    sources = [passes / f"{name}.py" for name in names]
    facts = [code_digest(*sources, kernels / "patterns.py"), asdict(training), asdict(setting.pruning(network)), FIRST_EPOCH]
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
    return dense.parent / f"{dense.name}-{setting.title.replace(', ', '-').replace(' ', '')}-{digest}"


@dataclass(frozen=True)
class Result:
    """One network: of every setting, float and integer, bool ``[seeds, images]``."""

    network: str
    seeds: tuple[int, ...]
    recipe: str
    settings: tuple[Setting, ...]
    floats: dict[str, NDArray[np.bool_]]
    integers: dict[str, NDArray[np.bool_]]
    fewer_macs: dict[str, float]
    """By how much the network's multiply-accumulates fell, mean of the seeds."""

    def difference(self, title: str, basis: str = DENSE) -> evaluation.Difference:
        """Of integer networks, in points, over all seeds."""
        return evaluation.paired_difference(self.integers[title], self.integers[basis])

    def rows(self) -> list[dict[str, Any]]:
        """Plain data: accuracies as shares of one, differences in points with the ends of their 95 % intervals."""
        rows = []
        for setting in self.settings:
            title = setting.title
            row: dict[str, Any] = {"network": self.network, **asdict(setting), "seeds": list(self.seeds), "recipe": self.recipe}
            row |= {"float": self.floats[title].mean(1).tolist(), "integer": self.integers[title].mean(1).tolist()}
            if setting.way != DENSE:
                row["fewer_macs"] = self.fewer_macs[title]
                row["from_dense"] = asdict(self.difference(title))
                other = Setting(setting.rate, setting.share, ONE_SHOT).title
                if setting.way == ADMM and other in self.integers:
                    row["from_one_shot"] = asdict(self.difference(title, other))
            rows.append(row)
        return rows


def measure(
    network: str,
    seeds: tuple[int, ...],
    chosen: tuple[Setting, ...],
    training: Callable[[int], Training],
    how: evaluation.Settings,
    report: Callable[[str], object] = lambda line: None,
) -> Result:
    """Every seed's network in every setting, on the test images; `training(seed)` gives how it is trained."""
    dataset = data(network)
    test = open_data((dataset.test_inputs, dataset.test_labels))
    name = "pattern-int8" if "pattern-int8" in RECIPE_NAMES else "int8"
    floats: dict[str, list[Any]] = {}
    integers: dict[str, list[Any]] = {}
    macs: dict[str, list[float]] = {}
    for seed in seeds:
        for setting in chosen:
            title = f"{MINIATURES[network].title}, seed {seed}, {setting.title}"
            graph = pruned(network, seed, setting, training(seed), lambda line, title=title: report(f"{title}: {line}"))  # type: ignore[misc]
            report(f"{title}: measuring")
            floats.setdefault(setting.title, []).append(evaluation.graph_score(graph, test, how.test_images).correct)
            macs.setdefault(setting.title, []).append(_fewer_macs(graph))
            used = "int8" if setting.way == DENSE else name
            integers.setdefault(setting.title, []).append(_integer_score(graph, used, dataset, how, test).correct)
    answers, codes = ({title: np.stack(rows) for title, rows in found.items()} for found in (floats, integers))
    means = {title: float(np.mean(found)) for title, found in macs.items()}
    return Result(network, seeds, name, chosen, answers, codes, means)


def _fewer_macs(graph: Graph) -> float:
    """Multiply-accumulates of the network, divided by those whose weight is not zero."""
    dense, left = 0, 0.0
    for node in graph.nodes:
        macs = node_macs(graph, node)
        weight = graph.constants.get(node.operand(1))
        dense += macs
        left += macs * (1.0 if weight is None else np.count_nonzero(weight) / weight.size)
    return dense / left


def _integer_score(graph: Graph, name: str, dataset: Dataset, how: evaluation.Settings, test: Any) -> evaluation.Score:
    calibration = dataset.calibration_inputs(how.calibration_images)
    if how.reference:  # the codes are the same in any form the weights are stored in
        outcome = pipeline.run(graph, recipe("int8", (), Calibration(calibration)))
        return evaluation.graph_score(outcome.graph, test, how.test_images)
    package = tapdot.compile(graph, recipe=name, data=calibration)
    return evaluation.package_score(package, test, how.device, how.test_images)
