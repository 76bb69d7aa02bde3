"""Graphs run as compiled packages on this machine, for the tests of ONNX's own operator cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from onnx.backend.test.case.test_case import TestCase
from tests.backend.tapdot_backend import Arrays, GraphRunner

import tapdot
from tapdot.compiler.graph import Graph
from tapdot.runtime.devices.base import Session
from tapdot.runtime.program import LoadedProgram


def compiled(session: Session) -> GraphRunner:
    """Compiles a graph for this machine; answers are by the names of the graph's own outputs."""

    def prepare(graph: Graph) -> Callable[[Arrays], Arrays]:
        program = LoadedProgram(session, tapdot.compile(graph, target="host"))

        def run(inputs: Arrays) -> Arrays:
            answers = program.run(inputs)
            return {name: answers[tensor.name] for name, tensor in zip(graph.outputs, program.program.outputs, strict=True)}

        return run

    return prepare


def sample(cases: Iterable[TestCase], share: int) -> set[str]:
    """Names of the first case of every set of operators, and of one in ``share`` of the others."""
    chosen: set[str] = set()
    seen: dict[frozenset[str], int] = {}
    for case in cases:
        assert case.model is not None
        operators = frozenset(node.op_type for node in case.model.graph.node)
        count = seen.get(operators, 0)
        seen[operators] = count + 1
        if count % share == 0:
            chosen.add(case.name)
    return chosen


def in_sample(item: pytest.Item) -> bool:
    """Whether the usual run has a test: one that is not a case of ONNX's, or whose name its module lists as ``USUAL``."""
    return getattr(item, "cls", None) is None or item.name.removesuffix("_cpu") in item.module.USUAL  # type: ignore[attr-defined]
