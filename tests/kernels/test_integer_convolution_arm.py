"""Convolutions of codes on emulated ARM cores: by ``sdot``, by widened products, by matrix products."""

from __future__ import annotations

import numpy as np
import pytest
from integer_cases import RESIDUAL, check, integer_convolution, reference, values
from kernel_runner import run
from test_integer_convolution import CASES, check_narrow

from tapdot.kernels import registry
from tapdot.kernels.integer_convolution import IntegerConvolution
from tapdot.kernels.integer_matrix_convolution import IntegerMatrixConvolution
from tapdot.kernels.target import find_target

pytestmark = pytest.mark.emulated
DOTS = (
    "zero points",
    "signs as the graph has them",
    "unsigned as the graph has them",
    "odd channels",
    "stem in quads",
    "1x1 with a residual",
    "groups with a rest of a block",
    "groups that begin inside a quad",
    "wider halo than needed",
    "one position",
    "real results",
)
PLAIN = ("zero points", "1x1 with a residual", "groups that begin inside a quad", "unsigned as the graph has them")
MATRIX = {
    "zero points": CASES["zero points"],
    "unsigned as the graph has them": CASES["unsigned as the graph has them"],
    "1x1 with a residual": CASES["1x1 with a residual"],
    "1x1 stride 2": CASES["1x1 stride 2"],
    "whole groups": CASES["whole groups"],
    "asymmetric": CASES["asymmetric"],
    "dilated": {
        "shape": (2, 40, 7, 7),
        "filters": 24,
        "dilations": (2, 2),
        "pads": (2, 2, 2, 2),
        "dtype": "int8",
        "zero_point": 3,
    },
}


@pytest.mark.parametrize("name", DOTS)
def test_dot_products_match_the_reference(name):
    target = find_target("cortex-a76")
    check(IntegerConvolution(), integer_convolution(target, **CASES[name]), target)


@pytest.mark.parametrize("name", PLAIN)
def test_widened_products_match_the_reference(name):
    target = find_target("cortex-a76:neon")
    check(IntegerConvolution(), integer_convolution(target, **CASES[name]), target)


@pytest.mark.parametrize("name", ["cortex-a76", "cortex-a76:neon"])
def test_weights_of_few_bits(name):
    check_narrow("3x3", find_target(name))
    check_narrow("1x1 of an odd number of pairs", find_target(name))


def test_matrix_products_of_weights_of_few_bits():
    target = find_target("cortex-x2")
    work = integer_convolution(target, (1, 32, 7, 9), 40, zero_point=5, weights="int4")
    assert isinstance(registry.select(work, target), IntegerMatrixConvolution)
    assert "packed" not in IntegerMatrixConvolution().space(work, target)
    check(IntegerMatrixConvolution(), work, target)


@pytest.mark.parametrize("name", MATRIX)
def test_matrix_products_match_the_reference(name):
    target = find_target("cortex-x2")
    work = integer_convolution(target, **MATRIX[name])
    assert isinstance(registry.select(work, target), IntegerMatrixConvolution)
    check(IntegerMatrixConvolution(), work, target)


@pytest.mark.parametrize(
    "config",
    [(4, 1, 3), (1, 3, 1), (8, 1, 2)],
    ids=lambda config: "x".join(map(str, config)),
)
def test_every_tile_of_pairs_computes_the_same(config):
    target = find_target("cortex-x2")
    work = integer_convolution(target, (1, 24, 5, 7), 48, epilogue=RESIDUAL, zero_point=5)
    vectors, rows, columns = config
    tile = {"vectors": vectors, "rows": rows, "columns": columns, "splits": 1}
    check(IntegerMatrixConvolution(), work, target, tile)


@pytest.mark.parametrize(
    ("target", "dtype"), [("cortex-a76", "uint8"), ("cortex-a76", "int8"), ("cortex-a76:neon", "int8"), ("cortex-x2", "uint8")]
)
def test_extreme_codes_and_weights(target, dtype):
    target = find_target(target)
    zero = {"uint8": 0, "int8": -128}[dtype]
    work = integer_convolution(target, (1, 64, 3, 5), 16, dtype=dtype, zero_point=zero, result=dtype, result_zero=zero + 100)
    check(registry.select(work, target), work, target, extreme=True)


@pytest.mark.parametrize("target", ["cortex-a76", "cortex-x2"])
def test_scales_above_one_half_shift_before_they_multiply(target):
    """Few channels have such scales; the kernel asks once a tile whether any has."""
    target = find_target(target)
    work = integer_convolution(target, (1, 16, 3, 7), 48, kernel=(1, 1), pads=(0, 0, 0, 0))
    arrays = values(work)
    arrays[0] //= 64
    arrays[1][:] = np.sign(arrays[1])
    arrays[2] //= 300
    arrays[4][0, 20] = 29  # of one channel, so that other tiles have none
    arrays[4][0, 40:] = 31
    wanted = reference(work, arrays)
    assert np.unique(wanted[0, 20]).size > 1
    assert np.array_equal(run(registry.select(work, target), work, target, arrays), wanted)
