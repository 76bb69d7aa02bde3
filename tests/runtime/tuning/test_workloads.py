"""What there is to tune in a package, candidates as code, and running them for real: here, emulated, and when they misbehave."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tapdot
from tapdot.compiler.errors import DeviceError
from tapdot.compiler.package import Package
from tapdot.runtime.conditions import Thermostat
from tapdot.runtime.devices.agent_process import AgentProcess
from tapdot.runtime.devices.base import Core, DeviceInformation
from tapdot.runtime.devices.remote import RemoteDevice, RemoteSession
from tapdot.runtime.tuning.candidates import Candidate, CandidateError, build_candidate, trim_candidates
from tapdot.runtime.tuning.record import DONE, FAILED, INSTRUCTIONS, SECONDS, WRONG
from tapdot.runtime.tuning.runners import CountingRunner, SessionRunner, WorkerRunner, runner_for
from tapdot.runtime.tuning.tune import place_of
from tapdot.runtime.tuning.workloads import Subject, subjects_of_package

INPUT = (torch.zeros(1, 3, 12, 12),)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU()]
    for _ in range(2):
        layers += [torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.MaxPool2d(2)).eval()


@pytest.fixture(scope="module")
def package() -> Package:
    return tapdot.compile(network(), INPUT)


@pytest.fixture(scope="module")
def integers() -> Package:
    samples = np.random.default_rng(0).standard_normal((4, 3, 12, 12)).astype(np.float32)
    return tapdot.compile(network(), INPUT, recipe="int8", data=samples)


@pytest.fixture(scope="module")
def subject(package: Package) -> Subject:
    return next(one for one in subjects_of_package(package) if one.family.name == "pooling")


@pytest.fixture
def worker() -> Iterator[WorkerRunner]:
    runner = WorkerRunner()
    yield runner
    runner.close()


def test_subjects_are_distinct_workloads_with_a_choice(package: Package) -> None:
    found = subjects_of_package(package)
    assert len({one.workload.key for one in found}) == len(found)
    names = [name for one in found for name in one.nodes]
    assert len(names) == len(set(names))
    assert {one.family.name for one in found} == {"convolution", "pooling"}
    assert all(len(one.configurations) > 1 and one.default == one.configurations[0] for one in found)
    assert [one.estimate for one in found] == sorted((one.estimate for one in found), reverse=True)


def test_equal_layers_are_one_subject_in_a_deeper_network() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(16, 16, 3, padding=1) if index % 2 == 0 else torch.nn.ReLU() for index in range(8)]
    found = subjects_of_package(tapdot.compile(torch.nn.Sequential(*layers).eval(), (torch.zeros(1, 16, 8, 8),)))
    assert max(one.occurrences for one in found) >= 2
    assert " more" in max(found, key=lambda one: one.occurrences).title


def test_every_family_settles_on_its_default(package: Package, integers: Package) -> None:
    for one in (*subjects_of_package(package), *subjects_of_package(integers)):
        space = one.family.space(one.workload, one.target)
        assert set(space) == set(one.default)
        for config in one.configurations[:50]:
            assert one.family.settle(one.workload, config, one.target) in (config, None)


def test_candidates_are_measured_and_right(worker: WorkerRunner, package: Package, integers: Package) -> None:
    for one in (subjects_of_package(package)[0], subjects_of_package(integers)[0]):
        for config in (one.default, one.configurations[len(one.configurations) // 2]):
            found = worker.try_out(build_candidate(one, config), None, 60)
            assert found.state == DONE, found
            assert found.value is not None and 0 < found.value < 1 and found.runs >= 1


def test_wrong_answers_are_seen(worker: WorkerRunner, subject: Subject, integers: Package) -> None:
    (answer,) = subject.expected
    other = answer.copy()
    other[0, 0, 0, 0] += 1
    found = worker.try_out(build_candidate(replace(subject, expected=(other,)), subject.default), None, 60)
    assert found.state == WRONG and "1 of" in found.detail and found.value is None
    whole = subjects_of_package(integers)[0]
    (codes,) = whole.expected
    changed = codes.copy()
    changed[0, 0, 0, 0] ^= 1
    found = worker.try_out(build_candidate(replace(whole, expected=(changed,)), whole.default), None, 60)
    assert found.state == WRONG and whole.exact


def misbehaving(subject: Subject, library: Path, symbol: str) -> Candidate:
    return Candidate(subject, subject.default, symbol, library, ())


def test_a_crash_or_a_hang_ends_the_worker_only(worker: WorkerRunner, subject: Subject, misbehaving_library: Path) -> None:
    worker.prepare()
    first = worker._process
    assert first is not None
    crash = worker.try_out(misbehaving(subject, misbehaving_library, "crash"), None, 60)
    assert crash.state == FAILED and "crashed (signal 11)" in crash.detail
    begin = time.monotonic()
    hang = worker.try_out(misbehaving(subject, misbehaving_library, "hang"), None, 1.0 + 10 * _start_seconds(worker))
    assert hang.state == FAILED and "longer than" in hang.detail
    assert time.monotonic() - begin < 120
    nothing = worker.try_out(misbehaving(subject, misbehaving_library, "nothing"), None, 60)
    assert nothing.state == WRONG
    good = worker.try_out(build_candidate(subject, subject.default), None, 60)
    assert good.state == DONE


def _start_seconds(worker: WorkerRunner) -> float:
    """The limit of a run begins when the worker is there."""
    worker.prepare()
    return 0.0


def test_a_worker_that_was_killed_is_replaced(worker: WorkerRunner, subject: Subject) -> None:
    worker.prepare()
    assert worker._process is not None
    os.kill(worker._process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker._process.pid, os.WEXITED | os.WNOWAIT)  # so that the next job finds it dead, not dying
    candidate = build_candidate(subject, subject.default)
    assert worker.try_out(candidate, None, 60).state == FAILED
    assert worker.try_out(candidate, None, 60).state == DONE


def test_two_kernels_in_turns(worker: WorkerRunner, subject: Subject) -> None:
    pair = [build_candidate(subject, config) for config in subject.configurations[:2]]
    figures = worker.compare(pair, 5, 60)
    assert [len(samples) for samples in figures] == [5, 5] and min(min(samples) for samples in figures) > 0


def test_a_job_waits_for_a_worker_that_another_thread_is_starting(worker: WorkerRunner, subject: Subject) -> None:
    candidate = build_candidate(subject, subject.default)
    starting = threading.Thread(target=worker.prepare)
    starting.start()
    assert len(worker.compare([candidate, candidate], 4, 60)[0]) == 4
    starting.join()


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.3])
def test_a_worker_that_is_closed_while_it_starts(seconds: float) -> None:
    """Where tuning fails early, its own sentence is all that is said."""
    worker, met = WorkerRunner(), list[BaseException]()

    def prepare() -> None:
        try:
            worker.prepare()
        except BaseException as error:
            met.append(error)

    starting = threading.Thread(target=prepare)
    starting.start()
    time.sleep(seconds)
    worker.close()
    starting.join(20)
    assert not starting.is_alive() and worker._process is None
    assert [type(error) for error in met] == [DeviceError]


def test_a_closed_worker_starts_no_more() -> None:
    worker = WorkerRunner()
    worker.close()
    with pytest.raises(DeviceError, match="was closed"):
        worker.prepare()
    assert worker._process is None


def test_what_cannot_be_built_is_the_configurations_fault(subject: Subject) -> None:
    with pytest.raises(CandidateError, match="it cannot be built"):
        build_candidate(subject, {})


def test_a_phone_is_tuned_as_it_is_measured(start_agent, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its fast cores, and not while it is hot: figures from slow cores, or from a hot phone, are compared with all others."""
    agent: AgentProcess = start_agent()
    device = RemoteDevice("127.0.0.1", agent.port, agent.key)
    ask, degrees = RemoteSession.information, [30.0]
    with device.open() as session:
        facts = session.information()
    numbers = [core.number for core in facts.usable_cores]
    cores = tuple(Core(number, capacity) for number, capacity in zip(numbers, (250.0, 1024.0), strict=False))

    def big_and_little(session: RemoteSession) -> DeviceInformation:
        return replace(ask(session), usable_cores=cores, temperatures_celsius=tuple(degrees))

    chosen: list[tuple[int, ...]] = []
    monkeypatch.setattr(RemoteSession, "information", big_and_little)
    monkeypatch.setattr(RemoteSession, "set_threads", lambda session, threads, cores=(): chosen.append(tuple(cores)))
    monkeypatch.setattr("tapdot.runtime.conditions.CHECK_EVERY", 0.0)
    pauses: list[float] = []
    monkeypatch.setattr(Thermostat, "_pause", lambda thermostat, above: pauses.append(above))
    runner = runner_for(device, 1, replace(facts, usable_cores=cores).fingerprint)
    try:
        for now in (45.0, 47.0, 60.0):
            degrees[0] = now
            assert runner.try_out(build_candidate(subject, subject.default), None, 60).state == DONE
    finally:
        runner.close()
    assert chosen == [(cores[-1].number,)] if len(cores) > 1 else [()]
    assert pauses == [pytest.approx(15.0)]  # the first work's jump is where it begins, two degrees are nothing


def test_sessions_of_an_agent(start_agent, subject: Subject, misbehaving_library: Path) -> None:
    agent: AgentProcess = start_agent()
    device = RemoteDevice("127.0.0.1", agent.port, agent.key)
    place = place_of(device, subject.target)
    assert place.unit == SECONDS
    runner = runner_for(device, 1, place.device)
    assert isinstance(runner, SessionRunner)
    try:
        assert runner.try_out(build_candidate(subject, subject.default), None, 60).state == DONE
        crash = runner.try_out(misbehaving(subject, misbehaving_library, "crash"), None, 60)
        assert crash.state == FAILED and "Running crash" in crash.detail
        assert runner.try_out(build_candidate(subject, subject.configurations[1]), None, 60).state == DONE
        assert len(runner.compare([build_candidate(subject, subject.default)] * 2, 4, 60)[1]) == 4
    finally:
        runner.close()


def test_another_kind_of_device_is_refused(start_agent, subject: Subject) -> None:
    agent: AgentProcess = start_agent()
    runner = SessionRunner(RemoteDevice("127.0.0.1", agent.port, agent.key), 1, "of another")
    with pytest.raises(tapdot.TapdotError, match="Another kind of device"):
        runner.try_out(build_candidate(subject, subject.default), None, 60)


@pytest.mark.emulated
def test_on_an_emulated_device_instructions_count() -> None:
    package = tapdot.compile(network(), INPUT, target="cortex-a76")
    found = subjects_of_package(package)
    device = tapdot.connect("emulated")
    place = place_of(device, package.target)
    assert place.unit == INSTRUCTIONS
    runner = runner_for(device, 1, place.device)
    assert isinstance(runner, CountingRunner)
    pool = next(one for one in found if one.family.name == "pooling")
    counted = runner.try_out(build_candidate(pool, pool.default), None, 120)
    assert counted.state == DONE and counted.value is not None and counted.value > 100 and counted.spread == 0
    (answer,) = pool.expected
    wrong = replace(pool, expected=(answer + 1,))
    assert runner.try_out(build_candidate(wrong, pool.default), None, 120).state == WRONG


def test_a_device_of_another_architecture_is_refused(package: Package) -> None:
    other = replace(package.target, triple="aarch64-linux-gnu", isa_name="generic")
    with pytest.raises(tapdot.TapdotError, match=r"is for aarch64 \(target .*\), and the device host is"):
        place_of(tapdot.connect("host"), other)


def test_a_device_without_the_targets_instructions_is_refused(package: Package) -> None:
    """Every configuration would crash there, and be recorded as one that fails."""
    newer = replace(package.target, features=(*package.target.features, "of-next-year"))
    with pytest.raises(tapdot.TapdotError, match=r"code needs of-next-year, and the device host .* has no such instructions"):
        place_of(tapdot.connect("host"), newer)


def test_candidates_in_the_cache_are_bounded_and_those_in_use_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPDOT_CACHE", str(tmp_path))
    folders = [tmp_path / "candidates" / name for name in ("old generator", "generator")]
    for number, hours in enumerate((90.0, 80.0, 70.0, 0.5)):
        folder = folders[number > 1]
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / f"{number}.so"
        library.write_bytes(bytes(1000))
        os.utime(library, (0, time.time() - hours * 3600))

    def left() -> list[str]:
        return sorted(path.name for folder in folders for path in folder.iterdir())

    assert trim_candidates(4000) == 0 and len(left()) == 4
    assert trim_candidates(2500) == 2000 and left() == ["2.so", "3.so"]  # longest unused first
    assert trim_candidates(0) == 1000 and left() == ["3.so"]  # somebody may be about to load it


def test_a_candidate_that_is_asked_for_again_is_in_use(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPDOT_CACHE", str(tmp_path))
    library = build_candidate(subject, subject.default).library
    os.utime(library, (0, 0))
    assert build_candidate(subject, subject.default).library == library
    trim_candidates(0)
    assert library.exists()


def test_a_candidate_another_process_has_just_removed_is_made_again(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPDOT_CACHE", str(tmp_path))
    touch = os.utime
    gone: list[Path] = []

    def removed_meanwhile(path: Path) -> None:
        if not gone:
            gone.append(path)
            path.unlink()
        touch(path)

    monkeypatch.setattr("tapdot.runtime.tuning.candidates.os.utime", removed_meanwhile)
    assert build_candidate(subject, subject.default).library == gone[0] and gone[0].exists()
