"""Images with labels to train and to measure on, made here: generated glyphs, cached, and scikit-learn's digits."""

import ast
import hashlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapdot.compiler.cache import build_once, cache_directory

MEAN, DEVIATION = 0.5, 0.25
"""Of pixel values from 0 to 1, over the colours alike."""
TRAIN_IMAGES, TEST_IMAGES = 16_000, 20_000
TRAIN_SEED, TEST_SEED = 10, 11
TRAIN_NOISE_SEED, TEST_NOISE_SEED = 1000, 999
DIGITS_HELD_OUT = 597
"""The last of the 1797 digits, written by others than the first."""

Pixels = NDArray[np.uint8]
Inputs = NDArray[np.float32]
Labels = NDArray[np.int64]


def prepare(images: Pixels) -> Inputs:
    """Pixels, uint8 [N, H, W, 3], as the networks take them: float32 [N, 3, H, W]."""
    scaled = (images.astype(np.float32) / 255 - MEAN) / DEVIATION
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class Dataset:
    """What a network is trained on and measured on.

    `train_inputs(epoch)` draws that epoch's noise; all inputs are float32 [N, C, H, W], all labels indices of classes.
    """

    classes: int
    train_inputs: Callable[[int], Inputs]
    train_labels: Labels
    test_inputs: Inputs
    test_labels: Labels

    def calibration_inputs(self, count: int) -> Inputs:
        """The first images of the training set: what a user would take to calibrate on."""
        return self.train_inputs(0)[:count]


def code_digest(*files: Path) -> str:
    """Of Python files' meaning: comments, doc strings and the shape of the text do not count. 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(body := getattr(node, "body", None), list):
                kept = [statement for statement in body if not _is_text(statement)]
                node.body = kept  # type: ignore[attr-defined]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def _is_text(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    )


@cache
def glyphs_digest() -> str:
    """What the generated images follow from: this code, and the releases of what draws them and holds the fonts."""
    releases = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("matplotlib", "pillow"))
    sources = code_digest(Path(__file__).with_name("glyphs.py"))
    return hashlib.sha256(f"{sources}, {releases}".encode()).hexdigest()[:12]


def cached_images(count: int, seed: int, processes: int = 2) -> tuple[Pixels, Labels]:
    """Glyphs without noise, uint8 [count, 32, 32, 3], and labels: drawn once and kept in tapdot's cache folder."""
    from benchmarks.miniatures.glyphs import draw_images

    def build(folder: Path) -> None:
        images, labels = draw_images(count, seed, processes)
        np.save(folder / "images.npy", images)
        np.save(folder / "labels.npy", labels)

    folder = build_once(cache_directory() / "miniatures" / f"glyphs-{count}-{seed}-{glyphs_digest()}", build)
    return np.load(folder / "images.npy", allow_pickle=False), np.load(folder / "labels.npy", allow_pickle=False)


def glyph_data(train_images: int = TRAIN_IMAGES, test_images: int = TEST_IMAGES) -> Dataset:
    """Generated glyphs of 46 classes, 32x32 in colour, cluttered and noisy. ValueError where the extra `examples` is missing."""
    try:
        from benchmarks.miniatures import glyphs
    except ModuleNotFoundError as error:
        raise ValueError(f"Drawing glyphs needs {error.name}; install it with: pip install 'tapdot[examples]'.") from error
    pixels, labels = cached_images(train_images, TRAIN_SEED)
    test_pixels, test_labels = cached_images(test_images, TEST_SEED)
    return Dataset(
        len(glyphs.CLASSES),
        lambda epoch: prepare(glyphs.add_noise(pixels, TRAIN_NOISE_SEED + epoch)),
        labels,
        prepare(glyphs.add_noise(test_pixels, TEST_NOISE_SEED)),
        test_labels,
    )


def digits_data() -> Dataset:
    """Scikit-learn's handwritten digits, 8x8 in grey: float32 [N, 1, 8, 8]. ValueError where scikit-learn is missing."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ValueError("The digits come with scikit-learn; install it with: pip install 'tapdot[test]'.") from error
    bunch = load_digits()
    inputs = ((bunch.images.astype(np.float32) / 16 - MEAN) / DEVIATION)[:, np.newaxis]
    labels = bunch.target.astype(np.int64)
    train, test = slice(None, -DIGITS_HELD_OUT), slice(-DIGITS_HELD_OUT, None)
    return Dataset(10, lambda epoch: inputs[train], labels[train], inputs[test], labels[test])
