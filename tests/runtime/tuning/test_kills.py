"""The tuner, the agent or both are killed at random: no record is lost or wrong, no trial is repeated, nothing hangs."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import tapdot
from tapdot.runtime.bundle import Bundle
from tapdot.runtime.tuning.record import DONE, Record
from tapdot.runtime.tuning.records import Records

KEY = "a-key-for-this-test-alone"
SHORT_KILLS, LONG_KILLS = 3, 50
TRIALS_PER_KILL = 5
MOST_SECONDS_BETWEEN_KILLS = 60.0
LAST_SECONDS = 600.0
VICTIM = Path(__file__).parent / "tuning_victim.py"


@dataclass
class Shelf:
    """An agent at one port and a tuner that uses it; both can be killed and started again."""

    bundle: Bundle
    folder: Path
    package: Path
    trials: int
    port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    """How often each configuration had run when it was first seen recorded."""

    @property
    def records(self) -> Path:
        return self.folder / "records.db"

    @property
    def log(self) -> Path:
        return self.folder / "runs"

    def start(self, which: str) -> None:
        command = self._agent() if which == "agent" else self._tuner()
        with open(self.folder / f"{which}.errors", "ab") as errors:
            self.processes[which] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=os.environ | {"TAPDOT_KEY": KEY, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def kill(self, which: str) -> None:
        process = self.processes.pop(which)
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        for which in list(self.processes):
            self.kill(which)

    def runs(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def done(self) -> dict[str, Record]:
        if not self.records.exists():
            return {}
        with Records(self.records) as records:
            return {record.key: record for record in records.find()}

    def _agent(self) -> list[str]:
        agent = self.folder / "agent"
        agent.mkdir(exist_ok=True)
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as chosen:
                self.port = chosen.getsockname()[1]
        options = ["--port", str(self.port), "--directory", str(agent), "--cache", str(self.folder / "cache")]
        return [*self.bundle.command("tapdot-agent"), *options]

    def _tuner(self) -> list[str]:
        device = f"rpc://127.0.0.1:{self.port}"
        return [sys.executable, str(VICTIM), str(self.package), device, str(self.records), str(self.log), str(self.trials)]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3), torch.nn.MaxPool2d(2)]
    module = torch.nn.Sequential(*layers)
    path = tmp_path_factory.mktemp("victim") / "small.tapdot"
    tapdot.compile(module.eval(), (torch.zeros(1, 3, 16, 16),)).save(path)
    return path


@pytest.mark.slow
def test_kills_lose_nothing(native_bundle: Bundle, tmp_path: Path, package: Path, request: pytest.FixtureRequest) -> None:
    kills = LONG_KILLS if request.config.getoption("--soak") else SHORT_KILLS
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    shelf = Shelf(native_bundle, tmp_path, package, kills * TRIALS_PER_KILL)
    known: dict[str, Record] = {}
    try:
        shelf.start("agent")
        shelf.start("tuner")
        for _ in range(kills):
            _wait_for_progress(shelf, chance)
            victims = chance.choice((("tuner",), ("agent",), ("tuner", "agent")))
            for which in victims:
                shelf.kill(which)
            known = _check(shelf, known)
            time.sleep(chance.choice((0, 0, 0.2)))
            for which in reversed(victims):
                shelf.start(which)
        assert shelf.processes["tuner"].wait(LAST_SECONDS) == 0, (tmp_path / "tuner.errors").read_text()[-2000:]
    finally:
        shelf.end()
    found = _check(shelf, known)
    assert len(found) == shelf.trials
    assert {record.state for record in found.values()} == {DONE}, [record.detail for record in found.values()]
    assert all(record.value is not None and 0 < record.value < 1 and record.runs >= 1 for record in found.values())
    with Records(shelf.records) as records, records.engine.connect() as connection:
        claims = connection.exec_driver_sql("SELECT COUNT(*) FROM tapdot_records WHERE state = 'claimed'").scalar()
    assert claims == 0


def _wait_for_progress(shelf: Shelf, chance: random.Random) -> None:
    """Until some more candidates ran, the tuner has finished, or it was long enough."""
    wanted = len(shelf.runs()) + chance.choice((0, 1, 2, 4))
    deadline = time.monotonic() + MOST_SECONDS_BETWEEN_KILLS
    while len(shelf.runs()) < wanted and time.monotonic() < deadline and shelf.processes["tuner"].poll() is None:
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.4))


def _check(shelf: Shelf, before: dict[str, Record]) -> dict[str, Record]:
    """What is recorded now: all that was before, unchanged, and none of that has run again."""
    found = shelf.done()
    for key, record in before.items():
        again = found[key]
        assert (again.state, again.finished) == (record.state, record.finished)
        assert again.value == record.value or again.runs > record.runs  # measured again in turns with the default
    runs = shelf.runs()
    for key in before:
        assert runs.count(key) == shelf.seen[key], "a recorded configuration ran again"
    for key in found:
        shelf.seen.setdefault(key, runs.count(key))
    return found
