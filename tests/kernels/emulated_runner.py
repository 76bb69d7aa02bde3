"""Runs one function of generated code on an emulated aarch64 CPU."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tapdot.compiler.lower.library import link
from tapdot.kernels.target import Target, UnknownTargetError, find_target
from tapdot.kernels.tvm_adapter import PrimFunc, object_code
from tapdot.runtime.instructions import Argument, InstructionCount, count_call

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


def call(function: PrimFunc, target: Target, inputs: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> InstructionCount:
    """Calls a function named ``kernel`` with flat inputs, then results, whose memory holds what is given: what it left there."""
    with tempfile.TemporaryDirectory() as folder:
        part, library = Path(folder) / "kernel.o", Path(folder) / "kernel.so"
        part.write_bytes(object_code({"kernel": function}, target.llvm()))
        library.write_bytes(link([part], target))
        arguments = [*map(Argument.read, inputs), *map(Argument.update, results)]
        return count_call(library, "kernel", arguments, emulated_cpu(target))
