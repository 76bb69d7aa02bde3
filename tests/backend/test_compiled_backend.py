"""ONNX's own operator cases through compiled kernels on this machine: one in five of each operator's, all with ``--soak``."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator

import pytest
from onnx.backend.test import BackendTest
from tests.backend.compiled import compiled, sample
from tests.backend.exclusions import NOT_COMPILED
from tests.backend.tapdot_backend import Arrays, GraphRunner, TapdotBackend
from tests.backend.test_onnx_backend import CASES, EXCLUDED

import tapdot
from tapdot.compiler.graph import Graph

SHARE = 5
INTERPRETED = [case for case in CASES if case.name not in EXCLUDED]
USUAL = sample(INTERPRETED, SHARE)


class OnThisMachine:
    """Runs graphs in the session that is open while this module's tests run."""

    runner: GraphRunner

    @classmethod
    def run(cls, graph: Graph) -> Callable[[Arrays], Arrays]:
        return cls.runner(graph)


def _node_tests() -> type[unittest.TestCase]:
    """The runner's class of node tests for the CPU, without those that not even the interpreter runs."""
    tests = BackendTest(TapdotBackend.using(OnThisMachine.run), __name__).test_cases["OnnxBackendNodeModelTest"]
    names = {case.name for case in INTERPRETED}
    for attribute in [name for name in vars(tests) if name.startswith("test_")]:
        name, device = attribute.rsplit("_", 1)
        if device != "cpu" or name not in names:
            delattr(tests, attribute)
        elif name in NOT_COMPILED:
            setattr(tests, attribute, unittest.skip(NOT_COMPILED[name])(getattr(tests, attribute)))
    return tests


OnnxBackendNodeModelTest = _node_tests()


@pytest.fixture(autouse=True, scope="module")
def _session() -> Iterator[None]:
    with tapdot.connect("host").open() as session:
        OnThisMachine.runner = staticmethod(compiled(session))  # type: ignore[assignment]
        yield


def test_the_sample_has_every_operator() -> None:
    operators = {node.op_type for case in INTERPRETED for node in case.model.graph.node}  # type: ignore[union-attr]
    sampled = {node.op_type for case in INTERPRETED if case.name in USUAL for node in case.model.graph.node}  # type: ignore[union-attr]
    assert operators == sampled


def test_exclusions_exist() -> None:
    """Names in the list are names of cases that the interpreter passes."""
    assert set(NOT_COMPILED) <= {case.name for case in INTERPRETED}
