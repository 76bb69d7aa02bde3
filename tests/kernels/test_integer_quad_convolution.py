"""1x1 convolutions of codes pruned by quads against the operator's semantics, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from integer_cases import RESIDUAL, TABLE, TARGETS
from kernel_runner import assert_links_alone
from sparse_cases import REALS, TWO_RESIDUALS, WIDE_RESIDUAL, check, pruned_weight, sparse_convolution, values

from tapdot.kernels.integer_quad_convolution import QuadConvolution
from tapdot.kernels.integer_quad_rows import copy_size
from tapdot.kernels.layout import READ_SLACK, Halo
from tapdot.kernels.registry import select
from tapdot.kernels.target import find_target

FAMILY = QuadConvolution()
NONE = Halo()
CASES = {
    "strips and a rest": {"shape": (1, 16, 14, 14), "filters": 8, "share": 4, "result_halo": NONE},
    "gaps between rows": {"shape": (1, 18, 13, 11), "filters": 8, "share": 1, "zero_point": 7, "result_zero": 9},
    "share 8, two images, a residual of another pitch": {
        "shape": (2, 16, 7, 7),
        "filters": 16,
        "share": 8,
        "epilogue": RESIDUAL,
        "result_halo": Halo(1, 1, 0, 1),
    },
    "stride 2": {"shape": (1, 17, 27, 24), "filters": 8, "share": 2, "strides": (2, 2), "result_halo": NONE},
    "signed, a residual, rows copied": {
        "shape": (1, 12, 17, 31),
        "filters": 8,
        "share": 2,
        "more_halo": 1,
        "dtype": "int8",
        "result": "int8",
        "zero_point": -4,
        "result_zero": 5,
        "epilogue": RESIDUAL,
    },
    "one position": {"shape": (1, 12, 1, 1), "filters": 8, "share": 2, "zero_point": 3},
    "a table": {"shape": (1, 12, 9, 11), "filters": 8, "share": 2, "epilogue": TABLE, "result_halo": NONE},
    "a table, gaps between rows": {"shape": (1, 12, 9, 11), "filters": 8, "share": 2, "epilogue": TABLE},
    "a signed table, gaps of a zero of its own": {
        "shape": (1, 12, 7, 5),
        "filters": 8,
        "epilogue": TABLE,
        "result": "int8",
        "result_zero": -6,
    },
    "raw sums, gaps between rows": {"shape": (1, 12, 9, 11), "filters": 8, "epilogue": "acc"},
    "real results, gaps between rows": {"shape": (1, 12, 9, 11), "filters": 8, "share": 2, "epilogue": REALS},
    "two residuals of one layout": {
        "shape": (1, 16, 12, 12),
        "filters": 8,
        "share": 2,
        "epilogue": TWO_RESIDUALS,
        "result_halo": NONE,
    },
    "a residual of int32 and another pitch": {
        "shape": (1, 12, 9, 21),
        "filters": 8,
        "share": 2,
        "epilogue": WIDE_RESIDUAL,
        "result_halo": NONE,
    },
    "raw sums, signs as the graph has them": {
        "shape": (1, 12, 9, 11),
        "filters": 8,
        "epilogue": "acc",
        "result_halo": NONE,
        "dtype": "int8",
        "offset": False,
    },
    "real results": {"shape": (1, 12, 9, 11), "filters": 8, "share": 2, "epilogue": REALS, "result_halo": NONE},
    "lanes of rows that TVM's simplifier once multiplied out": {"shape": (1, 12, 56, 56), "filters": 4, "more_halo": 0},
    "nothing left": {"shape": (1, 12, 9, 11), "filters": 8, "share": 2, "rate": 1e9, "zero_point": 4},
}
HERE = [(name, target) for name in CASES for target in TARGETS if target in ("host", "host:avx2") or name in list(CASES)[:3]]
EMULATED = [*list(CASES)[1:4], "a table, gaps between rows", "real results, gaps between rows"]
PHONES = [(name, target) for name in EMULATED for target in ("cortex-a76", "cortex-a76:neon")]


def built(case: dict, target_name: str):
    options = dict(case)
    weight = {name: options.pop(name) for name in ("filters", "share", "rate") if name in options}
    fkw = pruned_weight(channels=options["shape"][1], kernel=1, **{"share": 1, "rate": 2.0, **weight})
    target = find_target(target_name)
    return target, fkw, sparse_convolution(target, fkw, kernel=1, pads=(0, 0, 0, 0), **options)


@pytest.mark.parametrize(("name", "target_name"), HERE)
def test_against_the_reference(name: str, target_name: str) -> None:
    target, fkw, workload = built(CASES[name], target_name)
    check(FAMILY, workload, fkw, target)


@pytest.mark.parametrize(("name", "target_name"), PHONES)
def test_on_a_phone(name: str, target_name: str) -> None:
    target, fkw, workload = built(CASES[name], target_name)
    check(FAMILY, workload, fkw, target)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
@pytest.mark.parametrize("stride", [1, 2])
def test_copying_reads_no_further_than_an_operand_has_behind_it(dtype: str, stride: int) -> None:
    for width in (1, 7, 21, 64, 200):
        size = copy_size(width, stride, dtype)
        rounds = -(-width // size)
        read = ((rounds * size) * stride - (width - 1) * stride - 1) * np.dtype(dtype).itemsize
        assert read <= READ_SLACK


@pytest.mark.parametrize("target_name", ["host", "host:avx2", "cortex-x2"])
def test_every_cut_gives_the_same(target_name: str) -> None:
    case = {"shape": (1, 86, 9, 10), "filters": 8, "share": 4, "epilogue": RESIDUAL, "zero_point": 3, "result_halo": NONE}
    target, fkw, workload = built(case, target_name)
    for strips, chunks, splits in ((1, 3, 2), (2, 2, 1)):
        check(FAMILY, workload, fkw, target, {"strips": strips, "chunks": chunks, "splits": splits})


@pytest.mark.parametrize("target_name", ["host", "host:avx2", "cortex-a76:neon"])
def test_extreme_codes_and_weights(target_name: str) -> None:
    target, fkw, workload = built({"shape": (1, 64, 4, 4), "filters": 4, "share": 2, "rate": 1.1, "dtype": "int8"}, target_name)
    arrays = values(workload, fkw)
    arrays[0] = np.full(workload.inputs[0].shape, -128, np.int8)
    arrays[5] = np.full_like(arrays[5], -127)
    check(FAMILY, workload, fkw, target, arrays=arrays)


def test_chunks_want_lists_in_the_order_of_inputs() -> None:
    target, fkw, workload = built({"shape": (1, 128, 3, 3), "filters": 4}, "host")
    arrays = values(workload, fkw)
    arrays[3] = arrays[3][::-1].copy()
    constants = {index: array for index, array in enumerate(arrays) if workload.inputs[index] and workload.inputs[index].constant}
    with pytest.raises(ValueError, match="order of their inputs"):
        FAMILY.pack(workload, {"strips": 1, "chunks": 2, "splits": 1}, target, constants)


def test_is_chosen_for_quads_only() -> None:
    target, _, workload = built(CASES["stride 2"], "host")
    assert select(workload, target).name == FAMILY.name
    pattern = sparse_convolution(target, pruned_weight(8, 12, 2), (1, 12, 9, 9))
    assert not FAMILY.serves(pattern, target)


def test_links_with_nothing_but_the_runtime() -> None:
    target, _, workload = built(CASES["signed, a residual, rows copied"], "host")
    assert_links_alone(FAMILY, workload, target)
