import numpy as np
import pytest
from integer_cases import REALS, REALS_MOVED, SCALED, TARGETS, check, limits, values
from kernel_runner import assert_links_alone, attributes

from tapdot.kernels.integer_gemm import IntegerFullyConnected
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload

LOGITS = "Dequantize(Narrow(Dyadic(acc, r0, r1), zero_point=5, low=-128, high=127, dtype='int8'), scale=0.037, zero_point=5)"
RESIDUAL = (
    "Narrow(Add(Dyadic(acc, r0, r1), Dyadic(Widen(r2, zero_point=3), multiplier=1518500250, shift=31)), "
    "zero_point={zero}, low={low}, high={high}, dtype='{dtype}')"
)


def workload(rows, depth, columns, epilogue=SCALED, dtype="uint8", result="uint8", zero_point=0, bias=True, weights="int8"):
    """A ``QGemm`` with one scale a column."""
    operands = [
        Operand((rows, depth), dtype),
        Operand((depth, columns), weights, None, True),
        Operand((columns,), "int32", None, True) if bias else None,
    ]
    if epilogue in (REALS, REALS_MOVED):
        operands.append(Operand((1, columns), "float32", None, True))
    elif epilogue != "acc":
        operands += [Operand((1, columns), "int32", None, True), Operand((columns,), "int32", None, True)]
    if epilogue == RESIDUAL:
        operands.append(Operand((rows, columns), dtype))
    kind = "int32" if epilogue == "acc" else "float32" if epilogue in (LOGITS, REALS, REALS_MOVED) else result
    text = epilogue.format(zero=4, dtype=result, **limits(result))
    output = (Operand((rows, columns), kind),)
    return Workload("QGemm", tuple(operands), output, attributes(epilogue=text, zero_point=zero_point))


SHAPES = [(1, 64, 100), (1, 37, 5), (1, 1, 1), (1, 3, 17), (4, 33, 50), (13, 20, 16), (2, 6, 1000)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_the_reference(target, shape):
    check(IntegerFullyConnected(), workload(*shape, zero_point=9), find_target(target))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(
    "epilogue", [LOGITS, REALS, REALS_MOVED, RESIDUAL, "acc"], ids=["logits", "reals", "moved reals", "residual", "raw sums"]
)
def test_epilogues_of_signed_codes(target, rows, epilogue):
    work = workload(rows, 22, 37, epilogue, dtype="int8", zero_point=-11, bias=rows == 1)
    assert np.unique(check(IntegerFullyConnected(), work, find_target(target))).size > 3


def test_extreme_codes_and_weights():
    check(IntegerFullyConnected(), workload(3, 203, 33, zero_point=255), find_target("host"), extreme=True)


def test_every_configuration_computes_the_same():
    target, work = find_target("host:avx2"), workload(5, 19, 43)
    for index, vectors in enumerate(IntegerFullyConnected().space(work, target)["vectors"]):
        check(IntegerFullyConnected(), work, target, {"vectors": vectors, "rows": (1, 2, 5)[index % 3]})


NARROW_SHAPES = [(1, 64, 100), (1, 37, 5), (1, 1, 1), (4, 35, 50), (13, 22, 16), (2, 6, 1000), (1, 8, 17), (3, 4, 33)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", NARROW_SHAPES, ids=str)
def test_packed_weights_match_the_reference(target, shape):
    weights = "int2" if shape[1] == 22 else "int4"
    work = workload(*shape, zero_point=9, dtype="int8" if shape[0] == 1 else "uint8", weights=weights)
    check(IntegerFullyConnected(), work, find_target(target), extreme=shape[1] == 37)


@pytest.mark.parametrize("epilogue", [REALS, RESIDUAL], ids=["reals", "residual"])
def test_packed_weights_with_epilogues(epilogue):
    work = workload(5, 22, 37, epilogue, dtype="int8", zero_point=-11, weights="int4")
    check(IntegerFullyConnected(), work, find_target("host"))


@pytest.mark.emulated
@pytest.mark.parametrize("name", ["cortex-a76", "cortex-a76:neon", "cortex-x2"])
def test_packed_weights_on_a_phone(name):
    for shape in ((1, 63, 37), (5, 40, 20), (2, 5, 17)):
        check(IntegerFullyConnected(), workload(*shape, zero_point=3, weights="int4"), find_target(name))


def test_packed_weights_take_half_the_bytes():
    family, target = IntegerFullyConnected(), find_target("host")
    sizes = []
    for weights in ("int8", "int4", "int2"):
        work = workload(1, 200, 64, weights=weights)
        constants = {index: array for index, array in enumerate(values(work)) if work.inputs[index].constant}
        sizes.append(family.pack(work, family.default_config(work, target), target, constants)[0].nbytes)
    assert sizes == [200 * 64, 100 * 64, 100 * 64]


def test_large_layers_use_threads():
    check(IntegerFullyConnected(), workload(1, 512, 1000, LOGITS), find_target("host"))


def test_refuses_weights_known_only_at_run_time():
    target, work = find_target("host"), workload(4, 8, 8)
    a, w, *rest = work.inputs
    free = Workload(work.op, (a, Operand(w.shape, "int8"), *rest), work.outputs, work.attributes)
    assert IntegerFullyConnected().serves(work, target) and not IntegerFullyConnected().serves(free, target)


@pytest.mark.parametrize("rows", [1, 6])
def test_links_alone_on_a_phone(rows):
    assert_links_alone(IntegerFullyConnected(), workload(rows, 63, 10), find_target("cortex-a76"))
