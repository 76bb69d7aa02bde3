"""Configurations from a record database, for compiling: the winner where there is one, the family's default elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tapdot.kernels.family import Config, Family
from tapdot.kernels.target import Target
from tapdot.kernels.versions import SUPPORTED_TVM
from tapdot.kernels.workload import Workload
from tapdot.runtime.tuning.record import DONE, INSTRUCTIONS, Record, config_text, digest_of_target
from tapdot.runtime.tuning.records import Records
from tapdot.runtime.tuning.verdict import LEAST_FEWER, LEAST_GAIN

RECORDS_NOTE = "Tuning records"
"""How the notes begin that records leave in a package."""


@dataclass
class Recorded:
    """A ``Configure`` for lowering. :meth:`notes` says afterwards what was found, and what was skipped and why.

    Records count that were made for the very target, family version and TVM. Where several devices have tuned for one target, the
    one tuned last decides.
    """

    records: Records
    tuned: int = 0
    kept: int = 0
    unknown: int = 0
    stale: dict[str, int] = field(default_factory=dict)
    devices: dict[str, set[str]] = field(default_factory=dict)
    _chosen: dict[str, Config] = field(default_factory=dict)

    def __call__(self, family: Family, workload: Workload, target: Target) -> Config:
        """The configuration to build."""
        default = family.default_config(workload, target)
        if len(family.space(workload, target)) == 0:
            return default
        key = f"{family.name} {workload.key}"
        if key not in self._chosen:
            self._chosen[key] = self._choose(family, workload, target, default)
        return self._chosen[key]

    def notes(self) -> tuple[str, ...]:
        """What a package says of its configurations."""
        lines = [
            f"{RECORDS_NOTE} {self.records.title}: {self.tuned} kernels tuned, {self.kept} where the default is best, "
            f"{self.unknown} without a record."
        ]
        lines += [f"{RECORDS_NOTE} skipped: {count} {reason}." for reason, count in sorted(self.stale.items())]
        if len(self.devices) > 1:
            names = ", ".join(sorted(self.records.fact(f"device {device}") or device for device in self.devices))
            lines.append(
                f"{RECORDS_NOTE} of several devices for this target: {names}. For each kernel the one tuned last decided."
            )
        return tuple(lines)

    def _choose(self, family: Family, workload: Workload, target: Target, default: Config) -> Config:
        digest = digest_of_target(target)
        found = [record for record in self.records.find(workload=workload.key) if record.family == family.name]
        fitting = [record for record in found if record.target == digest and not self._is_stale(record, family)]
        if not fitting:
            self.unknown += 1
            return default
        fitting = _latest_device(fitting)
        self.devices.setdefault(fitting[0].device, set()).add(workload.key)
        winner = choose(fitting, default)
        settled = family.settle(workload, winner, target)
        if settled is None or set(winner) != set(default) or config_text(winner) == config_text(default):
            self.kept += 1
            return default
        self.tuned += 1
        return winner

    def _is_stale(self, record: Record, family: Family) -> bool:
        if record.version != family.version:
            reason = f"of version {record.version} of the {family.name} kernels, which are at {family.version}"
        elif record.tvm != SUPPORTED_TVM:
            reason = f"of tvm {record.tvm}, where {SUPPORTED_TVM} generates the code"
        else:
            return False
        self.stale[reason] = self.stale.get(reason, 0) + 1
        return True


def _latest_device(records: Sequence[Record]) -> list[Record]:
    """Those of the device and number of threads that were recorded last; one thread before several."""
    fewest = min(record.threads for record in records)
    own = [record for record in records if record.threads == fewest]
    latest = max(own, key=lambda record: record.finished)
    return [record for record in own if (record.device, record.unit) == (latest.device, latest.unit)]


def choose(records: Sequence[Record], default: Config) -> Config:
    """The configuration to use by the records of one kernel at one place.

    Where winners were measured in turns with the default, the one of the largest gain. Where tuning ended before that, the
    fastest, if it is faster than the default by more than the noise of both.
    """
    done = [record for record in records if record.state == DONE and record.value is not None]
    compared = [record for record in done if record.gain is not None]
    if compared:
        best = max(compared, key=lambda record: record.gain or 0.0)
        return best.configuration if (best.gain or 0.0) > 1.0 else default
    own = next((record for record in done if record.config == config_text(default)), None)
    if own is None or not done:
        return default
    best = min(done, key=lambda record: record.value or 0.0)
    least = LEAST_FEWER if best.unit == INSTRUCTIONS else max(LEAST_GAIN, 1 + best.spread + own.spread)
    return best.configuration if (best.value or 0.0) * least < (own.value or 0.0) else default
