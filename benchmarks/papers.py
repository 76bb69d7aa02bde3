"""Published accuracies of 8-bit and of pruned networks beside ours, where ImageNet and trained models are at hand.

    python -m benchmarks.papers zeroq --imagenet ILSVRC2012/val --models models/
    python -m benchmarks.papers hawq-v3 --imagenet ILSVRC2012/val --models models/ --data ILSVRC2012/train
    python -m benchmarks.papers patdnn --imagenet ILSVRC2012/val --models models/ --recipe pattern

`--imagenet` is a folder of class folders, the validation images; `--models` holds files named as the table's rows:
`resnet18.pt2`, `resnet50.onnx`, and for pruned rows also `resnet50-pruned.onnx`, as `tapdot prune` writes it. Without them the
published figures are printed alone.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

import tapdot
from benchmarks.miniatures.evaluation import Difference, package_score, paired_difference
from tapdot.compiler.data import Data, ImageFolder, open_data
from tapdot.compiler.errors import InputError, TapdotError
from tapdot.compiler.package import Package
from tapdot.passes.recipe_names import CALIBRATED_RECIPES

progress = Console(stderr=True, highlight=False)
SUFFIXES = (".pt2", ".onnx")
"""Of models, the better one first: batch norms, which zero-shot calibration needs, always survive in a .pt2."""


@dataclass(frozen=True)
class Row:
    """One network as published: accuracy on ImageNet in percent, as trained and compressed."""

    network: str
    title: str
    baseline: float
    compressed: float


@dataclass(frozen=True)
class Published:
    """One paper's rows."""

    paper: str
    source: str
    """Where the figures were read."""
    method: str
    rows: tuple[Row, ...]
    form: str = "W8A8"
    """What compressed means."""
    top: int = 1
    """An answer is right where the class is among so many first ones."""
    recipe: str = "int8"
    """Ours, unless another is asked for."""
    suffix: str = ""
    """Of the names of compressed models that are files of their own."""


TABLES = {
    "zeroq": Published(
        "Cai et al., ZeroQ: A Novel Zero Shot Quantization Framework, CVPR 2020",
        "the table of results in the authors' code, github.com/amirgholami/ZeroQ, classification/README.md",
        "calibrated on distilled images, no training",
        (
            Row("resnet18", "ResNet-18", 71.47, 71.43),
            Row("resnet50", "ResNet-50", 77.72, 77.67),
            Row("inception_v3", "InceptionV3", 78.88, 78.72),
            Row("mobilenet_v2", "MobileNetV2", 73.03, 72.91),
            Row("shufflenet", "ShuffleNet", 65.07, 64.94),
            Row("squeezenext", "SqueezeNext", 69.38, 69.17),
        ),
    ),
    "hawq-v3": Published(
        "Yao et al., HAWQ-V3: Dyadic Neural Network Quantization, ICML 2021",
        "the table of results in the authors' code, github.com/Zhen-Dong/HAWQ, model_zoo.md",
        "integer-only, fine-tuned with quantization on ImageNet's training images",
        (Row("resnet18", "ResNet-18", 71.47, 71.56), Row("resnet50", "ResNet-50", 77.72, 77.58)),
    ),
    "patdnn": Published(
        "Niu et al., PatDNN: Achieving Real-Time DNN Execution on Mobile Devices with Pattern-based Weight Pruning, ASPLOS 2020",
        "the paper's table of joint kernel pattern and connectivity pruning, arXiv 2001.00138, quoted without the text at hand: "
        "compare before relying on them",
        "8 patterns and connectivity by ADMM, convolutions only, float",
        (Row("vgg16", "VGG-16, 8.0x", 91.7, 91.6), Row("resnet50", "ResNet-50, 4.4x", 92.7, 92.5)),
        form="pruned",
        top=5,
        recipe="pattern-int8",
        suffix="-pruned",
    ),
}


@dataclass(frozen=True)
class Ours:
    """What was measured for one row: shares of one, and the paired difference in points; or why nothing was."""

    images: int = 0
    baseline: float | None = None
    compressed: float | None = None
    difference: Difference | None = None
    reason: str = ""

    def json(self) -> dict[str, Any]:
        """Plain data."""
        if self.difference is None or self.baseline is None or self.compressed is None:
            return {"reason": self.reason}
        interval = [self.difference.low, self.difference.high]
        return {
            "images": self.images,
            "baseline": 100 * self.baseline,
            "compressed": 100 * self.compressed,
            "difference": self.difference.mean,
            "interval": interval,
        }


def find_model(folder: Path | None, network: str) -> Path | None:
    """The model file of a row, or None."""
    if folder is None:
        return None
    return next((path for suffix in SUFFIXES if (path := folder / f"{network}{suffix}").is_file()), None)


def check_classes(package: Package, images: Data) -> None:
    """Raises InputError unless the model tells apart as many classes as the folder holds: labels are the folders' order."""
    (output,) = package.program.outputs
    if isinstance(images, ImageFolder) and output.shape[-1] != len(images.classes):
        raise InputError(
            f"The model tells {output.shape[-1]} classes apart, and {images.name} holds {len(images.classes)} class folders; "
            "name the folder that holds all of them."
        )


def measure(model: Path, compressed_model: Path, images: Data, top: int, recipe: str, options: argparse.Namespace) -> Ours:
    """A model as it is and compressed, both by their kernels on a device."""
    shown = f"{model.stem} of {images.name}"
    progress.print(f"{shown}: float")
    package = tapdot.compile(model, recipe="float")
    check_classes(package, images)
    trained = package_score(package, images, options.device, options.images, top)
    progress.print(f"{shown}: {recipe}")
    calibration: dict[str, Any] = {}
    if recipe in CALIBRATED_RECIPES:
        calibration = {"zero_shot": True} if options.data is None else {"data": options.data}
    package = tapdot.compile(compressed_model, recipe=recipe, **calibration)
    compressed = package_score(package, images, options.device, options.images, top)
    difference = paired_difference(compressed.correct[None], trained.correct[None])
    return Ours(len(trained.correct), trained.accuracy, compressed.accuracy, difference)


def recipe_of(published: Published, options: argparse.Namespace) -> str:
    """Ours for a table: what was asked for, or what fits the paper."""
    return str(options.recipe or published.recipe)


def measure_rows(published: Published, options: argparse.Namespace) -> list[Ours]:
    """One entry a row; where a row cannot be measured, the reason in a sentence."""
    if options.imagenet is None:
        return [Ours(reason="Give ImageNet's validation images with --imagenet.") for _ in published.rows]
    images = open_data(options.imagenet)
    measured = []
    for row in published.rows:
        needed = dict.fromkeys((row.network, row.network + published.suffix))
        models = {name: find_model(options.models, name) for name in needed}
        missing = [name for name, path in models.items() if path is None]
        if missing:
            where = "a folder given with --models" if options.models is None else options.models
            measured.append(Ours(reason=f"A {missing[0]}.pt2 or .onnx is needed in {where}."))
            continue
        whole, compressed = models[row.network], models[row.network + published.suffix]
        assert whole is not None and compressed is not None
        try:
            measured.append(measure(whole, compressed, images, published.top, recipe_of(published, options), options))
        except TapdotError as error:
            measured.append(Ours(reason=str(error)))
    return measured


def table(published: Published, measured: list[Ours], options: argparse.Namespace) -> Group:
    """The paper's columns, then ours, in percent and points; below, what was not measured and why."""
    recipe = recipe_of(published, options)
    ours = f"{recipe}, zero-shot" if recipe in CALIBRATED_RECIPES and options.data is None else recipe
    result = Table(title=published.paper, title_justify="left")
    for heading in ("network", "paper: float", published.form, "ours: float", recipe, "difference, points"):
        result.add_column(heading)
    for row, own in zip(published.rows, measured, strict=True):
        cells = [f"{row.baseline:.2f}", f"{row.compressed:.2f}"]
        if own.baseline is not None and own.compressed is not None:
            cells += [f"{100 * own.baseline:.2f}", f"{100 * own.compressed:.2f}", str(own.difference)]
        result.add_row(row.title, *cells)
    notes = [
        f"Top-{published.top} on ImageNet in percent. Paper: {published.method}. "
        f"Ours: {ours}; paired differences with 95 % intervals.",
        f"The paper's figures: {published.source}.",
    ]
    reasons = dict.fromkeys(own.reason for own in measured if own.reason)
    for reason in reasons:
        titles = ", ".join(row.title for row, own in zip(published.rows, measured, strict=True) if own.reason == reason)
        notes.append(f"Not measured: {titles}. {reason}")
    return Group(result, *(Text(note) for note in notes))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.papers", description="Published figures beside ours.")
    parser.add_argument("table", choices=sorted(TABLES), help="the paper")
    parser.add_argument("--imagenet", type=Path, help="ImageNet's validation images, a folder of class folders")
    parser.add_argument("--models", type=Path, help="a folder of trained models, resnet18.pt2 and so on")
    parser.add_argument("--data", help="calibrate on this, an .npz file or a folder of class folders, rather than on none")
    parser.add_argument("--recipe", help="int8; pattern-int8 for pruned networks")
    parser.add_argument("--images", type=int, help="only the first; classes take turns")
    parser.add_argument("--device", default="host", help="a device line: host, emulated, rpc://host:port")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args(arguments)
    if options.images is not None and options.images < 1:
        parser.error("--images: expected a number above 0")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    published = TABLES[options.table]
    try:
        measured = measure_rows(published, options)
    except (TapdotError, ValueError) as error:
        progress.print(str(error), style="red", markup=False)
        sys.exit(1)
    if options.json:
        rows = [
            {"network": row.network, "paper": {"baseline": row.baseline, "compressed": row.compressed}, "ours": own.json()}
            for row, own in zip(published.rows, measured, strict=True)
        ]
        document = {"paper": published.paper, "source": published.source, "recipe": recipe_of(published, options), "rows": rows}
        print(json.dumps(document, indent=2))
    else:
        Console(highlight=False).print(table(published, measured, options))


if __name__ == "__main__":
    main()
