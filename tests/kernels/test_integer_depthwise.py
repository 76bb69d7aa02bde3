import pytest
from integer_cases import RESIDUAL, TABLE, TARGETS, check, integer_convolution
from kernel_runner import assert_links_alone

from tapdot.kernels.integer_depthwise import IntegerDepthwise
from tapdot.kernels.integer_depthwise_plan import Plan, row_dots
from tapdot.kernels.registry import select
from tapdot.kernels.target import find_target

NO_PADS = (0, 0, 0, 0)
CASES = {
    "MobileNet": {"shape": (1, 24, 14, 14)},
    "MobileNet, every other output": {"shape": (1, 32, 15, 14), "strides": (2, 2), "zero_point": 131, "result_zero": 7},
    "stride and odd channels": {"shape": (2, 35, 9, 11), "strides": (2, 2), "pads": (0, 0, 1, 1), "zero_point": 3},
    "signed codes": {"shape": (1, 16, 7, 7), "dtype": "int8", "result": "int8", "zero_point": -20, "result_zero": -3},
    "signs as the graph has them": {"shape": (1, 16, 6, 7), "dtype": "int8", "zero_point": 9, "offset": False},
    "unsigned as the graph has them": {"shape": (1, 16, 6, 7), "zero_point": 200, "result": "int8", "offset": False},
    "5x5 with a residual": {"shape": (1, 19, 10, 9), "kernel": (5, 5), "pads": (2, 2, 2, 2), "epilogue": RESIDUAL},
    "5x5, every other output": {"shape": (1, 16, 11, 13), "kernel": (5, 5), "pads": (1, 2, 2, 1), "strides": (2, 2)},
    "dilated, not square": {
        "shape": (1, 16, 12, 9),
        "kernel": (3, 7),
        "pads": (0, 3, 2, 1),
        "dilations": (2, 1),
        "bias": False,
        "zero_point": 77,
    },
    "dilated along rows": {
        "shape": (1, 21, 9, 12),
        "pads": (1, 3, 1, 3),
        "dilations": (1, 3),
        "zero_point": 5,
        "epilogue": TABLE,
    },
    "large kernel": {"shape": (1, 8, 16, 17), "kernel": (9, 9), "pads": (4, 4, 4, 4), "zero_point": 1},
    "wider halo than needed": {"shape": (1, 8, 7, 7), "more_halo": 2},
    "one tap": {"shape": (1, 5, 3, 3), "kernel": (1, 1), "pads": NO_PADS},
    "two taps": {"shape": (1, 5, 3, 9), "kernel": (1, 2), "pads": NO_PADS, "strides": (1, 3)},
    "one window": {"shape": (2, 18, 3, 3), "pads": NO_PADS},
    "no halo": {"shape": (1, 18, 5, 5), "pads": NO_PADS},
    "raw sums": {"shape": (1, 33, 6, 6), "epilogue": "acc", "zero_point": 100},
}
WITHOUT_DOTS = (
    "stride and odd channels",
    "signs as the graph has them",
    "5x5 with a residual",
    "dilated along rows",
    "large kernel",
    "one window",
)
"""What avx2 and avx512 run: their code takes long to compile, and differs from the others' only inside gathers and dots."""


def depthwise(target, shape, **options):
    return integer_convolution(target, shape, shape[1], group=shape[1], **options)


@pytest.mark.parametrize(
    ("target", "name"),
    [(target, name) for target in TARGETS for name in (CASES if target in ("host", "host:generic") else WITHOUT_DOTS)],
)
def test_equals_the_reference(target, name):
    target = find_target(target)
    check(IntegerDepthwise(), depthwise(target, **CASES[name]), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_extreme_codes(target, dtype):
    target = find_target(target)
    work = depthwise(target, (1, 32, 5, 4), dtype=dtype, epilogue="acc")
    check(IntegerDepthwise(), work, target, extreme=True)


@pytest.mark.emulated
@pytest.mark.parametrize("target", ["cortex-a76", "cortex-a76:neon", "cortex-x2"])
@pytest.mark.parametrize(
    "name", ["stride and odd channels", "unsigned as the graph has them", "dilated along rows", "one window"]
)
def test_equals_the_reference_on_an_emulated_core(target, name):
    target = find_target(target)
    check(IntegerDepthwise(), depthwise(target, **CASES[name]), target)


@pytest.mark.emulated
@pytest.mark.parametrize("target", ["cortex-a76", "cortex-a76:neon"])
def test_extreme_codes_on_an_emulated_core(target):
    target = find_target(target)
    check(IntegerDepthwise(), depthwise(target, (1, 16, 5, 5), kernel=(5, 3), epilogue="acc"), target, extreme=True)


@pytest.mark.parametrize("unrolled", [0, 1])
@pytest.mark.parametrize(
    ("strides", "rows", "columns", "vectors", "splits"), [((2, 1), 1, 1, 1, 1), ((1, 2), 2, 5, 2, 2), ((2, 2), 3, 4, 1, 4)]
)
def test_every_configuration_computes_the_same(unrolled, strides, rows, columns, vectors, splits):
    target = find_target("host:avx2")
    config = {"rows": rows, "columns": columns, "vectors": vectors, "unrolled": unrolled, "splits": splits}
    work = depthwise(target, (2, 21, 9, 11), strides=strides, epilogue=RESIDUAL, zero_point=9)
    check(IntegerDepthwise(), work, target, config)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", range(1, 10))
def test_dots_hold_every_tap_once_and_read_within_bounds(kernel, dilation, stride):
    for columns in range(1, 8):
        last = (columns - 1) * stride + (kernel - 1) * dilation
        for low, high in ((0, last), (-1, last), (0, last + 1), (-9, last + 9)):
            found = {(column, tap): 0 for column in range(columns) for tap in range(kernel)}
            for gather, served in row_dots(columns, kernel, stride, dilation, low, high).items():
                assert all(place is None or low <= place <= high for place in gather.columns)
                for column, slots in served:
                    for place, tap in zip(gather.columns, slots, strict=True):
                        if tap is not None:
                            assert place == column * stride + tap * dilation
                            found[column, tap] += 1
            assert set(found.values()) == {1}


def test_two_columns_of_three_taps_share_their_gathers():
    dots = row_dots(columns=8, kernel=3, stride=1, dilation=1, low=0, high=9)
    assert [gather.start for gather in dots] == [0, 2, 4, 6] and sum(map(len, dots.values())) == 8


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), NO_PADS, (0, 2, 0, 0), (0, 0, 0, 2)])
@pytest.mark.parametrize("width", [3, 4, 7, 8])
def test_runs_of_positions_stay_within_the_plane(width, pads):
    target = find_target("host")
    for strides in ((1, 1), (2, 2)):
        work = depthwise(target, (1, 16, 5, width), pads=pads, strides=strides)
        plan = Plan.of(work, IntegerDepthwise().default_config(work, target), target)
        side = plan.layout.side
        for strip in plan.strips:
            for gather in strip.dots:
                for piece in range(strip.pieces):
                    first = (strip.start + piece * strip.columns) * strides[1] - pads[1]
                    read = [first + column for column in gather.columns if column is not None]
                    assert -side <= min(read) and max(read) < width + side


def test_comes_before_the_dense_family_but_not_for_several_filters_a_channel():
    target = find_target("host")
    assert isinstance(select(depthwise(target, (1, 16, 8, 8)), target), IntegerDepthwise)
    assert not IntegerDepthwise().serves(integer_convolution(target, (1, 16, 8, 8), 32, group=16), target)


@pytest.mark.parametrize("kernel", [3, 9])
def test_links_alone_on_a_phone(kernel):
    target = find_target("cortex-a76")
    work = depthwise(target, (1, 20, 14, 14), kernel=(kernel, kernel), pads=(kernel // 2,) * 4, epilogue=RESIDUAL)
    assert_links_alone(IntegerDepthwise(), work, target)
