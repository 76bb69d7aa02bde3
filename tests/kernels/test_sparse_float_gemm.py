"""Sparse float matrix products against torch on the decompressed weight."""

from __future__ import annotations

import pytest
import sparse_float_cases
from kernel_runner import TARGETS, assert_links_alone
from sparse_float_cases import check
from tests.kernels.emulated_runner import target_or_skip

from tapdot.kernels.sparse_gemm import SparseFullyConnected
from tapdot.kernels.target import find_target

CASES = {
    "one row": {"rows": 1, "inputs": 256, "columns": 40, "share": 4},
    "share 1": {"rows": 1, "inputs": 1200, "columns": 30, "epilogue": "Relu(Add(acc, r0))"},
    "several rows": {"rows": 5, "inputs": 64, "columns": 48, "share": 2, "epilogue": "Relu(acc)"},
    "many rows": {"rows": 21, "inputs": 40, "columns": 24, "share": 8, "bias": False},
    "a quad not full": {"rows": 3, "inputs": 50, "columns": 12, "share": 2},
    "few quads": {"rows": 2, "inputs": 4, "columns": 3, "kept": 0.9},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_matches_torch(target, name):
    check(SparseFullyConnected(), sparse_float_cases.gemm(**CASES[name]), find_target(target))


@pytest.mark.parametrize(
    "config",
    [
        {"rows": 3, "quads": 1, "chunks": 3, "splits": 1},
        {"rows": 2, "quads": 8, "chunks": 1, "splits": 4},
        {"rows": 8, "quads": 2, "chunks": 2, "splits": 2},
    ],
    ids=str,
)
def test_every_configuration_computes_the_same(config):
    check(SparseFullyConnected(), sparse_float_cases.gemm(8, 96, 32, share=4, epilogue="Relu(acc)"), find_target("host"), config)


@pytest.mark.parametrize("name", ["several rows", "a quad not full"])
def test_runs_on_an_emulated_phone(name):
    check(SparseFullyConnected(), sparse_float_cases.gemm(**CASES[name]), target_or_skip("cortex-a76"))


def test_links_alone_on_a_phone():
    assert_links_alone(SparseFullyConnected(), sparse_float_cases.gemm(**CASES["share 1"]).workload, find_target("cortex-a76"))
