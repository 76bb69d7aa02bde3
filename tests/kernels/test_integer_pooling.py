from dataclasses import replace

import numpy as np
import pytest
from integer_cases import TARGETS, code_layout, limits, reference
from kernel_runner import assert_links_alone, attributes, run
from tests.kernels.emulated_runner import target_or_skip

from tapdot.kernels import numerics
from tapdot.kernels.global_pooling import GlobalPooling
from tapdot.kernels.integer_pooling import IntegerGlobalSum, IntegerSumPooling
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.pooling import Pooling
from tapdot.kernels.registry import select
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload

MEAN = "Narrow(Dyadic(acc, multiplier={multiplier}, shift={shift}), zero_point={zero}, low={low}, high={high}, dtype='{dtype}')"
MEAN_BY_OPERAND = "Narrow(Dyadic(acc, r0, r1), zero_point={zero}, low={low}, high={high}, dtype='{dtype}')"


def sum_pool(
    target,
    shape,
    kernel,
    strides=(1, 1),
    pads=(0, 0, 0, 0),
    zero_point=0,
    dtype="uint8",
    offset=True,
    scales=None,
    result="uint8",
):
    """An average pool; ``scales`` is the shape of constant multipliers and shifts, None for literal ones."""
    spatial = [(shape[2 + a] + pads[a] + pads[a + 2] - kernel[a]) // strides[a] + 1 for a in (0, 1)]
    x = Operand(shape, dtype, code_layout(dtype, target, zero_point, Halo(*pads), offset=offset))
    y = Operand((*shape[:2], *spatial), result, code_layout(result, target, 3, Halo(1, 0, 0, 2), offset=offset))
    multiplier, shift = numerics.dyadic_parameters(1 / np.prod(kernel))
    text = (MEAN if scales is None else MEAN_BY_OPERAND).format(
        multiplier=multiplier, shift=shift, zero=3, dtype=result, **limits(result)
    )
    wanted = {"channels": (1, shape[1], 1, 1), "positions": (1, 1, *spatial), None: None}[scales]
    extras = () if wanted is None else (Operand(wanted, "int32", None, True),) * 2
    options = attributes(kernel_shape=kernel, strides=strides, pads=pads, zero_point=zero_point, epilogue=text)
    return Workload("QSumPool", (x, *extras), (y,), options)


def global_sum(target, shape, zero_point=0, dtype="uint8", offset=True, halo=Halo(), scales=None):  # noqa: B008
    work = sum_pool(target, shape, shape[2:], zero_point=zero_point, dtype=dtype, offset=offset, scales=scales)
    x = replace(work.inputs[0], layout=replace(work.inputs[0].layout, halo=halo))
    options = attributes(zero_point=zero_point, epilogue=work["epilogue"])
    return Workload("QGlobalSum", (x, *work.inputs[1:]), work.outputs, options)


def values(work, extreme=False):
    generator = np.random.default_rng(0)
    x = work.inputs[0]
    info = np.iinfo(x.dtype)
    codes = (
        generator.integers(info.min, info.max + 1, x.shape) if not extreme else generator.choice([info.min, info.max], x.shape)
    )
    found = [codes.astype(x.dtype)]
    count = np.prod(work.options.get("kernel_shape", x.shape[2:]))
    if len(work.inputs) > 1:
        shape = work.inputs[1].shape
        found += [part.reshape(shape) for part in numerics.dyadic_arrays(generator.uniform(0.3, 3, shape) / count)]
    return found


def check(family, work, target, config=None, extreme=False):
    arrays = values(work, extreme)
    np.testing.assert_array_equal(run(family, work, target, arrays, config), reference(work, arrays))


SUMS = {
    "Inception": {"shape": (1, 20, 7, 9), "kernel": (3, 3), "pads": (1, 1, 1, 1), "zero_point": 131, "scales": "positions"},
    "DenseNet": {"shape": (2, 35, 8, 10), "kernel": (2, 2), "strides": (2, 2), "scales": "channels"},
    "signed": {"shape": (1, 16, 7, 7), "kernel": (3, 3), "dtype": "int8", "zero_point": -9, "result": "int8"},
    "signs as the graph has them": {"shape": (1, 16, 6, 7), "kernel": (2, 3), "dtype": "int8", "zero_point": 5, "offset": False},
    "unsigned as the graph has them": {"shape": (1, 16, 6, 7), "kernel": (3, 2), "zero_point": 5, "offset": False},
    "asymmetric": {"shape": (1, 33, 9, 8), "kernel": (3, 5), "strides": (3, 2), "pads": (1, 0, 0, 2), "zero_point": 250},
    "large": {"shape": (1, 16, 12, 14), "kernel": (12, 13), "zero_point": 7},
    "one row": {"shape": (1, 16, 1, 9), "kernel": (1, 3), "strides": (1, 2)},
}
GLOBALS = {
    "MobileNet": {"shape": (1, 40, 7, 7), "zero_point": 3, "scales": "channels"},
    "several images": {"shape": (2, 37, 4, 4), "dtype": "int8", "zero_point": -100},
    "one position": {"shape": (1, 16, 1, 1)},
    "three positions": {"shape": (1, 21, 3, 1), "zero_point": 17, "offset": False, "dtype": "int8"},
    "with a halo": {"shape": (1, 10, 9, 11), "zero_point": 200, "halo": Halo(1, 0, 2, 1)},
    "large": {"shape": (1, 16, 40, 41), "zero_point": 1, "offset": False},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SUMS)
def test_sum_pool(target, name):
    target = find_target(target)
    check(IntegerSumPooling(), sum_pool(target, **SUMS[name]), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", GLOBALS)
def test_global_sum(target, name):
    target = find_target(target)
    check(IntegerGlobalSum(), global_sum(target, **GLOBALS[name]), target, extreme=name == "large")


@pytest.mark.parametrize("target", (*TARGETS, "cortex-a76", "cortex-a76:neon"))
def test_global_sum_of_planar_rows(target):
    target = target_or_skip(target)
    for name in ("several images", "with a halo") if target.architecture == "aarch64" else GLOBALS:
        work = global_sum(target, **GLOBALS[name])
        operands = [replace(x, layout=replace(x.layout, channel_block=1)) for x in (work.inputs[0], work.output)]
        work = replace(work, inputs=(operands[0], *work.inputs[1:]), outputs=(operands[1],))
        check(IntegerGlobalSum(), work, target, extreme=name == "large")


def test_configurations_of_a_sum_pool():
    target = find_target("host:avx2")
    work = sum_pool(target, (2, 21, 9, 11), (3, 3), (2, 1), (1, 1, 1, 1), 9, scales="positions")
    for rows, columns, vectors, unrolled, splits in [(1, 1, 1, 1, 1), (2, 5, 2, 0, 2), (3, 4, 1, 1, 4)]:
        config = {"rows": rows, "columns": columns, "vectors": vectors, "unrolled": unrolled, "splits": splits}
        check(IntegerSumPooling(), work, target, config)


@pytest.mark.emulated
@pytest.mark.parametrize("target", ["cortex-a76", "cortex-a76:neon"])
def test_sums_on_an_emulated_core(target):
    target = find_target(target)
    check(IntegerSumPooling(), sum_pool(target, **SUMS["Inception"]), target)
    check(IntegerGlobalSum(), global_sum(target, **GLOBALS["MobileNet"]), target)
    check(IntegerGlobalSum(), global_sum(target, **GLOBALS["three positions"]), target)


# -- maxima ------------------------------------------------------------------------------------------------------------------

MAXIMA = {
    "ResNet stem": {"shape": (1, 35, 11, 13), "kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)},
    "VGG": {"shape": (2, 16, 8, 12), "kernel": (2, 2), "strides": (2, 2)},
    "ceil beyond pads": {"shape": (1, 16, 9, 8), "kernel": (3, 3), "strides": (3, 2), "pads": (1, 0, 0, 1), "overhang": 1},
    "all clipped": {"shape": (1, 7, 3, 2), "kernel": (5, 4), "pads": (2, 2, 2, 1)},
    "dilated": {"shape": (1, 16, 12, 14), "kernel": (2, 3), "pads": (0, 3, 1, 0), "dilations": (2, 3)},
}
STORED = [
    ("ResNet stem", "uint8", (0, 0)),
    ("ResNet stem", "uint8", (-128, -128)),
    ("ResNet stem", "int8", (128, 0)),
    ("VGG", "int8", (0, 128)),
    ("ceil beyond pads", "int8", (0, 0)),
    ("all clipped", "uint8", (-128, 0)),
    ("dilated", "int8", (128, 128)),
]


def max_pool(
    target, shape, kernel, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), overhang=0, dtype="uint8", offsets=(0, 0)
):
    """``offsets``: of what lies in memory, for the operand and the result; the halo of the operand holds the largest code."""
    spatial = [
        (shape[2 + a] + pads[a] + pads[a + 2] - (kernel[a] - 1) * dilations[a] - 1 + overhang * (strides[a] - 1)) // strides[a]
        + 1
        for a in (0, 1)
    ]
    largest = {0: np.iinfo(dtype).max, 128: 255, -128: 127}
    x = Operand(shape, dtype, Layout(16, Halo(1, 2, 1, 1), int(largest[offsets[0]]), offsets[0]))
    y = Operand((*shape[:2], *spatial), dtype, Layout(16, Halo(1, 0, 0, 2), 5 if offsets[1] >= 0 else -120, offsets[1]))
    options = attributes(kernel_shape=kernel, strides=strides, pads=pads, dilations=dilations, ceil_mode=overhang)
    return Workload("MaxPool", (x,), (y,), options)


def largest_codes(work, x):
    """Maxima over the windows' parts inside the plane."""
    options = work.options
    y = np.empty(work.output.shape, x.dtype)
    for row, column in np.ndindex(*y.shape[2:]):
        at = [
            [
                place
                for place in range(
                    start * options["strides"][axis] - options["pads"][axis],
                    start * options["strides"][axis]
                    - options["pads"][axis]
                    + options["kernel_shape"][axis] * options["dilations"][axis],
                    options["dilations"][axis],
                )
                if 0 <= place < x.shape[2 + axis]
            ]
            for axis, start in enumerate((row, column))
        ]
        y[:, :, row, column] = x[:, :, at[0]][..., at[1]].max(axis=(2, 3))
    return y


@pytest.mark.parametrize("target", ["host", "host:generic"])
@pytest.mark.parametrize(("name", "dtype", "offsets"), STORED)
def test_max_pool_of_codes(target, name, dtype, offsets):
    target = find_target(target)
    work = max_pool(target, **MAXIMA[name], dtype=dtype, offsets=offsets)
    arrays = values(work)
    np.testing.assert_array_equal(run(Pooling(), work, target, arrays), largest_codes(work, arrays[0]))


@pytest.mark.parametrize("target", ["host", "host:generic"])
@pytest.mark.parametrize(("dtype", "offsets"), [("uint8", (0, 0)), ("uint8", (-128, 0)), ("int8", (0, 128))])
def test_global_maximum_of_codes(target, dtype, offsets):
    target = find_target(target)
    for shape, halo in (((2, 37, 3, 5), Halo(1, 2, 1, 1)), ((1, 16, 1, 1), Halo())):
        x = Operand(shape, dtype, Layout(16, halo, {0: np.iinfo(dtype).max, 128: 255, -128: 127}[offsets[0]], offsets[0]))
        for block, source in ((16, 16), (1, 16), (1, 1), (16, 1)):
            x = replace(x, layout=replace(x.layout, channel_block=source))
            y = Operand((*shape[:2], 1, 1), dtype, Layout(block, code_offset=offsets[1]))
            work = Workload("GlobalMaxPool", (x,), (y,), ())
            arrays = values(work)
            got = run(GlobalPooling(), work, target, arrays)
            np.testing.assert_array_equal(got, arrays[0].max(axis=(2, 3), keepdims=True))


@pytest.mark.emulated
def test_max_pool_of_codes_on_an_emulated_core():
    target = find_target("cortex-a76")
    work = max_pool(target, **MAXIMA["ResNet stem"], offsets=(-128, -128))
    arrays = values(work)
    np.testing.assert_array_equal(run(Pooling(), work, target, arrays), largest_codes(work, arrays[0]))


def test_families_are_registered():
    target = find_target("host")
    assert isinstance(select(sum_pool(target, (1, 16, 8, 8), (2, 2)), target), IntegerSumPooling)
    assert isinstance(select(global_sum(target, (1, 16, 8, 8)), target), IntegerGlobalSum)
    assert isinstance(select(max_pool(target, (1, 16, 8, 8), (2, 2)), target), Pooling)


def test_links_alone_on_a_phone():
    target = find_target("cortex-a76")
    assert_links_alone(IntegerSumPooling(), sum_pool(target, **SUMS["Inception"]), target)
    assert_links_alone(IntegerGlobalSum(), global_sum(target, (1, 24, 7, 7)), target)
    assert_links_alone(Pooling(), max_pool(target, **MAXIMA["ResNet stem"]), target)
