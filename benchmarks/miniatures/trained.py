"""Miniature networks with their trained weights, kept in tapdot's cache folder by what they follow from."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.miniatures.dataset import (
    DEVIATION,
    MEAN,
    TRAIN_IMAGES,
    TRAIN_NOISE_SEED,
    TRAIN_SEED,
    Dataset,
    code_digest,
    digits_data,
    glyph_data,
    glyphs_digest,
)
from benchmarks.miniatures.networks import DigitsNetwork, MiniatureMobileNetV2, MiniatureResNet, MiniatureVGG
from benchmarks.miniatures.training import train
from tapdot.compiler.cache import build_once, cache_directory

WEIGHTS_FILE = "weights.npz"


@dataclass(frozen=True)
class Miniature:
    """One entry: how to make the network, the data it is trained on, and how it is trained."""

    title: str
    constructor: Callable[[int], nn.Module]
    data: str = "glyphs"
    epochs: int = 36
    """To where more of them would hardly help, as the networks are that people bring."""
    peak_learning_rate: float = 0.1
    largest_shift: int = 2
    """Pixels that training moves images by."""


MINIATURES = {
    "resnet": Miniature("ResNet, miniature", MiniatureResNet),
    "mobilenet_v2": Miniature("MobileNetV2, miniature", MiniatureMobileNetV2),
    "vgg": Miniature("VGG, miniature", MiniatureVGG, peak_learning_rate=0.05),
    "digits": Miniature("digits", DigitsNetwork, data="digits", epochs=15, largest_shift=1),
}
GLYPH_NETWORKS = tuple(name for name, miniature in MINIATURES.items() if miniature.data == "glyphs")
SEEDS = (0, 1, 2)


def find(name: str) -> Miniature:
    """The entry of that name; ValueError, with the names there are, for another."""
    if name not in MINIATURES:
        raise ValueError(f"There is no miniature network '{name}'; there are {', '.join(MINIATURES)}.")
    return MINIATURES[name]


@cache
def data(name: str) -> Dataset:
    """What a network is trained and measured on; ValueError where a package that makes it is missing."""
    return digits_data() if find(name).data == "digits" else glyph_data()


def weights_folder(name: str, seed: int, epochs: int) -> Path:
    """Where the weights of a network lie: their name says the code, the data, the seed and the epochs they follow from."""
    folder, miniature = Path(__file__).parent, find(name)
    facts: list[object] = [code_digest(folder / "networks.py", folder / "training.py"), MEAN, DEVIATION]
    facts += [miniature.peak_learning_rate, miniature.largest_shift]
    if miniature.data == "glyphs":
        facts += [glyphs_digest(), TRAIN_IMAGES, TRAIN_SEED, TRAIN_NOISE_SEED]
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
    return cache_directory() / "miniatures" / f"{name}-seed{seed}-epochs{epochs}-{digest}"


def is_trained(name: str, seed: int, epochs: int | None = None) -> bool:
    """Whether the weights are in the cache."""
    return weights_folder(name, seed, epochs or find(name).epochs).is_dir()


def trained(
    name: str, seed: int = 0, epochs: int | None = None, report: Callable[[str], object] = lambda line: None
) -> nn.Module:
    """A miniature network in eval mode, from the cache or trained now; `report` gets a line an epoch.

    ValueError for an unknown name, or where a package that makes the data is missing.
    """
    miniature = find(name)
    dataset = data(name)
    epochs = epochs or miniature.epochs

    def build(folder: Path) -> None:
        network = train(
            lambda: miniature.constructor(dataset.classes),
            dataset.train_inputs,
            dataset.train_labels,
            epochs=epochs,
            seed=seed,
            peak_learning_rate=miniature.peak_learning_rate,
            largest_shift=miniature.largest_shift,
            report=report,
        )
        np.savez(folder / WEIGHTS_FILE, **{key: value.numpy() for key, value in network.state_dict().items()})

    folder = build_once(weights_folder(name, seed, epochs), build)
    network = miniature.constructor(dataset.classes)
    with np.load(folder / WEIGHTS_FILE, allow_pickle=False) as stored:
        network.load_state_dict({key: torch.from_numpy(stored[key]) for key in stored.files})
    return network.eval()
