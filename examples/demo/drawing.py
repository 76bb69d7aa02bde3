"""Small images as text: two pixels a character in colour, shades of grey characters where there is none."""

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from rich.text import Text

UPPER_HALF = "▀"
SHADES = " .:-=+*#%@"


def shrink(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The means of factor x factor squares: uint8 [H, W, 3] to [H / factor, W / factor, 3]."""
    height, width, colours = image.shape
    squares = image.reshape(height // factor, factor, width // factor, factor, colours)
    return np.rint(squares.mean((1, 3))).astype(np.uint8)


def in_colour(image: NDArray[np.uint8]) -> Text:
    """One character for two pixels above one another: the upper is its ink, the lower its ground. H / 2 lines of W."""
    text = Text()
    for upper, lower in zip(image[0::2], image[1::2], strict=True):
        for ink, ground in zip(upper, lower, strict=True):
            text.append(UPPER_HALF, Style.parse(f"rgb({ink[0]},{ink[1]},{ink[2]}) on rgb({ground[0]},{ground[1]},{ground[2]})"))
        text.append("\n")
    text.right_crop()
    return text


def in_shades(image: NDArray[np.uint8]) -> Text:
    """One character for two pixels above one another, darker the further their colour lies from the image's own ground."""
    ground = np.median(image.reshape(-1, 3), axis=0)
    distance = np.abs(image.astype(np.float32) - ground).sum(2)
    pairs = (distance[0::2] + distance[1::2]) / 2
    noise, strongest = np.percentile(pairs, (60, 98))
    levels = np.clip((pairs - noise) / max(strongest - noise, 1) * len(SHADES), 0, len(SHADES) - 1).astype(int)
    return Text("\n".join("".join(SHADES[level] for level in row) for row in levels))
