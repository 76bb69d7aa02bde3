"""What pruning buys in speed: layers by rate and share, whole networks beside other engines, what each idea adds.

    python -m benchmarks.sparsity layers --precision int8 --plot plots/
    python -m benchmarks.sparsity networks --models resnet18,vgg16 --rounds 15
    python -m benchmarks.sparsity ablation --precision float

One thread on one pinned core. A layer is a whole node: it reads the planar rows that another kernel wrote and writes those that
the next one reads. Weights are seeded, and kernels are removed by norm, so that filters keep different numbers of them; only
useful multiply-adds count. Every answer is compared with the reference before anything is timed, and all is timed in turns, the
machine's limit among them. Other engines run the same networks before pruning.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks import machine
from benchmarks.sparse.accuracy import Accuracies

if TYPE_CHECKING:
    from benchmarks.sparse.layers import Shape

progress = Console(stderr=True, highlight=False)


def numbers(kind: Callable[[str], Any], least: float) -> Callable[[str], tuple[Any, ...]]:
    """The type of an option that is a list with commas."""

    def read(text: str) -> tuple[Any, ...]:
        values = tuple(kind(item) for item in text.split(","))
        if not values or min(values) < least:
            raise argparse.ArgumentTypeError(f"expected numbers of {least:g} or more with commas between them, found {text!r}")
        return values

    return read


def words(text: str) -> tuple[str, ...]:
    """The type of an option that is a list of names."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparsity", description="What pruning buys in speed.")
    commands = parser.add_subparsers(dest="command", required=True)
    layers = commands.add_parser("layers", help="every rate and share of several layers, and where pruning begins to pay")
    networks = commands.add_parser("networks", help="whole networks beside other engines' dense form, in the same rounds")
    ablation = commands.add_parser("ablation", help="what each idea adds to a layer")
    for command in (layers, networks, ablation):
        command.add_argument("--share", type=numbers(int, 1), default=(1, 2, 4), help="with commas; 1,2,4")
        command.add_argument("--rounds", type=int, default=15)
        command.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    for command in (layers, ablation):
        command.add_argument("--precision", choices=("int8", "float"), default="int8")
        command.add_argument("--layers", type=words, help="channels x size, with commas, as in 64x56,256x14; all")
    for command in (layers, networks):
        command.add_argument("--accuracy", type=Path, help="what benchmarks.miniatures sparsity --json wrote")
        command.add_argument("--plot", type=Path, help="a folder for pictures")
    layers.add_argument("--rate", type=numbers(float, 1), help="with commas; of 3x3 layers 2.25 (patterns only) or more")
    ablation.add_argument("--rate", type=float, default=8.1)
    networks.add_argument("--precision", type=words, default=("int8", "float"), help="ours, with commas; int8,float")
    networks.add_argument("--peer-precision", type=words, default=("int8", "float"), help="of other engines")
    networks.add_argument("--models", type=words, default=("resnet18", "vgg16", "resnet50", "mobilenet_v2"))
    networks.add_argument("--engines", type=words, help="other engines, with commas; all that are installed")
    networks.add_argument("--rate", type=float, help="of 3x3 layers; each network's own")
    networks.add_argument("--quad-rate", type=float, help="of 1x1 and fully connected layers; each network's own")
    networks.add_argument(
        "--allocation", choices=("uniform", "energy"), default="uniform", help="how layers share a rate; uniform"
    )
    networks.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    networks.add_argument("--folder", type=Path, default=Path("build/zoo"), help="where converted networks are kept")
    networks.add_argument("--lock", type=Path, help="a file to lock while timing")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds: expected a number above 0")
    return options


def shapes(chosen: Sequence[str] | None) -> list[Shape]:
    """The layers of the sweep, or those that are named. Raises ValueError for a name that says nothing."""
    from benchmarks.sparse.layers import Shape
    from benchmarks.sparse.sweep import SHAPES

    if not chosen:
        return list(SHAPES)
    found = []
    for name in chosen:
        channels, _, size = name.partition("x")
        if not (channels.isdigit() and size.isdigit()):
            raise ValueError(f"Expected a layer as channels x size, such as 64x56, found {name!r}.")
        found.append(Shape(int(channels), int(channels), int(size)))
    return found


def machine_limit(precision: str) -> tuple[Callable[[], object], int]:
    """The loop that reaches the machine's limit for a precision, and the multiply-adds that it does."""
    from benchmarks.limits import prepare_limits
    from benchmarks.sparse.sweep import LIMITS

    for limit in prepare_limits(1):
        if limit.name == LIMITS[precision]:
            return limit.run, limit.work
    raise ValueError(f"This machine has no instruction that {LIMITS[precision]}s could be measured by.")


def run_layers(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The sweep as data and as text."""
    from benchmarks.sparse.sweep import RATES, forms, measure_layer
    from benchmarks.sparse.tables import draw_layers, layers_table
    from tapdot.kernels.target import find_target

    accuracies, limit, target = Accuracies.read(options.accuracy), machine_limit(options.precision), find_target("host")
    results = [
        measure_layer(
            shape,
            forms(shape, options.rate or RATES, options.share),
            options.precision,
            target,
            options.rounds,
            limit,
            progress.print,
        )
        for shape in shapes(options.layers)
    ]
    for path in draw_layers(results, options.plot) if options.plot else []:
        progress.print(f"drawn: {path}")
    return {"layers": [result.json() for result in results]}, layers_table(results, accuracies)


def run_ablation(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The steps as data and as text."""
    from benchmarks.sparse.ablation import measure_ablation
    from benchmarks.sparse.sweep import SHAPES
    from benchmarks.sparse.tables import ablation_table
    from tapdot.kernels.target import find_target

    limit, target = machine_limit(options.precision), find_target("host")
    chosen = shapes(options.layers) if options.layers else [shape for shape in SHAPES if shape.kernel == 3 and shape.stride == 1]
    results = {
        shape.title: measure_ablation(
            shape, options.rate, options.share, options.precision, target, options.rounds, limit, progress.print
        )
        for shape in chosen
    }
    rows = [step.json(steps[0]) for steps in results.values() for step in steps]
    return {"rate": options.rate, "steps": rows}, ablation_table(results, options.precision, options.rate)


def run_networks(options: argparse.Namespace, cores: Sequence[int]) -> tuple[dict[str, Any], str]:
    """Networks as data and as text."""
    from benchmarks import zoo
    from benchmarks.engines import ENGINES
    from benchmarks.sparse.networks import NETWORKS, Rates, contenders, measure_network
    from benchmarks.sparse.tables import draw_networks, networks_table

    engines = options.engines if options.engines is not None else tuple(ENGINES)
    for given, known in ((options.models, tuple(zoo.NETWORKS)), (engines, tuple(ENGINES))):
        if unknown := set(given) - set(known):
            raise ValueError(f"Expected names out of {', '.join(known)}, found {', '.join(sorted(unknown))}.")
    accuracies = Accuracies.read(options.accuracy)
    results = []
    for name in options.models:
        own = NETWORKS.get(name, Rates(8.1))
        rates = Rates(options.rate or own.rate, options.quad_rate or own.quad_rate, options.allocation)
        results.append(
            measure_network(
                name,
                contenders(engines, options.precision, options.peer_precision, rates, options.share),
                rates,
                options.folder,
                cores,
                options.rounds,
                options.clock,
                options.lock,
                report=progress.print,
            )
        )
    for path in draw_networks(results, options.plot) if options.plot else []:
        progress.print(f"drawn: {path}")
    return {"networks": [result.json() for result in results]}, networks_table(results, accuracies)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    cores = machine.choose_cores(1)
    machine.pin(cores)
    described = machine.describe()
    try:
        if options.command == "networks":
            document, text = run_networks(options, cores)
        else:
            document, text = (run_layers if options.command == "layers" else run_ablation)(options)
    except (ValueError, OSError) as error:
        progress.print(str(error), style="red", markup=False)
        sys.exit(1)
    if options.json:
        print(json.dumps({"machine": described.json(), "rounds": options.rounds, **document}, indent=2))
    else:
        where = f"{described.processor} ({described.system}), {described.date}"
        print(f"Measured on {where}: one thread, {options.rounds} interleaved rounds, medians.\n\n{text}")


if __name__ == "__main__":
    main()
