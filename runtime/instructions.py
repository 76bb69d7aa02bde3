"""Counting instructions on an emulated CPU, where time means nothing.

The runner program calls a function 4 times in one process and 2 times in another, with one thread, no RPC and no clock;
the counts' difference, halved, is the cost of one call after the first two, without loading, warming up or storing results.
Repeats agree to about 0.02 % (docs/measuring.md says more).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tapdot.compiler.cache import build_once, cache_directory
from tapdot.compiler.errors import DeviceError, InputError
from tapdot.compiler.package import Package
from tapdot.runtime.bundle import AGENT_SOURCES, GLIBC, build_bundle, zig
from tapdot.runtime.devices.base import DeviceInformation
from tapdot.runtime.devices.emulated import DEFAULT_CPU, emulator_command, find_emulator
from tapdot.runtime.program import check_inputs

FEW_CALLS, MANY_CALLS = 2, 4
ANY_CPU = "max"
"""QEMU's name of the CPU with every extension."""
PLUGIN_SOURCE = AGENT_SOURCES / "count_instructions.c"
# The first QEMU whose plugins count on scoreboards (plugin interface 2).
SCOREBOARD_QEMU = 9
RUNNER_PREFIX = "tapdot-run: "
KIND_NAMES = {"i": "int", "u": "uint", "f": "float"}


@dataclass(frozen=True)
class Argument:
    """One tensor of a call: dense, row-major, on the CPU.

    ``how`` is ``mapped`` (part of a file), ``read`` (given values), ``scratch`` (memory of unknown content), ``write`` (the same,
    handed back after the last call) or ``update`` (given values, handed back as the last call left them).
    """

    how: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    array: NDArray[Any] | None = None
    path: Path | None = None
    offset: int = 0

    @staticmethod
    def mapped(path: Path, offset: int = 0, size: int | None = None) -> Argument:
        """Bytes of a file from ``offset`` on (all the rest unless ``size`` is given) as ``uint8[n]``, read-only."""
        size = path.stat().st_size - offset if size is None else size
        return Argument("mapped", (size,), np.dtype(np.uint8), path=path.resolve(), offset=offset)

    @staticmethod
    def read(array: NDArray[Any]) -> Argument:
        """Values the function reads."""
        return Argument("read", array.shape, array.dtype, array)

    @staticmethod
    def update(array: NDArray[Any]) -> Argument:
        """Values the function reads and overwrites."""
        return Argument("update", array.shape, array.dtype, array)

    @staticmethod
    def scratch(shape: Sequence[int], dtype: DTypeLike) -> Argument:
        """Memory filled with 0xA5 before the first call."""
        return Argument("scratch", tuple(shape), np.dtype(dtype))

    @staticmethod
    def write(shape: Sequence[int], dtype: DTypeLike) -> Argument:
        """Memory filled with 0xA5 before the first call, whose last content is a result."""
        return Argument("write", tuple(shape), np.dtype(dtype))


@dataclass(frozen=True)
class InstructionCount:
    """Guest instructions of one call, and what the call wrote: the ``write`` and ``update`` arguments, in order."""

    per_run: int
    outputs: tuple[NDArray[Any], ...]


def count_instructions(
    library: Path,
    weights_path: Path,
    arena_bytes: int,
    inputs: Sequence[NDArray[Any]],
    outputs: Sequence[tuple[Sequence[int], DTypeLike]],
    cpu: str = DEFAULT_CPU,
    time_limit: float = 3600.0,
    weights_offset: int = 0,
    weights_size: int | None = None,
) -> InstructionCount:
    """Instructions of one run of a package's ``main(weights, arena, inputs..., outputs...)``.

    ``outputs`` gives each output's shape and dtype; the weights are ``weights_size`` bytes of their file from ``weights_offset``
    on, all of it unless given. Raises DeviceError when the emulator is missing, fails, or exceeds
    ``time_limit`` seconds.
    """
    arguments = [
        Argument.mapped(weights_path, weights_offset, weights_size),
        Argument.scratch((arena_bytes,), np.uint8),
        *(Argument.read(array) for array in inputs),
        *(Argument.write(shape, dtype) for shape, dtype in outputs),
    ]
    return count_call(library, "main", arguments, cpu, time_limit)


def counting_cpu(line: str, information: DeviceInformation | None = None) -> str:
    """The CPU that instructions are counted on for an emulated device.

    A line such as ``emulated:cortex-a53`` names it. For devices behind an agent, a cable or a tracker it is the one that the
    device says it has, where QEMU has that, too, else ``max``, which runs code for any of them.
    """
    kind, _, named = line.partition(":")
    if kind == "emulated":
        return named or DEFAULT_CPU
    return information.cpu if information is not None and information.cpu in known_cpus() else ANY_CPU


@cache
def known_cpus() -> frozenset[str]:
    """Names of the CPUs that the installed QEMU emulates."""
    said = subprocess.run([find_emulator(), "-cpu", "help"], capture_output=True, text=True, check=False).stdout
    return frozenset(line.strip() for line in said.splitlines() if line.startswith(" "))


def count_package_instructions(package: Package, inputs: Mapping[str, NDArray[Any]], cpu: str = DEFAULT_CPU) -> int:
    """Instructions of one run of a package on an emulated CPU. Whether its answer is right is for the caller to check."""
    program, weights = package.program, package.weights
    counted = count_instructions(
        package.library,
        weights.path,
        program.arena_bytes,
        check_inputs(package, inputs),
        [(tensor.shape, tensor.dtype) for tensor in program.outputs],
        cpu,
        weights_offset=weights.offset,
        weights_size=weights.size,
    )
    return counted.per_run


def count_call(
    library: Path,
    function_name: str,
    arguments: Sequence[Argument],
    cpu: str = DEFAULT_CPU,
    time_limit: float = 3600.0,
) -> InstructionCount:
    """Instructions of one call of any function of a kernel library, such as one kernel alone.

    Both processes must hand back the same bytes, so a function whose answer depends on what ran before is an error and not a
    number.
    """
    runs = []
    try:
        for calls in (FEW_CALLS, MANY_CALLS):
            runs.append(_Run(library, function_name, arguments, cpu, calls))
        deadline = time.monotonic() + time_limit
        few, many = (run.finish(deadline - time.monotonic(), time_limit) for run in runs)
    finally:
        for run in runs:
            run.discard()
    for position, (first, second) in enumerate(zip(few.outputs, many.outputs, strict=True)):
        if first.tobytes() != second.tobytes():
            raise DeviceError(
                f"{function_name} wrote other values to result {position} after {MANY_CALLS} calls than after {FEW_CALLS}: it "
                f"reads memory it never wrote, or its own earlier results."
            )
    return InstructionCount(round((many.per_run - few.per_run) / (MANY_CALLS - FEW_CALLS)), many.outputs)


class _Run:
    """One process of the runner under the counting plugin, in a folder of its own."""

    def __init__(self, library: Path, function_name: str, arguments: Sequence[Argument], cpu: str, calls: int) -> None:
        self._function_name = function_name
        self._cpu = cpu
        self._arguments = arguments
        emulator = emulator_command(cpu)
        bundle = build_bundle("aarch64")
        plugin = str(build_plugin()).replace(",", ",,")
        self._folder = tempfile.TemporaryDirectory(prefix="tapdot-count-")
        self._directory = Path(self._folder.name)
        (self._directory / "specification").write_text(self._specification(library))
        self._process = subprocess.Popen(
            [
                *emulator,
                "-plugin",
                f"{plugin},output=count",
                *bundle.command("tapdot-run"),
                str(calls),
                "specification",
            ],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # One thread; and nothing of this process's environment, whose size would move the guest's stack.
            env={"TVM_NUM_THREADS": "1", "PATH": os.defpath},
        )

    def _specification(self, library: Path) -> str:
        lines = [f"library {library.resolve(strict=True)}", f"function {self._function_name}"]
        for position, argument in enumerate(self._arguments):
            if argument.how == "mapped":
                lines.append(f"mapped {argument.offset} {argument.shape[0]} {argument.path}")
                continue
            kind = KIND_NAMES.get(argument.dtype.kind)
            if kind is None:
                raise InputError(f"Tensor {position} of {self._function_name} is {argument.dtype}; expected integers or floats.")
            path = self._directory / f"tensor-{position}"
            if argument.array is not None:
                path.write_bytes(argument.array.tobytes())
            shape = ",".join(map(str, argument.shape)) or "-"
            lines.append(f"tensor {argument.how} {kind} {8 * argument.dtype.itemsize} {shape} {path}")
        return "\n".join(lines) + "\n"

    def finish(self, seconds: float, time_limit: float) -> InstructionCount:
        """Waits for the process. ``per_run`` of the result is the whole process's count."""
        try:
            _, complaint = self._process.communicate(timeout=max(0.0, seconds))
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"Counting instructions of {self._function_name} took longer than {time_limit:g} s.") from error
        if self._process.returncode != 0:
            raise DeviceError(self._sentence(complaint))
        try:
            count = int((self._directory / "count").read_text())
        except (OSError, ValueError) as error:
            raise DeviceError(f"{find_emulator()} counted nothing; was it built without plugins?") from error
        outputs = tuple(
            np.frombuffer((self._directory / f"tensor-{position}").read_bytes(), argument.dtype).reshape(argument.shape)
            for position, argument in enumerate(self._arguments)
            if argument.how in ("write", "update")
        )
        return InstructionCount(count, outputs)

    def _sentence(self, complaint: str) -> str:
        status = self._process.returncode
        complaint = " ".join(complaint.split())
        if status == 1 and complaint.startswith(RUNNER_PREFIX):
            reason = complaint.removeprefix(RUNNER_PREFIX)
            return f"Counting instructions of {self._function_name} failed on the emulated {self._cpu}: {reason}"
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return (
            f"{self._function_name} crashed on the emulated {self._cpu} ({how}). Check that the library was compiled for this "
            f"CPU{f'; the emulator said: {complaint[:200]}' if complaint else ''}."
        )

    def discard(self) -> None:
        """Ends the process if it still runs and removes its files."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


def build_plugin() -> Path:
    """The counting plugin for the installed QEMU, compiled on first use."""
    version = _plugin_interface()
    identity = hashlib.sha256(PLUGIN_SOURCE.read_bytes()).hexdigest()[:16]
    name = "count_instructions.so"

    def build(directory: Path) -> None:
        zig(
            *(
                "cc",
                "-target",
                f"{platform.machine()}-linux-gnu.{GLIBC}",
                "-shared",
                "-fPIC",
                "-O2",
                "-Wall",
                "-Wextra",
            ),
            *(f"-DQEMU_PLUGIN_VERSION={version}", "-fvisibility=hidden"),
            *(str(PLUGIN_SOURCE), "-o", str(directory / name)),
            purpose="Compiling the instruction counter",
        )

    return build_once(cache_directory() / "plugins" / f"{identity}-{version}", build) / name


def _plugin_interface() -> int:
    """Version of the plugin interface the installed QEMU speaks."""
    said = subprocess.run([find_emulator(), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.", said)
    if found is None:
        raise DeviceError(f"{find_emulator()} does not tell its version: '{said.strip()}'.")
    return 2 if int(found[1]) >= SCOREBOARD_QEMU else 1
