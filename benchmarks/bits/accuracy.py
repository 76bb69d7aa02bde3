"""Is the integer program's choice a good one: miniature networks at one size, by the chosen bits and by random ones, and trained.

Activations have 8 bits throughout. All integer networks of a seed share weights, scales of activations and test images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bits.networks import (
    INTEGER_CODE,
    TRAINING_CODE,
    Prepared,
    code_of,
    kept_answers,
    kept_folder,
    kept_sensitivity,
    miniature,
)
from benchmarks.bits.random_choices import of_the_same_size
from benchmarks.miniatures.evaluation import Correct, Difference, graph_score, paired_difference
from benchmarks.miniatures.trained import MINIATURES, data
from tapdot.compiler.data import open_data
from tapdot.passes.assign_bits import Assignment, assign
from tapdot.passes.bit_budgets import Budget
from tapdot.passes.bit_candidates import BitChoices, model_layers, rows_of
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.training_data import TrainingData

FLOAT, WIDE, NARROW, CHOSEN, RANDOM = "float", "all 8", "all 4", "chosen", "random"
TRAINED = ", trained"
FIRST_EPOCH = 800
"""Of noise: other than the networks have seen, and than pruning shows them."""
LOST_BY_CHOICE, LOST_BY_NARROW = 0.5, 1.0
"""Points that training must bring the chosen bits to from all 8, and 4-bit weights from float."""


@dataclass(frozen=True)
class Settings:
    """What is chosen and how it is measured."""

    sensitivity: str = "kl"
    samples: int | None = None
    share: float = 0.5
    """Of the way from all 4 to all 8, in bytes."""
    random: int = 20
    random_seed: int = 0
    test_images: int | None = None
    calibration_images: int = 256
    batch: int = 50
    qat_epochs: int = 0
    """Of quantization-aware training; none, if 0."""
    epochs: int | None = None
    """The networks were trained for; each one's own number."""

    @property
    def trains(self) -> bool:
        """Whether there is quantization-aware training."""
        return self.qat_epochs > 0


@dataclass(frozen=True)
class SeedResult:
    """One trained network: its choice, and of every title which test images were classified right."""

    bits: str
    size: float
    """Of what was chosen, in bytes."""
    limit: float
    random: tuple[str, ...]
    correct: Mapping[str, Correct]

    @property
    def best_random(self) -> Correct:
        """The random choice that does best on these very images, which favours it."""
        return max((self.correct[f"{RANDOM} {place}"] for place in range(len(self.random))), key=np.mean)


@dataclass(frozen=True)
class Result:
    """One network, all seeds."""

    network: str
    seeds: tuple[int, ...]
    settings: Settings
    found: tuple[SeedResult, ...]

    def answers(self, title: str) -> NDArray[np.bool_]:
        """bool ``[seeds, images]``; ``random`` stands for each seed's best."""
        return np.stack([one.best_random if title == RANDOM else one.correct[title] for one in self.found])

    @property
    def titles(self) -> list[str]:
        """What was measured, single random choices apart."""
        return [title for title in self.found[0].correct if not title.startswith(RANDOM)]

    def random_accuracies(self) -> list[list[float]]:
        """For every seed, of its random choices, shares of one."""
        return [[float(one.correct[f"{RANDOM} {place}"].mean()) for place in range(len(one.random))] for one in self.found]

    def difference(self, ours: str, theirs: str) -> Difference:
        """In points, over all seeds."""
        return paired_difference(self.answers(ours), self.answers(theirs))

    def pairs(self) -> list[tuple[str, str, float | None]]:
        """What is held against what, and the least that the difference should be, in points."""
        found: list[tuple[str, str, float | None]] = [(WIDE, FLOAT, None), (CHOSEN, WIDE, None), (NARROW, WIDE, None)]
        if all(one.random for one in self.found):
            found.append((CHOSEN, RANDOM, 0.0))
        if self.settings.trains:
            chosen, wide, narrow = CHOSEN + TRAINED, WIDE + TRAINED, NARROW + TRAINED
            found += [
                (chosen, WIDE, -LOST_BY_CHOICE),
                (chosen, wide, None),
                (narrow, FLOAT, -LOST_BY_NARROW),
                (narrow, wide, None),
            ]
        return found

    def json(self) -> dict[str, Any]:
        """Plain data: accuracies are shares of one, differences are in points with the ends of their 95 % intervals."""
        choices = [
            {"seed": seed, "bits": one.bits, "size": one.size, "limit": one.limit, "random": list(one.random)}
            for seed, one in zip(self.seeds, self.found, strict=True)
        ]
        return {
            "network": self.network,
            "seeds": list(self.seeds),
            "images": self.answers(FLOAT).shape[1],
            "settings": asdict(self.settings),
            "choices": choices,
            "accuracy": {title: self.answers(title).mean(1).tolist() for title in self.titles},
            "random": self.random_accuracies(),
            "differences": [self._compared(*pair) for pair in self.pairs()],
        }

    def _compared(self, ours: str, theirs: str, least: float | None) -> dict[str, Any]:
        difference = self.difference(ours, theirs)
        asked = {} if least is None else {"least": least, "met": difference.mean >= least, "refuted": difference.high < least}
        return {"ours": ours, "theirs": theirs, **asdict(difference), **asked}


def measure(network: str, seeds: tuple[int, ...], settings: Settings, report: Callable[[str], object]) -> Result:
    """All seeds; what was measured before is read from the cache. Raises TapdotError where a network cannot be made integer."""
    found = []
    for seed in seeds:
        title = f"{MINIATURES[network].title}, seed {seed}"
        found.append(_measure_seed(network, seed, settings, lambda line, title=title: report(f"{title}: {line}")))  # type: ignore[misc]
    return Result(network, seeds, settings, tuple(found))


def choose(prepared: Prepared, network: str, seed: int, settings: Settings) -> Assignment:
    """The integer program's choice of weights' bits."""
    rows = rows_of(model_layers(prepared.graph), (8, 4), "fixed")
    method, samples = settings.sensitivity, settings.samples
    sensitivity = kept_sensitivity(network, seed, settings.epochs, prepared, method, (8, 4), samples, 0)
    return assign(BitChoices(rows, sensitivity, None).table, (Budget("size", share=settings.share),))


def _measure_seed(network: str, seed: int, settings: Settings, report: Callable[[str], object]) -> SeedResult:
    report("calibrating")
    prepared = miniature(network, seed, settings.epochs, settings.calibration_images, settings.batch)
    report(f"sensitivity by {settings.sensitivity}")
    chosen = choose(prepared, network, seed, settings)
    limit = chosen.budgets[0].limit(chosen.table)
    others = of_the_same_size(chosen.table, chosen.labels, limit, settings.random, settings.random_seed)
    if len(others) < settings.random:
        report(f"only {len(others)} other choices are of the size of {chosen.text}")
    wanted = {CHOSEN: prepared.widths([int(label) for label in chosen.labels])}
    wanted |= {WIDE: prepared.widths(8), NARROW: prepared.widths(4)}
    measurer = _Measurer(network, seed, prepared, settings, report)
    correct = {FLOAT: measurer.answers(FLOAT, None)}
    for title, bits in wanted.items():
        correct[title] = measurer.answers(title, bits)
    for place, labels in enumerate(others):
        correct[f"{RANDOM} {place}"] = measurer.answers(
            f"{RANDOM} {''.join(labels)}", prepared.widths([int(label) for label in labels])
        )
    for title, bits in wanted.items() if settings.trains else ():
        correct[title + TRAINED] = measurer.answers(title + TRAINED, bits, training=True)
    texts = tuple(chosen.table.text(labels) for labels in others)
    return SeedResult(chosen.text, chosen.costs["size"], limit, texts, correct)


@dataclass(frozen=True)
class _Measurer:
    """Of one trained network, with any bits."""

    network: str
    seed: int
    prepared: Prepared
    settings: Settings
    report: Callable[[str], object]

    def answers(self, title: str, bits: BitWidths | None, training: bool = False) -> Correct:
        """Which test images the integer network of these bits classifies right, by the reference; without bits, the float one."""
        lines = self._training_lines() if training else ()
        settings = self.settings
        facts = {
            "bits": None if bits is None else bits.json(),
            "test": settings.test_images,
            "calibration": settings.calibration_images,
            "batch": settings.batch,
            "training": [*lines, str(FIRST_EPOCH)] if training else None,
            "code": code_of((*INTEGER_CODE, *TRAINING_CODE) if training else INTEGER_CODE),
        }
        folder = kept_folder(self.network, self.seed, settings.epochs, "bits", facts)

        def build() -> Correct:
            self.report(f"{title}{'' if bits is None or title.startswith(RANDOM) else ' bits'}")
            dataset = data(self.network)
            test = open_data((dataset.test_inputs, dataset.test_labels))
            graph = self.prepared.graph
            if bits is not None:
                train = TrainingData(lambda epoch: dataset.train_inputs(FIRST_EPOCH + epoch), dataset.train_labels)
                graph = self.prepared.integers(bits, train if training else None, lines, self.report)
            return graph_score(graph, test, settings.test_images).correct

        return kept_answers(folder, build)

    def _training_lines(self) -> tuple[str, ...]:
        options = {
            "epochs": self.settings.qat_epochs,
            "shift": MINIATURES[self.network].largest_shift,
            "seed": self.seed,
        }
        return tuple(f"train_quantized.{name}={value}" for name, value in options.items())
