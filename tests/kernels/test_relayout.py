import numpy as np
import pytest
from kernel_runner import TARGETS, assert_links_alone, run
from tests.kernels.emulated_runner import target_or_skip

from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.relayout import Relayout
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload


def workload(shape, source, into, dtype="float32"):
    return Workload("Relayout", (Operand(shape, dtype, source),), (Operand(shape, dtype, into),), ())


def values(shape, dtype):
    generator = np.random.default_rng(0)
    return generator.integers(-100, 100, shape).astype(dtype) if dtype != "uint8" else generator.integers(0, 255, shape, np.uint8)


HALO = Halo(1, 2, 0, 3)
PAIRS = [
    (None, Layout(16)),
    (Layout(16), None),
    (Layout(), Layout(4, HALO)),
    (Layout(4, HALO), Layout()),
    (Layout(8), Layout(16, HALO)),
    (Layout(16, HALO), Layout(8)),
    (Layout(8), Layout(8, HALO)),
    (Layout(16, HALO), Layout(16)),
    (Layout(1, HALO), None),
    (None, Layout(1, HALO)),
    (Layout(4), Layout(4)),
    (None, None),
    (Layout(8, HALO), Layout(1, Halo(1, 1, 1, 1))),
    (Layout(16), Layout(8)),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_moves_every_element(target, pair):
    for shape in [(2, 19, 5, 21), (1, 32, 1, 1)]:
        x = values(shape, "float32")
        got = run(Relayout(), workload(shape, *pair), find_target(target), [x], halo=55.0)
        assert np.array_equal(got, x)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float16", "int64"])
def test_moves_every_type(dtype):
    for source, into in [(None, Layout(16)), (Layout(4), None), (Layout(4), Layout(16, HALO)), (Layout(8), Layout(8, HALO))]:
        x = values((1, 21, 6, 37), dtype)
        assert np.array_equal(run(Relayout(), workload(x.shape, source, into, dtype), find_target("host"), [x]), x)


def test_padded_lanes_hold_zero():
    x = values((1, 5, 3, 20), "float32")
    target, into = find_target("host"), Layout(16, HALO)
    padded = Workload("Relayout", (Operand(x.shape, "float32"),), (Operand(x.shape, "float32", into),), ())
    from tapdot.kernels.tvm_adapter import build, tvm

    result = tvm.runtime.tensor(np.full(padded.output.elements, np.nan, np.float32), tvm.cpu())
    module = build({"kernel": Relayout().build(padded, {}, target, "kernel")}, target.llvm())
    module["kernel"](tvm.runtime.tensor(x.reshape(-1), tvm.cpu()), result)
    assert np.array_equal(result.numpy(), into.store(x))


def test_copies_other_ranks():
    x = values((3, 5, 7), "float32")
    assert np.array_equal(run(Relayout(), workload(x.shape, None, None), find_target("host"), [x]), x)


def test_refuses_other_shapes_and_types():
    target = find_target("host")
    one = Operand((1, 4, 2, 2), "float32", Layout(4))
    for other in (Operand((1, 4, 4, 1), "float32"), Operand((1, 4, 2, 2), "int32")):
        assert not Relayout().serves(Workload("Relayout", (one,), (other,), ()), target)


@pytest.mark.parametrize("pair", [(None, Layout(4, HALO)), (Layout(4), None)])
def test_links_alone_on_a_phone(pair):
    assert_links_alone(Relayout(), workload((1, 19, 5, 21), *pair), find_target("cortex-a76"))


SIGNS = [Layout(16, HALO, zero=133, code_offset=128), Layout(4, HALO, zero=3), Layout(16), Layout(4, Halo(), 0, 128), None]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("turn", range(5))
def test_codes_change_their_sign_on_the_way(target, turn):
    """Every pair of layouts is met, each with one of three shapes."""
    for index, into in enumerate(SIGNS):
        shape = [(2, 19, 5, 21), (1, 3, 6, 40), (1, 32, 1, 1)][(index + turn) % 3]
        x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
        got = run(Relayout(), workload(shape, SIGNS[turn], into, "int8"), find_target(target), [x])
        assert np.array_equal(got, x)


def test_unsigned_codes_become_signed_ones():
    x = np.random.default_rng(0).integers(0, 256, (1, 21, 4, 17)).astype(np.uint8)
    into = Layout(16, HALO, zero=-128, code_offset=-128)
    assert np.array_equal(run(Relayout(), workload(x.shape, None, into, "uint8"), find_target("host"), [x]), x)


PLANAR = [Halo(), Halo(1, 1, 1, 1), Halo(0, 0, 0, 1), Halo(1, 2, 0, 3)]
PLANES = [(1, 17, 7, 7), (2, 16, 14, 14), (1, 20, 1, 1), (1, 35, 5, 2), (1, 16, 3, 70), (1, 18, 9, 29), (1, 16, 2, 16)]


@pytest.mark.parametrize("target", (*TARGETS, "cortex-a76", "cortex-a76:generic"))
@pytest.mark.parametrize("halo", PLANAR, ids=str)
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_between_blocks_and_planar_rows(target, halo, dtype):
    """Rows longer and shorter than a vector, planes that fill several vectors and none; every byte of the halo."""
    target = target_or_skip(target)
    codes, turn = dtype == "int8", PLANAR.index(halo)
    block, offset = (16, 128) if codes else (target.isa.lanes, 0)
    bordered = Layout(block, Halo(1, 1, 0, 2), offset + 3 if codes else 0, offset)
    rows = Layout(1, halo, offset - 5 if codes and halo else 0, offset)
    for shape in PLANES[turn::4] if target.isa.lanes > 4 else PLANES[turn : turn + 1]:
        x = np.random.default_rng(1).integers(-128, 128, shape).astype(dtype)
        for pair in ((bordered, rows), (rows, Layout(block))):
            assert np.array_equal(run(Relayout(), workload(shape, *pair, dtype), target, [x]), x), (shape, *map(str, pair))
