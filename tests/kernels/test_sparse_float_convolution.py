"""Sparse float convolutions against torch on the decompressed weight."""

from __future__ import annotations

import numpy as np
import pytest
import sparse_float_cases
from kernel_runner import TARGETS, assert_links_alone
from sparse_float_cases import check
from tests.kernels.emulated_runner import target_or_skip

from tapdot.kernels.layout import Halo
from tapdot.kernels.patterns import ALL_PATTERNS
from tapdot.kernels.sparse_convolution import SparseConvolution
from tapdot.kernels.sparse_convolution_plan import Plan
from tapdot.kernels.sparse_units import columns_of_rows, group_cuts
from tapdot.kernels.target import find_target

NO_PADS, ONE = (0, 0, 0, 0), Halo(1, 1, 1, 1)
RESIDUAL = "Relu(Add(acc, r0))"
CASES = {
    "share 4": {"shape": (1, 16, 20, 21), "filters": 16, "share": 4},
    "share 1 with a residual": {"shape": (1, 10, 9, 19), "filters": 7, "epilogue": RESIDUAL, "residual_halo": ONE},
    "residual of another pitch": {"shape": (1, 8, 18, 18), "filters": 8, "share": 2, "epilogue": RESIDUAL},
    "no halo behind": {"shape": (1, 8, 17, 18), "filters": 8, "share": 2, "output_halo": Halo(), "epilogue": "Relu(acc)"},
    "other halos": {"shape": (2, 5, 6, 18), "filters": 8, "share": 2, "halo": Halo(2, 1, 1, 2), "output_halo": Halo(0, 2, 3, 1)},
    "valid": {"shape": (1, 9, 20, 20), "filters": 6, "pads": NO_PADS, "share": 2},
    "asymmetric": {"shape": (1, 6, 9, 33), "filters": 6, "pads": (0, 1, 2, 0), "share": 2, "bias": False},
    "share 8": {"shape": (2, 6, 7, 7), "filters": 16, "share": 8},
    "narrow plane": {"shape": (2, 6, 3, 2), "filters": 6, "share": 2, "epilogue": RESIDUAL},
    "one position": {"shape": (2, 6, 1, 1), "filters": 6, "share": 2},
    "stride 2": {"shape": (1, 8, 37, 38), "filters": 8, "strides": (2, 2), "share": 4, "output_halo": ONE},
    "stride 2, other halos": {"shape": (2, 6, 14, 15), "filters": 6, "strides": (2, 2), "share": 2, "output_halo": Halo()},
    "stride 2, asymmetric": {
        "shape": (1, 6, 16, 12),
        "filters": 6,
        "strides": (2, 2),
        "pads": (0, 0, 1, 1),
        "epilogue": RESIDUAL,
    },
    "stride 2 in rows only": {"shape": (1, 6, 9, 40), "filters": 6, "strides": (2, 1), "share": 2},
    "stride 2 in columns only": {"shape": (1, 6, 9, 40), "filters": 6, "strides": (1, 2), "pads": (1, 2, 0, 0)},
    "1x1": {"shape": (1, 32, 9, 14), "filters": 16, "kernel": (1, 1), "pads": NO_PADS, "share": 4},
    "1x1 inside a halo": {
        "shape": (1, 16, 14, 14),
        "filters": 12,
        "kernel": (1, 1),
        "pads": NO_PADS,
        "share": 2,
        "halo": ONE,
        "output_halo": ONE,
        "epilogue": "Mul(Add(acc, r0), r1)",
        "residual_halo": ONE,
    },
    "1x1, a quad not full": {"shape": (2, 10, 8, 9), "filters": 6, "kernel": (1, 1), "pads": NO_PADS, "output_halo": ONE},
    "1x1 with pads": {"shape": (1, 8, 8, 9), "filters": 6, "kernel": (1, 1), "pads": (1, 0, 2, 1)},
    "1x1, stride 2": {"shape": (1, 20, 15, 34), "filters": 8, "kernel": (1, 1), "pads": NO_PADS, "strides": (2, 2), "share": 2},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_matches_torch(target, name):
    check(SparseConvolution(), sparse_float_cases.convolution(**CASES[name]), find_target(target))


@pytest.mark.parametrize(
    "config",
    [
        {"rows": 1, "vectors": 3, "linear": 1, "columns": 0, "packed": 1, "run": 2, "splits": 1},
        {"rows": 3, "vectors": 1, "linear": 0, "columns": 1, "packed": 1, "run": 2, "splits": 3},
        {"rows": 5, "vectors": 2, "linear": 0, "columns": 1, "packed": 0, "run": 4, "splits": 1},
        {"rows": 28, "vectors": 28, "linear": 1, "columns": 1, "packed": 1, "run": 8, "splits": 2},
        {"rows": 28, "vectors": 2, "linear": 0, "columns": 1, "packed": 0, "run": 2, "splits": 1},
        {"rows": 2, "vectors": 2, "linear": 0, "columns": 0, "packed": 1, "run": 2, "splits": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)], ids=str)
def test_every_configuration_computes_the_same(config, strides):
    halo = Halo(1, 1, 1, 1)
    case = sparse_float_cases.convolution((1, 12, 21, 37), 12, share=2, strides=strides, output_halo=halo, epilogue="Relu(acc)")
    check(SparseConvolution(), case, find_target("host"), config)


@pytest.mark.parametrize("name", ["share 4", "share 1 with a residual", "stride 2, other halos", "1x1, a quad not full"])
def test_runs_on_an_emulated_phone(name):
    check(SparseConvolution(), sparse_float_cases.convolution(**CASES[name]), target_or_skip("cortex-a76"))


def test_a_plane_is_one_line_where_all_pitches_agree():
    target, halo = find_target("host"), Halo(1, 1, 1, 1)
    same = sparse_float_cases.convolution((1, 64, 56, 56), 64, share=4).workload
    other = sparse_float_cases.convolution((1, 64, 56, 56), 64, share=4, output_halo=Halo()).workload
    assert SparseConvolution().default_config(same, target)["linear"] == 1
    assert SparseConvolution().default_config(other, target)["linear"] == 0
    plan = Plan.of(same, SparseConvolution().default_config(same, target), target)
    assert plan.tiles.useful > 0.9 and plan.positions_share_a_line and halo == plan.output_layout.halo


def test_default_tiles_stay_in_registers():
    for name in (*TARGETS, "cortex-a76"):
        target = find_target(name)
        for share in (1, 2, 4, 8):
            work = sparse_float_cases.convolution((1, 64, 28, 28), 64, share=share).workload
            assert Plan.of(work, SparseConvolution().default_config(work, target), target).fits


def test_threads_get_equal_shares_of_kernels():
    _, stored = sparse_float_cases.pruned(64, 96, (3, 3), 2, 0.3)
    cuts = group_cuts(stored, 4)
    kernels = np.diff(stored.offset.astype(int)[cuts])
    assert cuts[0] == 0 and cuts[-1] == stored.groups and kernels.sum() == stored.kernels
    assert kernels.max() - kernels.min() <= 2 * np.diff(stored.offset.astype(int)).max()


@pytest.mark.parametrize("stride", [1, 2])
def test_columns_hold_every_tap_once(stride):
    scheme = columns_of_rows(range(9), 100, stride, 3)
    for pattern in ALL_PATTERNS:
        pieces = scheme.pieces(pattern)
        assert sorted(tap for piece in pieces for tap in piece.taps) == [0, 1, 2, 3]
        for piece in pieces:
            distances = [distance for _, distance in scheme.kinds[piece.kind].taps]
            taps = [int(pattern[tap]) for tap in piece.taps]
            rows = 3 if stride == 1 else 6  # two rows of a strided kernel that share a phase are one row of the phase apart
            assert [tap - taps[0] for tap in taps] == [distance // 3 * rows for distance in distances]


@pytest.mark.parametrize("name", ["share 4", "stride 2", "1x1"])
def test_links_alone_on_a_phone(name):
    assert_links_alone(SparseConvolution(), sparse_float_cases.convolution(**CASES[name]).workload, find_target("cortex-a76"))
