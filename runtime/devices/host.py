"""The device ``host``: this machine, in this process."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from tapdot.compiler.cache import cache_directory
from tapdot.compiler.errors import DeviceError
from tapdot.kernels.tvm_adapter import tvm
from tapdot.runtime.devices.base import (
    AgentAddress,
    Core,
    Device,
    DeviceInformation,
    Module,
    Session,
    Tensor,
    check_cores,
    fastest_name,
)
from tapdot.runtime.devices.cores import compiler_features, core_name

# tvm::runtime::threading::ThreadGroup::AffinityMode::kSpecifyOneCorePerThread
ONE_CORE_PER_THREAD = -2
# Bytes; the boundary every tensor of TVM's begins on.
ALIGNMENT = 64
_ALLOWED_CORES = tuple(sorted(os.sched_getaffinity(0)))


class HostDevice(Device):
    """This machine. Kernels run in the calling process, so a crash of theirs is a crash of it."""

    line = "host"
    in_process = True

    def open(self, time_limit: float = 600.0) -> Session:
        return HostSession(time_limit)

    def default_target(self) -> str:
        return "host"

    @contextmanager
    def agent(self, sessions: int = 4) -> Iterator[AgentAddress]:
        from tapdot.runtime.bundle import build_bundle
        from tapdot.runtime.devices.agent_process import AgentProcess

        agent = AgentProcess(
            build_bundle(platform.machine()), [], cache_directory() / "host-weights", ("--sessions", str(sessions))
        )
        try:
            yield AgentAddress("127.0.0.1", agent.port, agent.key, agent.ended)
        finally:
            agent.stop()


class HostSession(Session):
    """Kernels here, called directly. The time limit does not apply: a call into this process cannot be cut short."""

    line = "host"

    def __init__(self, time_limit: float = 600.0) -> None:
        self.time_limit = time_limit
        self.device = tvm.cpu()
        self._directory = tempfile.TemporaryDirectory(prefix="tapdot-host-")
        self._numbers = itertools.count()
        self._pinned = False

    def load_library(self, path: Path) -> Module:
        # The dynamic loader knows libraries by path and would hand out a stale one where a file was replaced; a copy under a
        # fresh name makes it look, and also keeps the code from changing under it.
        copy = Path(self._directory.name) / f"{next(self._numbers)}-{path.name}"
        try:
            shutil.copyfile(path, copy)
            return tvm.runtime.load_module(str(copy))
        except (OSError, RuntimeError) as error:
            raise DeviceError(f"The library {path} cannot be loaded on host: {_one_line(error)}") from error

    def map_weights(self, path: Path, sha256: str, offset: int = 0, size: int | None = None) -> Tensor:
        size = path.stat().st_size - offset if size is None else size
        if size == 0:
            return self.empty((0,), np.uint8)
        # Mode "c" is a private mapping: its pages are the page cache's own until somebody writes, and nobody does.
        mapped = np.memmap(path, dtype=np.uint8, mode="c", offset=offset, shape=(size,))
        if mapped.ctypes.data % ALIGNMENT:
            return self.tensor(mapped)  # a file laid out by somebody else; kernels may rely on the boundary
        return tvm.runtime.from_dlpack(mapped)

    def set_threads(self, threads: int, cores: Sequence[int] = ()) -> None:
        if not 1 <= threads <= len(_ALLOWED_CORES):
            raise DeviceError(f"host was asked for {threads} threads, and this process may use {len(_ALLOWED_CORES)} cores.")
        check_cores(self.line, cores, threads, [Core(number) for number in _ALLOWED_CORES])
        # TVM leaves the calling thread free on all cores of the list, and all its threads where they outnumber the list.
        chosen = cores[:threads] or _ALLOWED_CORES
        listed = [str(core) for core, _ in zip(itertools.cycle(chosen), range(os.cpu_count() or 1), strict=False)]
        tvm.get_global_func("runtime.config_threadpool")(ONE_CORE_PER_THREAD, threads, listed)
        if cores or self._pinned:
            os.sched_setaffinity(0, {chosen[0]} if cores else _ALLOWED_CORES)
        self._pinned = bool(cores)
        if (granted := tvm.get_global_func("runtime.NumThreads")()) != threads:
            raise DeviceError(
                f"host was asked for {threads} threads, and TVM's thread pool, already started in this process, has {granted}. "
                f"Set TVM_NUM_THREADS={len(_ALLOWED_CORES)} before the process starts."
            )

    def information(self) -> DeviceInformation:
        memory = _fields(Path("/proc/meminfo"))
        processor = _fields(Path("/proc/cpuinfo"))
        machine = platform.machine()
        return DeviceInformation(
            architecture=machine,
            cpu=processor_name(),
            features=compiler_features((processor.get("flags") or processor.get("Features") or "").split(), machine),
            cores=len(_ALLOWED_CORES),
            memory_mebibytes=_mebibytes(memory.get("MemTotal")),
            free_memory_mebibytes=_mebibytes(memory.get("MemAvailable")),
            free_disk_mebibytes=shutil.disk_usage(tempfile.gettempdir()).free / 2**20,
            emulated=False,
            system=f"{platform.system()} {platform.release()}",
            frequencies_megahertz=_readings("/sys/devices/system/cpu", "cpu[0-9]*/cpufreq/scaling_cur_freq"),
            temperatures_celsius=_readings("/sys/class/thermal", "thermal_zone*/temp"),
            usable_cores=_cores(),
            machine=_machine_name(),
        )

    @contextmanager
    def watch(self, doing: str, seconds: float | None = None) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise DeviceError(f"{doing} failed on host: {_one_line(error)}") from error

    def close(self) -> None:
        if self._pinned:
            self.set_threads(1)  # the process goes on, and what it starts from here on must not share one core
        self._directory.cleanup()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _fields(path: Path) -> dict[str, str]:
    """The first value of each ``name: value`` line of a file under /proc; empty where there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def _mebibytes(text: str | None) -> float:
    """``"24684096 kB"`` in MiB; 0 where the system does not tell."""
    return float(text.split()[0]) / 1024 if text else 0.0


def _machine_name() -> str:
    """Make and model of this machine; empty where no file tells."""
    for path in (Path("/proc/device-tree/model"), Path("/sys/devices/virtual/dmi/id/product_name")):
        with suppress(OSError):
            return path.read_text(errors="replace").strip("\0\n ")
    return ""


def processor_name() -> str:
    """This machine's processor, as its system calls it; the kind of its fastest core where the system has no name for all."""
    return _fields(Path("/proc/cpuinfo")).get("model name") or fastest_name(_cores()) or "unknown"


def _cores() -> tuple[Core, ...]:
    name = _fields(Path("/proc/cpuinfo")).get("model name")
    return tuple(_core(number, name) for number in _ALLOWED_CORES)


def _core(number: int, name: str | None) -> Core:
    """A core of this machine; its name by its number in ``/sys`` where the system has no name for all."""
    folder = Path(f"/sys/devices/system/cpu/cpu{number}")
    highest, now = (_reading(folder / "cpufreq" / file, 1e-3) for file in ("cpuinfo_max_freq", "scaling_cur_freq"))
    if name is None:
        try:
            name = core_name(int((folder / "regs/identification/midr_el1").read_text(), 16), platform.machine())
        except (OSError, ValueError):
            name = platform.machine()
    return Core(number, _reading(folder / "cpu_capacity"), highest, now, name)


def _reading(path: Path, scale: float = 1.0) -> float | None:
    """The number a file of /sys holds, in units; None where there is none."""
    try:
        return float(path.read_text()) * scale
    except (OSError, ValueError):
        return None


def _readings(directory: str, pattern: str) -> tuple[float, ...]:
    """Readings in thousandths, as /sys gives them, in units."""
    found = (_reading(path, 1e-3) for path in sorted(Path(directory).glob(pattern)))
    return tuple(value for value in found if value is not None)
