"""Warm-up, cooling and clocks, on devices made of numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from tapdot.runtime import conditions
from tapdot.runtime.conditions import Conditions, Thermostat, WarmUp, hottest, stretch_calls, warm_up

STEADY = Conditions((), "", WarmUp(100, True), True, 2000.0, 2010.0, 35.0, 36.0, 0, 0.0, False)


# -- warm-up --------------------------------------------------------------------------------------------------------------------


def test_short_kernels_are_timed_many_at_a_time() -> None:
    assert stretch_calls(1.0, 2e-4) == 1
    assert stretch_calls(2e-5, 2e-4) == 10
    assert stretch_calls(0.0, 2e-4) > 1


def test_warm_up_ends_when_times_have_settled() -> None:
    times = [0.1 - 0.01 * step for step in range(6)] + [0.05] * 20
    asked: list[int] = []

    def timed(number: int) -> float:
        asked.append(number)
        return times[len(asked) - 1]

    assert warm_up(timed) == WarmUp(10, True)  # five of 50 ms after five that fell; a run of 50 ms is a stretch by itself
    assert set(asked) == {1}


def test_warm_up_of_a_short_network_lasts_until_a_governor_has_noticed() -> None:
    work = [0.0]

    def timed(number: int) -> float:
        work[0] += number * 1e-5
        return 1e-5

    assert warm_up(timed).stable
    assert conditions.WARM_UP_LEAST <= work[0] < 2 * conditions.WARM_UP_LEAST


def test_times_that_never_settle_end_the_warm_up_all_the_same() -> None:
    calls = [0]

    def timed(number: int) -> float:
        calls[0] += 1
        return 0.01 * (1 + calls[0] % 2)

    found = warm_up(timed)
    assert not found.stable and calls[0] == 1 + conditions.WARM_UP_LIMIT


# -- cooling --------------------------------------------------------------------------------------------------------------------


class Phone:
    """Temperatures that a function of the time gives; sleeping takes time, and nothing else does unless told."""

    def __init__(self, temperature: Callable[[float], Sequence[float]]) -> None:
        self.now = 0.0
        self.temperature = temperature
        self.asked = 0

    def read(self) -> Sequence[float]:
        self.asked += 1
        return self.temperature(self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def thermostat(self) -> Thermostat:
        return Thermostat(self.read, self.sleep, lambda: self.now)


def test_a_hot_device_is_left_alone_until_it_has_cooled() -> None:
    phone = Phone(lambda now: (30.0 if now < 10 else max(31.0, 40.0 - (now - 10)), 25.0))
    thermostat = phone.thermostat()
    phone.now = 5.0
    assert not thermostat.settle()
    phone.now = 10.0
    assert thermostat.settle()
    assert (thermostat.pauses, thermostat.paused) == (1, 8.0)  # from 40 to 32 degrees, half the margin above the start
    assert thermostat.hottest == 40.0
    assert not thermostat.settle()


def test_a_room_that_got_warmer_is_not_waited_for_again_and_again() -> None:
    phone = Phone(lambda now: (30.0 if now < 1 else 37.0,))
    thermostat = phone.thermostat()
    phone.now = 1.0
    assert thermostat.settle()
    assert thermostat.paused == conditions.STILL and not thermostat.gave_up
    phone.now += 10
    assert not thermostat.settle()


def test_a_sensor_on_the_processor_that_jumps_with_work_is_no_drift() -> None:
    phone = Phone(lambda now: (40.0 if now < 0.1 else 60.0,))
    thermostat = phone.thermostat()
    phone.now = 0.2
    thermostat.begin()
    phone.now = 5.0
    assert not thermostat.settle()
    assert (thermostat.start, thermostat.hottest) == ((40.0,), 60.0)


def test_pauses_have_a_limit() -> None:
    phone = Phone(lambda now: (30.0 if now < 1 else 60.0 - now / 20,))  # it falls, but as slowly as a phone in the sun
    thermostat = phone.thermostat()
    phone.now = 1.0
    thermostat.settle()
    assert thermostat.gave_up and thermostat.paused == conditions.PAUSE_LIMIT
    phone.now += 10
    assert not thermostat.settle()


def test_the_thermometer_is_not_asked_all_the_time() -> None:
    phone = Phone(lambda now: (30.0,))
    thermostat = phone.thermostat()
    for _ in range(1000):
        phone.now += 0.001
        thermostat.settle()
    assert phone.asked <= 1 + 1.0 / conditions.CHECK_EVERY


def test_sensors_that_tell_nonsense_are_left_out() -> None:
    assert hottest([-273.0, 41.5, 999.0, 0.0]) == 41.5
    assert hottest([]) is None
    phone = Phone(lambda now: (30.0, 0.0 if now < 1 else 110.0))  # a sensor that was off at the start
    thermostat = phone.thermostat()
    phone.now = 1.0
    assert not thermostat.settle()
    silent = Phone(lambda now: ())
    thermostat = silent.thermostat()
    silent.now = 5.0
    assert not thermostat.settle() and silent.asked == 1


# -- what is told ----------------------------------------------------------------------------------------------------------------


def test_nothing_is_said_where_all_went_well() -> None:
    assert (STEADY.where, STEADY.cooling, STEADY.warnings) == ("", "", [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"megahertz_after": 1800.0}, "clock moved by -10%, from 2000 to 1800 MHz: times"),
        (
            {"megahertz_after": 2200.0, "clock_told": False},
            "clock moved by +10%, from 2000 to 2200 MHz, by the time of a fixed loop",
        ),
        ({"warm_up": WarmUp(300, False)}, "had not settled within 5% after 300 runs"),
        ({"gave_up_cooling": True}, "5 °C hotter than at the start again after 180 s"),
    ],
)
def test_doubts_are_said(change: dict[str, object], words: str) -> None:
    (warning,) = dataclasses.replace(STEADY, **change).warnings  # type: ignore[arg-type]
    assert words in warning


def test_pauses_and_cores_are_said() -> None:
    told = dataclasses.replace(STEADY, cores=(4, 5), kind="big", pauses=2, paused_seconds=31.0, celsius_most=43.0)
    assert told.where == "on cores 4, 5 (big)"
    assert told.cooling == "Paused 2 times, 31 s in all, to cool down (35 °C at the start, 43 °C at most)."
    assert told.json()["paused_seconds"] == 31.0 and told.json()["kind_of_cores"] == "big"
