"""Under which conditions times were taken: warm-up, pauses to cool down, clock and temperature before and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tapdot.runtime.clock import CycleCounter
from tapdot.runtime.devices.base import DeviceInformation, Session

WARM_UP_WINDOW = 5
WARM_UP_SPREAD = 0.05
WARM_UP_STRETCH = 2e-3
WARM_UP_LEAST, WARM_UP_LIMIT = 0.1, 60
"""Warm-up ends when the last ``WINDOW`` stretches lie within ``SPREAD`` of each other: not before ``LEAST`` seconds of work,
for a governor takes tens of milliseconds to raise a clock, and after ``LIMIT`` stretches of ``STRETCH`` seconds at the latest."""

HOTTER = 5.0
"""Degrees above the start at which a pause begins; it ends below half of it."""
PAUSE_STEP, PAUSE_LIMIT = 1.0, 180.0
"""Seconds between two looks at the thermometer, and of all pauses of a measurement."""
FALLING = 0.5
STILL = 15.0
"""A device that did not fall by ``FALLING`` degrees in ``STILL`` seconds is as cool as it gets: its room has warmed up."""
CHECK_EVERY = 0.5
"""Seconds between two checks while timing."""
PLAUSIBLE_CELSIUS = (1.0, 120.0)
"""Sensors outside tell of trip points and of hardware that is switched off."""

CLOCK_MOVED = 0.05
"""A share by which a clock may move during a measurement without a warning."""


@dataclass(frozen=True)
class WarmUp:
    """How many inferences it took and whether times settled."""

    runs: int
    stable: bool


def warm_up(timed: Callable[[int], float]) -> WarmUp:
    """Calls ``timed(number)``, seconds an inference over ``number`` of them, until its results settle."""
    number = stretch_calls(timed(1), WARM_UP_STRETCH)
    times: list[float] = []
    while len(times) < WARM_UP_LIMIT:
        times.append(timed(number))
        window = times[-WARM_UP_WINDOW:]
        worked = sum(times) * number >= WARM_UP_LEAST and len(times) >= WARM_UP_WINDOW
        if worked and max(window) <= min(window) * (1 + WARM_UP_SPREAD):
            return WarmUp(1 + number * len(times), True)
    return WarmUp(1 + number * len(times), False)


def stretch_calls(seconds: float, stretch: float) -> int:
    """How many calls of that length make a stretch."""
    return max(1, -int(-stretch // max(seconds, 1e-9)))


class Thermostat:
    """Holds a device near the temperature it had after the warm-up.

    ``read`` gives degrees of every sensor; ``sleep`` and ``clock`` are seconds. Without sensors it does nothing.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[float]],
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._sleep, self._clock = read, sleep, clock
        self.start = tuple(read())
        self.hottest = hottest(self.start)
        self._base = self.start
        self._checked = clock()
        self.paused = 0.0
        self.pauses = 0
        self.gave_up = False

    def begin(self) -> None:
        """The warm-up is over: sensors that sit on the processor rise within a second of work, and that is no drift."""
        now = self._read()
        self.hottest = max(filter(None, (self.hottest, hottest(now))), default=None)
        if len(now) == len(self._base):
            self._base = tuple(map(max, self._base, now))

    def settle(self) -> bool:
        """Pauses while the device is hotter than at the start; whether it did. Looks at most every ``CHECK_EVERY`` seconds."""
        if self.hottest is None or self.gave_up or self._clock() - self._checked < CHECK_EVERY:
            return False
        above = self._above()
        if above > HOTTER:
            self._pause(above)
        self._checked = self._clock()
        return above > HOTTER

    def _pause(self, above: float) -> None:
        self.pauses += 1
        lowest, fell = above, self._clock()
        while above > HOTTER / 2:
            if self.paused >= PAUSE_LIMIT:
                self.gave_up = True
                return
            self._sleep(PAUSE_STEP)
            self.paused += PAUSE_STEP
            above = self._above()
            if above < lowest - FALLING:
                lowest, fell = above, self._clock()
            elif self._clock() - fell >= STILL:
                self._base = tuple(value + above for value in self._base)
                return

    def _above(self) -> float:
        """Degrees above the start, of the sensor that rose most."""
        now = self._read()
        self.hottest = max(filter(None, (self.hottest, hottest(now))), default=None)
        if len(now) != len(self._base):
            return 0.0  # sensors came or went: nothing to compare
        return max(
            (after - before for before, after in zip(self._base, now, strict=True) if _plausible(before, after)), default=0.0
        )


def hottest(readings: Sequence[float]) -> float | None:
    """The highest plausible temperature; None where there is none."""
    return max((value for value in readings if _plausible(value)), default=None)


def _plausible(*readings: float) -> bool:
    low, high = PLAUSIBLE_CELSIUS
    return all(low <= value <= high for value in readings)


@dataclass(frozen=True)
class Conditions:
    """Facts that belong to times. Clocks are in MHz, temperatures in degrees Celsius; None where nobody tells.

    ``cores`` are those the threads were pinned to, ``kind`` whether they are big or little. ``clock_told`` is False where the
    clock was found by timing a loop.
    """

    cores: tuple[int, ...]
    kind: str
    warm_up: WarmUp
    clock_told: bool
    megahertz_before: float | None
    megahertz_after: float | None
    celsius_before: float | None
    celsius_most: float | None
    pauses: int
    paused_seconds: float
    gave_up_cooling: bool

    @property
    def clock_change(self) -> float | None:
        """By which share the clock was higher at the end than at the beginning."""
        if not self.megahertz_before or not self.megahertz_after:
            return None
        return self.megahertz_after / self.megahertz_before - 1

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "cores": list(self.cores) or None,
            "kind_of_cores": self.kind or None,
            "warm_up_runs": self.warm_up.runs,
            "stable": self.warm_up.stable,
            "clock": "told by the device" if self.clock_told else "by timing a loop",
            "megahertz_before": self.megahertz_before,
            "megahertz_after": self.megahertz_after,
            "celsius_before": self.celsius_before,
            "celsius_most": self.celsius_most,
            "pauses": self.pauses,
            "paused_seconds": self.paused_seconds,
            "warnings": self.warnings,
        }

    @property
    def where(self) -> str:
        """``on core 4 (big)``; empty where the system chose."""
        if not self.cores:
            return ""
        numbers = ", ".join(map(str, self.cores))
        return f"on core{'s' * (len(self.cores) > 1)} {numbers}" + (f" ({self.kind})" if self.kind else "")

    @property
    def cooling(self) -> str:
        """How long it paused; empty where it did not."""
        if not self.pauses or self.celsius_before is None:
            return ""
        times = "once" if self.pauses == 1 else f"{self.pauses} times"
        return (
            f"Paused {times}, {self.paused_seconds:.0f} s in all, to cool down ({self.celsius_before:.0f} °C at the start, "
            f"{self.celsius_most:.0f} °C at most)."
        )

    @property
    def warnings(self) -> list[str]:
        """What makes these times doubtful, in sentences."""
        found = []
        if not self.warm_up.stable:
            found.append(
                f"Times had not settled within {WARM_UP_SPREAD:.0%} after {self.warm_up.runs} runs: something else uses the "
                "device, or its clock moves."
            )
        change = self.clock_change
        if change is not None and abs(change) > CLOCK_MOVED:
            how = "" if self.clock_told else ", by the time of a fixed loop"
            found.append(
                f"The clock moved by {change:+.0%}, from {self.megahertz_before:.0f} to {self.megahertz_after:.0f} MHz{how}: "
                "times of the beginning and of the end are not the same device's."
            )
        if self.gave_up_cooling:
            found.append(
                f"The device was {HOTTER:.0f} °C hotter than at the start again after {PAUSE_LIMIT:.0f} s of pauses; let it cool "
                "and measure again."
            )
        return found


def thermostat_of(session: Session) -> Thermostat:
    """By the sensors of a session's device."""
    return Thermostat(lambda: session.information().temperatures_celsius)


class Watch:
    """Watches over a measurement in a session: what to do between turns, and at the end what to tell."""

    def __init__(self, session: Session, cores: Sequence[int], kind: str) -> None:
        self._session = session
        self._cores, self._kind = tuple(cores), kind
        self._thermostat = thermostat_of(session)
        self._counter: CycleCounter | None = None
        self._warm_up = WarmUp(0, False)
        self._before: tuple[float, bool] | None = None

    def begin(self, warm: WarmUp) -> None:
        """After the warm-up: the clock is what it will be."""
        self._warm_up = warm
        self._thermostat.begin()
        self._before = self._clock()

    def settle(self) -> bool:
        """Between turns: pauses where the device is too hot. Whether it did; the clock fell meanwhile."""
        return self._thermostat.settle()

    def end(self) -> Conditions:
        """What to tell, after the last turn."""
        return self._conditions(self._clock())

    def cut_short(self) -> Conditions:
        """The same where the device is gone."""
        return self._conditions(None)

    def _conditions(self, after: tuple[float, bool] | None) -> Conditions:
        thermostat = self._thermostat
        return Conditions(
            self._cores,
            self._kind,
            self._warm_up,
            self._before is not None and self._before[1],
            self._before[0] if self._before else None,
            after[0] if after else None,
            hottest(thermostat.start),
            thermostat.hottest,
            thermostat.pauses,
            thermostat.paused,
            thermostat.gave_up,
        )

    def _clock(self) -> tuple[float, bool]:
        """MHz of the cores in use, as the device tells or, where it does not, by a loop; and whether it told."""
        told = _told_megahertz(self._session.information(), self._cores)
        if told is not None:
            return told, True
        self._counter = self._counter or CycleCounter(self._session)
        return self._counter.megahertz(), False


def _told_megahertz(information: DeviceInformation, cores: Sequence[int]) -> float | None:
    """The mean clock of pinned cores; the highest of all where none are pinned: that is where the work is."""
    clocks = {core.number: core.megahertz for core in information.usable_cores if core.megahertz}
    if cores:
        return sum(clocks[core] for core in cores) / len(cores) if all(core in clocks for core in cores) else None
    return max(clocks.values(), default=None)
