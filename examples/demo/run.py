"""What `make demo` runs: two networks compiled for a device, checked, timed, and pictures with their answers.

python -m examples.demo.run                  # on this machine
python -m examples.demo.run --device emulated
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import zoo
from numpy.typing import NDArray
from rich.columns import Columns
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

import tapdot
from examples.demo import drawing
from examples.demo.network import prepare
from tapdot.compiler.errors import TapdotError

FOLDER = Path(__file__).parent
FULL_WIDTH_COLUMNS = 138
"""Terminals this wide get four images in a row at full size; narrower ones get them at half."""


@dataclass(frozen=True)
class Result:
    """One network's line in the closing table."""

    title: str
    compile_seconds: float
    mebibytes: float
    verification: Any
    measurement: Any


def compile_and_check(title: str, model: Any, examples: Any, device: Any, console: Console) -> tuple[Any, Result]:
    """Compile for the device, verify there against the reference, then time. TapdotError where any of it fails."""
    with console.status(f"{title}: compiling for {device.default_target()}"):
        start = time.monotonic()
        package = tapdot.compile(model, examples, target=device.default_target())
        seconds = time.monotonic() - start
    with console.status(f"{title}: comparing every kernel with the reference"):
        verification = device.verify(package)
    if not verification.passed:
        raise TapdotError(f"{title}: {verification}")
    with console.status(f"{title}: measuring"):
        measurement = device.measure(package)
    size = Path(package.path).stat().st_size / 2**20
    return package, Result(title, seconds, size, verification, measurement)


def classify(package: Any, device: Any, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The logits of every image, one inference each."""
    (name,) = (tensor.name for tensor in package.program.inputs)
    answers = []
    for image in images:
        outputs = device.run(package, {name: prepare(image[np.newaxis])})
        answers.append(next(iter(outputs.values()))[0])
    return answers


def show(image: NDArray[np.uint8], caption: Text, console: Console) -> Group:
    """One image above its caption."""
    small = image if console.width >= FULL_WIDTH_COLUMNS else drawing.shrink(image, 2)
    picture = drawing.in_colour(small) if console.color_system else drawing.in_shades(small)
    return Group(picture, caption, Text())


def caption(logits: NDArray[np.float32], truth: int, classes: list[str]) -> Text:
    """The predicted class, how sure the network is, and the true one where it differs."""
    exponentials = np.exp(logits - logits.max())
    predicted = int(logits.argmax())
    text = Text(f"{classes[predicted]}  {exponentials[predicted] / exponentials.sum():.0%}  ")
    right = predicted == truth
    return text.append("right" if right else f"is {classes[truth]}", "green" if right else "red")


def worst_error(verification: Any) -> float:
    """Of all kernels, as a share of the reference's largest magnitude."""
    return max((kernel.error for kernel in verification.kernels), default=0.0)


def speed(measurement: Any) -> str:
    """Milliseconds; on an emulated device instructions, for it has no latency."""
    if measurement.information.emulated:
        return "not counted" if measurement.instructions is None else f"{measurement.instructions / 1e6:.1f} M instructions"
    return f"{measurement.median * 1e3:.2f} ms ± {measurement.spread:.0%}"


def summary(results: list[Result], device_name: str) -> Table:
    """One row a network. Every kernel counted there agreed with the reference, or nothing would have been shown."""
    table = Table(title=f"On {device_name}: float32, batch 1, one thread", title_justify="left")
    for heading in ("network", "compiled", "package", "verified", "worst error", "an image"):
        table.add_column(heading)
    for result in results:
        table.add_row(
            result.title,
            f"{result.compile_seconds:.1f} s",
            f"{result.mebibytes:.1f} MiB",
            f"{len(result.verification.kernels)} kernels",
            f"{worst_error(result.verification):.0e}",
            speed(result.measurement),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile two networks, check and time them, and show what one of them sees.")
    parser.add_argument("--device", default="host", help="a device line: host, emulated, rpc://host:port")
    arguments = parser.parse_args()
    console = Console()
    samples = np.load(FOLDER / "samples.npz", allow_pickle=False)
    classes = (FOLDER / "classes.txt").read_text().split()
    try:
        device = tapdot.connect(arguments.device)
        glyphs, first = compile_and_check("Glyph network", FOLDER / "glyphs.onnx", None, device, console)
        answers = classify(glyphs, device, samples["images"])
        _, second = compile_and_check(
            "ResNet-18", zoo.build("resnet18"), (torch.zeros(zoo.NETWORKS["resnet18"].input_shape),), device, console
        )
    except TapdotError as error:
        console.print(str(error), style="red", markup=False)
        sys.exit(1)
    shown = zip(samples["images"], answers, samples["labels"], strict=True)
    console.print(
        Columns(show(image, caption(logits, int(truth), classes), console) for image, logits, truth in shown),
    )
    right = sum(int(logits.argmax()) == truth for logits, truth in zip(answers, samples["labels"], strict=True))
    console.print(f"{right} of {len(answers)} characters read right, by the compiled network.\n")
    console.print(summary([first, second], arguments.device))


if __name__ == "__main__":
    main()
