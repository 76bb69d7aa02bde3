import pytest
from convolution_cases import check, convolution
from kernel_runner import TARGETS, assert_links_alone

from tapdot.kernels.convolution import DenseConvolution
from tapdot.kernels.layout import Halo
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Workload

NO_PADS = (0, 0, 0, 0)
CASES = {
    "3x3": {"shape": (1, 16, 9, 10), "filters": 32},
    "odd channels": {"shape": (2, 5, 6, 6), "filters": 7, "strides": (2, 2), "pads": NO_PADS},
    "stem from planar rows": {
        "shape": (1, 3, 17, 19),
        "filters": 20,
        "kernel": (7, 7),
        "strides": (2, 2),
        "pads": (3, 3, 3, 3),
        "block": 1,
    },
    "1x1 with a residual": {"shape": (1, 24, 7, 7), "filters": 40, "kernel": (1, 1), "pads": NO_PADS, "residual": True},
    "1x1 stride 2": {"shape": (1, 32, 9, 9), "filters": 16, "kernel": (1, 1), "strides": (2, 2), "pads": NO_PADS, "bias": False},
    "whole groups": {"shape": (1, 64, 8, 8), "filters": 64, "group": 4},
    "groups inside a vector": {"shape": (2, 12, 9, 9), "filters": 36, "group": 3, "dilations": (2, 2), "pads": (2, 2, 2, 2)},
    "several filters a channel": {"shape": (1, 10, 6, 7), "filters": 20, "group": 10, "residual": True},
    "asymmetric": {"shape": (1, 8, 8, 11), "filters": 24, "kernel": (1, 7), "pads": (0, 1, 0, 4), "strides": (1, 2)},
    "no input below the last window": {
        "shape": (1, 4, 9, 9),
        "filters": 8,
        "kernel": (2, 2),
        "strides": (3, 3),
        "pads": (0, 0, 1, 1),
    },
    "wider halo than needed": {"shape": (1, 8, 7, 7), "filters": 16, "more_halo": 2, "epilogue": "Clip(acc, max=6.0, min=0.0)"},
    "one position": {"shape": (1, 33, 1, 1), "filters": 17, "kernel": (1, 1), "pads": NO_PADS},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_matches_torch(target, name):
    target = find_target(target)
    check(DenseConvolution(), convolution(target, **CASES[name]), target)


@pytest.mark.parametrize(
    "config",
    [
        {"vectors": 2, "rows": 1, "columns": 3, "chunk": 32, "splits": 1},
        {"vectors": 1, "rows": 2, "columns": 4, "chunk": 16, "splits": 2},
        {"vectors": 3, "rows": 3, "columns": 2, "chunk": 16, "splits": 4},
        {"vectors": 5, "rows": 7, "columns": 7, "chunk": 64, "splits": 1},
    ],
    ids=str,
)
def test_every_configuration_computes_the_same(config):
    target = find_target("host:avx2")
    check(DenseConvolution(), convolution(target, (1, 64, 7, 9), 40, residual=True), target, config)


def test_deep_layers_are_cut_into_chunks():
    target = find_target("host")
    work = convolution(target, (1, 512, 7, 7), 64, residual=True)
    assert DenseConvolution().default_config(work, target)["chunk"] < 512
    check(DenseConvolution(), work, target)


def test_default_tiles_fit_in_registers():
    from tapdot.kernels.register_tile import Tile

    for name in (*TARGETS, "cortex-a76", "cortex-a55"):
        target = find_target(name)
        for size, channels in ((56, 64), (7, 512), (1, 1000)):
            config = DenseConvolution().default_config(convolution(target, (1, channels, size, size), channels), target)
            assert Tile(config["vectors"], config["rows"], config["columns"]).fits(target.isa)


def test_asks_for_the_halo_that_windows_reach():
    target = find_target("host")
    work = convolution(target, (1, 4, 9, 9), 8, kernel=(2, 2), strides=(3, 3), pads=(0, 0, 1, 1))
    assert DenseConvolution().ports(work, target).inputs[0].halo == Halo(0, 0, 0, 0)
    work = convolution(target, (1, 4, 9, 9), 8, strides=(2, 2))
    assert DenseConvolution().ports(work, target).inputs[0].halo == Halo(1, 1, 1, 1)


def test_refuses_weights_known_only_at_run_time():
    target = find_target("host")
    work = convolution(target, (1, 4, 9, 9), 8, bias=False)
    x, w, b = work.inputs
    free = Workload(work.op, (x, type(w)(w.shape, "float32"), b), work.outputs, work.attributes)
    assert DenseConvolution().serves(work, target) and not DenseConvolution().serves(free, target)


@pytest.mark.parametrize("name", ["3x3", "groups inside a vector", "1x1 with a residual"])
def test_links_alone_on_a_phone(name):
    target = find_target("cortex-a76")
    assert_links_alone(DenseConvolution(), convolution(target, **CASES[name]), target)
