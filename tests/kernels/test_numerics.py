import numpy as np
import pytest

from tapdot.kernels import numerics


@pytest.mark.parametrize("ratio", [0.003, 0.25, 0.499999, 0.5, 0.7071, 1.0, 1.9, 37.5])
@pytest.mark.parametrize("low", [-255, -128, -3, 0])
def test_short_multipliers_scale_every_code_alike(ratio, low):
    multiplier, shift = numerics.dyadic_parameters(ratio)
    short = numerics.short_dyadic(multiplier, shift, low, low + 255)
    assert short is not None
    m, p = short
    for code in range(low, low + 256):
        product = code * m + 2 ** (p - 1)
        assert -(2**31) <= product < 2**31 and product >> p == numerics.dyadic(code, multiplier, shift)


@pytest.mark.parametrize("zero", [-128, 0, 128, 255])
@pytest.mark.parametrize("offset", [0, 128, -128])
def test_short_multipliers_of_stored_codes_never_wrap(zero, offset):
    """LLVM takes signed sums that wrap for impossible, and leaves out clamps that only they would reach."""
    for ratio in (0.003, 0.5, 1.2085, 37.5):
        multiplier, shift = numerics.dyadic_parameters(ratio)
        for lowest in (-128, 0):
            short = numerics.short_dyadic(multiplier, shift, lowest - zero, lowest + 255 - zero, zero + offset)
            assert short is not None
            m, p = short
            term = 2 ** (p - 1) - (zero + offset) * m
            for code in range(lowest, lowest + 256):
                product = (code + offset) * m
                assert max(abs(term), abs(product), abs(product + term)) < 2**31
                assert product + term >> p == numerics.dyadic(code - zero, multiplier, shift)


def test_no_short_multiplier_where_all_bits_count():
    multiplier, shift = numerics.dyadic_parameters(1 / 3)
    assert numerics.short_dyadic(multiplier, shift, 0, 2**20) is None


@pytest.mark.parametrize("h", [31, 32])
def test_high_halves_scale_alike(h):
    generator = np.random.default_rng(0)
    for shift in range(numerics.SMALLEST_SHIFT, numerics.LARGEST_SHIFT + 1):
        k, p = numerics.high_half_shifts(shift, h)
        largest = numerics.INT32_MAX >> k
        x = generator.integers(-largest, largest + 1, 50)
        m = generator.integers(2**30, 2**31, 50)
        wanted = numerics.dyadic(x, m, shift)
        assert np.array_equal(numerics.rounding_shift((x << k) * m >> h, p), wanted)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 1000])
def test_narrow_codes_come_back_from_their_bytes(bits: int, count: int) -> None:
    limit = 2 ** (bits - 1)
    codes = np.random.default_rng(count).integers(-limit, limit, count).astype(np.int8)
    packed = numerics.pack_codes(codes, bits)
    assert packed.dtype == np.uint8 and packed.size == -(-count * bits // 8)
    np.testing.assert_array_equal(numerics.unpack_codes(packed, bits, count), codes)
    widest = np.array([-limit, limit - 1, limit], np.int8)
    numerics.pack_codes(widest[:2], bits)
    with pytest.raises(ValueError, match=f"codes of {bits} bits, found -{limit} to {limit}"):
        numerics.pack_codes(widest, bits)


def test_the_first_of_two_codes_lies_in_the_low_bits() -> None:
    assert numerics.pack_codes(np.array([1, -2, 3], np.int8), 4).tolist() == [0xE1, 0x03]


@pytest.mark.parametrize(("bits", "name"), [(1, "int2"), (2, "int2"), (3, "int4"), (4, "int4"), (5, "int8"), (8, "int8")])
def test_the_narrowest_type_that_holds_weights(bits: int, name: str) -> None:
    assert numerics.weight_dtype(bits) == name
