import numpy as np
import pytest
from kernel_runner import TARGETS, run, vectors

from tapdot.kernels.concat import Concatenate, pieces
from tapdot.kernels.layout import Halo, Layout
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload


def workload(channels, layouts, into, axis=1):
    shapes = [(2, count, 5, 6) for count in channels]
    parts = tuple(Operand(shape, "float32", layout) for shape, layout in zip(shapes, layouts, strict=True))
    return Workload("Concat", parts, (Operand((2, sum(channels), 5, 6), "float32", into),), (("axis", axis),))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("last", [16, 7])
def test_concatenates_channels(target, last):
    target = find_target(target)
    layouts = [vectors(target), vectors(target, top=1, left=1, bottom=1, right=1), vectors(target, left=2)]
    work = workload([32, 16, last], layouts, vectors(target, top=1, right=2))
    parts = [np.random.default_rng(i).standard_normal(part.shape).astype(np.float32) for i, part in enumerate(work.inputs)]
    assert np.array_equal(run(Concatenate(), work, target, parts), np.concatenate(parts, 1))


def test_refuses_what_is_not_whole_blocks():
    target = find_target("host:avx2")
    assert not Concatenate().serves(workload([12, 8], [Layout(8)] * 2, Layout(8)), target)
    assert not Concatenate().serves(workload([8, 8], [Layout(8)] * 2, Layout(8), axis=2), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("channels", [(32, 16, 7), (24, 40, 8), (5, 3, 1, 20), (58, 58), (16, 1, 50)])
def test_concatenates_codes_of_any_number_of_channels(target, channels):
    """In-place slices need whole blocks; copies of codes do not."""
    target = find_target(target)
    signs = [Layout(16, zero=5), Layout(16, Halo(1, 1, 1, 1), 133, 128), Layout(16, Halo(0, 2, 0, 0)), Layout(16)]
    shapes = [(2, count, 5, 6) for count in channels]
    parts = tuple(Operand(shape, "int8", layout) for shape, layout in zip(shapes, signs, strict=False))
    result = Operand((2, sum(channels), 5, 6), "int8", Layout(16, Halo(1, 0, 0, 2), 130, 128))
    work = Workload("Concat", parts, (result,), (("axis", 1),))
    arrays = [np.random.default_rng(i).integers(-128, 128, part.shape).astype(np.int8) for i, part in enumerate(parts)]
    assert np.array_equal(run(Concatenate(), work, target, arrays), np.concatenate(arrays, 1))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_concatenates_planar_rows(target, dtype):
    """Any numbers of codes; rows shorter than a vector."""
    counts = (3, 1, 8) if dtype == "int8" else (16, 32, 8)
    offset = 128 if dtype == "int8" else 0
    rows = [Layout(1, Halo(1, 1, 1, 1), offset, offset), Layout(), Layout(1, Halo(0, 2, 0, 0), offset, offset)]
    for width in (3, 29):
        shapes = [(2, count, 4, width) for count in counts]
        parts = tuple(Operand(shape, dtype, layout) for shape, layout in zip(shapes, rows, strict=True))
        result = Operand((2, sum(counts), 4, width), dtype, Layout(1, Halo(1, 0, 0, 2), offset, offset))
        work = Workload("Concat", parts, (result,), (("axis", 1),))
        arrays = [np.random.default_rng(i).integers(-128, 128, part.shape).astype(dtype) for i, part in enumerate(parts)]
        assert np.array_equal(run(Concatenate(), work, find_target(target), arrays), np.concatenate(arrays, 1))


def test_blocks_inside_one_part_are_one_run():
    runs = list(pieces([24, 100], 16))
    assert [(first, count) for first, count, _ in runs] == [(0, 1), (1, 1), (2, 5), (7, 1)]
