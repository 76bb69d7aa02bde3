"""Runs one function of generated code on an emulated aarch64 CPU."""

from __future__ import annotations

import atexit
import platform
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tapdot.compiler.lower.library import link
from tapdot.kernels.target import Target, UnknownTargetError, find_target
from tapdot.kernels.tvm_adapter import PrimFunc, object_code
from tapdot.runtime.devices import connect
from tapdot.runtime.devices.base import Session

EMULATED_CPUS = {"cortex-x2": "max"}
"""What QEMU calls the CPU of a target, where it is not the same."""


def emulated_cpu(target: Target) -> str:
    """The emulated CPU that runs code for a target."""
    name = target.name.partition(":")[0]
    return EMULATED_CPUS.get(name, name)


def is_emulated(target: Target) -> bool:
    """Whether code for a target runs on another architecture than this machine's."""
    return target.architecture == "aarch64" != platform.machine()


def target_or_skip(name: str) -> Target:
    """The target of that name, or a skipped test where this machine can neither run nor emulate its code."""
    try:
        target = find_target(name)
    except UnknownTargetError as error:
        pytest.skip(str(error))
    if not is_emulated(target) and (missing := set(target.features) - set(find_target("host").features)):
        pytest.skip(f"this machine lacks {', '.join(sorted(missing))}")
    return target


@cache
def phone(cpu: str) -> Session:
    """One session for all functions of a test run: starting an emulated CPU takes longer than most of them."""
    session = connect(f"emulated:{cpu}").open(120)
    atexit.register(session.close)
    return session


def call(
    function: PrimFunc, target: Target, inputs: Sequence[np.ndarray], *memory: Sequence[np.ndarray]
) -> list[list[np.ndarray]]:
    """Calls a function named ``kernel`` with flat inputs, then results: once for each contents of the results' memory.

    Gives what each call left there. Twice the same call must leave the same.
    """
    session = phone(emulated_cpu(target))
    try:
        with tempfile.TemporaryDirectory() as folder:
            part, library = Path(folder) / "kernel.o", Path(folder) / "kernel.so"
            part.write_bytes(object_code({"kernel": function}, target.llvm()))
            library.write_bytes(link([part], target))
            module = session.load_library(library)
        read = [session.tensor_with_slack(array) for array in inputs]
        left = []
        for contents in memory:
            results = [session.tensor(array) for array in contents]
            session.call(module, "kernel", [*read, *results])
            left.append([session.array(result) for result in results])
            session.call(module, "kernel", [*read, *results])
            for first, again in zip(left[-1], results, strict=True):
                assert first.tobytes() == session.array(again).tobytes(), "it reads memory it never wrote, or its own results"
    except BaseException:
        phone.cache_clear()  # a function that crashed took its session along
        raise
    return left
