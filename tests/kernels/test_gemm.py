import numpy as np
import pytest
from kernel_runner import TARGETS, assert_links_alone, attributes, run

from tapdot.kernels.gemm import FullyConnected
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload


def workload(rows, depth, columns, epilogue="acc", bias=True, extras=()):
    """A fully connected layer; ``extras`` are (shape, constant)."""
    b = Operand((columns,), "float32", None, True) if bias else None
    others = tuple(Operand(shape, "float32", None, constant) for shape, constant in extras)
    operands = (Operand((rows, depth), "float32"), Operand((depth, columns), "float32", None, True), b, *others)
    return Workload("FusedGemm", operands, (Operand((rows, columns), "float32"),), attributes(epilogue=epilogue))


def values(work):
    generator = np.random.default_rng(0)
    return [None if operand is None else generator.standard_normal(operand.shape).astype(np.float32) for operand in work.inputs]


def check(work, target, compute, config=None):
    arrays = values(work)
    a, w, b = arrays[:3]
    wanted = compute(a.astype(np.float64) @ w + (0 if b is None else b), *arrays[3:])
    got = run(FullyConnected(), work, target, arrays, config)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * np.sqrt(a.shape[1]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1, 64, 100), (1, 37, 5), (1, 1, 1), (1, 130, 256), (4, 33, 50), (13, 20, 16), (2, 3, 1000)])
def test_matches_numpy(target, shape):
    check(workload(*shape), find_target(target), lambda acc: acc)


@pytest.mark.parametrize("rows", [1, 5])
def test_epilogues(rows):
    extras = [((rows, 37), False), ((37,), True), ((1, 1), False), ((1, 37), False)]
    work = workload(rows, 20, 37, "Relu(Add(Mul(acc, r1), Add(Mul(r0, r2), r3)))", extras=extras)
    check(work, find_target("host"), lambda acc, full, column, scalar, row: np.maximum(acc * column + full * scalar + row, 0))


@pytest.mark.parametrize("rows", [1, 7])
def test_without_bias(rows):
    check(
        workload(rows, 20, 18, "Relu(Add(acc, r0))", bias=False, extras=[((18,), True)]),
        find_target("host"),
        lambda acc, r: np.maximum(acc + r, 0),
    )


def test_every_configuration_computes_the_same():
    target, work = find_target("host:avx2"), workload(5, 19, 43)
    widths = FullyConnected().space(work, target)["vectors"]
    for index, vectors in enumerate(widths):
        check(work, target, lambda acc: acc, {"vectors": vectors, "rows": (1, 2, 5)[index % 3]})


def test_large_layers_use_threads():
    check(workload(1, 512, 1000), find_target("host"), lambda acc: acc)


def test_refuses_what_it_cannot_compute():
    target = find_target("host")
    assert not FullyConnected().serves(workload(4, 8, 8, "Add(acc, r0)", extras=[((4, 1), False)]), target)
    free = Workload(
        "FusedGemm",
        (Operand((4, 8), "float32"), Operand((8, 8), "float32")),
        (Operand((4, 8), "float32"),),
        attributes(epilogue="acc"),
    )
    assert not FullyConnected().serves(free, target)


@pytest.mark.parametrize("rows", [1, 6])
def test_links_alone_on_a_phone(rows):
    assert_links_alone(FullyConnected(), workload(rows, 64, 10, "Relu(acc)"), find_target("cortex-a76"))
