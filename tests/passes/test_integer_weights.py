"""Weights as integers: scales, codes that a model came with, and channels that training left dead."""

from __future__ import annotations

import numpy as np
import pytest

from tapdot.compiler.errors import ModelError
from tapdot.compiler.types import Quant, TensorType
from tapdot.kernels import numerics
from tapdot.passes.integer_weights import LARGEST_BIAS, integer_weights

WEIGHT = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
BIAS = np.array([1.0, -0.5, 0.0, 3.0], np.float32)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_symmetric_scales_by_output_channel(bits: int) -> None:
    made = integer_weights("conv", WEIGHT, BIAS, 0.1, axis=0, bits=bits)
    limit = 2 ** (bits - 1) - 1
    np.testing.assert_allclose(made.scales, np.abs(WEIGHT).reshape(4, -1).max(axis=1) / limit)
    assert made.codes.dtype == np.int8 and np.abs(made.codes).max() == limit
    np.testing.assert_array_equal(made.bias, np.rint(BIAS / (made.scales * 0.1)))


def test_parts_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = integer_weights("conv", WEIGHT, BIAS, 0.1, axis=1 - 1)
    monkeypatch.setattr("tapdot.passes.integer_weights.ELEMENTS_AT_ONCE", 30)
    np.testing.assert_array_equal(integer_weights("conv", WEIGHT, BIAS, 0.1, axis=0).codes, whole.codes)
    matrix = WEIGHT.reshape(4, -1).T
    np.testing.assert_array_equal(integer_weights("fc", matrix, BIAS, 0.1, axis=1).codes, whole.codes.reshape(4, -1).T)


def test_one_scale_for_all() -> None:
    made = integer_weights("conv", WEIGHT, BIAS, 0.1, axis=0, per_channel=False)
    np.testing.assert_allclose(made.scales, np.abs(WEIGHT).max() / 127)


def test_codes_that_a_model_came_with_come_back() -> None:
    generator = np.random.default_rng(2)
    codes = generator.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    scales = np.array([0.011, 0.5, 3e-5, 7.0], np.float32)
    weight = codes.astype(np.float32) * scales.reshape(-1, 1, 1, 1)
    bias = generator.integers(-(2**24), 2**24, 4)
    product = (scales * np.float32(0.037)).astype(np.float32)
    quant = Quant(8, tuple(map(float, scales)), (0,) * 4, 0)
    kind = TensorType(weight.shape, "float32", quant)
    made = integer_weights("conv", weight, bias.astype(np.float32) * product, float(np.float32(0.037)), axis=0, kind=kind)
    assert made.adopted
    np.testing.assert_array_equal(made.codes, codes)
    assert np.abs(made.bias - bias).max() <= 2  # float32 holds 24 bits of them


def test_a_zero_point_in_the_middle_is_adopted_and_others_are_not() -> None:
    codes = np.array([[0, 255, 128, 3], [1, 2, 128, 128]])
    for zero_point, adopted in ((128, False), (127, False)):
        weight = ((codes - zero_point) * 0.5).astype(np.float32)
        kind = TensorType(weight.shape, "float32", Quant(8, (0.5,), (zero_point,)))
        assert integer_weights("fc", weight, None, 0.1, axis=0, kind=kind).adopted is adopted
    inside = np.clip(codes, 1, 255)
    kind = TensorType(codes.shape, "float32", Quant(8, (0.5,), (128,)))
    made = integer_weights("fc", ((inside - 128) * 0.5).astype(np.float32), None, 0.1, axis=0, kind=kind)
    assert made.adopted
    np.testing.assert_array_equal(made.codes, inside - 128)


def test_codes_out_of_reach_are_made_anew_and_said() -> None:
    weight = np.array([[-128.0, 3.0]], np.float32)
    kind = TensorType(weight.shape, "float32", Quant(8, (1.0,)))
    made = integer_weights("fc", weight, None, 0.1, axis=0, kind=kind)
    assert not made.adopted and "'fc' came with codes that reach 128" in made.remark
    kind = TensorType(weight.shape, "float32", Quant(8, (1.0, 1.0), (0, 0), 1))
    assert "along another axis" in integer_weights("fc", weight, None, 0.1, axis=0, kind=kind).remark


def test_a_dead_channel_keeps_its_bias() -> None:
    weight = np.ones((3, 2, 1, 1), np.float32)
    weight[1] = 1e-12
    weight[2] = 0
    bias = np.array([0.3, 0.3, 0.3], np.float32)
    made = integer_weights("conv", weight, bias, 0.01, axis=0)
    assert made.bias is not None
    np.testing.assert_allclose(made.bias * made.scales * 0.01, bias, rtol=1e-3)
    assert np.abs(made.bias).max() <= LARGEST_BIAS
    np.testing.assert_array_equal(made.codes[1:], 0)
    assert (made.codes[0] == 127).all() and numerics.weight_scales(weight, 8)[0] == made.scales[0]


def test_a_bias_beyond_int32_at_the_scales_a_model_came_with_is_refused() -> None:
    kind = TensorType((1, 1), "float32", Quant(8, (1e-9,)))
    with pytest.raises(ModelError, match=r"bias of node 'fc' to fit 32 bits, but channel 0 needs the code"):
        integer_weights("fc", np.array([[1e-7]], np.float32), np.array([9.0], np.float32), 0.1, axis=0, kind=kind)
