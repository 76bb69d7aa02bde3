"""Where the time of a package goes: every kernel alone, beside what the device could do at best."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.compiler.coverage import COPIES, EDGES
from tapdot.compiler.package import Package
from tapdot.compiler.program import KernelCall
from tapdot.kernels.layout import CODES
from tapdot.runtime.conditions import stretch_calls
from tapdot.runtime.limits import DeviceLimits, device_limits, today
from tapdot.runtime.program import LoadedProgram
from tapdot.runtime.verify import flat_in_layout

TIMED_STRETCH = 2e-4
"""Seconds; what is shorter is called as often as fills this, because reading the clock takes part of a microsecond."""
BEYOND = 1.1
"""A share of a limit that no kernel reaches: the limit was measured on a busy device, and is measured again."""
ARITHMETIC, MEMORY = "arithmetic", "memory"


@dataclass(frozen=True)
class KernelTime:
    """One kernel of a profile. ``share`` is of the sum of all kernels; ``macs`` are those that count, none for weights that were
    pruned away; ``bytes`` are all of its arguments'.

    ``bound`` is which of the device's limits it meets first, and ``share_of_limit`` how near it is: the least time the device
    could take, over the time it took. ``remark`` marks what is no arithmetic of the network's own.
    """

    node: str
    family: str
    fast: bool
    seconds: float
    share: float
    macs: int
    bytes: int
    bound: str
    share_of_limit: float
    remark: str = ""

    @property
    def macs_per_second(self) -> float:
        """0 where nothing is multiplied."""
        return self.macs / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Each byte of its arguments counted once."""
        return self.bytes / self.seconds if self.seconds else 0.0

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "node": self.node,
            "family": self.family,
            "fast": self.fast,
            "seconds": self.seconds,
            "share": self.share,
            "macs": self.macs,
            "bytes": self.bytes,
            "macs_per_second": self.macs_per_second,
            "bytes_per_second": self.bytes_per_second,
            "bound": self.bound,
            "share_of_limit": self.share_of_limit,
            "remark": self.remark or None,
        }


@dataclass(frozen=True)
class Profile:
    """Every kernel in the order in which it runs, and the limits it is held against; ``whole`` is the program's own time."""

    kernels: tuple[KernelTime, ...]
    limits: DeviceLimits
    whole: float

    @property
    def sum(self) -> float:
        """Seconds of all kernels alone."""
        return sum(kernel.seconds for kernel in self.kernels)

    def share_of(self, remark: str) -> float:
        """The share of the kernels' time that those with a remark take."""
        return sum(kernel.share for kernel in self.kernels if kernel.remark == remark)

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kernels": [kernel.json() for kernel in self.kernels],
            "kernels_seconds": self.sum,
            "limits": self.limits.json(),
        }


def profile(
    loaded: LoadedProgram,
    values: Mapping[str, np.ndarray],
    *,
    runs: int,
    threads: int,
    cores: Sequence[int],
    whole: float,
) -> Profile:
    """Every kernel timed alone, on the reference's inputs; ``session.set_threads(threads, cores)`` was called."""
    session, package = loaded.session, loaded.package
    seconds = [_seconds(loaded, call, values, runs) for call in loaded.program.calls]
    found = held_against(package, seconds, device_limits(session, package.target, threads, cores), whole)
    if _is_doubtful(found):
        found = held_against(package, seconds, device_limits(session, package.target, threads, cores, fresh=True), whole)
    return found


def _is_doubtful(found: Profile) -> bool:
    """Whether the limits should be measured again: a kernel beats that of arithmetic, or one of memory that is of another day.

    A kernel that reads a part of its argument only, such as a convolution with strides, may well beat the memory's.
    """
    beyond = {kernel.bound for kernel in found.kernels if kernel.share_of_limit > BEYOND}
    return ARITHMETIC in beyond or (MEMORY in beyond and found.limits.date != today())


def _seconds(loaded: LoadedProgram, call: KernelCall, values: Mapping[str, np.ndarray], runs: int) -> float:
    graph = loaded.package.graph
    flats = [flat_in_layout(values[name], graph.type(name)) for name in call.inputs]
    arguments = loaded.kernel_arguments(call, flats)
    once = min(loaded.session.time(loaded.module, call.symbol, arguments, 1, 3))
    return statistics.median(loaded.session.time(loaded.module, call.symbol, arguments, stretch_calls(once, TIMED_STRETCH), runs))


def held_against(package: Package, seconds: list[float], limits: DeviceLimits, whole: float) -> Profile:
    """Times of all calls of a program beside a device's limits."""
    total = sum(seconds) or 1.0
    islands = set()
    if package.coverage is not None:
        islands = {name for island in package.coverage.islands for name in island.nodes}
    kernels = []
    for call, taken in zip(package.program.calls, seconds, strict=True):
        read, written = moved_bytes(call)
        arithmetic = limits.seconds_of_macs(call.macs, multiplies_codes(call))
        memory = limits.seconds_of_bytes(read, written)
        bound = ARITHMETIC if arithmetic > memory else MEMORY
        share_of_limit = max(arithmetic, memory) / taken if taken else 0.0
        remark = _remark(call, islands)
        kernels.append(
            KernelTime(
                *(call.node, call.family, call.fast, taken, taken / total),
                *(call.macs, read + written, bound, share_of_limit, remark),
            )
        )
    return Profile(tuple(kernels), limits, whole)


def moved_bytes(call: KernelCall) -> tuple[int, int]:
    """Bytes of all arguments of a call that it reads, packed weights included, and of all that it writes."""
    sizes = [argument.elements * np.dtype(argument.dtype).itemsize for argument in call.arguments]
    results = len(call.outputs)
    return sum(sizes[: len(sizes) - results]), sum(sizes[len(sizes) - results :])


def multiplies_codes(call: KernelCall) -> bool:
    """Whether a kernel's products are of 8-bit codes."""
    return any(operand is not None and operand.dtype in CODES for operand in call.workload.inputs[:1])


def _remark(call: KernelCall, islands: set[str]) -> str:
    if call.workload.op in COPIES:
        return "copy"
    if call.workload.op in EDGES:
        return "conversion"
    return "float island" if call.node in islands else ""
