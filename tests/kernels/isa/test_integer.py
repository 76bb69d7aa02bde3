"""Integer vectors of every instruction set that this machine has or emulates, against ``kernels.numerics``."""

import numpy as np
import pytest
from tests.kernels.emulated_runner import call

from tapdot.kernels import numerics
from tapdot.kernels.emit import Registers, argument, store
from tapdot.kernels.isa import ISAS
from tapdot.kernels.isa.integer import integer_vectors, narrow_vectors
from tapdot.kernels.target import UnknownTargetError, find_target
from tapdot.kernels.tvm_adapter import T, build, function, tvm


def _available():
    found = []
    for name in ISAS:
        try:
            found.append(find_target(f"host:{name}"))
        except UnknownTargetError:
            continue
    return found


EMULATED = [find_target(name) for name in ("cortex-a76", "cortex-a76:neon", "cortex-x2")]
pytestmark = pytest.mark.parametrize(
    "target",
    [*_available(), *(pytest.param(target, marks=pytest.mark.emulated) for target in EMULATED)],
    ids=lambda target: target.isa.name,
)


def compute(target, arrays, result, body):
    """Builds a function of flat buffers, runs it and gives the last buffer."""
    finished = []
    with function("kernel", finished):
        body(*(argument(f"a{i}", a.size, a.dtype.name) for i, a in enumerate((*arrays, result))))
    if target in EMULATED:
        return call(finished[0], target, [array.reshape(-1) for array in arrays], [result.reshape(-1)])[0][0]
    tensors = [tvm.runtime.tensor(array.reshape(-1), tvm.cpu()) for array in (*arrays, result)]
    build({"kernel": finished[0]}, target.llvm())["kernel"](*tensors)
    return tensors[-1].numpy()


@pytest.mark.parametrize("stored", ["uint8", "int8"])
def test_dot_products_of_extreme_codes(target, stored):
    vectors = integer_vectors(target.isa)
    lanes, generator = vectors.lanes, np.random.default_rng(0)
    limits = np.iinfo(stored)
    quads = np.concatenate(
        [
            generator.integers(limits.min, limits.max + 1, (12, 4)),
            np.full((2, 4), limits.min),
            np.full((2, 4), limits.max),
        ]
    ).astype(stored)
    weights = np.concatenate(
        [generator.integers(-127, 128, (12, lanes, 4)), np.full((2, lanes, 4), -127), np.full((2, lanes, 4), 127)]
    ).astype(np.int8)

    def body(x, w, y):
        total = Registers(1, lanes, "int32")
        total[0] = vectors.number(7)
        for start in range(0, 16, 4):
            for index, quad in enumerate(vectors.quads(x, start * 4, 4)):
                total[0] = vectors.dot(total[0], quad, vectors.weights(w, (start + index) * lanes * 4))
        store(y, 0, total[0], lanes)

    packed = vectors.pack_weights(weights)
    assert np.array_equal(vectors.unpack_weights(packed.reshape(16, -1)), weights)
    got = compute(target, [quads, np.ascontiguousarray(packed)], np.zeros(lanes, np.int32), body)
    codes = quads.astype(np.int64) + vectors.operand_offset(stored)
    assert np.array_equal(got, 7 + np.einsum("qk,qlk->l", codes, weights.astype(np.int64)))


@pytest.mark.parametrize("stored", ["uint8", "int8"])
def test_dot_products_of_narrow_weights(target, stored):
    vectors = narrow_vectors(target.isa)
    lanes, generator = vectors.lanes, np.random.default_rng(3)
    limits = np.iinfo(stored)
    quads = generator.integers(limits.min, limits.max + 1, (8, 4)).astype(stored)
    quads[6:] = limits.max
    weights = np.concatenate([generator.integers(-8, 8, (6, lanes, 4)), np.full((1, lanes, 4), -8), np.full((1, lanes, 4), 7)])
    ordered = vectors.pack_weights(weights.astype(np.int8))
    packed = vectors.pack_narrow(ordered[::2], ordered[1::2])
    assert packed.shape == (4, lanes * 4) and packed.dtype == np.int8
    for found, wanted in zip(vectors.unpack_narrow(packed), (ordered[::2], ordered[1::2]), strict=True):
        np.testing.assert_array_equal(found, wanted)

    def body(x, w, y):
        total = Registers(1, lanes, "int32")
        total[0] = vectors.number(7)
        for pair in range(4):
            both = vectors.narrow_weights(w, pair * lanes * 4)
            for quad, operand in zip(vectors.quads(x, pair * 8, 2), both, strict=True):
                total[0] = vectors.dot(total[0], quad, operand)
        store(y, 0, total[0], lanes)

    got = compute(target, [quads, np.ascontiguousarray(packed)], np.zeros(lanes, np.int32), body)
    codes = quads.astype(np.int64) + vectors.operand_offset(stored)
    assert np.array_equal(got, 7 + np.einsum("qk,qlk->l", codes, weights.astype(np.int64)))


def test_dyadic_scaling_for_every_shift(target):
    vectors = integer_vectors(target.isa)
    lanes, generator = vectors.lanes, np.random.default_rng(1)
    shifts = np.repeat(np.arange(numerics.SMALLEST_SHIFT, numerics.LARGEST_SHIFT + 1), 32)
    shifts = np.concatenate([shifts, np.full(-shifts.size % lanes, 40)]).astype(np.int32)
    limits = np.array([(2**31 - 1) >> max(0, 33 - int(s)) for s in shifts])
    x = generator.integers(-limits, limits + 1)
    x[::32], x[1::32], x[2::32] = -limits[::32], limits[1::32], 0
    multipliers = generator.integers(2**30, 2**31, shifts.size).astype(np.int32)
    multipliers[3::32], multipliers[4::32] = 2**30, 2**31 - 1
    ms, ss = multipliers.reshape(-1, lanes), shifts.reshape(-1, lanes)
    packed = [np.ascontiguousarray(vectors.pack_multipliers(ms)), np.ascontiguousarray(vectors.pack_shifts(ss))]
    assert np.array_equal(vectors.unpack_multipliers(packed[0]), ms) and np.array_equal(vectors.unpack_shifts(packed[1]), ss)

    def body(x, m, s, y):
        def rows(buffer, v, count):
            return [buffer[T.ramp((v * count + row) * lanes, 1, lanes)] for row in range(count)]

        with T.serial(shifts.size // lanes) as v:
            scales = rows(m, v, vectors.multiplier_rows), rows(s, v, vectors.shift_rows)
            store(y, v * lanes, vectors.dyadic(x[T.ramp(v * lanes, 1, lanes)], *scales), lanes)

    got = compute(target, [x.astype(np.int32), *packed], np.zeros(shifts.size, np.int32), body)
    assert np.array_equal(got, numerics.dyadic(x, multipliers, shifts))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("clamp", [(0, None, None), (3, None, None), (-5, 2, 100), (128, 0, 6)])
def test_codes_from_and_to_int32(target, dtype, clamp):
    vectors = integer_vectors(target.isa)
    lanes, limits = vectors.lanes, np.iinfo(dtype)
    zero, low, high = clamp
    low, high = (limits.min if low is None else low), (limits.max if high is None else high)
    count = max(1, 16 // lanes)
    x = np.random.default_rng(2).integers(-400, 400, (8, count * lanes)).astype(np.int32)
    x[0], x[1] = 2**31 - 1, -(2**31)

    def body(x, y, z):
        for row in range(8):
            start = row * count * lanes
            parts = [x[T.ramp(start + v * lanes, 1, lanes)] for v in range(count)]
            store(y, start, vectors.narrow(parts, zero, low, high, dtype), count * lanes)
            for v, value in enumerate(vectors.widen(y, start, count)):
                store(z, start + v * lanes, value, lanes)

    got = compute(target, [x, np.zeros(x.shape, dtype)], np.zeros(x.shape, np.int32), body)
    assert np.array_equal(got.reshape(x.shape), np.clip(x.astype(np.int64) + zero, low, high))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_narrowing_in_the_order_of_packing_instructions(target, count):
    vectors = integer_vectors(target.isa)
    lanes, zero, low, high = vectors.lanes, 3, 10, 250
    x = np.random.default_rng(4).integers(-400, 400, (count, lanes)).astype(np.int32)

    def body(x, y):
        parts = [x[T.ramp(v * lanes, 1, lanes)] for v in range(count)]
        store(y, 0, vectors.narrow_parts(parts, zero, low, high, "uint8"), 4 * lanes)

    got = compute(target, [x], np.zeros(4 * lanes, np.uint8), body).reshape(lanes // 4, 4, 4)[:, :count]
    assert np.array_equal(got, np.clip(x + zero, low, high).reshape(count, -1, 4).swapaxes(0, 1))


def test_table_lookup(target):
    vectors = integer_vectors(target.isa)
    lanes, table = vectors.lanes, np.random.default_rng(3).integers(-128, 128, 256).astype(np.int8)
    indices = np.arange(256).astype(np.int32)

    def body(x, table, y):
        with T.serial(256 // lanes) as v:
            store(y, v * lanes, vectors.lookup(x[T.ramp(v * lanes, 1, lanes)], table), lanes)

    assert np.array_equal(compute(target, [indices, table], np.zeros(256, np.int32), body), table)
