"""Pattern convolutions of codes against the operator's semantics, bit for bit, on every instruction table of this machine."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from integer_cases import RESIDUAL, TABLE, TARGETS
from kernel_runner import assert_links_alone
from sparse_cases import REALS, check, pruned_weight, sparse_convolution, values

from tapdot.kernels.integer_sparse import LARGEST_TABLE, PatternConvolution
from tapdot.kernels.integer_sparse_plan import Plan
from tapdot.kernels.isa.pattern_gather import gathers
from tapdot.kernels.layout import Halo
from tapdot.kernels.parallel import pays
from tapdot.kernels.target import Target, find_target

NO_PADS = (0, 0, 0, 0)
CASES = {
    "share 1": {"shape": (1, 12, 9, 10), "filters": 8},
    "share 2, signed, zero points": {
        "shape": (1, 9, 8, 8),
        "filters": 10,
        "share": 2,
        "dtype": "int8",
        "result": "int8",
        "zero_point": -20,
        "result_zero": -3,
    },
    "share 4 with a residual": {"shape": (1, 8, 16, 24), "filters": 16, "share": 4, "epilogue": RESIDUAL, "zero_point": 131},
    "share 8, two images": {"shape": (2, 5, 7, 7), "filters": 24, "share": 8},
    "signs as the graph has them": {"shape": (1, 6, 6, 7), "filters": 8, "dtype": "int8", "zero_point": 9, "offset": False},
    "14 x 14": {"shape": (1, 7, 14, 14), "filters": 6, "share": 2, "result_halo": Halo()},
    "narrow plane": {"shape": (1, 6, 21, 4), "filters": 8, "share": 2, "epilogue": RESIDUAL},
    "small plane": {"shape": (1, 6, 3, 2), "filters": 8, "share": 2, "epilogue": RESIDUAL},
    "one position": {"shape": (1, 6, 1, 1), "filters": 8, "result": "int8", "zero_point": 3},
    "stride 2": {"shape": (1, 6, 16, 17), "filters": 8, "share": 4, "strides": (2, 2), "zero_point": 7},
    "stride 2 without pads": {"shape": (1, 6, 11, 31), "filters": 8, "share": 2, "strides": (2, 2), "pads": NO_PADS},
    "no pads": {"shape": (1, 6, 9, 11), "filters": 8, "share": 2, "pads": NO_PADS, "bias": False},
    "asymmetric pads": {"shape": (1, 6, 9, 11), "filters": 8, "share": 2, "pads": (0, 2, 3, 1), "zero_point": 8},
    "wider halo, a table": {"shape": (1, 6, 9, 11), "filters": 8, "share": 2, "more_halo": 2, "epilogue": TABLE},
    "all patterns": {"shape": (1, 40, 9, 9), "filters": 16, "patterns": 56},
    "raw sums": {"shape": (1, 6, 9, 11), "filters": 8, "epilogue": "acc", "zero_point": 100},
    "real results": {"shape": (1, 6, 9, 11), "filters": 8, "epilogue": REALS},
    "nothing left": {"shape": (1, 6, 9, 11), "filters": 8, "rate": 1e9, "zero_point": 4},
    "nothing pruned but taps": {"shape": (1, 6, 9, 11), "filters": 8, "rate": 0.5, "zero_point": 4},
}


NO_PERMUTATION = "dots without byte permutations"
ROWS = (*TARGETS, NO_PERMUTATION)


def row(name: str) -> Target:
    """A target of that name, or this machine as if it had ``vpdpbusd`` but not ``vpermb``."""
    if name != NO_PERMUTATION:
        return find_target(name)
    host = find_target("host")
    return replace(host, name=name, features=tuple(feature for feature in host.features if feature != "avx512vbmi"))


def built(case: dict, target_name: str):
    options = dict(case)
    weight = {name: options.pop(name) for name in ("filters", "share", "patterns", "rate") if name in options}
    fkw = pruned_weight(channels=options["shape"][1], **{"share": 1, **weight})
    target = row(target_name)
    return target, fkw, sparse_convolution(target, fkw, **options)


ELSEWHERE = (
    "share 1",
    "share 2, signed, zero points",
    "share 4 with a residual",
    "signs as the graph has them",
    "one position",
    "stride 2",
    "asymmetric pads",
    "nothing left",
    "real results",
)
"""Fewer cases for what computes like another: without VBMI as AVX2 does, or without knowing shapes at all."""


@pytest.mark.parametrize(
    ("name", "target_name"),
    [(name, target_name) for target_name in ROWS for name in (CASES if target_name in ("host", "host:avx2") else ELSEWHERE)],
)
def test_against_the_reference(name: str, target_name: str) -> None:
    target, fkw, workload = built(CASES[name], target_name)
    check(PatternConvolution(), workload, fkw, target)


@pytest.mark.parametrize("target_name", ["host", "host:avx2"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_every_configuration_gives_the_same(strides: tuple[int, int], target_name: str) -> None:
    case = {"shape": (1, 5, 17, 29), "filters": 8, "share": 2, "strides": strides, "epilogue": RESIDUAL}
    target, fkw, workload = built(case, target_name)
    family = PatternConvolution()
    space = family.space(workload, target)
    for columns, (blocks, strip, splits) in itertools.zip_longest(
        space["columns"], ((1, 3, 1), (3, 1, 2), (8, 8, 4)), fillvalue=space["columns"][0]
    ):
        check(family, workload, fkw, target, {"columns": columns, "blocks": blocks, "strip": strip, "splits": splits})


@pytest.mark.parametrize("target_name", ROWS)
@pytest.mark.parametrize(("height", "strides"), [(3, (1, 1)), (7, (2, 2))])
def test_gaps_between_rows_of_one_position_are_written(height: int, strides: tuple[int, int], target_name: str) -> None:
    """The end of a row is no position: it was taken for column 0 where planes have width 1."""
    case = {"shape": (1, 4, height, 1), "filters": 8, "strides": strides, "zero_point": 5, "result_zero": 9}
    target, fkw, workload = built({**case, "result_halo": Halo(1, 1, 1, 1)}, target_name)
    assert workload.output.shape[2:] == (-(-height // strides[0]), 1)
    family = PatternConvolution()
    check(family, workload, fkw, target)
    for columns in family.space(workload, target)["columns"]:
        check(family, workload, fkw, target, {"columns": columns, "blocks": 1, "strip": 1, "splits": 2})


def test_lookups_that_ids_of_16_bits_do_not_reach_are_not_served() -> None:
    target, _, workload = built(CASES["share 1"], "host")
    table = workload.inputs[6]
    largest = max(gather.entry for gather in gathers(target, (1, 1), workload.output.shape[2:]))
    for patterns, served in ((LARGEST_TABLE // largest, True), (LARGEST_TABLE // largest + 1, False)):
        inputs = (*workload.inputs[:6], replace(table, shape=(patterns, 4)), *workload.inputs[7:])
        assert PatternConvolution().serves(replace(workload, inputs=inputs), target) == served


@pytest.mark.parametrize(("blocks", "strip"), [(2, 3), (3, 2), (3, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_strips_of_whole_rows_of_blocks(dtype: str, blocks: int, strip: int) -> None:
    case = {"shape": (1, 5, 16, 24), "filters": 8, "share": 2, "dtype": dtype, "offset": dtype == "uint8", "zero_point": 5}
    target, fkw, workload = built(case, "host")
    check(PatternConvolution(), workload, fkw, target, {"columns": 8, "blocks": blocks, "strip": strip, "splits": 1})


@pytest.mark.parametrize(("columns", "blocks"), [(8, 4), (8, 3), (16, 7), (16, 3)])
def test_stacked_blocks(columns: int, blocks: int) -> None:
    """The last block may be cut by the edge of the plane, or the last tile moved back to it."""
    case = {"shape": (1, 5, 14, 14), "filters": 8, "share": 2, "strides": (2, 2), "epilogue": RESIDUAL}
    target, fkw, workload = built(case, "host")
    check(PatternConvolution(), workload, fkw, target, {"columns": columns, "blocks": blocks, "strip": 1, "splits": 1})


@pytest.mark.parametrize("splits", [1, 4])
def test_threads(splits: int) -> None:
    target, fkw, workload = built({"shape": (2, 32, 33, 40), "filters": 64, "share": 2, "zero_point": 5}, "host")
    family = PatternConvolution()
    config = {**family.default_config(workload, target), "splits": splits}
    assert pays(Plan.of(workload, config, target).cycles())
    check(family, workload, fkw, target, config)


@pytest.mark.parametrize("target_name", TARGETS)
def test_scales_above_one_half(target_name: str) -> None:
    target, fkw, workload = built({"shape": (1, 3, 9, 11), "filters": 8, "share": 2}, target_name)
    check(PatternConvolution(), workload, fkw, target, arrays=values(workload, fkw, small_shift=True))


@pytest.mark.parametrize("target_name", TARGETS)
def test_extreme_codes_and_weights(target_name: str) -> None:
    target, fkw, workload = built({"shape": (1, 32, 9, 11), "filters": 8, "share": 2, "rate": 0.5, "dtype": "int8"}, target_name)
    arrays = values(workload, fkw)
    random = np.random.default_rng(3)
    arrays[0] = random.choice([-128, 127], arrays[0].shape).astype(np.int8)
    arrays[5] = random.choice([-127, 127], arrays[5].shape).astype(np.int8)
    check(PatternConvolution(), workload, fkw, target, arrays=arrays)


def test_links_with_nothing_but_the_runtime() -> None:
    target, _, workload = built(CASES["share 4 with a residual"], "host")
    assert_links_alone(PatternConvolution(), workload, target)
