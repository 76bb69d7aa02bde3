"""Networks on their way to integers, as far as all choices of bits share it, and results that are kept."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tapdot
from benchmarks.miniatures.dataset import code_digest
from benchmarks.miniatures.trained import MINIATURES, data, trained, weights_folder
from tapdot import passes
from tapdot.compiler import pipeline
from tapdot.compiler.cache import build_once, cache_directory
from tapdot.compiler.graph import Graph
from tapdot.kernels import numerics
from tapdot.passes.bit_candidates import WIDE, model_layers
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.recipes import Calibration, recipe
from tapdot.passes.sensitivity import Sensitivity, measure_sensitivity

SENSITIVITY_CODE = ("sensitivity", "sensitivity_answers", "sensitivity_candidates", "sensitivity_comparison", "sensitivity_forks",
                    "sensitivity_hessian", "sensitivity_output", "sensitivity_samples")  # fmt: skip
INTEGER_CODE = ("calibrate", "code_places", "codes", "coded_values", "integer_arithmetic", "integer_sums", "integer_weights",
                "observers", "requantize", "requantize_walk")  # fmt: skip
TRAINING_CODE = ("fake_quantize", "prune_training", "train_quantized", "training_data", "training_runs")
"""Passes that sensitivities, or the codes of a network and their training, follow from."""


def code_of(names: Sequence[str]) -> str:
    """A digest of passes, for the names of results that are kept."""
    folder = Path(passes.__file__).parent
    return code_digest(*(folder / f"{name}.py" for name in names), Path(numerics.__file__))


@dataclass(frozen=True)
class Prepared:
    """A network with folded batch norms, in floats and calibrated with 8 bits: what all widths of weights have in common."""

    graph: Graph
    calibrated: Graph
    names: tuple[str, ...]
    """Of the layers whose bits can be chosen."""

    @classmethod
    def of(cls, graph: Graph, calibration: object, settings: Sequence[str] = ()) -> Prepared:
        """Of a traced network and samples to calibrate on."""
        phases = recipe("mixed", settings, Calibration(calibration), bits=BitWidths(default=WIDE))
        before, calibrate, _ = _parts(phases)
        folded = pipeline.run(graph, before).graph
        calibrated = pipeline.run(folded, calibrate).graph
        return cls(folded, calibrated, tuple(layer.name for layer in model_layers(folded)))

    def widths(self, bits: int | Sequence[int]) -> BitWidths:
        """One width for all layers' weights, or one for each."""
        each = itertools.repeat(bits) if isinstance(bits, int) else bits
        return BitWidths(dict(zip(self.names, each, strict=False)), default=WIDE)

    def integers(
        self,
        bits: BitWidths,
        train: object = None,
        settings: Sequence[str] = (),
        report: Callable[[str], object] = lambda line: None,
    ) -> Graph:
        """The integer network whose weights have these bits, trained with them on ``train`` where that is given."""
        phases = recipe("mixed", settings, Calibration(train=train), bits=bits)
        return pipeline.run(self.calibrated, _parts(phases)[2], progress=report).graph


def _parts(phases: pipeline.Recipe) -> tuple[pipeline.Recipe, pipeline.Recipe, pipeline.Recipe]:
    """What comes before calibration, calibration, and what comes behind it."""
    (place,) = [place for place, phase in enumerate(phases) if phase.name == "calibrate"]
    return phases[:place], phases[place : place + 1], phases[place + 1 :]


def miniature(network: str, seed: int, epochs: int | None, calibration_images: int, batch: int) -> Prepared:
    """A trained miniature network for batches of that size."""
    dataset = data(network)
    example = torch.zeros(batch, *dataset.test_inputs.shape[1:])
    graph = tapdot.trace(trained(network, seed, epochs), (example,))
    return Prepared.of(graph, dataset.calibration_inputs(calibration_images))


# -- results that are kept ---------------------------------------------------------------------------------------------------


def kept_folder(network: str, seed: int, epochs: int | None, what: str, facts: object) -> Path:
    """Where a result of a trained miniature network lies: its name says the network and a digest of what else it follows from."""
    dense = weights_folder(network, seed, epochs or MINIATURES[network].epochs)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return cache_directory() / "miniatures" / f"{dense.name}-{what}-{digest}"


def kept_answers(folder: Path, build: Callable[[], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Which test images are classified right, from the folder or found out now."""

    def fill(place: Path) -> None:
        np.save(place / "correct.npy", build())

    found: NDArray[np.bool_] = np.load(build_once(folder, fill) / "correct.npy", allow_pickle=False)
    return found


def kept_sensitivity(
    network: str,
    trained_seed: int,
    epochs: int | None,
    prepared: Prepared,
    method: str,
    widths: Sequence[int],
    samples: int | None,
    seed: int,
) -> Sensitivity:
    """Of a miniature network on its training images and their labels, from the cache or measured now."""
    batch = prepared.graph.type(prepared.graph.inputs[0]).shape[0]
    facts: dict[str, Any] = {"method": method, "samples": samples, "seed": seed}
    key = {**facts, "widths": list(widths), "batch": batch, "code": code_of(SENSITIVITY_CODE)}

    def fill(place: Path) -> None:
        dataset = data(network)
        found = measure_sensitivity(prepared.graph, (dataset.train_inputs(0), dataset.train_labels), candidates=widths, **facts)
        (place / "sensitivity.json").write_text(json.dumps(found.json()))

    folder = build_once(kept_folder(network, trained_seed, epochs, f"sensitivity-{method}", key), fill)
    return Sensitivity.from_json((folder / "sensitivity.json").read_text(), str(folder))
