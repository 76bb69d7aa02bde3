"""What tuning shows while it works, and what it leaves to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tapdot.runtime.tuning.record import INSTRUCTIONS


@dataclass(frozen=True)
class Row:
    """One workload. ``default`` and ``best`` are figures of one call, None while there is none; ``share`` is of the model's time.

    ``gain`` is how many times faster than the default the winner is, measured in turns; None before that was done.
    """

    title: str
    family: str
    workload: str
    occurrences: int
    share: float
    trials: int
    configurations: int | None
    default: float | None
    best: float | None
    config: Mapping[str, int] | None
    gain: float | None

    @property
    def apparent_gain(self) -> float | None:
        """The gain before both were measured in turns: an optimistic one."""
        return None if self.default is None or self.best is None else self.default / self.best


@dataclass(frozen=True)
class Snapshot:
    """The state of tuning. ``trials`` counts what the records know of these workloads; ``seconds_left`` is a guess."""

    rows: tuple[Row, ...]
    trials: int
    wanted: int
    seconds: float
    seconds_left: float | None
    unit: str
    doing: str = ""


@dataclass(frozen=True)
class TuningResult:
    """What tuning found. ``own_share`` is the part of its time in which nothing was built and nothing ran."""

    name: str
    device: str
    target: str
    threads: int
    records: str
    unit: str
    rows: tuple[Row, ...]
    trials: int
    new_trials: int
    wrong: int
    failed: int
    seconds: float
    building_share: float
    running_share: float
    own_share: float
    remarks: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def total_gain(self) -> float:
        """Of the sum over all tuned kernels of the model: the default's over the winners'."""
        known = [row for row in self.rows if row.default is not None]
        before = sum((row.default or 0.0) * row.occurrences for row in known)
        after = sum((row.default or 0.0) * row.occurrences / (row.gain or 1.0) for row in known)
        return before / after if after else 1.0

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "total_gain": self.total_gain}

    def __str__(self) -> str:
        what = "instructions" if self.unit == INSTRUCTIONS else "times"
        faster = sum(1 for row in self.rows if (row.gain or 1.0) > 1.0)
        bad = "".join(f", {count} {word}" for count, word in ((self.wrong, "wrong"), (self.failed, "failed")) if count)
        return (
            f"{self.name} on {self.device}: {self.trials} trials of {len(self.rows)} workloads ({self.new_trials} new{bad}), "
            f"{faster} better than the default by {what} measured in turns, {self.total_gain:.3f} x over all of them. "
            f"{self.seconds:.0f} s: {self.building_share:.0%} building, {self.running_share:.0%} running, {self.own_share:.0%} "
            f"neither. Records: {self.records}"
        )
