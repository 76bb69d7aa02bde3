"""Tuning a package on a device, from a line and a file name."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.package import Package
from tapdot.kernels.target import Target
from tapdot.runtime.devices.base import Device
from tapdot.runtime.devices.targets import check_fits
from tapdot.runtime.tuning.candidates import trim_candidates
from tapdot.runtime.tuning.database import default_path
from tapdot.runtime.tuning.record import INSTRUCTIONS, SECONDS, Place
from tapdot.runtime.tuning.records import Records
from tapdot.runtime.tuning.report import TuningResult
from tapdot.runtime.tuning.runners import runner_for
from tapdot.runtime.tuning.tuner import Options, Tuner, Watch
from tapdot.runtime.tuning.workloads import subjects_of_package


def tune_package(
    package: Package,
    device: Device,
    options: Options,
    *,
    records: str | os.PathLike[str] | None = None,
    threads: int = 1,
    workers: int | None = None,
    watch: Watch = lambda snapshot: None,
) -> TuningResult:
    """Tries configurations of a package's kernels on a device and records how they fare.

    ``records`` is a file or the URL of a database, by default the user's own. ``workers`` trials run at once, by default as many
    as there are devices behind the line.

    Raises TapdotError where there is nothing to tune, the device cannot run the package, or the records cannot be used.
    """
    started = time.monotonic()
    at_once = workers or device.parallel  # before a session of ours occupies one of them
    place = place_of(device, package.target, threads)
    with Records(records or default_path()) as opened:
        subjects = subjects_of_package(package)
        if not subjects:
            raise TapdotError(f"No kernel of {package.name!r} has a choice of configurations, so there is nothing to tune.")
        runners = [runner_for(device, threads, place.device) for _ in range(at_once)]
        tuner = Tuner(
            package.name,
            subjects,
            place,
            device.line,
            opened,
            runners,
            options,
            alone=device.in_process,
            watch=watch,
            started=started,
        )
        try:
            return tuner.run()
        finally:
            with suppress(OSError):  # a cache that cannot be trimmed now is no reason to lose the result
                trim_candidates()


def place_of(device: Device, target: Target, threads: int = 1) -> Place:
    """What figures from a device hold for. Raises DeviceError where it runs no code for the target."""
    with device.open() as session:
        information = session.information()
    check_fits(target, information, device.line)
    unit = INSTRUCTIONS if information.emulated else SECONDS
    if unit == INSTRUCTIONS and threads != 1:
        raise TapdotError(f"Instructions are counted on {device.line}, of one thread; leave --threads out.")
    return Place(target, information.fingerprint, information.title, threads, unit)
