"""What families make of the points of their spaces: one configuration for equal code, none for what is not worth building."""

from __future__ import annotations

import random
from itertools import product

import pytest
from benchmarks.sparse.layers import Form, Shape, compiled

from tapdot.compiler.workloads import workload_of
from tapdot.kernels.register_tile import even_parts
from tapdot.kernels.registry import select
from tapdot.kernels.target import find_target

DENSE, SPARSE = Form(), Form(4.0, 2)
CASES = [
    (Shape(32, 32, 14), DENSE, "float", "host:avx2", "convolution"),
    (Shape(32, 32, 14), DENSE, "int8", "cortex-a76", "integer_convolution"),
    (Shape(32, 32, 14), DENSE, "int8", "cortex-x2", "integer_matrix_convolution"),
    (Shape(32, 32, 14), SPARSE, "float", "cortex-a76", "sparse_convolution"),
    (Shape(32, 32, 14, kernel=1), SPARSE, "float", "cortex-a76", "sparse_convolution"),
    (Shape(32, 32, 14), SPARSE, "int8", "cortex-a76", "neon_pattern_convolution"),
    (Shape(64, 64, 14, kernel=1), SPARSE, "int8", "cortex-a76", "quad_convolution"),
]


@pytest.mark.parametrize(("shape", "form", "precision", "name", "family"), CASES)
def test_points_settle(shape: Shape, form: Form, precision: str, name: str, family: str) -> None:
    target = find_target(name)
    graph, node = compiled(shape, form, precision, target)
    workload = workload_of(graph, node)
    found = select(workload, target)
    assert found.name == family
    space = found.space(workload, target)
    default = found.default_config(workload, target)
    assert set(space) == set(default)
    points = [dict(zip(space, point, strict=True)) for point in product(*space.values())]
    points = random.Random(0).sample(points, min(len(points), 400))
    settled = [config for point in points if (config := found.settle(workload, point, target)) is not None]
    assert settled, "nothing is worth building"
    for config in settled:
        assert set(config) == set(default)
        assert found.settle(workload, config, target) == config
    build = settled[len(settled) // 2]
    found.build(workload, build, target, "kernel")


def test_even_parts() -> None:
    assert even_parts(14, 28) == [1, 2, 3, 4, 5, 7, 14]
    assert even_parts(56, 28)[-3:] == [14, 19, 28]
    assert even_parts(1, 28) == [1]
