"""How near the tuner comes to an exhaustive search, in a tenth of its trials: ``python -m benchmarks.tuning``.

For each named workload every configuration is measured once; then the tuner, from nothing, gets a tenth as many trials, with
several seeds. The default, the exhaustive search's best and the tuner's winners are then measured again in turns, many rounds, in
one process: what counts is the median of the rounds' ratios, not the figures of the search, whose best is partly luck.

One thread computes, so that ``splits`` (parts for threads) stays at the default's value.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import files
from benchmarks.sparse.layers import Form, Shape, compiled
from tapdot.kernels.family import Config
from tapdot.kernels.target import find_target
from tapdot.runtime.devices import connect
from tapdot.runtime.tuning.candidates import build_candidate
from tapdot.runtime.tuning.record import Place, Problem
from tapdot.runtime.tuning.records import Records, best
from tapdot.runtime.tuning.report import Snapshot
from tapdot.runtime.tuning.runners import WorkerRunner
from tapdot.runtime.tuning.tune import place_of
from tapdot.runtime.tuning.tuner import Options, Tuner
from tapdot.runtime.tuning.workloads import Subject, subjects

DENSE, SPARSE = Form(), Form(8.0, 2)


@dataclass(frozen=True)
class Named:
    """A layer with a name."""

    shape: Shape
    form: Form
    precision: str


WORKLOADS = {
    "dense-float-3x3": Named(Shape(64, 64, 28), DENSE, "float"),
    "dense-float-1x1": Named(Shape(256, 64, 28, kernel=1), DENSE, "float"),
    "dense-int8-3x3": Named(Shape(128, 128, 28), DENSE, "int8"),
    "dense-int8-1x1": Named(Shape(256, 64, 56, kernel=1), DENSE, "int8"),
    "pattern-float-3x3": Named(Shape(128, 128, 28), SPARSE, "float"),
    "pattern-int8-3x3": Named(Shape(128, 128, 28), SPARSE, "int8"),
}
SHARE_OF_TRIALS = 0.1
ALLOWED = 1.03
"""The tuner's winner over the exhaustive search's best."""


@dataclass(frozen=True)
class Outcome:
    """One workload. ``ratios`` are of the tuner's winners to the exhaustive best, one a seed, measured in turns."""

    name: str
    family: str
    configurations: int
    trials: int
    default_microseconds: float
    best_microseconds: float
    gain: float
    ratios: tuple[float, ...]
    exhaustive_seconds: float
    best_config: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether the tuner came near enough with most seeds."""
        return statistics.median(self.ratios) <= ALLOWED


def subject_of(named: Named, most: int | None) -> Subject:
    """What there is to tune, at the default's ``splits``; of more than ``most`` configurations evenly chosen ones."""
    target = find_target("host")
    graph, node = compiled(named.shape, named.form, named.precision, target)
    (subject,) = subjects(graph, [node], target)
    default = subject.default
    kept = [config for config in subject.configurations if config.get("splits") == default.get("splits")]
    if most is not None and len(kept) > most:
        step = len(kept) / most
        kept = [kept[int(index * step)] for index in range(most)]
    return replace(subject, limited_to=tuple(kept))


def search(subject: Subject, place: Place, database: Path, options: Options, title: str) -> tuple[Config, float, float]:
    """Tunes one subject from nothing or from where it ended: its best configuration, that one's figure, seconds taken."""
    begin = time.monotonic()

    def watch(snapshot: Snapshot) -> None:
        if sys.stderr.isatty():
            print(f"\r{title}: {snapshot.trials} of {snapshot.wanted}   ", end="", file=sys.stderr)

    with Records(database) as records:
        Tuner(title, (subject,), place, "host", records, [WorkerRunner()], options, alone=True, watch=watch).run()
        found = records.of(Problem.of(subject.workload, subject.family, place))
        winners = [record for record in found if (record.gain or 0.0) > 1.0]
        winner = max(winners, key=lambda record: record.gain or 0.0) if winners else best(found)
        if winner is None:
            raise SystemExit(f"{title}: no configuration could be measured.")
        return winner.configuration, winner.value or 0.0, time.monotonic() - begin


def in_turns(subject: Subject, configs: Sequence[Config], rounds: int) -> list[list[float]]:
    """Seconds of several configurations, round by round."""
    runner = WorkerRunner()
    try:
        return runner.compare([build_candidate(subject, config) for config in configs], rounds, 60.0 * rounds)
    finally:
        runner.close()


def measure(name: str, options: argparse.Namespace, place: Place) -> Outcome:
    """One workload: all of its space, then the tuner's attempts, then all winners in turns."""
    subject = subject_of(WORKLOADS[name], options.most)
    count = len(subject.configurations)
    folder = Path(options.folder)
    everything = Options(count, "grid", trial_limit=options.trial_limit)
    best_config, _, seconds = search(subject, place, folder / f"{name}-all.db", everything, f"{name}, all")
    trials = max(2, int(count * SHARE_OF_TRIALS))
    winners = []
    for seed in range(options.seeds):
        few = replace(everything, trials=trials, sampler=options.sampler, seed=seed)
        winners.append(search(subject, place, folder / f"{name}-{options.sampler}-{seed}.db", few, f"{name}, seed {seed}")[0])
    figures = in_turns(subject, [subject.default, best_config, *winners], options.rounds)
    ratios = [statistics.median(a / b for a, b in zip(own, figures[1], strict=True)) for own in figures[2:]]
    return Outcome(
        name,
        subject.family.name,
        count,
        trials,
        statistics.median(figures[0]) * 1e6,
        statistics.median(figures[1]) * 1e6,
        statistics.median(a / b for a, b in zip(figures[0], figures[1], strict=True)),
        tuple(ratios),
        seconds,
        dict(best_config),
    )


def table(outcomes: Sequence[Outcome], sampler: str) -> str:
    """In Markdown."""
    lines = [
        f"| workload | configurations | default, us | best of all, us | gain | {sampler} in a tenth of the trials, over best |",
        "|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        ratios = ", ".join(f"{ratio:.3f}" for ratio in one.ratios)
        times = f"{one.default_microseconds:.1f} | {one.best_microseconds:.1f} | {one.gain:.3f} x"
        lines.append(f"| {one.name} | {one.configurations} | {times} | {ratios} ({one.trials} trials) |")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__.partition("\n")[0])
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--folder", default="build/tuning", help="where record databases are kept; a search goes on from there")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--most", type=int, help="look at so many configurations only")
    parser.add_argument("--trial-limit", type=float, default=20.0)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the workloads; 1 where the tuner stayed too far from the best."""
    options = parse(arguments)
    Path(options.folder).mkdir(parents=True, exist_ok=True)
    place = place_of(connect("host"), find_target("host"))
    outcomes: list[Outcome] = []
    for name in options.workloads:
        outcomes.append(measure(name, options, place))
        print(f"{name}: {'within' if outcomes[-1].passed else 'NOT within'} {ALLOWED - 1:.0%}", file=sys.stderr)
    print(table(outcomes, options.sampler))
    if options.json:
        document: dict[str, Any] = {"device": place.title, "workloads": [asdict(one) for one in outcomes]}
        files.replace(options.json, lambda path: path.write_text(json.dumps(document, indent=1)))
    return 0 if all(one.passed for one in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
