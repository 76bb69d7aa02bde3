"""Choosing cores and pinning threads to them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import psutil
import pytest
from tests.runtime.conftest import StartAgent, device_of

import tapdot
from tapdot.compiler.errors import DeviceError
from tapdot.runtime.core_choice import choose_cores, kind_of, speeds_of
from tapdot.runtime.devices.base import Core, DeviceInformation

PHONE = DeviceInformation(
    *("aarch64", "cortex-a76", (), 8, 8192, 4096, 10_000, False, "Linux"),
    usable_cores=tuple(
        Core(number, capacity) for number, capacity in enumerate([1024.0, 300.0, 300.0, 300.0, 300.0, 750.0, 750.0, 750.0])
    ),
)
ALIKE = dataclasses.replace(PHONE, cores=2, usable_cores=(Core(0, 1024.0), Core(3, 1024.0)))
SILENT = dataclasses.replace(PHONE, usable_cores=())


def test_kinds_of_cores() -> None:
    def chosen(choice: str | tuple[int, ...] | None, threads: int) -> tuple[int, ...]:
        return choose_cores("phone", PHONE, choice, threads)

    assert chosen("little", 2) == (1, 2)
    assert chosen("big", 3) == (0, 5, 6)
    assert chosen(None, 1) == (0,)
    assert chosen(None, 6) == (0, 5, 6, 7, 1, 2)
    assert chosen((7, 2, 3), 2) == (7, 2)
    assert speeds_of(PHONE, (1, 0)) == (1024.0, 300.0) and speeds_of(PHONE, ()) == ()
    assert kind_of(PHONE, (0, 5)) == "big" and kind_of(PHONE, (1,)) == "little" and kind_of(PHONE, (0, 1)) == "big and little"


def test_clocks_tell_kinds_where_capacities_are_not_told() -> None:
    clocks = tuple(Core(number, None, clock) for number, clock in enumerate([1800.0, 2400.0]))
    two = dataclasses.replace(PHONE, cores=2, usable_cores=clocks)
    assert choose_cores("phone", two, "big", 1) == (1,) and choose_cores("phone", two, None, 1) == (1,)


@pytest.mark.parametrize("device", [ALIKE, SILENT])
def test_the_system_chooses_among_cores_that_are_alike(device: DeviceInformation) -> None:
    assert choose_cores("phone", device, None, 2) == ()
    assert kind_of(device, (0,)) == "" and speeds_of(device, ()) == ()


@pytest.mark.parametrize(
    ("device", "choice", "threads", "words"),
    [
        (PHONE, "little", 5, "Expected 5 little cores on phone for as many threads, found 4; use fewer threads."),
        (PHONE, None, 9, "Expected 9 cores on phone for as many threads, found 8"),
        (ALIKE, "big", 1, "to choose the big ones, and its 2 are of one kind; give their numbers"),
        (SILENT, "little", 1, "are not told apart by it"),
        (PHONE, (4, 8), 1, "phone was asked for core 8, and a session there may use 0, 1, 2, 3, 4, 5, 6, 7."),
        (PHONE, (4, 4), 2, "phone was asked for 2 threads on 1 core; give as many cores as threads."),
        (SILENT, (0,), 1, "phone does not tell which cores it has, so none can be chosen"),
    ],
)
def test_cores_that_are_not_there(
    device: DeviceInformation, choice: str | tuple[int, ...] | None, threads: int, words: str
) -> None:
    with pytest.raises(DeviceError, match=r"^(Expected|phone) ") as refusal:
        choose_cores("phone", device, choice, threads)
    assert words in str(refusal.value)


def test_this_machine_is_pinned_for_the_session_only() -> None:
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    with tapdot.connect("host").open() as session:
        session.set_threads(1, [core])
        assert os.sched_getaffinity(0) == {core}
        assert session.information().cores == len(allowed)
        session.set_threads(1)
        assert os.sched_getaffinity(0) == allowed
        session.set_threads(1, [core])
        with pytest.raises(DeviceError, match=r"asked for core 4095, and a session there may use "):
            session.set_threads(1, [4095])
        if len(allowed) > 1:
            with pytest.raises(DeviceError, match="asked for 2 threads on 1 core; give as many cores as threads"):
                session.set_threads(2, [core])
    assert os.sched_getaffinity(0) == allowed


def test_an_agents_session_is_pinned(start_agent: StartAgent, tmp_path: Path) -> None:
    agent = start_agent()
    core = max(os.sched_getaffinity(0))
    with device_of(agent).open(20) as session:
        before = session.information()
        assert {core.number for core in before.usable_cores} == os.sched_getaffinity(0)
        session.set_threads(1, [core])
        (child,) = psutil.Process(agent.process_id).children()
        assert child.cpu_affinity() == [core]
        assert session.information().usable_cores[-1].number == core
        assert session.information().cores == before.cores
        with pytest.raises(DeviceError, match="asked for core 4095"):
            session.set_threads(1, [4095])
        session.set_threads(1)
        assert set(child.cpu_affinity()) == os.sched_getaffinity(0)
