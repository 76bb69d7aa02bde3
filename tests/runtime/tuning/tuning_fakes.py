"""A family, a device and workloads for tests of tuning's logic: nothing is built, and what runs is a formula."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tapdot.compiler.errors import DeviceError
from tapdot.compiler.types import TensorType
from tapdot.kernels.family import Config, Family, Ports
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Operand, Workload
from tapdot.runtime.tuning.candidates import Candidate, CandidateError
from tapdot.runtime.tuning.record import Place, Problem
from tapdot.runtime.tuning.runners import Runner
from tapdot.runtime.tuning.workloads import Subject

TARGET = Target("test", "x86_64-linux-gnu", "generic", (), 1, "generic")
PLACE = Place(TARGET, "0123456789ab", "a made-up device")


class FakeFamily(Family):
    """``a`` from 0 to 5 and ``b`` from 0 to 2; odd sums are no kernel, and ``c`` changes nothing where ``a`` is 0."""

    name = "fake"

    def serves(self, workload: Workload, target: Target) -> bool:
        return workload.op == "Fake"

    def ports(self, workload: Workload, target: Target) -> Ports:
        raise NotImplementedError

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> Any:
        raise NotImplementedError

    def default_config(self, workload: Workload, target: Target) -> Config:
        return {"a": 1, "b": 1, "c": 0}

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        return {"a": range(6), "b": range(3), "c": (0, 1)}

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        if (config["a"] + config["b"]) % 2:
            return None
        return {**config, "c": config["c"] if config["a"] else 0}

    def cost(self, workload: Workload, target: Target) -> float:
        return float(workload.output.shape[0])


FAMILY = FakeFamily()
CONFIGURATIONS = 16
"""9 pairs of an even sum, each twice but those where ``a`` is 0."""


def workload(size: int = 16) -> Workload:
    """A workload of that many elements."""
    operand = Operand((size,), "float32")
    return Workload("Fake", (operand,), (operand,), ())


def subject(size: int = 16, nodes: int = 1) -> Subject:
    """The workload as part of a model."""
    array = np.ones(size, np.float32)
    names = tuple(f"node_{size}_{number}" for number in range(nodes))
    return Subject(workload(size), FAMILY, TARGET, names, size, {}, (array,), (array,), (TensorType((size,), "float32"),), False)


def problem(size: int = 16) -> Problem:
    """What records of the workload are about."""
    return Problem.of(workload(size), FAMILY, PLACE)


def build(subject: Subject, config: Config) -> Candidate:
    """Pretends to build; a configuration with ``a`` 5 and ``b`` 1 cannot be."""
    if (config["a"], config["b"]) == (5, 1):
        raise CandidateError("it cannot be built: of all things, five")
    from pathlib import Path

    return Candidate(subject, dict(config), f"{subject.workload.key}-{sorted(config.items())}", Path("none"), ())


def seconds(subject: Subject, config: Config) -> float:
    """How long a configuration takes: least at ``a`` 4, ``b`` 2, ``c`` 1."""
    away = (config["a"] - 4) ** 2 + 3 * (config["b"] - 2) ** 2 + (1 - config["c"])
    return 1e-6 * subject.workload.output.shape[0] * (1 + 0.1 * away)


class FakeRunner(Runner):
    """Runs the formula; ``log`` gets every run. A configuration with ``a`` 2 and ``b`` 0 gives wrong answers."""

    def __init__(self, log: list[tuple[str, Config]] | None = None, pause: float = 0.0) -> None:
        self.log: list[tuple[str, Config]] = [] if log is None else log
        self.pause = pause
        self.away = False
        self.closed = threading.Event()

    def measure(self, candidate: Candidate, best: float | None, limit: float) -> tuple[Sequence[np.ndarray], Sequence[float]]:
        if self.away:
            raise DeviceError("The made-up device is away.")
        self.log.append((candidate.subject.workload.key, candidate.config))
        if self.pause:
            self.closed.wait(self.pause)
        wrong = (candidate.config["a"], candidate.config["b"]) == (2, 0)
        answer = candidate.subject.expected[0] * (2 if wrong else 1)
        value = seconds(candidate.subject, candidate.config)
        return [answer], [value, value * 1.01, value * 0.99]

    def compare(self, candidates: Sequence[Candidate], rounds: int, limit: float) -> list[list[float]]:
        assert not self.closed.is_set()
        return [[seconds(one.subject, one.config)] * rounds for one in candidates]

    def close(self) -> None:
        self.closed.set()
