"""Measurements as numbers: what was timed, and the table and the JSON document that are made of it."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks import zoo
from benchmarks.engines import ENGINES
from benchmarks.machine import Machine
from benchmarks.worker import Turn

BASIS = "tapdot"
"""The engine that the others' times are divided by."""


@dataclass
class Timing:
    """One engine on one network: its rounds, one turn each."""

    engine: str
    version: str
    error: float
    """Largest difference from torch's logits, as a share of their range."""
    prepare_seconds: float
    turns: list[Turn] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [second for turn in self.turns for second in turn.seconds]

    @property
    def median(self) -> float:
        """Seconds, over every timed call."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The middle half of the timed calls lies between these, in seconds."""
        if len(self.seconds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    @property
    def best(self) -> float:
        return min(self.seconds)

    def ratio_to(self, basis: "Timing") -> float:
        """This engine's time over the basis's, taken round by round: a slow minute of the machine divides out."""
        return statistics.median(
            statistics.median(own.seconds) / statistics.median(other.seconds)
            for own, other in zip(self.turns, basis.turns, strict=True)
        )


@dataclass
class Table:
    """One network: the engines that ran, and a sentence for each that did not."""

    model: str
    macs: int
    timings: list[Timing] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def basis(self) -> Timing | None:
        return next((timing for timing in self.timings if timing.engine == BASIS), None)


@dataclass
class Rate:
    """A limit of the machine, measured in the same rounds as the engines: per second, the median."""

    name: str
    unit: str
    using: str
    work: int
    turns: list[Turn] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return self.work / statistics.median(second for turn in self.turns for second in turn.seconds)


@dataclass
class Report:
    """A whole measurement."""

    machine: Machine
    precision: str
    threads: int
    rounds: int
    clock: str
    tables: list[Table]
    limits: dict[str, Rate]

    def compute_limit(self) -> Rate | None:
        """The rate that this precision's arithmetic is held against."""
        return self.limits.get("float32 multiply-add" if self.precision == "float" else "int8 dot")

    def interrupted_share(self) -> float:
        """The share of turns in which the system took a core away: near zero on a quiet machine."""
        turns = [turn for table in self.tables for timing in table.timings for turn in timing.turns]
        return sum(turn.interruptions > 0 for turn in turns) / len(turns) if turns else 0.0

    def json(self) -> dict[str, Any]:
        """Everything, raw times included, as plain data."""
        limit = self.compute_limit()
        return {
            "machine": self.machine.json(),
            "precision": self.precision,
            "threads": self.threads,
            "rounds": self.rounds,
            "clock": self.clock,
            "interrupted_share": self.interrupted_share(),
            "limits": {
                rate.name: {"per_second": rate.per_second, "unit": rate.unit, "using": rate.using}
                for rate in self.limits.values()
            },
            "models": {
                table.model: {
                    "macs": table.macs,
                    "engines": {timing.engine: self._timing_json(timing, table, limit) for timing in table.timings},
                    "absent": table.absent,
                }
                for table in self.tables
            },
        }

    def _timing_json(self, timing: Timing, table: Table, limit: Rate | None) -> dict[str, Any]:
        basis = table.basis()
        return {
            "version": timing.version,
            "milliseconds": timing.median * 1e3,
            "quartiles_ms": [second * 1e3 for second in timing.quartiles],
            "best_ms": timing.best * 1e3,
            "ratio_to_tapdot": None if basis is None else timing.ratio_to(basis),
            "share_of_limit": None if limit is None else table.macs / timing.median / limit.per_second,
            "largest_error": timing.error,
            "prepare_seconds": timing.prepare_seconds,
            "rounds_ms": [[second * 1e3 for second in turn.seconds] for turn in timing.turns],
        }

    def markdown(self) -> str:
        """Tables to read, one a network."""
        lines = [
            f"Measured on {self.machine.processor} ({self.machine.cores} cores, {self.machine.system}), "
            f"{self.machine.date}: {self.precision}, batch 1, threads: {self.threads}, {self.rounds} interleaved rounds, "
            f"medians over every timed call, {self.clock} time.",
            "",
        ]
        if self.interrupted_share() > 0.1:
            lines += [
                f"The machine was not quiet: in {self.interrupted_share():.0%} of the turns the system took a core away. "
                "Trust ratios and best times more than medians.",
                "",
            ]
        if self.limits:
            rates = [f"{rate.name} {rate.per_second / 1e9:.1f} G{rate.unit} ({rate.using})" for rate in self.limits.values()]
            lines += [f"Limits of the machine: {', '.join(rates)}.", ""]
        for table in self.tables:
            lines += [f"### {zoo.NETWORKS[table.model].title}, {table.macs / 1e9:.3f} GMAC", "", *self._rows(table), ""]
        return "\n".join(lines)

    def _rows(self, table: Table) -> list[str]:
        limit, basis = self.compute_limit(), table.basis()
        rows = [
            "| engine | ms | middle half | best | time / tapdot's | share of limit | largest error |",
            "|---|---|---|---|---|---|---|",
        ]
        for timing in table.timings:
            low, high = timing.quartiles
            ratio = "-" if basis is None else f"{timing.ratio_to(basis):.2f}"
            share = "-" if limit is None else f"{table.macs / timing.median / limit.per_second:.0%}"
            rows.append(
                f"| {ENGINES[timing.engine].title} {timing.version} | {timing.median * 1e3:.2f} "
                f"| {low * 1e3:.2f} to {high * 1e3:.2f} | {timing.best * 1e3:.2f} | {ratio} | {share} | {timing.error:.1e} |"
            )
        rows += ["", *(f"- {ENGINES[engine].title}: {why}" for engine, why in table.absent.items())]
        return rows if table.absent else rows[:-1]
