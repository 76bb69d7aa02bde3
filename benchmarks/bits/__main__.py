"""What a choice of bits is worth, on the command line.

python -m benchmarks.bits accuracy [--networks resnet] [--seeds 0,1,2] [--sensitivity kl] [--qat-epochs 8]
python -m benchmarks.bits latency [--networks resnet18,vgg16] [--device host]
python -m benchmarks.bits stability [--methods kl,prediction,masked,hessian]
python -m benchmarks.bits zero-shot [--networks resnet50] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, RenderableType

from benchmarks import files, machine, zoo
from benchmarks.miniatures.__main__ import listed, positive
from benchmarks.miniatures.trained import GLYPH_NETWORKS, MINIATURES, SEEDS
from tapdot.compiler.errors import TapdotError
from tapdot.passes.recipe_names import SENSITIVITY_METHODS

progress = Console(stderr=True, highlight=False)

Told = tuple[list[dict[str, Any]], RenderableType]
"""The results as data and for people."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bits", description="What a choice of bits is worth.")
    commands = parser.add_subparsers(dest="command", required=True)
    accuracy = commands.add_parser("accuracy", help="chosen bits beside random ones of the same size, and trained with them")
    latency = commands.add_parser("latency", help="predicted beside measured, for random bits")
    stability = commands.add_parser("stability", help="how much the order of layers depends on the sample")
    zero_shot = commands.add_parser("zero-shot", help="seconds from a network without data to a front")
    for command in (accuracy, stability):
        command.add_argument("--networks", type=listed(str), default=GLYPH_NETWORKS, help=", ".join(MINIATURES))
        command.add_argument("--epochs", type=positive, help="the networks were trained for; each one's own number")
    for command in (latency, zero_shot):
        default = ("resnet18", "vgg16") if command is latency else ("resnet50",)
        command.add_argument("--networks", type=listed(str), default=default, help=", ".join(zoo.NETWORKS))
    for command in (latency, stability, zero_shot):
        command.add_argument("--widths", type=listed(int), default=(8, 4), help="bits to choose from; 8,4")
    for command in (accuracy, stability, zero_shot):
        command.add_argument("--samples", type=positive, help="for sensitivities; as many as tapdot takes by itself")
    for command in (accuracy, latency, stability, zero_shot):
        command.add_argument("--threads", type=positive, default=1, help="threads of torch")
        command.add_argument("--json", type=Path, help="a file for the figures")

    accuracy.add_argument("--seeds", type=listed(int), default=SEEDS, help="of trained networks; " + ",".join(map(str, SEEDS)))
    accuracy.add_argument("--sensitivity", choices=SENSITIVITY_METHODS, default="kl")
    accuracy.add_argument("--share", type=float, default=0.5, help="of the way from all 4 to all 8 in size; 0.5")
    accuracy.add_argument("--random", type=positive, default=20, help="random choices of the same size; 20")
    accuracy.add_argument("--random-seed", type=int, default=0)
    accuracy.add_argument("--test-images", type=positive, help="only the first")
    accuracy.add_argument("--calibration-images", type=positive, default=256)
    accuracy.add_argument("--qat-epochs", type=int, default=0, help="of quantization-aware training; none")

    latency.add_argument("--device", default="host", help="a device line: host, adb, rpc://host:port")
    latency.add_argument("--count", type=positive, default=20, help="random assignments; 20")
    latency.add_argument("--rounds", type=positive, default=30, help="of all packages in turns; 30")
    latency.add_argument("--layer-runs", type=positive, default=20, help="of the networks that layers are measured in; 20")
    latency.add_argument("--seed", type=int, default=0, help="of weights and assignments")

    stability.add_argument("--trained-seeds", type=listed(int), default=(0,), help="of trained networks; 0")
    stability.add_argument("--seeds", type=listed(int), default=(0, 1, 2, 3, 4), help="of samples and probes; 0,1,2,3,4")
    stability.add_argument("--methods", type=listed(str), default=SENSITIVITY_METHODS, help=", ".join(SENSITIVITY_METHODS))

    zero_shot.add_argument("--method", choices=SENSITIVITY_METHODS, default="kl")
    zero_shot.add_argument("--set", action="append", default=[], help="a line for a pass, such as distill_samples.count=16")
    zero_shot.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    known = MINIATURES if options.command in ("accuracy", "stability") else zoo.NETWORKS
    for flag, given, names in (
        ("--networks", options.networks, tuple(known)),
        ("--methods", getattr(options, "methods", ()), SENSITIVITY_METHODS),
    ):
        if unknown := [name for name in given if name not in names]:
            parser.error(f"{flag}: expected names out of {', '.join(names)}, found {', '.join(unknown)}")
    if options.command == "accuracy" and not (0 <= options.share <= 1 and options.qat_epochs >= 0):
        parser.error("--share: expected a share from 0 to 1" if options.qat_epochs >= 0 else "--qat-epochs: expected 0 or more")
    if options.command == "stability" and len(set(options.seeds)) < 2:
        parser.error("--seeds: expected two or more, as 0,1,2")
    if options.command == "latency" and (options.count < 2 or len(set(options.widths)) < 2):
        parser.error("--count and --widths: expected two or more, as there is nothing to compare otherwise")
    return options


def run_accuracy(options: argparse.Namespace) -> Told:
    from benchmarks.bits.accuracy import Settings, measure
    from benchmarks.bits.tables import accuracy_tables

    names = (
        "sensitivity",
        "samples",
        "share",
        "random",
        "random_seed",
        "test_images",
        "calibration_images",
        "qat_epochs",
        "epochs",
    )
    settings = Settings(**{name: getattr(options, name) for name in names})
    results = [measure(network, options.seeds, settings, progress.print) for network in options.networks]
    return [result.json() for result in results], accuracy_tables(results)


def run_latency(options: argparse.Namespace) -> Told:
    from benchmarks.bits.latency import measure
    from benchmarks.bits.tables import latency_tables

    how = (options.device, options.widths, options.count, options.rounds, options.layer_runs, options.seed, progress.print)
    results = [measure(network, *how) for network in options.networks]
    return [result.json() for result in results], latency_tables(results)


def run_stability(options: argparse.Namespace) -> Told:
    from benchmarks.bits.stability import measure
    from benchmarks.bits.tables import stability_table

    how = (options.trained_seeds, options.methods, options.seeds, options.samples, options.widths, options.epochs, progress.print)
    results = [one for network in options.networks for one in measure(network, *how)]
    return [result.json() for result in results], stability_table(results, options.seeds)


def run_zero_shot(options: argparse.Namespace) -> Told:
    from benchmarks.bits.tables import zero_shot_tables
    from benchmarks.bits.zero_shot import measure

    how = (options.method, options.widths, options.samples, options.set, options.seed, progress.print)
    results = [measure(network, *how) for network in options.networks]
    return [result.json() for result in results], zero_shot_tables(results)


RUNS = {"accuracy": run_accuracy, "latency": run_latency, "stability": run_stability, "zero-shot": run_zero_shot}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    try:
        rows, shown = RUNS[options.command](options)
    except (ValueError, TapdotError) as error:
        progress.print(str(error), style="red", markup=False)
        sys.exit(1)
    Console(highlight=False).print(shown)
    if options.json:
        document = {"benchmark": options.command, "machine": machine.describe().json(), "results": rows}
        files.replace(options.json, lambda path: path.write_text(json.dumps(document, indent=1)))


if __name__ == "__main__":
    main()
