import numpy as np
import pytest
from kernel_runner import TARGETS, run, vectors

from tapdot.kernels.concat import Concatenate
from tapdot.kernels.layout import Layout
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
