"""What a device can do at best, measured with small kernels of its target: the roofline a profile holds kernels against.

Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model", 2009: a kernel takes at least its
multiply-accumulates at the arithmetic's rate, and at least its bytes at the memory's. Memory has a rate for every size of what is
touched, because caches do.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapdot.compiler.cache import cache_directory
from tapdot.compiler.files import write_bytes
from tapdot.compiler.lower.library import generator_digest
from tapdot.compiler.units import bytes_text
from tapdot.kernels.target import Target
from tapdot.runtime import limit_kernels
from tapdot.runtime.clock import ClockStability, clock_stability, kernel_library, refuse_emulated, tensors
from tapdot.runtime.core_choice import kind_of, speeds_of
from tapdot.runtime.devices.base import Session

__all__ = ["ClockStability", "DeviceLimits", "Rate", "clock_stability", "device_limits"]

FLOAT, INT8 = "float32 multiply-add", "int8 dot"
WORKING_SETS = tuple(1 << bits for bits in (14, 16, 18, 20, 22, 24, 26))
"""Bytes touched again and again, from the first cache to memory."""
MOVED = 1 << 25
"""Bytes moved at least for one time."""
LEAST_FREE_MEBIBYTES = 512
"""Free memory of a device for which the largest working set is no burden; with less, it is left out."""
REPEATS = 9
"""Times of each, of which the shortest counts: a limit is what was ever reached."""


@dataclass(frozen=True)
class Rate:
    """Multiply-accumulates a second and the instruction that reaches them."""

    per_second: float
    instruction: str


@dataclass(frozen=True)
class DeviceLimits:
    """Limits of a device for one target and a number of threads (on ``big`` or ``little`` cores), and when they were measured.

    ``memory`` holds bytes a second for each of ``working_sets`` (bytes), by ``read``, ``write`` and ``copy``; a copy counts what
    it reads and what it writes.
    """

    device: str
    target: str
    threads: int
    kind_of_cores: str
    date: str
    compute: Mapping[str, Rate]
    working_sets: tuple[int, ...]
    memory: Mapping[str, tuple[float, ...]]

    def bandwidth(self, kind: str, working_set: float) -> float:
        """Bytes a second for something that touches ``working_set`` bytes: between two measured sizes, by their logarithms."""
        rates = self.memory[kind]
        after = bisect_left(self.working_sets, working_set)
        if after in (0, len(rates)):
            return rates[min(after, len(rates) - 1)]
        low, high = self.working_sets[after - 1 : after + 1]
        share = math.log(working_set / low) / math.log(high / low)
        return rates[after - 1] ** (1 - share) * rates[after] ** share

    def seconds_of_bytes(self, read: int, written: int) -> float:
        """The least time for reading and writing so many bytes, all of them touched once a call and called again and again.

        What is written is paired with as much that is read, at the rate of a copy; the rest is read or written alone.
        """
        touched = read + written
        if touched == 0:
            return 0.0
        paired = min(read, written)
        alone, kind = (read - paired, limit_kernels.READ) if read > written else (written - paired, limit_kernels.WRITE)
        copied = 2 * paired / self.bandwidth(limit_kernels.COPY, touched)
        return copied + alone / self.bandwidth(kind, touched)

    def seconds_of_macs(self, macs: int, integer: bool) -> float:
        """The least time for so many products of codes or of floats; 0 where the device's instruction for them is not known."""
        rate = self.compute.get(INT8 if integer else FLOAT)
        return macs / rate.per_second if rate else 0.0

    def json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeviceLimits:
        """The inverse of :meth:`json`."""
        return cls(
            data["device"],
            data["target"],
            data["threads"],
            data["kind_of_cores"],
            data["date"],
            {name: Rate(**rate) for name, rate in data["compute"].items()},
            tuple(data["working_sets"]),
            {kind: tuple(rates) for kind, rates in data["memory"].items()},
        )

    def __str__(self) -> str:
        """In a line or two."""
        rates = [f"{name} {rate.per_second / 1e9:.1f} GMAC/s ({rate.instruction})" for name, rate in self.compute.items()]
        small, large = (bytes_text(self.working_sets[index]) for index in (0, -1))
        for kind, found in self.memory.items():
            rates.append(f"{kind} {found[0] / 1e9:.0f} GB/s of {small}, {found[-1] / 1e9:.1f} of {large}")
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        where = f" on {self.kind_of_cores} cores" if self.kind_of_cores else ""
        return f"{threads}{where}, {self.date}: {'; '.join(rates)}"


def device_limits(
    session: Session, target: Target, threads: int = 1, cores: Sequence[int] = (), *, fresh: bool = False
) -> DeviceLimits:
    """The limits of a device for kernels of a target: measured once, then read from the cache unless ``fresh``.

    ``session.set_threads(threads, cores)`` was called. Takes a second or two. Raises DeviceError on an emulated device.
    """
    information = session.information()
    refuse_emulated(session.line, information.emulated)
    sets = WORKING_SETS if information.free_memory_mebibytes >= LEAST_FREE_MEBIBYTES else WORKING_SETS[:-1]
    place = _place(information.fingerprint, target, threads, speeds_of(information, cores))
    if not fresh and (known := _recall(place)) is not None:
        return known
    compute = _compute_rates(session, target, threads)
    memory = _memory_rates(session, target, threads, sets)
    kind = kind_of(information, cores)
    found = DeviceLimits(information.title, target.name, threads, kind, today(), compute, sets, memory)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(place, json.dumps(found.json(), indent=2).encode())
    return found


def today() -> str:
    """The date, as limits bear it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _place(fingerprint: str, target: Target, threads: int, speeds: Sequence[float]) -> Path:
    """Limits are of a kind of device and of core, of the instructions a target may use, and of the code that measures them."""
    sources = [Path(file).read_text() for file in (__file__, limit_kernels.__file__)]
    text = repr([sorted(target.json().items(), key=str), threads, speeds, generator_digest(), sources])
    return cache_directory() / "limits" / f"{fingerprint}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _recall(place: Path) -> DeviceLimits | None:
    try:
        return DeviceLimits.from_json(json.loads(place.read_text()))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _compute_rates(session: Session, target: Target, threads: int) -> dict[str, Rate]:
    isa = target.isa
    kernels = {limit_kernels.MULTIPLY_ADD: limit_kernels.multiply_add_kernel(isa, threads)}
    instruction = limit_kernels.find_dot_instruction(target)
    if instruction is not None:
        kernels[limit_kernels.DOT] = limit_kernels.dot_kernel(instruction, isa, threads)
    module = session.load_library(kernel_library(kernels, target))
    arguments = tensors(session, *limit_kernels.multiply_add_arrays(isa, threads))
    seconds = min(session.time(module, limit_kernels.MULTIPLY_ADD, arguments, 1, REPEATS))
    name = f"{isa.name} {'fma' if isa.fma else 'multiply, add'}"
    rates = {FLOAT: Rate(limit_kernels.multiply_add_macs(isa, threads) / seconds, name)}
    if instruction is not None:
        arguments = tensors(session, *limit_kernels.dot_arrays(instruction, isa, threads))
        seconds = min(session.time(module, limit_kernels.DOT, arguments, 1, REPEATS))
        rates[INT8] = Rate(limit_kernels.dot_macs(instruction, isa, threads) / seconds, instruction.name)
    return rates


def _memory_rates(session: Session, target: Target, threads: int, sets: Sequence[int]) -> dict[str, tuple[float, ...]]:
    step = limit_kernels.step_elements(target.isa) * threads
    elements = -(-max(sets) // 4 // step) * step
    module = session.load_library(kernel_library(limit_kernels.memory_kernels(target.isa, elements, threads), target))
    sums, values = tensors(session, *(np.full(step, number, np.float32) for number in (0.0, 1.0)))
    data, other = (session.empty((elements,), np.float32) for _ in range(2))
    operands = {
        # First what writes: memory that nobody ever wrote is one page of zeros in the first cache.
        limit_kernels.WRITE: [values, data],
        limit_kernels.COPY: [data, other],
        limit_kernels.READ: [sums, data],
    }
    rates: dict[str, tuple[float, ...]] = {}
    for kind, buffers in operands.items():
        found = []
        whole = session.tensor(np.array([elements // step, 1], np.int32))
        session.call(module, kind, [whole, *buffers])
        for working_set in sets:
            streams = 2 if kind == limit_kernels.COPY else 1
            steps = max(1, working_set // 4 // streams // step)
            moved = steps * step * 4 * streams
            times = max(1, round(MOVED / moved))
            counts = session.tensor(np.array([steps, times], np.int32))
            found.append(moved * times / min(session.time(module, kind, [counts, *buffers], 1, REPEATS)))
        rates[kind] = tuple(found)
    return rates
