import pytest
from convolution_cases import check, convolution
from kernel_runner import TARGETS, assert_links_alone

from tapdot.kernels.convolution import DenseConvolution
from tapdot.kernels.depthwise import ALL, LOOPED, ROW, DepthwiseConvolution
from tapdot.kernels.registry import select
from tapdot.kernels.target import find_target

CASES = {
    "MobileNet": {"shape": (1, 24, 14, 14)},
    "stride and odd channels": {
        "shape": (2, 35, 9, 11),
        "strides": (2, 2),
        "pads": (0, 0, 1, 1),
        "epilogue": "Clip(acc, max=6.0, min=0.0)",
    },
    "5x5 with a residual": {"shape": (1, 19, 10, 9), "kernel": (5, 5), "pads": (2, 2, 2, 2), "residual": True},
    "dilated, not square": {"shape": (1, 16, 12, 9), "kernel": (3, 7), "pads": (0, 3, 2, 1), "dilations": (2, 1), "bias": False},
    "large kernel": {"shape": (1, 8, 16, 17), "kernel": (9, 9), "pads": (4, 4, 4, 4)},
    "wider halo than needed": {"shape": (1, 8, 7, 7), "more_halo": 2},
    "one tap": {"shape": (1, 5, 3, 3), "kernel": (1, 1), "pads": (0, 0, 0, 0)},
}


def depthwise(target, shape, **options):
    return convolution(target, shape, shape[1], group=shape[1], **options)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_matches_torch(target, name):
    target = find_target(target)
    check(DepthwiseConvolution(), depthwise(target, **CASES[name]), target)


@pytest.mark.parametrize("unrolled", [LOOPED, ROW, ALL])
@pytest.mark.parametrize(("rows", "columns", "splits"), [(1, 1, 1), (2, 5, 2), (3, 4, 4)])
def test_every_configuration_computes_the_same(unrolled, rows, columns, splits):
    target = find_target("host:avx2")
    config = {"rows": rows, "columns": columns, "unrolled": unrolled, "splits": splits}
    check(DepthwiseConvolution(), depthwise(target, (2, 12, 9, 11), strides=(2, 1), residual=True), target, config)


def test_comes_before_the_dense_family_but_not_for_several_filters_a_channel():
    target = find_target("host")
    assert isinstance(select(depthwise(target, (1, 16, 8, 8)), target), DepthwiseConvolution)
    assert isinstance(select(convolution(target, (1, 16, 8, 8), 32, group=16), target), DenseConvolution)


@pytest.mark.parametrize("target", ["host", "host:avx2", "cortex-a76", "cortex-a55"])
@pytest.mark.parametrize("stride", [1, 2])
def test_weights_of_three_by_three_stay_in_registers(target, stride):
    target = find_target(target)
    work = depthwise(target, (1, 64, 56, 56), strides=(stride, stride))
    assert DepthwiseConvolution().default_config(work, target)["unrolled"] == (ALL if target.isa.registers > 16 else ROW)


@pytest.mark.parametrize("kernel", [3, 9])
def test_links_alone_on_a_phone(kernel):
    target = find_target("cortex-a76")
    work = depthwise(target, (1, 20, 14, 14), kernel=(kernel, kernel), pads=(kernel // 2,) * 4, residual=True)
    assert_links_alone(DepthwiseConvolution(), work, target)
