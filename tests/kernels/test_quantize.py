"""The edges of integer networks: one right byte for every float, whatever the layouts."""

import numpy as np
import pytest
from kernel_runner import TARGETS, assert_links_alone, attributes, run

from tapdot.kernels import numerics
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.quantize import DequantizeEdge, QuantizeEdge
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload

pytestmark = pytest.mark.filterwarnings("ignore:overflow")
HALO = Halo(1, 2, 0, 1)
SCALE = 0.0371


def quantize(x, y, scale=SCALE, zero_point=3, low=-128, high=127):
    options = attributes(scale=scale, zero_point=zero_point, low=low, high=high, dtype=y.dtype)
    return Workload("Quantize", (x,), (y,), options)


def dequantize(x, y, zero_point=3):
    return Workload("Dequantize", (x,), (y,), attributes(scale=SCALE, zero_point=zero_point))


def awkward(shape, scale=SCALE):
    """Floats around the borders of codes, far outside, infinite and no numbers."""
    generator = np.random.default_rng(0)
    x = generator.normal(0, 60 * scale, shape).astype(np.float32)
    flat = x.reshape(-1)
    halves = (generator.integers(-140, 140, flat.size // 3) + 0.5) * np.float64(scale)
    flat[: halves.size] = halves
    special = [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38, -0.0, 1e-42, 2.0**31 * scale, -(2.0**31) * scale]
    for index, value in enumerate(special[: flat.size // 2]):
        flat[-1 - index] = value
    generator.shuffle(flat)
    return x


SHAPES = [(1, 3, 6, 35), (2, 21, 5, 18), (1, 4, 3, 5), (1, 37, 1, 1)]


SIGNS = [("int8", 128), ("uint8", -128), ("int8", 0), ("uint8", 0)]
HALOS = [HALO, Halo(), HALO, Halo()]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("vectors", [False, True])
def test_quantizes_into_every_layout(target, block, vectors):
    target = find_target(target)
    for shape, (dtype, offset), halo in zip(SHAPES, SIGNS, HALOS, strict=True):
        x = awkward(shape)
        offset = offset if block > 1 else 0
        low, high = (-128, 127) if dtype == "int8" else (2, 200)
        source = Layout(target.isa.lanes, Halo(0, 1, 0, 0)) if vectors else None
        into = Layout(block, halo, 3 + offset if halo else 0, offset)
        work = quantize(Operand(shape, "float32", source), Operand(shape, dtype, into), low=low, high=high)
        got = run(QuantizeEdge(), work, target, [x])
        assert got.dtype == dtype
        assert np.array_equal(got.astype(np.int32), numerics.quantize(x, SCALE, 3, low, high))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("vectors", [False, True])
def test_dequantizes_every_layout(target, block, vectors):
    target = find_target(target)
    for shape, (dtype, offset), halo in zip(SHAPES, SIGNS, HALOS[::-1], strict=True):
        offset = offset if block > 1 else 0
        limits = np.iinfo(dtype)
        q = np.random.default_rng(0).integers(limits.min, limits.max + 1, shape).astype(dtype)
        into = Layout(target.isa.lanes if vectors else 1, halo)
        work = dequantize(Operand(shape, dtype, Layout(block, HALO, 0, offset)), Operand(shape, "float32", into))
        got = run(DequantizeEdge(), work, target, [q])
        assert np.array_equal(got, numerics.dequantize(q, SCALE, 3))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1, 1000), (7,), (2, 3, 5, 7, 11)])
def test_other_ranks_are_row_major(target, shape):
    target = find_target(target)
    x = awkward((*shape, 1)).reshape(shape)
    codes = run(QuantizeEdge(), quantize(Operand(shape, "float32"), Operand(shape, "int8")), target, [x])
    assert np.array_equal(codes.astype(np.int32), numerics.quantize(x, SCALE, 3, -128, 127))
    back = run(DequantizeEdge(), dequantize(Operand(shape, "int8"), Operand(shape, "float32")), target, [codes])
    assert np.array_equal(back, numerics.dequantize(codes, SCALE, 3))


def test_an_image_becomes_quads():
    target = find_target("host")
    work = quantize(Operand((1, 3, 224, 224), "float32"), Operand((1, 3, 224, 224), "uint8"))
    ports = QuantizeEdge().ports(work, target)
    assert ports.outputs[0].blocks[0] == 4 and ports.inputs[0].blocks[0] == 1
    features = quantize(Operand((1, 64, 8, 8), "float32"), Operand((1, 64, 8, 8), "uint8"))
    assert QuantizeEdge().ports(features, target).outputs[0].blocks[0] == 16


def test_links_alone_on_a_phone():
    target = find_target("cortex-a76")
    image = Operand((1, 3, 9, 33), "float32")
    assert_links_alone(QuantizeEdge(), quantize(image, Operand(image.shape, "int8", Layout(4, HALO, 3))), target)
    codes = Operand((1, 20, 9, 33), "int8", Layout(16))
    assert_links_alone(DequantizeEdge(), dequantize(codes, Operand(codes.shape, "float32")), target)
