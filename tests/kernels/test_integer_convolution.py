import numpy as np
import pytest
from integer_cases import REALS_MOVED, RESIDUAL, SCALED, TABLE, TARGETS, check, integer_convolution, values
from kernel_runner import assert_links_alone

from tapdot.kernels.integer_convolution import IntegerConvolution
from tapdot.kernels.integer_convolution_plan import QuadGeometry
from tapdot.kernels.register_tile import Tile
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Workload

NO_PADS = (0, 0, 0, 0)
LOGITS = "Dequantize(Narrow(Dyadic(acc, r0, r1), zero_point=5, low=-128, high=127, dtype='int8'), scale=0.037, zero_point=5)"
CASES = {
    "3x3": {"shape": (1, 16, 9, 10), "filters": 32},
    "zero points": {"shape": (1, 20, 6, 7), "filters": 24, "zero_point": 131, "result_zero": 7},
    "signed codes": {
        "shape": (1, 32, 6, 7),
        "filters": 16,
        "dtype": "int8",
        "result": "int8",
        "zero_point": -20,
        "result_zero": -3,
    },
    "signs as the graph has them": {"shape": (1, 16, 6, 7), "filters": 16, "dtype": "int8", "zero_point": 9, "offset": False},
    "unsigned as the graph has them": {
        "shape": (1, 16, 6, 7),
        "filters": 16,
        "zero_point": 200,
        "result": "int8",
        "offset": False,
    },
    "odd channels": {"shape": (2, 5, 6, 6), "filters": 7, "strides": (2, 2), "pads": NO_PADS, "bias": False},
    "stem in quads": {
        "shape": (1, 3, 17, 19),
        "filters": 20,
        "kernel": (7, 7),
        "strides": (2, 2),
        "pads": (3, 3, 3, 3),
        "block": 4,
        "dtype": "int8",
        "zero_point": -7,
    },
    "1x1 with a residual": {"shape": (1, 24, 7, 7), "filters": 40, "kernel": (1, 1), "pads": NO_PADS, "epilogue": RESIDUAL},
    "1x1 stride 2": {"shape": (1, 32, 9, 9), "filters": 16, "kernel": (1, 1), "strides": (2, 2), "pads": NO_PADS},
    "whole groups": {"shape": (1, 64, 8, 8), "filters": 64, "group": 4, "zero_point": 12},
    "groups with a rest of a block": {"shape": (1, 32, 5, 5), "filters": 40, "group": 2, "zero_point": 12},
    "groups inside a vector": {
        "shape": (2, 12, 9, 9),
        "filters": 36,
        "group": 3,
        "dilations": (2, 2),
        "pads": (2, 2, 2, 2),
        "zero_point": 3,
    },
    "groups that begin inside a quad": {"shape": (1, 45, 5, 5), "filters": 99, "group": 9, "zero_point": 3, "epilogue": RESIDUAL},
    "several filters a channel": {"shape": (1, 10, 6, 7), "filters": 20, "group": 10, "epilogue": RESIDUAL, "dtype": "int8"},
    "asymmetric": {
        "shape": (1, 8, 8, 11),
        "filters": 24,
        "kernel": (1, 7),
        "pads": (0, 1, 0, 4),
        "strides": (1, 2),
        "zero_point": 8,
    },
    "no input below the last window": {
        "shape": (1, 4, 9, 9),
        "filters": 8,
        "kernel": (2, 2),
        "strides": (3, 3),
        "pads": (0, 0, 1, 1),
    },
    "wider halo than needed": {"shape": (1, 8, 7, 7), "filters": 16, "more_halo": 2, "epilogue": TABLE},
    "one position": {"shape": (1, 33, 1, 1), "filters": 17, "kernel": (1, 1), "pads": NO_PADS, "result": "int8"},
    "raw sums": {"shape": (1, 33, 3, 3), "filters": 17, "epilogue": "acc", "zero_point": 100},
    "real results": {"shape": (1, 20, 3, 3), "filters": 17, "epilogue": LOGITS},
    "real results by one multiply a channel": {"shape": (1, 20, 3, 3), "filters": 17, "epilogue": REALS_MOVED},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_matches_the_reference(target, name):
    target = find_target(target)
    got = check(IntegerConvolution(), integer_convolution(target, **CASES[name]), target)
    assert np.unique(got).size > 3


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_extreme_codes_and_weights(target, dtype):
    target = find_target(target)
    zero = {"uint8": 0, "int8": -128}[dtype]
    work = integer_convolution(target, (1, 64, 5, 5), 16, dtype=dtype, zero_point=zero, result=dtype, result_zero=zero + 100)
    check(IntegerConvolution(), work, target, extreme=True)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("epilogue", [SCALED, RESIDUAL], ids=["scaled", "residual"])
def test_scales_around_one_need_a_shift_before_the_product(target, epilogue):
    target = find_target(target)
    work = integer_convolution(target, (1, 3, 4, 6), 32, (1, 1), pads=NO_PADS, block=4, epilogue=epilogue, result_zero=100)
    arrays = values(work)
    arrays[1], arrays[2] = (arrays[1] // 64).astype(np.int8), arrays[2] // 100
    arrays[4] = np.resize(np.arange(28, 41), arrays[4].shape).astype(np.int32)
    assert np.unique(check(IntegerConvolution(), work, target, arrays=arrays)).size > 100


NARROW = {
    "3x3": {"shape": (1, 32, 7, 9), "filters": 40, "zero_point": 5, "weights": "int4"},
    "1x1 of an odd number of pairs": {
        **{"shape": (2, 40, 5, 6), "filters": 20, "kernel": (1, 1), "pads": (0, 0, 0, 0)},
        **{"dtype": "int8", "zero_point": -3, "weights": "int2"},
    },
    "whole groups": {"shape": (1, 64, 5, 5), "filters": 64, "group": 2, "strides": (2, 2), "weights": "int4"},
    "quads that make no pairs": {"shape": (1, 12, 5, 5), "filters": 17, "weights": "int4"},
    "an image": {"shape": (1, 3, 9, 9), "filters": 16, "weights": "int4"},
}


def check_narrow(name, target):
    """Weights of few bits, one a byte and packed."""
    family, work = IntegerConvolution(), integer_convolution(target, **NARROW[name])
    default = family.default_config(work, target)
    assert ("packed" in default) == (name not in ("quads that make no pairs", "an image"))
    check(family, work, target, default, extreme=name == "3x3")
    if "packed" in default:
        config = {**default, "packed": 1, "vectors": 1, "rows": 1, "columns": 2}
        assert family.settle(work, config, target) == config
        check(family, work, target, config)
        sizes = [family.pack(work, {**config, "packed": p}, target, constants(work))[0].nbytes for p in (0, 1)]
        assert sizes[0] == 2 * sizes[1]


def constants(work):
    return {i: x for i, (x, operand) in enumerate(zip(values(work), work.inputs, strict=True)) if operand and operand.constant}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NARROW)
def test_weights_of_few_bits(target, name):
    check_narrow(name, find_target(target))


def test_weights_of_a_byte_cannot_be_packed():
    family, target = IntegerConvolution(), find_target("host")
    work = integer_convolution(target, (1, 32, 7, 9), 40)
    assert "packed" not in family.space(work, target)
    assert family.settle(work, {**family.default_config(work, target), "packed": 1}, target) is None


@pytest.mark.parametrize("target", ["host", "host:avx2", "host:generic"])
def test_every_configuration_computes_the_same(target):
    target = find_target(target)
    work = integer_convolution(target, (1, 16, 7, 9), 80, (1, 2), pads=NO_PADS, epilogue=RESIDUAL, zero_point=5)
    space = IntegerConvolution().space(work, target)
    for index, vectors in enumerate(space["vectors"]):
        config = {
            "vectors": vectors,
            "rows": (1, 2, 3)[index % 3],
            "columns": (3, 1, 4)[index % 3],
            "splits": (1, 2, 4)[index % 3],
        }
        check(IntegerConvolution(), work, target, config)


def test_default_tiles_fit_in_registers():
    for name in (*TARGETS, "cortex-a76", "cortex-a55"):
        target = find_target(name)
        for size, channels in ((56, 64), (7, 512), (1, 1000)):
            work = integer_convolution(target, (1, channels, size, size), channels)
            config = IntegerConvolution().default_config(work, target)
            tile = Tile(config["vectors"], config["rows"], config["columns"])
            assert tile == Tile(1, 1, 1) or QuadGeometry(work, target.isa).fits(tile)


def test_refuses_what_it_cannot_compute():
    target = find_target("host")
    work = integer_convolution(target, (1, 4, 9, 9), 8)
    x, w, *rest = work.inputs
    free = Workload(work.op, (x, type(w)(w.shape, "int8"), *rest), work.outputs, work.attributes)
    assert IntegerConvolution().serves(work, target) and not IntegerConvolution().serves(free, target)
    assert not IntegerConvolution().serves(
        integer_convolution(target, (1, 4, 9, 9), 8, epilogue="Sqrt(Dyadic(acc, r0, r1))"), target
    )


@pytest.mark.parametrize("name", ["3x3", "groups inside a vector", "1x1 with a residual", "wider halo than needed"])
@pytest.mark.parametrize("target", ["cortex-a76", "host"])
def test_links_alone(name, target):
    target = find_target(target)
    assert_links_alone(IntegerConvolution(), integer_convolution(target, **CASES[name]), target)


def test_values_use_the_range_of_results():
    work = integer_convolution(find_target("host"), (1, 16, 9, 10), 32)
    assert len(values(work)) == len(work.inputs)
