from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_runner import TARGETS, assert_links_alone, attributes, run, vectors
from tests.kernels.emulated_runner import target_or_skip

from tapdot.kernels.global_pooling import GlobalPooling
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.pooling import Axis, Pooling
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload


def pool(target, op, shape, kernel, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), ceil=False, include=0):
    """The workload of a pool; its output is as large as ONNX says."""
    spatial = []
    for axis in (0, 1):
        room = shape[2 + axis] + pads[axis] + pads[axis + 2] - (kernel[axis] - 1) * dilations[axis] - 1
        size = -(-room // strides[axis]) + 1 if ceil else room // strides[axis] + 1
        spatial.append(size - (ceil and (size - 1) * strides[axis] >= shape[2 + axis] + pads[axis]))
    options = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": int(ceil)}
    options |= {"dilations": dilations} if op == "MaxPool" else {"count_include_pad": include}
    x = Operand(shape, "float32", vectors(target, top=1, left=2, bottom=1, right=1))
    return Workload(
        op, (x,), (Operand((*shape[:2], *spatial), "float32", vectors(target, left=1, bottom=2)),), attributes(**options)
    )


def reference(work, x):
    """What ONNX says, written window by window over a padded copy."""
    options, (rows, columns) = work.options, work.output.shape[2:]
    (kernel_y, kernel_x), (stride_y, stride_x) = options["kernel_shape"], options["strides"]
    dilation_y, dilation_x = options.get("dilations", (1, 1))
    top, left, bottom, right = options["pads"]
    beyond_y, beyond_x = kernel_y * dilation_y + stride_y, kernel_x * dilation_x + stride_x
    padded = np.pad(
        x.astype(np.float64), ((0, 0), (0, 0), (top, bottom + beyond_y), (left, right + beyond_x)), constant_values=np.nan
    )
    counted = np.zeros(padded.shape[2:])
    if options.get("count_include_pad"):
        counted[: top + x.shape[2] + bottom, : left + x.shape[3] + right] = 1
    else:
        counted[top : top + x.shape[2], left : left + x.shape[3]] = 1
    y = np.empty(work.output.shape)
    for row in range(rows):
        for column in range(columns):
            at = (slice(row * stride_y, row * stride_y + (kernel_y - 1) * dilation_y + 1, dilation_y),
                  slice(column * stride_x, column * stride_x + (kernel_x - 1) * dilation_x + 1, dilation_x))  # fmt: skip
            window = padded[:, :, *at]
            if work.op == "MaxPool":
                y[:, :, row, column] = np.nanmax(window, axis=(2, 3))
            else:
                y[:, :, row, column] = np.nansum(window, axis=(2, 3)) / counted[at].sum()
    return y


CASES = {
    "ResNet stem": {"shape": (1, 35, 11, 13), "kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)},
    "VGG": {"shape": (2, 16, 8, 12), "kernel": (2, 2), "strides": (2, 2)},
    "Inception": {"shape": (1, 20, 7, 9), "kernel": (3, 3), "pads": (1, 1, 1, 1)},
    "ceil": {"shape": (1, 16, 10, 13), "kernel": (3, 3), "strides": (2, 2), "ceil": True},
    "ceil beyond pads": {"shape": (1, 16, 9, 8), "kernel": (3, 3), "strides": (3, 2), "pads": (1, 0, 0, 1), "ceil": True},
    "all clipped": {"shape": (1, 7, 3, 2), "kernel": (5, 4), "pads": (2, 2, 2, 1)},
    "wide kernel": {"shape": (1, 16, 12, 14), "kernel": (2, 11), "pads": (0, 3, 1, 0)},
    "one row": {"shape": (1, 16, 1, 9), "kernel": (1, 3), "strides": (1, 2)},
    "long run": {"shape": (1, 16, 3, 40), "kernel": (2, 3), "pads": (0, 1, 0, 1)},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_max_pool(target, name):
    target = find_target(target)
    work = pool(target, "MaxPool", **CASES[name])
    x = np.random.default_rng(0).standard_normal(work.inputs[0].shape).astype(np.float32)
    assert np.array_equal(run(Pooling(), work, target, [x], halo=np.inf), reference(work, x))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_average_pool(target, name, include):
    target = find_target(target)
    work = pool(target, "AveragePool", **CASES[name], include=include)
    x = np.random.default_rng(1).standard_normal(work.inputs[0].shape).astype(np.float32)
    np.testing.assert_allclose(run(Pooling(), work, target, [x], halo=np.nan), reference(work, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_planar_rows_of_floats(target, op):
    """Rows shorter and longer than vectors; in front of the first plane there is nothing to read."""
    target = find_target(target)
    for index, case in enumerate(CASES.values()):
        work = pool(target, op, **case)
        halo = (Halo(), Halo(1, 1, 1, 1), Halo(0, 3, 0, 0))[(index + len(op)) % 3]
        inputs = replace(work.inputs[0], layout=Layout(1, Halo(1, 2, 1, 1) if halo else Halo()))
        work = replace(work, inputs=(inputs,), outputs=(replace(work.output, layout=Layout(1, halo)),))
        x = np.random.default_rng(6).standard_normal(inputs.shape).astype(np.float32)
        got = run(Pooling(), work, target, [x], halo=np.nan)
        np.testing.assert_allclose(got, reference(work, x), rtol=1e-5, atol=1e-6)


CODE_CASES = [
    ((1, 3, 20, 33), 2, 2, (0, 0, 0, 0)),
    ((2, 2, 14, 14), 2, 2, (0, 0, 0, 0)),
    ((1, 2, 7, 7), 3, 1, (1, 1, 1, 1)),
    ((1, 3, 11, 150), 3, 2, (1, 1, 1, 1)),
    ((1, 2, 29, 140), 5, 3, (2, 1, 0, 2)),
    ((1, 2, 3, 3), 3, 2, (1, 1, 1, 1)),
    ((1, 2, 1, 1), 1, 1, (0, 0, 0, 0)),
]


@pytest.mark.parametrize("target", (*TARGETS, "cortex-a76"))
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_planar_rows_of_codes(target, dtype):
    target = target_or_skip(target)
    limits = np.iinfo(dtype)
    cases = CODE_CASES[2:4] if target.architecture == "aarch64" else CODE_CASES
    for index, (shape, kernel, stride, pads) in enumerate(cases):
        offset = (-128 if dtype == "uint8" else 128) * (index % 2)
        spatial = [(shape[2 + axis] + pads[axis] + pads[2 + axis] - kernel) // stride + 1 for axis in (0, 1)]
        halos = (Halo(1, 1, 1, 1), Halo()) if index % 3 else (Halo(), Halo(1, 2, 0, 1))
        x, y = (Layout(1, halo, 3 + offset if halo else 0, offset) for halo in halos)
        work = Workload(
            "MaxPool",
            (Operand(shape, dtype, x),),
            (Operand((*shape[:2], *spatial), dtype, y),),
            attributes(kernel_shape=(kernel, kernel), strides=(stride, stride), pads=pads),
        )
        q = np.random.default_rng(index).integers(limits.min, limits.max + 1, shape).astype(dtype)
        assert np.array_equal(run(Pooling(), work, target, [q]), reference(work, q))


def test_dilated_max_pool_and_row_splits():
    target = find_target("host:avx2")
    work = pool(target, "MaxPool", (2, 12, 13, 15), (3, 3), (2, 1), (2, 1, 2, 2), dilations=(2, 3))
    x = np.random.default_rng(2).standard_normal(work.inputs[0].shape).astype(np.float32)
    for columns, splits in [(1, 1), (3, 2), (5, 4)]:
        got = run(Pooling(), work, target, [x], {"columns": columns, "splits": splits}, halo=np.inf)
        assert np.array_equal(got, reference(work, x))


def test_agrees_with_torch():
    target = find_target("host")
    x = np.random.default_rng(3).standard_normal((1, 32, 17, 17)).astype(np.float32)
    work = pool(target, "AveragePool", x.shape, (3, 3), (2, 2), (1, 1, 1, 1), ceil=True, include=1)
    wanted = F.avg_pool2d(torch.tensor(x), 3, 2, 1, ceil_mode=True, count_include_pad=True)
    np.testing.assert_allclose(run(Pooling(), work, target, [x]), wanted, atol=1e-6)


def test_axis_knows_whole_windows():
    axis = Axis(inputs=7, outputs=7, kernel=3, stride=1, dilation=1, begin=1, end=1)
    assert axis.interior == (1, 6) and axis.taps(0) == (1, 3) and axis.taps(6) == (0, 2) and axis.clipped
    assert not Axis(8, 4, 2, 2, 1, 0, 0).clipped


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 37, 7, 7), (1, 64, 1, 1), (1, 10, 9, 11)])
def test_global_pool(target, op, shape):
    target = find_target(target)
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    wanted = x.mean((2, 3), keepdims=True) if op == "GlobalAveragePool" else x.max((2, 3), keepdims=True)
    plain, bordered = vectors(target), vectors(target, top=1, left=1)
    pairs = [(plain, plain), (bordered, Layout()), (plain, vectors(target, left=1)), (bordered, Layout(1, bordered.halo))]
    pairs += [(Layout(), Layout()), (Layout(1, bordered.halo), vectors(target, left=1)), (Layout(), Layout(1, bordered.halo))]
    for source, into in pairs:
        work = Workload(op, (Operand(shape, "float32", source),), (Operand((*shape[:2], 1, 1), "float32", into),), ())
        np.testing.assert_allclose(run(GlobalPooling(), work, target, [x], halo=np.nan), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_links_alone_on_a_phone(op):
    target = find_target("cortex-a76")
    assert_links_alone(Pooling(), pool(target, op, (1, 24, 9, 9), (3, 3), (2, 2), (1, 1, 1, 1)), target)
