"""The integer dialect's reference: every operator against exact integers in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tapdot.compiler.operators import lookup
from tapdot.compiler.operators.fused import apply_expression
from tapdot.kernels import numerics

NUMBERS = np.random.default_rng(0)


def compute(op: str, *operands: np.ndarray | None, **attributes: Any) -> np.ndarray:
    tensors = [None if x is None else torch.from_numpy(x) for x in operands]
    result: torch.Tensor = lookup(op).compute(*tensors, **attributes)
    return result.numpy()


def codes(*shape: int, dtype: str = "uint8") -> np.ndarray:
    bounds = np.iinfo(dtype)
    return NUMBERS.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def sums(*shape: int) -> np.ndarray:
    return NUMBERS.integers(-(2**31), 2**31, shape).astype(np.int32)


def test_the_edges() -> None:
    x = np.array([0.25, 0.75, -0.25, 1e9, -1e9, np.nan, np.inf], np.float32)
    given = {"scale": 0.5, "zero_point": 7, "low": 0, "high": 200, "dtype": "uint8"}
    np.testing.assert_array_equal(compute("Quantize", x, **given), [7, 9, 7, 200, 0, 7, 200])
    np.testing.assert_array_equal(compute("Quantize", x, **given), numerics.quantize(x, 0.5, 7, 0, 200))
    q = codes(50, dtype="int8")
    np.testing.assert_array_equal(compute("Dequantize", q, scale=0.3, zero_point=-4), numerics.dequantize(q, 0.3, -4))
    both = compute("Dequantize", compute("Quantize", x, **given), scale=0.5, zero_point=7)
    np.testing.assert_array_equal(compute("FakeQuantize", x, **given), both)


def test_fake_quantize_passes_the_gradient_where_nothing_is_clamped() -> None:
    x = torch.tensor([-1.0, 0.3, 900.0], requires_grad=True)
    lookup("FakeQuantize").compute(x, scale=0.5, zero_point=0, low=0, high=255, dtype="uint8").sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 1.0, 0.0]


def test_inside_expressions() -> None:
    x, q = sums(1, 3, 40, 1), codes(1, 3, 40, 1, dtype="int8")
    m = NUMBERS.integers(2**30, 2**31, (1, 3, 1, 1)).astype(np.int32)
    s = NUMBERS.integers(31, 63, (1, 3, 1, 1)).astype(np.int32)
    np.testing.assert_array_equal(compute("Dyadic", x, m, s), numerics.dyadic(x, m, s))
    np.testing.assert_array_equal(compute("Dyadic", x, multiplier=2**31 - 1, shift=40), numerics.dyadic(x, 2**31 - 1, 40))
    np.testing.assert_array_equal(compute("Widen", q, zero_point=-128), q.astype(int) + 128)
    narrow = compute("Narrow", x, low=-5, high=9, zero_point=3, dtype="int8")
    np.testing.assert_array_equal(narrow, np.clip(x.astype(np.int64) + 3, -5, 9))
    table = codes(256)
    np.testing.assert_array_equal(compute("Lookup", q, table), table[q.astype(int) + 128])
    scales = NUMBERS.standard_normal((1, 3, 1, 1)).astype(np.float32)
    np.testing.assert_array_equal(compute("Reals", x, scales), x.astype(np.float32) * scales)


def test_numbers_beside_codes_are_int32() -> None:
    q = codes(20)
    found = apply_expression("Add(Mul(Widen(acc, zero_point=3), 70000.0), -300.0)", [torch.from_numpy(q)]).numpy()
    np.testing.assert_array_equal(found, (q.astype(np.int64) - 3) * 70000 - 300)


@pytest.mark.parametrize("channels", [4, 320], ids=["in float32", "in float64"])
@pytest.mark.parametrize("group", [1, 2])
def test_convolution(channels: int, group: int) -> None:
    x = codes(1, channels, 5, 4)
    w = NUMBERS.integers(-127, 128, (4, channels // group, 3, 3)).astype(np.int8)
    b = NUMBERS.integers(-(10**6), 10**6, 4).astype(np.int32)
    window = {"strides": (2, 1), "pads": (1, 0, 1, 1), "dilations": (1, 1)}
    found = compute("QConv", x, w, b, **window, group=group, zero_point=9)
    padded = np.pad(x.astype(np.int64) - 9, ((0, 0), (0, 0), (1, 1), (0, 1)))
    wanted = np.zeros(found.shape, np.int64)
    size = channels // group
    for o in range(4):
        part = padded[0, (o // (4 // group)) * size :][:size]
        for i, j in np.ndindex(found.shape[2:]):
            wanted[0, o, i, j] = (part[:, 2 * i : 2 * i + 3, j : j + 3] * w[o].astype(np.int64)).sum() + b[o]
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, wanted)


def test_product_and_pools() -> None:
    a, w = codes(3, 9, dtype="int8"), NUMBERS.integers(-127, 128, (9, 4)).astype(np.int8)
    b = np.array([1, -2, 3, 2**20], np.int32)
    wanted = (a.astype(np.int64) + 5) @ w + b
    np.testing.assert_array_equal(compute("QGemm", a, w, b, zero_point=-5), wanted)
    epilogue = "Narrow(Dyadic(acc, multiplier=1073741824, shift=38), zero_point=2, low=-128, high=127, dtype='int8')"
    found = compute("QGemm", a, w, b, zero_point=-5, epilogue=epilogue)
    np.testing.assert_array_equal(found, np.clip(numerics.dyadic(wanted.astype(np.int32), 2**30, 38) + 2, -128, 127))
    x = codes(1, 2, 4, 5)
    np.testing.assert_array_equal(compute("QGlobalSum", x, zero_point=3), (x.astype(int) - 3).sum(axis=(2, 3), keepdims=True))
    found = compute("QSumPool", x, kernel_shape=(3, 2), strides=(1, 2), pads=(1, 0, 1, 1), zero_point=3)
    padded = np.pad(x.astype(int) - 3, ((0, 0), (0, 0), (1, 1), (0, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 2), (2, 3))[:, :, ::1, ::2]
    np.testing.assert_array_equal(found, windows.sum(axis=(-1, -2)))
