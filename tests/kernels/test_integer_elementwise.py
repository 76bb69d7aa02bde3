"""Stand-alone integer chains against the reference's own operators."""

import numpy as np
import pytest
import torch
from kernel_runner import TARGETS, assert_links_alone, attributes, run
from tests.kernels.emulated_runner import target_or_skip

from tapdot.compiler.operators.fused import apply_expression
from tapdot.kernels.integer_elementwise import IntegerChain, TableLookup
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload

ALL_TARGETS = (*TARGETS, "host:avx512")
SHAPE = (2, 21, 5, 7)
MINUS, PLUS = Layout(16, Halo(1, 1, 0, 0), -125, -128), Layout(16, Halo(0, 2, 1, 0), 133, 128)
RESIDUAL = (
    "Narrow(Add(Dyadic(Widen(acc, zero_point=3), multiplier=1518500250, shift=31), "
    "Dyadic(Widen(r0, zero_point=-7), multiplier=1073741824, shift=30)), zero_point=3, low=0, high=255, dtype='uint8')"
)


def codes(shape, dtype, seed=0):
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(dtype)


def workload(expression, output, *operands):
    return Workload("Elementwise", operands, (output,), attributes(expression=expression))


def expected(expression, *arrays):
    return apply_expression(expression, [torch.from_numpy(array) for array in arrays]).numpy()


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_a_residual_sum(target):
    target = target_or_skip(target)
    a, b = codes(SHAPE, "uint8"), codes(SHAPE, "int8", 1)
    for x, y, z in ((Layout(16), Layout(16), Layout(16)), (MINUS, PLUS, MINUS)):
        work = workload(RESIDUAL, Operand(SHAPE, "uint8", z), Operand(SHAPE, "uint8", x), Operand(SHAPE, "int8", y))
        assert np.array_equal(run(IntegerChain(), work, target, [a, b]), expected(RESIDUAL, a, b))


PLANES = [(1, 3, 5, 7), (2, 2, 3, 56), (1, 2, 2, 120), (1, 3, 1, 1), (1, 2, 14, 14)]


@pytest.mark.parametrize("target", (*ALL_TARGETS, "cortex-a76", "cortex-a76:neon"))
def test_planar_rows(target):
    """A residual sum, a gate of channels and a table; with and without halos."""
    target = target_or_skip(target)
    gate = (
        "Narrow(Dyadic(Mul(Widen(acc, zero_point=2), Widen(r0, zero_point=0)), multiplier=1234567890, shift=38), "
        "zero_point=-3, low=-100, high=101, dtype='int8')"
    )
    for index, shape in enumerate(PLANES[:2] if target.architecture == "aarch64" else PLANES):
        halos = (Halo(1, 1, 1, 1), Halo(0, 2, 1, 0), Halo(2, 0, 0, 1)) if index % 2 else (Halo(),) * 3
        x, y = Layout(1, halos[0], -125 if halos[0] else 0, -128), Layout(1, halos[1], 133 if halos[1] else 0, 128)
        z = Layout(1, halos[2], 7 if halos[2] else 0)
        a, b = codes(shape, "uint8"), codes(shape, "int8", 1)
        work = workload(RESIDUAL, Operand(shape, "uint8", z), Operand(shape, "uint8", x), Operand(shape, "int8", y))
        assert np.array_equal(run(IntegerChain(), work, target, [a, b]), expected(RESIDUAL, a, b))
        a, b = codes(shape, "int8"), codes((*shape[:2], 1, 1), "uint8")
        work = workload(gate, Operand(shape, "int8", y), Operand(shape, "int8", y), Operand(b.shape, "uint8", Layout(1)))
        assert np.array_equal(run(IntegerChain(), work, target, [a, b]), expected(gate, a, b))
        work = workload("Lookup(acc, r0)", Operand(shape, "uint8", x), Operand(shape, "int8", y), table("uint8"))
        entries = codes((256,), "uint8", 5)
        assert np.array_equal(run(TableLookup(), work, target, [a, entries]), expected("Lookup(acc, r0)", a, entries))


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_a_gate_of_channels(target):
    """Squeeze and excite: codes times one code a channel."""
    text = (
        "Narrow(Dyadic(Mul(Widen(acc, zero_point=2), Widen(r0, zero_point=0)), multiplier=1234567890, shift=38), "
        "zero_point=-3, low=-100, high=101, dtype='int8')"
    )
    for batch in (1, 2):
        shape = (batch, *SHAPE[1:])
        a, b = codes(shape, "int8"), codes((batch, 21, 1, 1), "uint8")
        work = workload(
            text, Operand(shape, "int8", PLUS), Operand(shape, "int8", PLUS), Operand(b.shape, "uint8", Layout(16, zero=0))
        )
        assert np.array_equal(run(IntegerChain(), work, target_or_skip(target), [a, b]), expected(text, a, b))


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_an_affine_function_of_every_channel(target):
    text = (
        "Narrow(Dyadic(Add(Mul(Widen(acc, zero_point=1), r0), r1), multiplier=1073741824, shift=40), "
        "low=-128, high=127, dtype='int8')"
    )
    generator = np.random.default_rng(0)
    a = codes(SHAPE, "int8")
    scale = generator.integers(-4000, 4000, (1, 21, 1, 1)).astype(np.int32)
    shift = generator.integers(-90000, 90000, (1, 21, 1, 1)).astype(np.int32)
    constants = [Operand((1, 21, 1, 1), "int32", None, constant=True)] * 2
    work = workload(text, Operand(SHAPE, "int8", Layout(16)), Operand(SHAPE, "int8", PLUS), *constants)
    assert np.array_equal(run(IntegerChain(), work, target_or_skip(target), [a, scale, shift]), expected(text, a, scale, shift))


@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("shape", [(3, 37), (5,), (2, 3, 4, 5, 6)])
def test_other_ranks_are_row_major(target, shape):
    a, b = codes(shape, "uint8"), codes(shape, "int8", 1)
    work = workload(RESIDUAL, Operand(shape, "uint8"), Operand(shape, "uint8"), Operand(shape, "int8"))
    assert np.array_equal(run(IntegerChain(), work, target_or_skip(target), [a, b]), expected(RESIDUAL, a, b))


def table(dtype):
    return Operand((256,), dtype, None, constant=True)


@pytest.mark.parametrize("target", (*ALL_TARGETS, "x86-64-v4"))
@pytest.mark.parametrize("source", ["int8", "uint8"])
@pytest.mark.parametrize("result", ["int8", "uint8"])
def test_tables(target, source, result):
    """Every byte in every place, with and without halos, stored with either sign."""
    offsets = {"int8": (0, 128), "uint8": (0, -128)}
    values = codes((256,), result, 5)
    q = np.resize(np.arange(256).astype(np.uint8).view(source), (1, 21, 9, 17))
    for index in range(2):
        x = Layout(16, Halo(0, 1, 0, 0), 1, offsets[source][index])
        y = Layout(16, Halo(1, 1, 1, 1) if index else Halo(), 2 if index else 0, offsets[result][1 - index])
        work = workload("Lookup(acc, r0)", Operand(q.shape, result, y), Operand(q.shape, source, x), table(result))
        want = values[q.astype(np.int32) - np.iinfo(source).min]
        assert np.array_equal(run(TableLookup(), work, target_or_skip(target), [q, values]), want)


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_tables_of_other_ranks(target):
    values, q = codes((256,), "uint8", 5), codes((3, 333), "int8")
    work = workload("Lookup(acc, r0)", Operand(q.shape, "uint8"), Operand(q.shape, "int8"), table("uint8"))
    want = values[q.astype(np.int32) + 128]
    assert np.array_equal(run(TableLookup(), work, target_or_skip(target), [q, values]), want)


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_a_table_inside_a_chain(target):
    """Hard-swish and its kin before a product."""
    text = (
        "Narrow(Dyadic(Mul(Widen(acc, zero_point=0), Widen(Lookup(acc, r0), zero_point=4)), multiplier=2000000000, shift=39), "
        "low=0, high=255, dtype='uint8')"
    )
    a, values = codes(SHAPE, "uint8"), codes((256,), "int8", 2)
    work = workload(text, Operand(SHAPE, "uint8", MINUS), Operand(SHAPE, "uint8", MINUS), table("int8"))
    assert np.array_equal(run(IntegerChain(), work, target_or_skip(target), [a, values]), expected(text, a, values))


@pytest.mark.parametrize("target", (*ALL_TARGETS, pytest.param("cortex-a76", marks=pytest.mark.emulated)))
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_clamps_of_scaled_codes_hold(target, dtype):
    """Every code on another scale, clamped where products of stored codes would have wrapped; one position a row, and more."""
    target = target_or_skip(target)
    zero = {"int8": 0, "uint8": 128}[dtype]
    text = (
        f"Narrow(Dyadic(Widen(acc, zero_point={zero}), multiplier=1297604537, shift=30), "
        "zero_point=0, low=-100, high=102, dtype='int8')"
    )
    limits = np.iinfo(dtype)
    for shape in ((1, 16, 16, 1), (1, 16, 2, 8)):
        q = np.arange(limits.min, limits.max + 1).astype(dtype).reshape(shape)
        for offset in (0, 128 if dtype == "int8" else -128):
            work = workload(text, Operand(shape, "int8", Layout(16)), Operand(shape, dtype, Layout(16, Halo(), offset, offset)))
            assert np.array_equal(run(IntegerChain(), work, target, [q]), expected(text, q))


def test_refuses_floats_and_what_it_cannot_broadcast():
    target = find_target("host")
    full = Operand(SHAPE, "float32")
    assert not IntegerChain().serves(workload("Relu(acc)", full, full), target)
    plane = Operand((1, 1, 5, 7), "int8")
    work = workload(RESIDUAL, Operand(SHAPE, "uint8"), Operand(SHAPE, "uint8"), plane)
    assert not IntegerChain().serves(work, target)


@pytest.mark.parametrize("target", ["cortex-a76", "cortex-a76:neon", "cortex-a76:generic"])
def test_links_alone_on_a_phone(target):
    target = find_target(target)
    x = Operand(SHAPE, "uint8", MINUS)
    assert_links_alone(IntegerChain(), workload(RESIDUAL, x, x, x), target)
    assert_links_alone(TableLookup(), workload("Lookup(acc, r0)", Operand(SHAPE, "int8", PLUS), x, table("int8")), target)
