"""What every kind of device can do. Upper layers speak to these two classes and never ask which kind they hold."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tapdot.compiler.errors import DeviceError
from tapdot.kernels.layout import READ_SLACK
from tapdot.kernels.tvm_adapter import tvm

if TYPE_CHECKING:
    from tapdot.compiler.package import Package
    from tapdot.runtime.compare import Comparison
    from tapdot.runtime.measure import Measurement
    from tapdot.runtime.verify import Verification

Tensor = Any
"""A TVM tensor in a device's memory; ``.numpy()`` copies it back."""
Module = Any
"""A TVM module: a loaded kernel library, here or on the other side."""


@dataclass(frozen=True)
class Core:
    """One core that a session may use: its number in the system, Linux's relative capacity (1024 is the fastest kind of the
    device) and the highest clock in MHz; None where the device does not tell.
    """

    number: int
    capacity: float | None = None
    maximum_megahertz: float | None = None
    megahertz: float | None = None
    """Its clock at the moment it was asked."""
    name: str = ""
    """The kind of core, as compilers call it."""


@dataclass(frozen=True)
class DeviceInformation:
    """What a device says of itself.

    Sizes are in MiB, frequencies in MHz (one per core), temperatures in degrees Celsius (one per sensor); lists are empty where
    the device does not tell. ``features`` are names as compilers use them. ``cpu`` names the fastest kind of core. ``machine`` is
    the make and model of the whole; empty where nobody tells.
    """

    architecture: str
    cpu: str
    features: tuple[str, ...]
    cores: int
    memory_mebibytes: float
    free_memory_mebibytes: float
    free_disk_mebibytes: float
    emulated: bool
    system: str
    agent_version: str | None = None
    frequencies_megahertz: tuple[float, ...] = ()
    temperatures_celsius: tuple[float, ...] = ()
    usable_cores: tuple[Core, ...] = ()
    machine: str = ""

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of what decides how fast code runs on a device of this kind.

        Two phones of one model share it. What changes from minute to minute (free memory, frequencies, temperatures) and what
        changes with every update (the system's release, the agent) is no part of it.
        """
        facts = [
            self.architecture,
            self.cpu,
            sorted(self.features),
            self.cores,
            sorted((core.name, core.maximum_megahertz or 0.0) for core in self.usable_cores),
            self.machine,
            self.emulated,
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """The same in words, such as "cortex-a76 (aarch64), 8 cores, Google Pixel 6"."""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return ", ".join(
            [f"{self.cpu} ({self.architecture})", cores, *filter(None, [self.machine]), *(["emulated"] if self.emulated else [])]
        )


@dataclass(frozen=True)
class AgentAddress:
    """Where an agent of a device listens, and its key. ``lost`` says in a sentence what became of the device, None if nothing."""

    host: str
    port: int
    key: str
    lost: Callable[[], str | None] = lambda: None


Check = tuple[str, Callable[[], str]]
"""A step of setting a device up: its name, and what finds out whether it holds, says what it found, or raises a TapdotError."""


class Session(AbstractContextManager["Session"]):
    """A device in use. Obtained from ``Device.open()`` and closed at the end of the ``with``.

    Every method raises DeviceError, with a sentence, when the device refuses, fails, leaves, or takes longer than its time
    limit (seconds; each call of a method has the whole limit to itself).
    """

    line: str
    device: tvm.runtime.Device
    time_limit: float

    @abstractmethod
    def load_library(self, path: Path) -> Module:
        """Loads a kernel library (an ELF shared object for the device), sending it there first if need be."""

    @abstractmethod
    def map_weights(self, path: Path, sha256: str, offset: int = 0, size: int | None = None) -> Tensor:
        """Bytes of a file as a read-only ``uint8[n]`` tensor on a 64-byte boundary, mapped and not copied.

        They are ``size`` bytes from ``offset`` on, all the rest of the file unless given. ``sha256`` is their digest in
        lower-case hexadecimal; a device far away keeps them under that name and is sent them only once.
        """

    @abstractmethod
    def information(self) -> DeviceInformation:
        """What the device says of itself, asked afresh at each call."""

    def steps(self) -> Iterator[Check]:
        """What must hold of this kind of session before anything is asked of it."""
        yield from ()

    @abstractmethod
    def set_threads(self, threads: int, cores: Sequence[int] = ()) -> None:
        """Lets kernels use this many threads on any cores, or each on one of the cores of these numbers, in their order.

        The calling thread is the first. Raises DeviceError when there are fewer cores, or none of such a number.
        """

    @abstractmethod
    def close(self) -> None:
        """Frees everything the session holds on the device. May be called twice."""

    @abstractmethod
    @contextmanager
    def watch(self, doing: str, seconds: float | None = None) -> Iterator[None]:
        """Gives the body of the ``with`` ``seconds`` on the device (``time_limit`` unless given) and turns its failures into
        DeviceErrors that begin with ``doing``, such as "Running main". For calls into a module that bypass ``call``.
        """
        yield

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """A copy of the array in the device's memory, dense and row-major."""
        with self.watch("Copying a tensor to the device"):
            return tvm.runtime.tensor(np.asarray(array, order="C"), self.device)

    def tensor_with_slack(self, array: NDArray[Any]) -> Tensor:
        """A copy of a flat array in the device's memory; what a kernel may read behind its end is there as well."""
        slack = np.zeros(READ_SLACK // array.itemsize, array.dtype)
        with self.watch("Copying a tensor to the device"):
            whole = tvm.runtime.tensor(np.concatenate([array, slack]), self.device)
            return whole._create_view((array.size,))

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> Tensor:
        """An uninitialised tensor in the device's memory."""
        with self.watch("Allocating a tensor"):
            return tvm.runtime.empty(tuple(shape), np.dtype(dtype).name, self.device)

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """A copy of a device tensor in this process."""
        with self.watch("Copying a tensor from the device"):
            return tensor.numpy()

    def call(self, module: Module, function_name: str, arguments: Sequence[Any]) -> None:
        """Calls a function of a loaded library once and waits for it."""
        with self.watch(f"Running {function_name}"):
            module[function_name](*arguments)

    def time(self, module: Module, function_name: str, arguments: Sequence[Any], number: int = 1, repeat: int = 1) -> list[float]:
        """Seconds a call, ``repeat`` times the mean over ``number`` calls, after one call that is not counted."""
        with self.watch(f"Timing {function_name}"):
            evaluator = module.time_evaluator(function_name, self.device, number=number, repeat=repeat)
            return [float(seconds) for seconds in evaluator(*arguments).results]

    def __exit__(self, *exception: object) -> None:
        self.close()


def fastest_name(cores: Sequence[Core]) -> str:
    """The kind of the fastest core, by capacity, then by highest clock; empty where there are none."""
    return max(cores, key=lambda core: (core.capacity or 0.0, core.maximum_megahertz or 0.0)).name if cores else ""


def check_cores(line: str, cores: Sequence[int], threads: int, usable: Sequence[Core]) -> None:
    """Raises DeviceError for cores that a session may not use, or that are too few for its threads."""
    numbers = [core.number for core in usable]
    if cores and not numbers:
        raise DeviceError(f"{line} does not tell which cores it has, so none can be chosen; leave them out.")
    if missing := [core for core in cores if core not in numbers]:
        raise DeviceError(
            f"{line} was asked for core {', '.join(map(str, missing))}, and a session there may use "
            f"{', '.join(map(str, numbers))}."
        )
    if cores and len(set(cores)) < threads:
        count = len(set(cores))
        raise DeviceError(
            f"{line} was asked for {threads} threads on {count} core{'s' * (count > 1)}; give as many cores as threads."
        )


class Device(ABC):
    """A device named by a line. Creating one touches nothing; ``open`` does."""

    line: str
    emulated: bool = False
    """Whether its clock says nothing of a real device: instructions are counted instead, never called a latency."""
    in_process: bool = False
    """Whether kernels run in the calling process, on this machine's cores: a crash of theirs is one of the caller, and what
    else works here disturbs measurements.
    """

    @property
    def parallel(self) -> int:
        """How many sessions may measure at once: the devices behind the line that are free."""
        return 1

    @abstractmethod
    def open(self, time_limit: float = 600.0) -> Session:
        """Starts a session; use it in a ``with``. ``time_limit`` is in seconds and applies to each call on the session.

        Raises DeviceError when the device cannot be reached.
        """

    @abstractmethod
    def default_target(self) -> str:
        """Name of the target that code for this device is generated for when the user names none."""

    @contextmanager
    def agent(self, sessions: int = 4) -> Iterator[AgentAddress]:
        """An agent of the device for as long as the ``with`` lasts. It serves any number of sessions, so many of them at once;
        one that runs already keeps to its own limit. Raises DeviceError when the device cannot be reached, or has no agent.
        """
        raise DeviceError(f"{self.line} has no agent of its own that could be handed on; name the device itself.")
        yield

    def steps(self) -> Iterator[Check]:
        """The steps to a session that are special to this kind of device, in order; each may rely on those before it."""
        yield from ()

    # -- what users ask of a device, each in a session of its own ---------------------------------------------------------

    def run(self, package: Package, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One inference: arrays by the model's input names to arrays by its output names.

        Raises InputError where an array does not fit, DeviceError where the device fails.
        """
        from tapdot.runtime.program import LoadedProgram

        with self.open() as session:
            return LoadedProgram(session, package).run(inputs)

    def verify(self, package: Package, inputs: Mapping[str, NDArray[Any]] | None = None) -> Verification:
        """Compares every kernel, then the whole, with the reference; see ``runtime.verify``."""
        from tapdot.runtime.verify import verify

        with self.open() as session:
            return verify(session, package, inputs)

    def measure(
        self,
        package: Package,
        *,
        threads: int = 1,
        runs: int = 20,
        per_layer: bool = False,
        cores: str | Sequence[int] | None = None,
    ) -> Measurement:
        """Latency (instructions on an emulated device) after the answer was checked; see ``runtime.measure``."""
        from tapdot.runtime.measure import measure

        with self.open() as session:
            return measure(session, package, threads=threads, runs=runs, per_layer=per_layer, cores=cores)

    def compare(
        self,
        packages: Sequence[Package],
        *,
        labels: Sequence[str] | None = None,
        threads: int = 1,
        runs: int = 50,
        cores: str | Sequence[int] | None = None,
    ) -> Comparison:
        """Latencies of several packages, taken in turns, and whether one is faster beyond noise; see ``runtime.compare``."""
        from tapdot.runtime.compare import compare

        with self.open() as session:
            return compare(session, packages, labels=labels, threads=threads, runs=runs, cores=cores)
