"""ONNX's own operator tests against the reference interpreter; what is left out is skipped by name, with the reason."""

from __future__ import annotations

import collections
import unittest
import warnings

import pytest
import torch

with warnings.catch_warnings():  # the package's cases divide by zero on purpose, while they are made
    warnings.simplefilter("ignore")
    from onnx.backend.test import BackendTest
    from onnx.backend.test.loader import load_node_model_tests

    CASES = load_node_model_tests()

from tests.backend.exclusions import BY_NAME, excluded
from tests.backend.tapdot_backend import TapdotBackend

EXCLUDED = excluded(CASES)


def _node_tests() -> type[unittest.TestCase]:
    """The runner's class of node tests for the CPU, excluded ones skipped."""
    tests = BackendTest(TapdotBackend, __name__).test_cases["OnnxBackendNodeModelTest"]
    for attribute in [name for name in vars(tests) if name.startswith("test_")]:
        name, device = attribute.rsplit("_", 1)
        if device != "cpu":
            delattr(tests, attribute)
        elif name in EXCLUDED:
            setattr(tests, attribute, unittest.skip(EXCLUDED[name])(getattr(tests, attribute)))
    return tests


OnnxBackendNodeModelTest = _node_tests()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)


def test_most_cases_run() -> None:
    """The list of exclusions does not quietly grow: counts are those of operators, not of mistakes."""
    reasons = collections.Counter(EXCLUDED.values())
    by_table = sum(count for reason, count in reasons.items() if "not in the operator table" in reason)
    assert len(CASES) - len(EXCLUDED) > 1000
    assert by_table > len(EXCLUDED) / 2


def test_exclusions_by_name_exist() -> None:
    """Names in the list are names of cases."""
    assert set(BY_NAME) <= {case.name for case in CASES}
