"""The command line: train the miniature networks, and measure what compiling does to their accuracy.

python -m benchmarks.miniatures train [--network NAME] [--seed S] [--epochs N]
python -m benchmarks.miniatures accuracy [--recipe int8] [--json]
python -m benchmarks.miniatures sparsity [--rates 4,8] [--shares 1,2,4] [--networks resnet] [--seeds 0,1,2]
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

from benchmarks.miniatures import evaluation, sparsity
from benchmarks.miniatures.trained import GLYPH_NETWORKS, MINIATURES, SEEDS, data, is_trained, trained
from benchmarks.miniatures.training import accuracy
from tapdot.compiler.errors import TapdotError
from tapdot.passes.prune_rates import SIZE_EXPONENT

progress = Console(stderr=True, highlight=False)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.miniatures", description="Accuracy without a download.")
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train networks that are not in the cache yet")
    measuring = commands.add_parser("accuracy", help="accuracy as trained and compiled, on the same test images")
    pruning = commands.add_parser("sparsity", help="accuracy of networks pruned by ADMM and at once, beside dense ones")
    for command in (training, measuring):
        command.add_argument("--network", action="append", choices=sorted(MINIATURES), help="may be repeated; all on glyphs")
        command.add_argument("--seed", action="append", type=int, help=f"may be repeated; {', '.join(map(str, SEEDS))}")
        command.add_argument("--epochs", type=positive, help="passes over the training images; each network's own number")
        command.add_argument("--threads", type=positive, default=1, help="threads of torch")
        command.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    measuring.add_argument("--recipe", action="append", help="may be repeated; int8")
    measuring.add_argument("--batch", type=positive, default=50, help="images a compiled network takes at once")
    pruning.add_argument("--rates", type=listed(float), default=(4.0, 8.0), help="times fewer weights; 4,8")
    pruning.add_argument("--shares", type=listed(int), default=(1, 2, 4), help="filters that agree; 1,2,4")
    pruning.add_argument("--networks", type=listed(str), default=GLYPH_NETWORKS, help=", ".join(GLYPH_NETWORKS))
    pruning.add_argument("--seeds", type=listed(int), default=SEEDS, help=", ".join(map(str, SEEDS)))
    pruning.add_argument("--allocation", choices=("energy", "uniform"), default="energy", help="how layers share a rate")
    pruning.add_argument("--size-exponent", type=float, default=SIZE_EXPONENT, help="for energy; see passes/prune_rates.py")
    pruning.add_argument("--epochs", type=int, help=f"under ADMM; {sparsity.TRAINING.epochs}")
    pruning.add_argument("--retrain-epochs", type=int, help=f"with masks; {sparsity.TRAINING.retrain_epochs}")
    pruning.add_argument("--threads", type=positive, default=1, help="threads of torch")
    pruning.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    for command in (measuring, pruning):
        command.add_argument("--images", type=positive, help="test images; all")
        command.add_argument("--calibration-images", type=positive, default=256, help="of the training set, for int8 with data")
        command.add_argument("--device", default="host", help="a device line: host, emulated, rpc://host:port")
        command.add_argument("--reference", action="store_true", help="by the reference interpreter instead of kernels")
    return parser.parse_args(arguments)


def listed(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Reads ``4,8``."""

    def read(text: str) -> tuple[Any, ...]:
        return tuple(kind(item) for item in text.split(","))

    return read


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


def run_sparsity(options: argparse.Namespace) -> None:
    """Prune what is not in the cache, measure, a table or a document at the end."""
    results = []
    for network in options.networks:
        if network not in MINIATURES:
            raise ValueError(f"There is no miniature network '{network}'; there are {', '.join(MINIATURES)}.")
        how = evaluation.Settings(
            calibration_images=options.calibration_images,
            device=options.device,
            reference=options.reference,
            test_images=options.images,
        )

        def training(seed: int, network: str = network) -> Any:
            return sparsity.training_of(network, options.epochs, options.retrain_epochs, seed)

        chosen = sparsity.settings(options.rates, options.shares, options.allocation, options.size_exponent)
        results.append(sparsity.measure(network, options.seeds, chosen, training, how, progress.print))
    if options.json:
        print(json.dumps([row for result in results for row in result.rows()], indent=2))
    else:
        Console(highlight=False).print(sparsity_table(results))


def sparsity_table(results: list[sparsity.Result]) -> Table:
    """One row a network and setting, means of the seeds."""
    images = next(iter(results[0].integers.values())).shape[1]
    table = Table(
        title=f"Top-1 on {images:,} test images, mean of seeds; paired differences of integer networks in points, 95 % intervals",
        title_justify="left",
    )
    for heading in ("network", "", "MACs", "float", results[0].recipe, "from dense", "ADMM from one-shot"):
        table.add_column(heading)
    for result in results:
        for index, row in enumerate(result.rows()):
            table.add_row(
                MINIATURES[result.network].title if index == 0 else "",
                result.settings[index].title,
                f"{row['fewer_macs']:.1f}x fewer" if "fewer_macs" in row else "",
                f"{np.mean(row['float']):.2%}",
                f"{np.mean(row['integer']):.2%}",
                *(str(evaluation.Difference(**row[key])) if key in row else "" for key in ("from_dense", "from_one_shot")),
                end_section=index == len(result.settings) - 1,
            )
    return table


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    try:
        if options.command == "sparsity":
            run_sparsity(options)
            return
        networks, seeds = tuple(options.network or GLYPH_NETWORKS), tuple(options.seed or SEEDS)
        (run_training if options.command == "train" else run_accuracy)(options, networks, seeds)
    except (ValueError, TapdotError) as error:
        progress.print(str(error), style="red", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
