"""The tables of tuning: live while it works, at its end, and of a record database."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from tapdot.cli.progress import SECONDS_BETWEEN_LINES, progress
from tapdot.runtime.tuning.record import CLAIMED, DONE, INSTRUCTIONS, UNREADABLE
from tapdot.runtime.tuning.records import best

if TYPE_CHECKING:
    from tapdot.runtime.tuning.records import Records
    from tapdot.runtime.tuning.report import Row, Snapshot, TuningResult

OTHER_LINES = 4
"""Of the terminal, beside the rows of the live table."""


class Live:
    """Shows snapshots: as a table that stays in place on a terminal, as a line now and then elsewhere. Use it in a ``with``."""

    def __init__(self) -> None:
        self._live = RichLive(console=progress, auto_refresh=False, transient=True) if progress.is_terminal else None
        self._printed = time.monotonic()

    def __enter__(self) -> Live:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, snapshot: Snapshot) -> None:
        """Shows the state."""
        if self._live is not None:
            most = max(1, progress.height - OTHER_LINES)
            self._live.update(Group(live_table(snapshot, most), Text(status(snapshot))), refresh=True)
        elif time.monotonic() - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            progress.print(status(snapshot), markup=False, soft_wrap=True)


def status(snapshot: Snapshot) -> str:
    """One line about the whole."""
    left = "" if snapshot.seconds_left is None else f", about {_clock(snapshot.seconds_left)} left"
    doing = f"; {snapshot.doing}" if snapshot.doing else ""
    todo = snapshot.wanted - snapshot.trials
    return f"{snapshot.trials} of {snapshot.wanted} trials, {todo} left, {_clock(snapshot.seconds)}{left}{doing}"


def live_table(snapshot: Snapshot, most: int) -> Table:
    """The workloads with the largest share of the model's time."""
    table = _table(snapshot.unit)
    for row in sorted(snapshot.rows, key=lambda row: -row.share)[:most]:
        table.add_row(*_cells(row, snapshot.unit, row.gain if row.gain is not None else row.apparent_gain))
    return table


def result_table(result: TuningResult) -> Table:
    """All workloads; gains are those measured in turns."""
    table = _table(result.unit)
    for row in sorted(result.rows, key=lambda row: -row.share):
        table.add_row(*_cells(row, result.unit, row.gain))
    return table


def _table(unit: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    figure = _figure_name(unit)
    for column in ("workload", "family", "share", "trials", f"default, {figure}", f"best, {figure}", "gain"):
        table.add_column(column, justify="left" if column in ("workload", "family") else "right", overflow="fold")
    return table


def _cells(row: Row, unit: str, gain: float | None) -> list[str]:
    trials = f"{row.trials}" if row.configurations is None else f"{row.trials} of {row.configurations}"
    shown = "" if gain is None else f"{gain:.3f} x" if gain > 1.0 else "-"
    return [
        row.title,
        row.family,
        f"{row.share:.1%}",
        trials,
        _figure(row.default, unit),
        _figure(row.best, unit),
        shown,
    ]


def _figure_name(unit: str) -> str:
    return "k instructions" if unit == INSTRUCTIONS else "us"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    shown = value / 1e3 if unit == INSTRUCTIONS else value * 1e6
    return f"{shown:.1f}" if shown >= 10 else f"{shown:.3g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


# -- what a database holds --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KernelSummary:
    """What is known of one kernel at one place. Figures are of one call; ``gain`` is measured in turns with the default."""

    operation: str
    family: str
    device: str
    target: str
    threads: int
    trials: int
    failures: int
    unit: str
    best: float | None
    gain: float | None
    config: dict[str, int] | None

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def summaries(records: Records) -> list[KernelSummary]:
    """One for each kernel and place."""
    facts = records.facts()
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for record in records.find():
        if record.state != CLAIMED:
            key = (record.device, record.target, record.threads, record.family, record.version, record.tvm, record.workload)
            groups.setdefault(key, []).append(record)
    found = []
    for (device, target, threads, family, _, _, workload), group in sorted(groups.items()):
        winner = max((record for record in group if record.gain is not None), key=lambda record: record.gain, default=best(group))
        found.append(
            KernelSummary(
                _said(facts, "workload", workload, _operation),
                family,
                facts.get(f"device {device}", device),
                _said(facts, "target", target, lambda fact: str(fact["name"])),
                threads,
                len(group),
                sum(record.state != DONE for record in group),
                group[0].unit,
                winner.value if winner is not None else None,
                winner.gain if winner is not None else None,
                winner.configuration if winner is not None else None,
            )
        )
    return found


def _said(facts: Mapping[str, str], kind: str, key: str, say: Callable[[Any], str]) -> str:
    """What a key stands for, in words; the key itself where no fact says it, or none that this version can read."""
    try:
        return say(json.loads(facts[f"{kind} {key}"]))
    except UNREADABLE:
        return key


def _operation(workload: dict[str, Any]) -> str:
    """A workload in short: ``QConv 3x3 by 2, 64x56x56 to 128x28x28, residual``."""
    inputs = [*workload["inputs"], None, None]
    given, weights, others = inputs[0], inputs[1], inputs[2:]
    result, attributes = workload["outputs"][0], workload["attributes"]
    window = attributes.get("kernel_shape") or (weights["shape"][2:] if weights and len(weights["shape"]) == 4 else [])
    steps = [step for step in attributes.get("strides", []) if step != 1]
    shapes = ["x".join(map(str, operand["shape"][1:])) for operand in (given, result) if operand]
    words = [workload["op"], "x".join(map(str, window)), f"by {steps[0]}" if window and steps else ""]
    parts = [" ".join(filter(None, words)) + ("," if window else "") + f" {' to '.join(shapes)}"]
    parts += [f"{attributes['group']} groups"] if attributes.get("group", 1) != 1 else []
    parts += ["residual"] if any(operand and operand["shape"] == result["shape"] for operand in others) else []
    return ", ".join(parts)


def records_tables(rows: list[KernelSummary]) -> list[Table]:
    """The same for a terminal: a table for each device, target and number of threads, slowest kernels first."""
    places: dict[tuple[str, str, int, str], list[KernelSummary]] = {}
    for row in rows:
        places.setdefault((row.device, row.target, row.threads, row.unit), []).append(row)
    return [_table_of_place(place, group) for place, group in sorted(places.items())]


def _table_of_place(place: tuple[str, str, int, str], rows: list[KernelSummary]) -> Table:
    device, target, threads, unit = place
    title = f"{device}; target {target}, {threads} thread{'s' * (threads > 1)}"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for column in ("kernel", "family", "trials", "failed", f"best, {_figure_name(unit)}", "gain"):
        table.add_column(column, justify="left" if column in ("kernel", "family") else "right", overflow="fold")
    for row in sorted(rows, key=lambda row: -(row.best or 0.0)):
        shown = "" if row.gain is None else f"{row.gain:.3f} x" if row.gain > 1.0 else "-"
        counts = (str(row.trials), str(row.failures or ""))
        table.add_row(row.operation, row.family, *counts, _figure(row.best, row.unit), shown)
    return table
