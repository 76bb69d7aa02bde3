"""Timing kernels alone in a session: stretches of calls, their median, and two of them in turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapdot.runtime.core_choice import choose_cores
from tapdot.runtime.devices.base import Session
from tapdot.runtime.program import DIRTY, filled

STRETCH_SECONDS = 2e-3
"""A stretch is as many calls as fill this."""
STRETCHES, FEW_STRETCHES = 9, 3
"""Of a kernel, and of one that the first calls show to be slow."""
SLOW = 1.6
"""Times the best known figure: what is slower than that gets few stretches."""
MOST_SECONDS = 2.0
"""Of timing one kernel, where a single call takes long."""


@dataclass(frozen=True)
class Loaded:
    """A kernel in a session, its arguments in place."""

    session: Session
    module: Any
    symbol: str
    arguments: Sequence[Any]
    results: int

    @classmethod
    def load(
        cls,
        session: Session,
        library: Path,
        symbol: str,
        packed: Sequence[np.ndarray],
        inputs: Sequence[np.ndarray],
        results: Sequence[tuple[int, str]],
    ) -> Loaded:
        """Loads a library of one kernel; memory for results holds garbage."""
        module = session.load_library(library)
        tensors = [session.tensor(array) for array in packed]
        tensors += [session.tensor_with_slack(array) for array in inputs]
        tensors += [session.tensor(filled((elements,), dtype, DIRTY)) for elements, dtype in results]
        return cls(session, module, symbol, tensors, len(results))

    def run(self) -> list[np.ndarray]:
        """The results of one call."""
        self.session.call(self.module, self.symbol, self.arguments)
        return [self.session.array(tensor) for tensor in self.arguments[len(self.arguments) - self.results :]]

    def time(self, number: int, repeat: int = 1) -> list[float]:
        """Seconds a call, the mean over ``number`` calls, ``repeat`` times."""
        return self.session.time(self.module, self.symbol, self.arguments, number, repeat)

    def calls(self, once: float) -> int:
        """How many calls make a stretch."""
        return max(1, math.ceil(STRETCH_SECONDS / max(once, 1e-9)))


def set_up_threads(session: Session, threads: int) -> None:
    """Kernels of a session use so many threads, where a device has fast and slow cores on the fast ones: those that a package is
    measured on.
    """
    information = session.information()
    cores = () if information.emulated else choose_cores(session.line, information, None, threads)
    session.set_threads(threads, cores)


def time_kernel(loaded: Loaded, best: float | None) -> list[float]:
    """Seconds a call, a figure for each stretch; ``best`` is what is known to be possible."""
    once = min(loaded.time(1, 2))
    stretches = FEW_STRETCHES if best is not None and once > SLOW * best else STRETCHES
    number = loaded.calls(once)
    affordable = max(1, int(MOST_SECONDS / max(once * number, 1e-9)))
    return loaded.time(number, min(stretches, affordable))


def time_in_turns(kernels: Sequence[Loaded], rounds: int) -> list[list[float]]:
    """Seconds a call of each kernel, a figure for each round; every round begins with another kernel."""
    numbers = [loaded.calls(min(loaded.time(1, 2))) for loaded in kernels]
    found: list[list[float]] = [[] for _ in kernels]
    for turn in range(rounds):
        for place in range(len(kernels)):
            index = (turn + place) % len(kernels)
            found[index] += kernels[index].time(numbers[index])
    return found
