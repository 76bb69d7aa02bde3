import numpy as np
import pytest
import torch
from kernel_runner import TARGETS, assert_links_alone, attributes, run, vectors

from tapdot.kernels.elementwise import ElementwiseChain
from tapdot.kernels.layout import Layout
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload

SHAPE = (2, 21, 5, 7)


def workload(expression, output, *operands):
    return Workload("Elementwise", operands, (output,), attributes(expression=expression))


def values(*operands):
    generator = np.random.default_rng(0)
    return [generator.standard_normal(operand.shape).astype(np.float32) for operand in operands]


@pytest.mark.parametrize("target", TARGETS)
def test_channel_vectors(target):
    target = find_target(target)
    full = Operand(SHAPE, "float32", vectors(target, top=1, left=1))
    other = Operand(SHAPE, "float32", vectors(target))
    channel = Operand((1, 21, 1, 1), "float32", None, constant=True)
    scalar = Operand((1,), "float32", None, constant=True)
    for into in (vectors(target), vectors(target, left=2, bottom=1)):
        work = workload("Relu(Add(Mul(acc, r1), Sub(r0, r2)))", Operand(SHAPE, "float32", into), full, other, channel, scalar)
        a, b, c, s = values(*work.inputs)
        got = run(ElementwiseChain(), work, target, [a, b, c, s], halo=np.nan)
        np.testing.assert_allclose(got, np.maximum(a * c + (b - s), 0), rtol=1e-5, atol=1e-6)


def test_a_gate_of_channels_known_at_run_time():
    target = find_target("host")
    shape = (1, 24, 6, 6)
    gate = Operand((1, 24, 1, 1), "float32", vectors(target))
    work = workload(
        "Mul(Sigmoid(acc), r0)",
        Operand(shape, "float32", vectors(target)),
        gate,
        Operand(shape, "float32", vectors(target, left=1)),
    )
    g, x = values(*work.inputs)
    np.testing.assert_allclose(
        run(ElementwiseChain(), work, target, [g, x]), torch.sigmoid(torch.tensor(g)).numpy() * x, atol=1e-6
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(3, 37), (1, 5), (128,), (2, 3, 4, 5, 6), (4, 100, 33)])
def test_row_major(target, shape):
    target = find_target(target)
    row = Operand(shape[-1:], "float32", None, constant=True)
    scalar = Operand((), "float32")
    full = Operand(shape, "float32")
    work = workload("Add(Mul(acc, r0), Mul(r1, r2))", full, full, row, scalar, full)
    a, r, s, b = values(*work.inputs)
    np.testing.assert_allclose(run(ElementwiseChain(), work, target, [a, r, s, b]), a * r + s * b, rtol=1e-5, atol=1e-6)


def test_a_constant_of_the_full_shape_and_planes_run_row_major():
    target = find_target("host")
    full, constant = Operand(SHAPE, "float32"), Operand(SHAPE, "float32", None, constant=True)
    plane = Operand((1, 1, 5, 7), "float32")
    for other in (constant, plane):
        work = workload("Sub(acc, r0)", full, full, other)
        assert all(port is None or not port.blocks for port in ElementwiseChain().ports(work, target).inputs)
        a, b = values(*work.inputs)
        np.testing.assert_allclose(run(ElementwiseChain(), work, target, [a, b]), a - b)


def test_long_runs_use_threads():
    target = find_target("host")
    full = Operand((1, 1_000_003), "float32")
    x = values(full)[0]
    np.testing.assert_allclose(run(ElementwiseChain(), workload("Add(acc, acc)", full, full), target, [x]), x + x)


def test_refuses_what_it_cannot_broadcast():
    target = find_target("host")
    full = Operand((4, 5), "float32")
    assert not ElementwiseChain().serves(workload("Add(acc, r0)", full, full, Operand((4, 1), "float32")), target)
    assert not ElementwiseChain().serves(workload("Unknown(acc)", full, full), target)
    assert not ElementwiseChain().serves(workload("Abs(acc)", Operand((4, 5), "int32"), Operand((4, 5), "int32")), target)


def test_links_alone_on_a_phone():
    full = Operand((3, 37), "float32")
    assert_links_alone(ElementwiseChain(), workload("Mul(acc, Sigmoid(acc))", full, full), find_target("cortex-a76"))
    placed = Operand(SHAPE, "float32", Layout(4))
    assert_links_alone(ElementwiseChain(), workload("Tanh(Softplus(acc))", placed, placed), find_target("cortex-a76"))
