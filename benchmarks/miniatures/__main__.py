"""The command line: train the miniature networks, and measure what compiling does to their accuracy.

python -m benchmarks.miniatures train [--network NAME] [--seed S] [--epochs N]
python -m benchmarks.miniatures accuracy [--recipe int8] [--json]
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.miniatures import evaluation
from benchmarks.miniatures.trained import GLYPH_NETWORKS, MINIATURES, SEEDS, data, is_trained, trained
from benchmarks.miniatures.training import accuracy
from tapdot.compiler.errors import TapdotError

progress = Console(stderr=True, highlight=False)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.miniatures", description="Accuracy without a download.")
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train networks that are not in the cache yet")
    measuring = commands.add_parser("accuracy", help="accuracy as trained and compiled, on the same test images")
    for command in (training, measuring):
        command.add_argument("--network", action="append", choices=sorted(MINIATURES), help="may be repeated; all on glyphs")
        command.add_argument("--seed", action="append", type=int, help=f"may be repeated; {', '.join(map(str, SEEDS))}")
        command.add_argument("--epochs", type=positive, help="passes over the training images; each network's own number")
        command.add_argument("--threads", type=positive, default=1, help="threads of torch")
        command.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    measuring.add_argument("--recipe", action="append", help="may be repeated; int8")
    measuring.add_argument("--images", type=positive, help="test images; all")
    measuring.add_argument("--calibration-images", type=positive, default=256, help="of the training set, for int8 with data")
    measuring.add_argument("--batch", type=positive, default=50, help="images a compiled network takes at once")
    measuring.add_argument("--device", default="host", help="a device line: host, emulated, rpc://host:port")
    measuring.add_argument("--reference", action="store_true", help="by the reference interpreter instead of kernels")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def reporter(title: str) -> Callable[[str], None]:
    """Prints lines about one network."""
    return lambda line: progress.print(f"{title}: {line}")


def run_training(options: argparse.Namespace, networks: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """Train what is missing, then say how well each network does."""
    rows: list[dict[str, Any]] = []
    for name in networks:
        for seed in seeds:
            title = f"{MINIATURES[name].title}, seed {seed}"
            if not is_trained(name, seed, options.epochs):
                progress.print(f"{title}: making the images")
            dataset = data(name)
            network = trained(name, seed, options.epochs, reporter(title))
            rows.append({"network": name, "seed": seed, "accuracy": accuracy(network, dataset.test_inputs, dataset.test_labels)})
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title="Trained miniature networks: top-1 on test images", title_justify="left")
    for heading in ("network", "seed", "accuracy"):
        table.add_column(heading)
    for row in rows:
        table.add_row(MINIATURES[row["network"]].title, str(row["seed"]), f"{row['accuracy']:.2%}")
    Console(highlight=False).print(table)


def run_accuracy(options: argparse.Namespace, networks: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """Measure every network in every way, a table or a document at the end."""
    settings = evaluation.Settings(options.batch, options.calibration_images, options.device, options.reference, options.images)
    results = []
    for name in networks:

        def build(seed: int, name: str = name) -> torch.nn.Module:
            return trained(name, seed, options.epochs, reporter(f"{MINIATURES[name].title}, seed {seed}"))

        results.append(
            evaluation.measure(name, seeds, tuple(options.recipe or ["int8"]), build, data(name), settings, progress.print)
        )
    if options.json:
        print(json.dumps([result.json() for result in results], indent=2))
    else:
        Console(highlight=False).print(accuracy_table(results))


def accuracy_table(results: list[evaluation.Result]) -> Table:
    """One row a network and way: the mean accuracy of the seeds and its paired difference from float, in points."""
    table = Table(
        title=f"Top-1 on {results[0].images:,} test images, mean of seeds; paired differences in points, 95 % intervals",
        title_justify="left",
    )
    for heading in ("network", "", "top-1", "from float", "of each seed"):
        table.add_column(heading)
    for result in results:
        basis, *_ = result.correct
        for index, title in enumerate(result.correct):
            seeds = range(len(result.seeds))
            table.add_row(
                MINIATURES[result.network].title if index == 0 else "",
                title,
                f"{np.mean(result.accuracies(title)):.2%}",
                "" if title == basis else str(result.difference(title, basis)),
                "" if title == basis else ", ".join(f"{result.difference(title, basis, seed).mean:+.2f}" for seed in seeds),
                end_section=index == len(result.correct) - 1,
            )
    return table


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    networks, seeds = tuple(options.network or GLYPH_NETWORKS), tuple(options.seed or SEEDS)
    try:
        (run_training if options.command == "train" else run_accuracy)(options, networks, seeds)
    except (ValueError, TapdotError) as error:
        progress.print(str(error), style="red", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
