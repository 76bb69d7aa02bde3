"""What is being measured on, and keeping to part of it."""

import datetime
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Machine:
    """The computer, as a table's caption and a JSON record name it."""

    host: str
    processor: str
    cores: int
    system: str
    date: str

    def json(self) -> dict[str, Any]:
        return asdict(self)


def describe() -> Machine:
    """This machine, now."""
    return Machine(
        host=platform.node(),
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def processor_name() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def choose_cores(count: int) -> list[int]:
    """The last `count` cores this process may use: the first ones serve the system's interrupts more often."""
    allowed = sorted(os.sched_getaffinity(0))
    if count > len(allowed):
        raise ValueError(f"{count} threads need {count} cores, but this process may use only {len(allowed)}.")
    return allowed[-count:]


def pin(cores: list[int]) -> None:
    """Keep this process, and every thread it starts from now on, on `cores`; call before importing an engine."""
    os.sched_setaffinity(0, cores)
    for variable in ("OMP_NUM_THREADS", "TVM_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(len(cores))
    os.environ["TVM_BIND_THREADS"] = "0"  # TVM would otherwise choose cores for its threads by itself
