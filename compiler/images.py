"""Folders of images as DATA: found by class, decoded, resized, cropped and normalised."""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapdot.compiler.errors import InputError

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"))
_SIGNS_OF_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)
"""What Pillow's decoders raise for bytes that are no image, or only the beginning of one."""


@dataclass(frozen=True)
class ImagePreparation:
    """How pixels become a model's input; the defaults are those of ImageNet's usual evaluation.

    1. The image is resized (bilinear, with its proportions) until it just covers the model's height and width over
       ``crop_share``: for 224 x 224 the shorter side becomes 256.
    2. Height x width are cropped from its centre.
    3. ``(pixel / 255 - mean) / deviation``, one mean and deviation for each channel. Three channels are red, green, blue; one is
       grey.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_share: float = 0.875

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviation) or not all(value > 0 for value in self.deviation):
            raise InputError(
                "Expected one mean and one deviation above 0 for each channel, found "
                f"mean {self.mean} and deviation {self.deviation}."
            )
        if not 0 < self.crop_share <= 1:
            raise InputError(f"Expected a crop_share above 0 and at most 1, found {self.crop_share}.")

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises InputError unless images can become samples of this shape, [C, H, W]."""
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise InputError(
                f"Images fit models that take [N,3,H,W] or [N,1,H,W], and this one takes samples of {list(shape)}; "
                "give the data as an .npz file with an array x."
            )
        if shape[0] != len(self.mean):
            raise InputError(
                f"The model takes {shape[0]} channels, and the normalisation has {len(self.mean)} means; give a mean and a "
                "deviation for each channel."
            )


def find_images(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """The class names of a folder, sorted, and its image files with their classes' indices.

    The classes take turns, so that any number of files from the start shows all of them about equally often. Raises InputError
    where there are no class folders, or no images in one.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise InputError(
            f"Expected {folder} to hold a folder of images for each class, found none; sort the images into folders."
        )
    rows = []
    for label, name in enumerate(classes):
        files = sorted(
            file for file in name.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
        )
        if not files:
            raise InputError(
                f"The class folder {name} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); add some or remove it."
            )
        rows.append([(file, label) for file in files])
    turns = itertools.zip_longest(*rows)
    return tuple(entry.name for entry in classes), [pair for turn in turns for pair in turn if pair is not None]


def require_pillow() -> None:
    """Raises InputError, with the command that installs it, where Pillow is missing."""
    try:
        import PIL.Image  # noqa: F401 asked for, used in read_image
    except ModuleNotFoundError as error:
        raise InputError(
            "Reading a folder of images needs Pillow; install it with: pip install 'tapdot[images]', or give the data as an .npz "
            "file with an array x."
        ) from error


def read_image(file: Path, shape: tuple[int, ...], preparation: ImagePreparation) -> np.ndarray:
    """One image as a sample, float32 of ``shape`` [C, H, W]; InputError, naming the file, where it cannot be decoded."""
    from PIL import Image

    channels, height, width = shape
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB" if channels == 3 else "L")
            pixels = np.asarray(_crop(image, height, width, preparation.crop_share), np.float32)
    except (*_SIGNS_OF_DAMAGE, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be read as an image ({error}); replace it or take it out of the folder.") from error
    planes = pixels.reshape(height, width, channels).transpose(2, 0, 1)
    mean = np.array(preparation.mean, np.float32).reshape(-1, 1, 1)
    deviation = np.array(preparation.deviation, np.float32).reshape(-1, 1, 1)
    return np.ascontiguousarray((planes / np.float32(255) - mean) / deviation)


def _crop(image: Any, height: int, width: int, share: float) -> Any:
    """The image resized to cover height x width over ``share``, and its middle."""
    from PIL import Image

    scale = max(round(height / share) / image.height, round(width / share) / image.width)
    # The shorter side comes out exact; the other is cut down, as the usual evaluation does.
    resized = image.resize(
        (max(width, int(image.width * scale + 1e-6)), max(height, int(image.height * scale + 1e-6))), Image.Resampling.BILINEAR
    )
    left, top = round((resized.width - width) / 2), round((resized.height - height) / 2)
    return resized.crop((left, top, left + width, top + height))
