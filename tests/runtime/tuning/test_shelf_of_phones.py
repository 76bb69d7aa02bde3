"""Four emulated phones behind one tracker tune together while one of them is killed and comes back, again and again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import tapdot
from tapdot.runtime.bundle import build_bundle
from tapdot.runtime.devices.tracker import Shelf, look
from tapdot.runtime.devices.tracker_protocol import TrackerConnection
from tapdot.runtime.tuning.candidates import Candidate, CandidateError, build_candidate
from tapdot.runtime.tuning.record import DONE, FAILED, INSTRUCTIONS, config_text
from tapdot.runtime.tuning.records import Records
from tapdot.runtime.tuning.report import Snapshot
from tapdot.runtime.tuning.runners import CountingRunner, SessionRunner
from tapdot.runtime.tuning.workloads import Subject, subjects_of_package

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

PHONES = 4
KEY = "phones"
SHORT_TRIALS, LONG_TRIALS = 8, 48
TRIALS_PER_KILL = 6
REPEATABLE = 1e-3
"""A share by which two counts of one kernel may differ."""


def command(*arguments: str) -> subprocess.Popen[str]:
    """A command of tapdot's that serves until it is killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "tapdot.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"},
    )


class Phones:
    """``tapdot tracker`` and ``tapdot serve`` with four emulated phones, of which any can be killed."""

    def __init__(self) -> None:
        self.tracker = command("tracker", "--port", "0")
        assert self.tracker.stdout is not None
        found = re.match(r"tracker at 127\.0\.0\.1:(\d+)", self.tracker.stdout.readline())
        assert found is not None
        self.port = int(found[1])
        place = ["--key", KEY, "--tracker", f"127.0.0.1:{self.port}"]
        self.server = command("serve", *place, *(word for _ in range(PHONES) for word in ("--device", "emulated")))

    @property
    def line(self) -> str:
        return f"tracker://127.0.0.1:{self.port}/{KEY}"

    def look(self) -> Shelf:
        with TrackerConnection("127.0.0.1", self.port) as connection:
            return look(connection, KEY)

    def agents(self) -> list[psutil.Process]:
        found = psutil.Process(self.server.pid).children()
        return [agent for agent in found if agent.status() != psutil.STATUS_ZOMBIE]

    def kill_one(self) -> None:
        """A phone goes off in the middle of a session, and all that runs on it with it."""
        busy = [agent for agent in self.agents() if agent.children()]
        victim = (busy or self.agents())[0]
        for process in (victim, *victim.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        for process in (self.server, self.tracker):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()


@pytest.fixture
def phones() -> Iterator[Phones]:
    build_bundle("aarch64")
    shelf = Phones()
    wait_for(lambda: shelf.look().free == PHONES)
    yield shelf
    shelf.end()


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def test_four_phones_finish_the_trials_while_one_is_killed_and_comes_back(
    phones: Phones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    trials = LONG_TRIALS if request.config.getoption("--soak") else SHORT_TRIALS
    torch.manual_seed(0)
    package = tapdot.compile(torch.nn.Conv2d(4, 16, 3).eval(), (torch.zeros(1, 4, 8, 8),), target="cortex-a76")
    runs: Counter[str] = Counter()
    runners: set[int] = set()
    measure, killed = SessionRunner.measure, 0

    def note(
        self: SessionRunner, candidate: Candidate, best: float | None, limit: float
    ) -> tuple[Sequence[np.ndarray], Sequence[float]]:
        runs[config_text(candidate.config)] += 1
        runners.add(id(self))
        return measure(self, candidate, best, limit)

    def kill_now_and_then(snapshot: Snapshot) -> None:
        nonlocal killed
        if snapshot.trials >= 2 + killed * TRIALS_PER_KILL and snapshot.trials < trials:
            killed += 1
            phones.kill_one()

    monkeypatch.setattr(SessionRunner, "measure", note)
    result = tapdot.tune(
        package, device=phones.line, trials=trials, records=tmp_path / "records.db", sampler="grid", watch=kill_now_and_then
    )
    assert (result.trials, result.new_trials, result.unit) == (trials, trials, INSTRUCTIONS)
    assert killed >= max(1, trials // (2 * TRIALS_PER_KILL)) and len(runners) > 1
    wait_for(lambda: phones.look().devices == PHONES)  # back on the shelf

    (subject,) = (one for one in subjects_of_package(package) if one.family.name == "convolution")
    with Records(tmp_path / "records.db") as records:
        found = records.find()
        with records.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT COUNT(*) FROM tapdot_records WHERE state = 'claimed'").scalar() == 0
    assert {record.config for record in found} == first_of_the_grid(subject, trials)
    assert max(runs.values()) == 1  # a trial whose phone was lost goes on on another one
    alone = CountingRunner("cortex-a76")
    for record in found[:SHORT_TRIALS]:
        try:
            again = alone.try_out(build_candidate(subject, record.configuration), None, 120)
        except CandidateError as error:
            assert (record.state, record.detail) == (FAILED, str(error))
            continue
        assert record.state == again.state == DONE, (record.detail, again.detail)
        assert record.value == pytest.approx(again.value, rel=REPEATABLE)


def first_of_the_grid(subject: Subject, trials: int) -> set[str]:
    """The default, and what follows it in order."""
    texts = [config_text(config) for config in subject.configurations]
    default = config_text(subject.default)
    return {default, *[text for text in texts if text != default][: trials - 1]}
