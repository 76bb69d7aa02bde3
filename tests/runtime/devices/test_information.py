"""What a device says of itself, and what of it tells devices apart."""

from __future__ import annotations

import dataclasses

import pytest

from tapdot.runtime.devices.base import Core, DeviceInformation, fastest_name

PHONE = DeviceInformation(
    architecture="aarch64",
    cpu="cortex-a76",
    features=("neon", "dotprod"),
    cores=8,
    memory_mebibytes=7500.0,
    free_memory_mebibytes=3000.0,
    free_disk_mebibytes=20000.0,
    emulated=False,
    system="Linux 5.10.107-android13",
    agent_version="2",
    frequencies_megahertz=(2400.0,),
    temperatures_celsius=(31.0,),
    machine="Acme Phone 6",
    usable_cores=tuple(Core(number, 300.0, 1800.0, 600.0, "cortex-a55") for number in range(6))
    + tuple(Core(number, 1024.0, 2400.0, 900.0, "cortex-a76") for number in (6, 7)),
)


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    assert PHONE.fingerprint == "8ca76bda446c"


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "x86_64"},
        {"cpu": "cortex-x2"},
        {"features": ("neon", "dotprod", "i8mm")},
        {"cores": 4},
        {"usable_cores": PHONE.usable_cores[:4]},
        {"usable_cores": tuple(dataclasses.replace(core, maximum_megahertz=2000.0) for core in PHONE.usable_cores)},
        {"machine": "Acme Phone 7"},
        {"emulated": True},
    ],
)
def test_what_changes_speed_changes_the_fingerprint(changes: dict[str, object]) -> None:
    assert dataclasses.replace(PHONE, **changes).fingerprint != PHONE.fingerprint  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"free_memory_mebibytes": 1.0, "memory_mebibytes": 7499.0, "free_disk_mebibytes": 0.0},
        {"frequencies_megahertz": (), "temperatures_celsius": (99.0, 98.0)},
        {"system": "Linux 6.1.0-android14", "agent_version": "3"},
        {"features": ("dotprod", "neon")},
        {"usable_cores": tuple(dataclasses.replace(core, megahertz=1.0) for core in reversed(PHONE.usable_cores))},
    ],
)
def test_what_changes_from_day_to_day_does_not(changes: dict[str, object]) -> None:
    assert dataclasses.replace(PHONE, **changes).fingerprint == PHONE.fingerprint  # type: ignore[arg-type]


def test_a_title_names_cores_and_machine() -> None:
    assert PHONE.title == "cortex-a76 (aarch64), 8 cores, Acme Phone 6"
    single = dataclasses.replace(PHONE, cores=1, machine="", emulated=True)
    assert single.title == "cortex-a76 (aarch64), 1 core, emulated"


def test_the_fastest_core_gives_the_name() -> None:
    assert fastest_name(PHONE.usable_cores) == "cortex-a76" and fastest_name(()) == ""
    by_clock = (Core(0, None, 1800.0, None, "slow"), Core(1, None, 2400.0, None, "fast"))
    assert fastest_name(by_clock) == "fast"
