"""Generated data: coloured characters on cluttered, noisy 32x32 images. Nothing to download.

Needs the extra `examples` (matplotlib for its bundled fonts, pillow to draw).
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CLASSES = "ABCDEFGHJKLMNPQRSTUVWXYZabdefghnqrt0123456789&"
"""One character a class. O and I are left out: in some fonts nothing tells them from 0 and 1."""
DEMO_CLASSES = CLASSES[:-1]
"""Those of the demo's shipped network."""
SIZE = 32
CANVAS = 48
"""Characters are drawn on a larger plane, so that turning and shifting one cuts nothing off."""
FONT_SIZES = (16, 27)
LARGEST_TURN = 25.0
LARGEST_SHIFT = 4
STROKES = 3
CONTRAST = (60, 196)
"""Least and greatest distance of the character's colour from the ground's, modulo 256, in each of red, green and blue."""
NOISE = 0.1
"""Deviation of the noise on pixel values, which run from 0 to 1."""
CHUNK = 1_000
"""Images drawn from one seed: what a process does at a time, so the images do not depend on how many processes there are."""

Pixels = NDArray[np.uint8]


@cache
def font_files() -> tuple[Path, ...]:
    """The text fonts that matplotlib ships, in a fixed order; its mathematical display fonts have no letters."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = sorted(folder.glob("DejaVu*.ttf")) + sorted(folder.glob("STIXGeneral*.ttf"))
    return tuple(file for file in files if "Display" not in file.name)


@cache
def font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), size)


def colour(values: NDArray[np.integer]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def glyph_mask(character: str, random: np.random.Generator) -> Image.Image:
    """The character in a random font and size, turned and shifted: 255 inside, 0 outside, SIZE x SIZE."""
    files = font_files()
    chosen = font(files[random.integers(len(files))], int(random.integers(*FONT_SIZES)))
    canvas = Image.new("L", (CANVAS, CANVAS), 0)
    ImageDraw.Draw(canvas).text((CANVAS / 2, CANVAS / 2), character, fill=255, font=chosen, anchor="mm")
    canvas = canvas.rotate(random.uniform(-LARGEST_TURN, LARGEST_TURN), resample=Image.Resampling.BILINEAR)
    corner = (CANVAS - SIZE) // 2 + random.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, 2)
    left, top = int(corner[0]), int(corner[1])
    return canvas.crop((left, top, left + SIZE, top + SIZE))


def draw(character: str, random: np.random.Generator) -> Pixels:
    """One image without noise: ground, a few strokes of clutter, the character over them. uint8 [SIZE, SIZE, 3]."""
    ground = random.integers(0, 256, 3)
    image = Image.new("RGB", (SIZE, SIZE), colour(ground))
    pen = ImageDraw.Draw(image)
    for _ in range(STROKES):
        ends = [int(value) for value in random.integers(0, SIZE, 4)]
        pen.line(ends, fill=colour(random.integers(0, 256, 3)), width=int(random.integers(1, 3)))
    ink = (ground + random.integers(*CONTRAST, 3)) % 256
    image.paste(colour(ink), (0, 0), glyph_mask(character, random))
    return np.asarray(image)


def clean_images(count: int, seed: int | tuple[int, ...], classes: str = CLASSES) -> tuple[Pixels, NDArray[np.int64]]:
    """`count` images without noise, uint8 [count, SIZE, SIZE, 3], and their labels, indices into `classes`."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(classes), count)
    return np.stack([draw(classes[label], random) for label in labels]), labels


def draw_chunk(count: int, seed: int, chunk: int) -> tuple[Pixels, NDArray[np.int64]]:
    """The `chunk`-th images of a seed's endless sequence."""
    return clean_images(count, (seed, chunk))


def draw_images(count: int, seed: int, processes: int) -> tuple[Pixels, NDArray[np.int64]]:
    """As :func:`clean_images`, by several processes; the images are the same for any number of them."""
    counts = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
    if processes == 1 or len(counts) == 1:
        parts = [draw_chunk(size, seed, chunk) for chunk, size in enumerate(counts)]
    else:
        # Started afresh rather than forked: torch's threads do not survive a fork.
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(draw_chunk, counts, [seed] * len(counts), range(len(counts))))
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def add_noise(images: Pixels, seed: int) -> Pixels:
    """The images as a poor camera would give them."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal(images.shape, dtype=np.float32) * np.float32(255 * NOISE)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)
