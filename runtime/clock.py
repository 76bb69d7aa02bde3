"""How fast a core's clock runs, by timing a loop whose cycles are known: for devices that do not tell, and to see drift."""

from __future__ import annotations

import hashlib
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapdot.compiler.cache import cache_directory
from tapdot.compiler.errors import DeviceError
from tapdot.compiler.files import write_bytes
from tapdot.compiler.lower.library import generator_digest, link
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, object_code
from tapdot.runtime import limit_kernels
from tapdot.runtime.devices.base import Session
from tapdot.runtime.echo import echo_target

TIMES = 5
"""Of the loop for one reading, of which the shortest counts: what interrupts it only makes it longer."""
STABILITY_RUNS = 40
LOOPS_A_RUN = 8
STEADY_SPREAD = 0.02
"""Below this spread, the clock of a device is good for differences of a few percent."""


@dataclass(frozen=True)
class ClockStability:
    """Times of one fixed loop, in seconds, one after the other; ``cycles`` is how long each is on a core's clock."""

    times: tuple[float, ...]
    cycles: int

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.times)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        low, _, high = statistics.quantiles(self.times, n=4)
        return (high - low) / 2 / self.median

    @property
    def megahertz(self) -> float:
        """The clock, by the shortest run."""
        return self.cycles / min(self.times) / 1e6

    @property
    def steady(self) -> bool:
        """Whether differences of a few percent can be seen with this clock."""
        return self.spread <= STEADY_SPREAD

    def __str__(self) -> str:
        return f"a fixed loop varies by {self.spread:.1%} over {len(self.times)} runs, at about {self.megahertz:.0f} MHz"


class CycleCounter:
    """The loop, loaded on a device. Raises DeviceError on an emulated one, which has no clock of its own."""

    def __init__(self, session: Session) -> None:
        information = session.information()
        refuse_emulated(session.line, information.emulated)
        self.session = session
        library = kernel_library({limit_kernels.COUNT: limit_kernels.cycle_kernel()}, echo_target(information.architecture))
        self.module = session.load_library(library)
        self.numbers = session.tensor(np.array([1, 0x5A5A5A5A, 0x3C6EF372], np.int32))

    def times(self, number: int, repeat: int) -> list[float]:
        """Seconds of the loop, ``repeat`` times the mean of ``number``."""
        return self.session.time(self.module, limit_kernels.COUNT, [self.numbers], number, repeat)

    def megahertz(self) -> float:
        """The clock of the core that runs kernels, now."""
        return limit_kernels.CYCLES / min(self.times(1, TIMES)) / 1e6


def clock_stability(session: Session, runs: int = STABILITY_RUNS) -> ClockStability:
    """Times a fixed loop again and again: how much a device's clock moves while nothing else is asked of it.

    Takes some tens of milliseconds. Raises DeviceError on an emulated device.
    """
    counter = CycleCounter(session)
    counter.times(LOOPS_A_RUN, runs)  # a clock that was idle rises first
    return ClockStability(tuple(counter.times(LOOPS_A_RUN, runs)), limit_kernels.CYCLES)


def refuse_emulated(line: str, emulated: bool) -> None:
    """Raises DeviceError for a device whose clock says nothing."""
    if emulated:
        raise DeviceError(f"{line} is emulated: it has no clock of its own, and how fast it runs here says nothing of a phone.")


def kernel_library(kernels: dict[str, PrimFunc], target: Target) -> Path:
    """A library of some kernels, kept in the cache by the code that generates them."""
    facts = [generator_digest(), Path(limit_kernels.__file__).read_text(), sorted(target.json().items(), key=str)]
    text = repr([*facts, [(symbol, str(kernel)) for symbol, kernel in kernels.items()]])
    path = cache_directory() / "limits" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernels.o"
            file.write_bytes(object_code(kernels, target.llvm()))
            write_bytes(path, link([file], target))
    return path


def tensors(session: Session, *arrays: np.ndarray) -> list[Any]:
    """Copies of arrays on a device."""
    return [session.tensor(array) for array in arrays]
