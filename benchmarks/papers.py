"""Published accuracies of 8-bit, mixed and pruned networks beside ours, where ImageNet and trained models are at hand.

    python -m benchmarks.papers zeroq --imagenet ILSVRC2012/val --models models/
    python -m benchmarks.papers hawq-v3 --imagenet ILSVRC2012/val --models models/ --data ILSVRC2012/train
    python -m benchmarks.papers hawq-v3-mixed --imagenet val/ --models models/ --data train/ --train train/
    python -m benchmarks.papers zeroq-mixed --imagenet ILSVRC2012/val --models models/
    python -m benchmarks.papers patdnn --imagenet ILSVRC2012/val --models models/ --recipe pattern

`--imagenet` is a folder of class folders, the validation images; `--models` holds files named as the table's rows:
`resnet18.pt2`, `resnet50.onnx`, and for pruned rows also `resnet50-pruned.onnx`, as `tapdot prune` writes it. Without them the
published figures are printed alone. Bits of mixed rows are chosen anew, within the budget that the row names.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

import tapdot
from benchmarks.miniatures.evaluation import Difference, Score, package_score, paired_difference
from tapdot.compiler.data import Data, ImageFolder, open_data
from tapdot.compiler.errors import InputError, TapdotError
from tapdot.compiler.package import Package
from tapdot.passes.assign_bits import Assignment, assign
from tapdot.passes.bit_budgets import parse_budgets
from tapdot.passes.bit_candidates import BitChoices
from tapdot.passes.bit_candidates import Row as ChoiceRow
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.recipe_names import CALIBRATED_RECIPES, MIXED_RECIPES

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
    budget: str = ""
    """Of a mixed row: what its bits may cost, as ``--budget`` takes it."""

    @property
    def name(self) -> str:
        """For tables and sentences."""
        return f"{self.title}, {self.budget}" if self.budget else self.title


@dataclass(frozen=True)
class Choosing:
    """How the bits of mixed rows are chosen."""

    sensitivity: str
    widths: tuple[int, ...]
    activations: str
    """As ``passes.bit_candidates`` has them."""
    wide_ends: bool = False
    """The first and the last layer keep 8 bits, and are not counted in the span that shares are of."""


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
    choosing: Choosing | None = None
    """Of rows with budgets."""


def _budgeted(network: str, title: str, baseline: float, accuracies: Mapping[str, float]) -> tuple[Row, ...]:
    """Rows of one network by what its bits may cost."""
    return tuple(Row(network, title, baseline, accuracy, budget) for budget, accuracy in accuracies.items())


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
    "hawq-v3-mixed": Published(
        "Yao et al., HAWQ-V3: Dyadic Neural Network Quantization, ICML 2021",
        "the authors' code, github.com/Zhen-Dong/HAWQ, model_zoo.md: the rows of mixed precision and of W4A4",
        "weights and the activations they read of 4 or 8 bits, first and last layer 8; fine-tuned with quantization on "
        "ImageNet's training images (up to 90 epochs)",
        (
            *_budgeted("resnet18", "ResNet-18", 71.47, {"size=75%": 71.20, "size=50%": 70.50, "size=25%": 70.01}),
            *_budgeted("resnet18", "ResNet-18", 71.47, {"bops=75%": 70.40, "bops=50%": 70.22, "bops=25%": 68.72}),
            *_budgeted("resnet18", "ResNet-18", 71.47, {"latency=75%": 70.40, "latency=50%": 70.34, "latency=25%": 68.56}),
            *_budgeted("resnet18", "ResNet-18", 71.47, {"size=0%": 68.45}),
            *_budgeted("resnet50", "ResNet-50", 77.72, {"size=75%": 77.38, "size=50%": 75.95, "size=25%": 74.89}),
            *_budgeted("resnet50", "ResNet-50", 77.72, {"bops=75%": 76.10, "bops=50%": 75.39, "bops=25%": 74.45}),
            *_budgeted("resnet50", "ResNet-50", 77.72, {"latency=75%": 76.63, "latency=50%": 74.95, "latency=25%": 74.26}),
            *_budgeted("resnet50", "ResNet-50", 77.72, {"size=0%": 74.24}),
        ),
        form="W4/8A4/8",
        recipe="mixed",
        choosing=Choosing("hessian", (8, 4), "same", wide_ends=True),
    ),
    "zeroq-mixed": Published(
        "Cai et al., ZeroQ: A Novel Zero Shot Quantization Framework, CVPR 2020",
        "not checked in the paper, whose tables were not at hand: quoted from the README of a reproduction by others, it seems "
        "the one of issue 15 of github.com/amirgholami/ZeroQ; compare before relying on them",
        "bits of weights by a Pareto front within a size, no data and no training. That README heads the larger size of a "
        "network W6A6 and the smaller one W4A8; activations of ours have 8 bits",
        (
            *_budgeted("resnet18", "ResNet-18", 71.47, {"size=8.35MiB": 71.30}),
            *_budgeted("resnet50", "ResNet-50", 77.72, {"size=18.27MiB": 77.43, "size=12.17MiB": 75.80}),
            *_budgeted("mobilenet_v2", "MobileNetV2", 73.03, {"size=2.50MiB": 72.85, "size=1.67MiB": 69.44}),
            *_budgeted("shufflenet", "ShuffleNet", 65.07, {"size=1.11MiB": 62.90, "size=0.74MiB": 58.96}),
        ),
        form="mixed weights",
        recipe="mixed",
        choosing=Choosing("kl", (8, 4, 2), "fixed"),
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
    bits: str = ""
    """Of a mixed row, what was chosen."""

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
            **({"bits": self.bits} if self.bits else {}),
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


@dataclass
class Measurer:
    """Measures rows of one table; what several rows need is found out once."""

    published: Published
    recipe: str
    images: Data
    options: argparse.Namespace
    floats: dict[Path, Score] = field(default_factory=dict)
    choices: dict[tuple[Path, bool], BitChoices] = field(default_factory=dict)

    def measure(self, row: Row, model: Path, compressed_model: Path) -> Ours:
        """A model as it is and compressed, both by their kernels on a device."""
        shown = f"{model.stem} of {self.images.name}"
        if model not in self.floats:
            progress.print(f"{shown}: float")
            package = tapdot.compile(model, recipe="float")
            check_classes(package, self.images)
            self.floats[model] = self._score(package)
        how, text = self._calibration(), ""
        if self.recipe in MIXED_RECIPES:
            progress.print(f"{shown}: choosing bits for {row.budget}")
            chosen, how["bits"] = self._bits(row, model)
            text = chosen.text
        if self.options.train is not None:
            how |= {"train": self.options.train, "settings": [f"train_quantized.epochs={self.options.epochs}"]}
        progress.print(f"{shown}: {self.recipe} {text}".rstrip())
        package = tapdot.compile(compressed_model, recipe=self.recipe, **how)
        trained, compressed = self.floats[model], self._score(package)
        difference = paired_difference(compressed.correct[None], trained.correct[None])
        return Ours(len(trained.correct), trained.accuracy, compressed.accuracy, difference, bits=text)

    def _score(self, package: Package) -> Score:
        return package_score(package, self.images, self.options.device, self.options.images, self.published.top)

    def _calibration(self) -> dict[str, Any]:
        if self.recipe not in CALIBRATED_RECIPES:
            return {}
        return {"zero_shot": True} if self.options.data is None else {"data": self.options.data}

    def _bits(self, row: Row, model: Path) -> tuple[Assignment, BitWidths]:
        how, budgets = self.published.choosing, parse_budgets([row.budget])
        assert how is not None
        timed = budgets[0].kind == "latency"
        if (model, timed) not in self.choices:
            found = tapdot.bit_choices(
                model,
                **self._calibration(),
                device=self.options.device if timed else None,
                bits=how.widths,
                activations=how.activations,
                method=how.sensitivity,
                progress=progress.print,
            )
            self.choices[model, timed] = with_wide_ends(found) if how.wide_ends else found
        choices = self.choices[model, timed]
        chosen = assign(choices.table, budgets)
        return chosen, choices.widths(chosen)


def with_wide_ends(choices: BitChoices) -> BitChoices:
    """The same with nothing to choose for the first and the last layer, which keep 8 bits."""
    ends = {choices.rows[0].layers[0].name, choices.rows[-1].layers[-1].name}

    def wide(row: ChoiceRow) -> ChoiceRow:
        return replace(row, forms=tuple(form for form in row.forms if all(form.weights.get(name, 8) == 8 for name in ends)))

    return replace(choices, rows=tuple(map(wide, choices.rows)))


def recipe_of(published: Published, options: argparse.Namespace) -> str:
    """Ours for a table: what was asked for, or what fits the paper."""
    return str(options.recipe or published.recipe)


def measure_rows(published: Published, options: argparse.Namespace) -> list[Ours]:
    """One entry a row; where a row cannot be measured, the reason in a sentence."""
    if options.imagenet is None:
        return [Ours(reason="Give ImageNet's validation images with --imagenet.") for _ in published.rows]
    recipe = recipe_of(published, options)
    if recipe in MIXED_RECIPES and published.choosing is None:
        mixed = ", ".join(name for name, one in TABLES.items() if one.choosing is not None)
        raise ValueError(f"The rows of this table name no budgets to choose bits for, which --recipe {recipe} needs; {mixed} do.")
    measurer = Measurer(published, recipe, open_data(options.imagenet), options)
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
            measured.append(measurer.measure(row, whole, compressed))
        except TapdotError as error:
            measured.append(Ours(reason=str(error)))
    return measured


def table(published: Published, measured: list[Ours], options: argparse.Namespace) -> Group:
    """The paper's columns, then ours, in percent and points; below, what was not measured and why."""
    recipe = recipe_of(published, options)
    ours = f"{recipe}, zero-shot" if recipe in CALIBRATED_RECIPES and options.data is None else recipe
    result = Table(title=published.paper, title_justify="left")
    for heading in ("network", "paper: float", published.form, "ours: float", recipe, "difference, points"):
        result.add_column(heading, no_wrap=heading == "network")
    for row, own in zip(published.rows, measured, strict=True):
        cells = [f"{row.baseline:.2f}", f"{row.compressed:.2f}"]
        if own.baseline is not None and own.compressed is not None:
            cells += [f"{100 * own.baseline:.2f}", f"{100 * own.compressed:.2f}", str(own.difference)]
        result.add_row(row.name, *cells)
    notes = [
        f"Top-{published.top} on ImageNet in percent. Paper: {published.method}. "
        f"Ours: {ours}; paired differences with 95 % intervals.",
        f"The paper's figures: {published.source}.",
    ]
    reasons = dict.fromkeys(own.reason for own in measured if own.reason)
    for reason in reasons:
        titles = ", ".join(row.name for row, own in zip(published.rows, measured, strict=True) if own.reason == reason)
        notes.append(f"Not measured: {titles}. {reason}")
    return Group(result, *(Text(note) for note in notes))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.papers", description="Published figures beside ours.")
    parser.add_argument("table", choices=sorted(TABLES), help="the paper")
    parser.add_argument("--imagenet", type=Path, help="ImageNet's validation images, a folder of class folders")
    parser.add_argument("--models", type=Path, help="a folder of trained models, resnet18.pt2 and so on")
    parser.add_argument("--data", help="calibrate on this, an .npz file or a folder of class folders, rather than on none")
    parser.add_argument("--train", help="train with codes on this, in the same forms, labels included")
    parser.add_argument("--epochs", type=int, default=8, help="of that training; 8")
    parser.add_argument("--recipe", help="int8; mixed for tables of mixed widths; pattern-int8 for pruned networks")
    parser.add_argument("--images", type=int, help="only the first; classes take turns")
    parser.add_argument("--device", default="host", help="a device line: host, emulated, rpc://host:port")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args(arguments)
    if options.images is not None and options.images < 1:
        parser.error("--images: expected a number above 0")
    if options.epochs < 1:
        parser.error("--epochs: expected a number above 0")
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
            {
                "network": row.network,
                **({"budget": row.budget} if row.budget else {}),
                "paper": {"baseline": row.baseline, "compressed": row.compressed},
                "ours": own.json(),
            }
            for row, own in zip(published.rows, measured, strict=True)
        ]
        document = {"paper": published.paper, "source": published.source, "recipe": recipe_of(published, options), "rows": rows}
        print(json.dumps(document, indent=2))
    else:
        Console(highlight=False).print(table(published, measured, options))


if __name__ == "__main__":
    main()
