"""A tuner to be killed: tunes a package on a device and logs every run of a candidate, a line each, as it starts.

Arguments: package, device, records, log, trials.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tapdot
from tapdot.runtime.tuning.candidates import Candidate
from tapdot.runtime.tuning.record import Problem
from tapdot.runtime.tuning.runners import SessionRunner
from tapdot.runtime.tuning.tune import place_of, tune_package
from tapdot.runtime.tuning.tuner import Options


def main() -> None:
    package, device, records, log, trials = sys.argv[1:]
    loaded, where = tapdot.load(package), tapdot.connect(device)
    while True:
        try:
            place = place_of(where, loaded.target)
            break
        except tapdot.TapdotError:  # the agent was killed a moment ago
            continue
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    measure = SessionRunner.measure

    def logged(
        self: SessionRunner, candidate: Candidate, best: float | None, limit: float
    ) -> tuple[Sequence[np.ndarray], Sequence[float]]:
        subject = candidate.subject
        key = Problem.of(subject.workload, subject.family, place).key(candidate.config)
        os.write(handle, f"{key}\n".encode())
        return measure(self, candidate, best, limit)

    SessionRunner.measure = logged  # type: ignore[method-assign]
    while True:
        try:
            tune_package(loaded, where, Options(int(trials), seed=0, trial_limit=20), records=Path(records))
            return
        except tapdot.TapdotError as error:
            if "closed the connection" not in str(error) and "Nothing listens" not in str(error):
                raise


if __name__ == "__main__":
    main()
