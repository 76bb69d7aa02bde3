"""The smallest kernel that proves a device computes: it doubles a vector. Made for the device's own architecture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tapdot.compiler.errors import DeviceError
from tapdot.compiler.files import write_bytes
from tapdot.compiler.lower.library import link
from tapdot.kernels.emit import argument
from tapdot.kernels.target import Target, find_target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function, object_code
from tapdot.runtime.devices.base import Session

SYMBOL = "echo_doubled"
ELEMENTS = 256
# What every CPU of an architecture has, so that the kernel says something of the device and nothing of its target's name.
BASELINES = {"x86_64": "x86-64", "aarch64": "generic"}


def echo_target(architecture: str) -> Target:
    """The least capable CPU of an architecture (``x86_64`` or ``aarch64``)."""
    if architecture not in BASELINES:
        raise DeviceError(f"The device's architecture is {architecture}; tapdot compiles for {' and '.join(sorted(BASELINES))}.")
    if architecture == find_target("host").architecture:
        return find_target("host")
    return Target(architecture, f"{architecture}-linux-gnu", BASELINES[architecture], ())


def echo_library(architecture: str, path: Path) -> Path:
    """Writes the kernel ``echo_doubled(x: float32[256], y: float32[256])`` as a shared library to ``path``."""
    target = echo_target(architecture)
    finished: list[PrimFunc] = []
    with function(SYMBOL, finished):
        x, y = argument("x", ELEMENTS, "float32"), argument("y", ELEMENTS, "float32")
        with T.serial(ELEMENTS) as index:
            T.buffer_store(y, x[index] * T.float32(2), [index])
    object_file = path.with_suffix(".o")
    write_bytes(object_file, object_code({SYMBOL: finished[0]}, target.llvm()))
    write_bytes(path, link([object_file], target))
    return path


def run_echo(session: Session, library: Path) -> None:
    """Runs the kernel once on a device. Raises DeviceError when the answer is wrong."""
    values = np.random.default_rng(0).standard_normal(ELEMENTS).astype(np.float32)
    x, y = session.tensor(values), session.empty((ELEMENTS,), np.float32)
    session.call(session.load_library(library), SYMBOL, [x, y])
    wrong = int(np.count_nonzero(session.array(y) != 2 * values))
    if wrong:
        raise DeviceError(f"{session.line} doubled {wrong} of {ELEMENTS} numbers wrongly; do not trust what it computes.")
