"""Which cores of a device to measure on: all its cores are not alike on a phone."""

from __future__ import annotations

from collections.abc import Sequence

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices.base import Core, DeviceInformation, check_cores

BIG, LITTLE = "big", "little"


def choose_cores(line: str, information: DeviceInformation, choice: str | Sequence[int] | None, threads: int) -> tuple[int, ...]:
    """Numbers of ``threads`` cores to pin threads to; empty where the system may move them.

    ``little`` cores are the slowest kind a device has, ``big`` ones all others, fastest first, by Linux's capacity of a core or
    its highest clock. None pins to the fastest cores where there are several kinds, because a thread that wanders between kinds
    measures neither, and leaves the choice to the system where they are alike. Raises DeviceError for what the device has not.
    """
    kinds = _kinds(information.usable_cores)
    if choice is None:
        fastest = [core for kind in reversed(kinds) for core in kind]
        return _first(line, [core.number for core in fastest], threads, "cores") if len(kinds) > 1 else ()
    if choice in (BIG, LITTLE):
        if len(kinds) < 2:
            told = "are of one kind" if information.usable_cores else "are not told apart by it"
            raise DeviceError(
                f"Expected cores of several kinds on {line} to choose the {choice} ones, and its {information.cores} {told}; "
                "give their numbers, or leave the cores out."
            )
        found = kinds[0] if choice == LITTLE else [core for kind in reversed(kinds[1:]) for core in kind]
        return _first(line, [core.number for core in found], threads, f"{choice} cores")
    numbers = [int(core) for core in choice]
    check_cores(line, numbers, threads, information.usable_cores)
    return tuple(numbers[:threads])


def kind_of(information: DeviceInformation, cores: Sequence[int]) -> str:
    """``big``, ``little`` or ``big and little`` where a device has several kinds of core, empty where it has not."""
    kinds = _kinds(information.usable_cores)
    if len(kinds) < 2 or not cores:
        return ""
    little = {core.number for core in kinds[0]}
    found = [name for name, wanted in ((BIG, False), (LITTLE, True)) if any((core in little) == wanted for core in cores)]
    return " and ".join(found)


def speeds_of(information: DeviceInformation, cores: Sequence[int]) -> tuple[float, ...]:
    """What tells these cores from others of a device: their speeds, highest first; empty where it does not matter."""
    speeds = {core.number: _speed(core) for core in information.usable_cores}
    return tuple(sorted((speeds[core] for core in cores), reverse=True)) if len(set(speeds.values())) > 1 else ()


def _kinds(cores: Sequence[Core]) -> list[list[Core]]:
    """Cores of one speed together, slowest first."""
    by_speed: dict[float, list[Core]] = {}
    for core in cores:
        by_speed.setdefault(_speed(core), []).append(core)
    return [by_speed[speed] for speed in sorted(by_speed)]


def _speed(core: Core) -> float:
    return core.capacity or core.maximum_megahertz or 0.0


def _first(line: str, numbers: Sequence[int], threads: int, what: str) -> tuple[int, ...]:
    if len(numbers) < threads:
        raise DeviceError(f"Expected {threads} {what} on {line} for as many threads, found {len(numbers)}; use fewer threads.")
    return tuple(numbers[:threads])
