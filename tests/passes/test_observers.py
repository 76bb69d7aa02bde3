"""Ranges by each method against their definitions, histograms that nest, codes of a range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tapdot.kernels import numerics
from tapdot.passes.integer_expressions import Codes
from tapdot.passes.observers import BINS, EmptyRangeError, Method, Observer, codes_of_range

METHODS: tuple[Method, ...] = ("minmax", "moving_average", "percentile", "mse", "entropy")


def observed(method: Method, *parts: torch.Tensor) -> Observer:
    observer = Observer(method)
    for part in parts:
        observer.update(part)
    return observer


def ends(observer: Observer, *, signed: bool = True, asymmetric: bool = False, percentile: float = 99.9) -> tuple[float, float]:
    return observer.range(8, signed=signed, asymmetric=asymmetric, percentile=percentile)


def heavy_tailed(samples: int, elements: int = 5000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return torch.randn(samples, elements, generator=generator) ** 3


def test_symmetric_codes_use_the_whole_range_of_the_type() -> None:
    assert codes_of_range(-1.0, 0.5, 8, signed=True, asymmetric=False).scale == np.float32(1 / 128)
    assert codes_of_range(-0.5, 1.0, 8, signed=True, asymmetric=False).scale == np.float32(1 / 127)
    unsigned = codes_of_range(0.0, 6.0, 8, signed=False, asymmetric=False)
    assert unsigned == Codes(float(np.float32(6 / 255)), 0, 0, 255, "uint8")
    narrow = codes_of_range(-1.0, 1.0, 4, signed=True, asymmetric=False)
    assert (narrow.low, narrow.high, narrow.dtype) == (-8, 7, "int8")


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (-0.375, 5.0), (-4.0, -1.0), (1.0, 2.0)])
def test_codes_with_a_zero_point_hold_both_ends_and_zero_exactly(low: float, high: float) -> None:
    codes = codes_of_range(low, high, 8, signed=True, asymmetric=True)
    assert (codes.low, codes.high, codes.dtype) == (0, 255, "uint8")
    back = numerics.dequantize(codes.quantize(np.array([low, 0.0, high], np.float32)), codes.scale, codes.zero_point)
    np.testing.assert_allclose(back, [low, 0.0, high], atol=codes.scale)
    assert back[1] == 0.0


def test_unsigned_codes_get_no_zero_point() -> None:
    assert codes_of_range(0.0, 1.0, 8, signed=False, asymmetric=True).zero_point == 0


@pytest.mark.parametrize("magnitude", [0.0, 1e-44, 1e-38])
def test_a_range_of_nothing_has_no_scale(magnitude: float) -> None:
    with pytest.raises(EmptyRangeError, match="no scale"):
        codes_of_range(-magnitude, magnitude, 8, signed=True, asymmetric=False)


@pytest.mark.parametrize("method", METHODS)
def test_the_split_into_batches_changes_nothing(method: Method) -> None:
    rows = heavy_tailed(12) * torch.logspace(-3, 2, 12).reshape(-1, 1)  # ranges that grow as samples come
    whole = observed(method, rows)
    for size in (1, 5):
        assert ends(observed(method, *rows.split(size))) == ends(whole)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_the_order_of_samples_changes_nothing(method: Method) -> None:
    rows = heavy_tailed(6) * torch.tensor([[1e-6], [1.0], [0.0], [50.0], [1.0], [3.0]])
    assert ends(observed(method, *rows.split(1))) == ends(observed(method, *rows.flip(0).split(1)))


def test_minmax_is_the_smallest_and_largest() -> None:
    assert ends(observed("minmax", torch.tensor([[-1.0, 2.0], [0.5, 4.0]]))) == (-1.0, 4.0)


def test_moving_average_is_of_each_samples_ends() -> None:
    low, high = ends(observed("moving_average", torch.tensor([[-1.0, 1.0], [0.0, 3.0]])))
    assert (low, high) == pytest.approx((-0.9, 1.2))


def test_percentile_leaves_out_the_largest_magnitudes() -> None:
    values = torch.arange(-5000, 5001, dtype=torch.float32).reshape(1, -1)
    low, high = ends(observed("percentile", values), percentile=99.0)
    width = 8192 / BINS
    assert high == pytest.approx(4950, abs=2 * width)
    assert low == pytest.approx(-4950, abs=2 * width)
    low, high = ends(observed("percentile", values.relu()), signed=False, percentile=99.0)
    assert (low, high) == (0.0, pytest.approx(4900, abs=2 * width))
    skewed = torch.cat([values, values.relu() * 0], 1)
    low, high = ends(observed("percentile", skewed), asymmetric=True, percentile=98.0)
    assert low == pytest.approx(-4800, abs=2 * width)
    assert high == pytest.approx(4800, abs=2 * width)


def test_all_values_inside_is_the_whole_range() -> None:
    assert ends(observed("percentile", heavy_tailed(2)), percentile=100.0) == pytest.approx(
        ends(observed("minmax", heavy_tailed(2))), rel=1e-2
    )


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("asymmetric", [True, False])
def test_mse_loses_least(signed: bool, asymmetric: bool) -> None:
    rows = heavy_tailed(4) if signed else heavy_tailed(4).relu()

    def error(method: Method) -> float:
        kind = {"signed": signed, "asymmetric": asymmetric}
        codes = codes_of_range(*observed(method, rows).range(4, percentile=99.9, **kind), 4, **kind)
        values = rows.numpy()
        return float(np.square(values - numerics.dequantize(codes.quantize(values), codes.scale, codes.zero_point)).mean())

    assert error("mse") < 0.7 * error("minmax")
    assert error("mse") <= 1.01 * min(error("percentile"), error("entropy"))


def test_entropy_cuts_a_tail_and_keeps_an_even_spread() -> None:
    tail = heavy_tailed(20)
    assert ends(observed("entropy", tail))[1] < 0.8 * float(tail.abs().max())
    even = torch.rand(20, 5000, generator=torch.Generator().manual_seed(0))
    assert ends(observed("entropy", even), signed=False)[1] > 0.98


def test_many_zeros_do_not_move_the_entropy() -> None:
    rows = heavy_tailed(20).abs()
    padded = torch.cat([rows, torch.zeros(20, 20000)], 1)
    assert ends(observed("entropy", padded), signed=False)[1] == ends(observed("entropy", rows), signed=False)[1]


@pytest.mark.parametrize("method", METHODS)
def test_zeros_alone_have_no_range(method: Method) -> None:
    observer = observed(method, torch.zeros(3, 10))
    assert ends(observer) == (0.0, 0.0)
    assert observer.samples == 3


def test_zeros_seen_first_stay_counted() -> None:
    observer = observed("mse", torch.zeros(1, 100), torch.ones(1, 5))
    values, counts = observer.histogram()
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0.0: 100, 1.0: 5}
