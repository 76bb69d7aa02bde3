import numpy as np
import pytest
from integer_cases import RESIDUAL, check
from kernel_runner import assert_links_alone
from sparse_gemm_cases import pruned, sparse_gemm

from tapdot.kernels.fkw import FKW
from tapdot.kernels.integer_sparse_gemm import IntegerSparseFullyConnected
from tapdot.kernels.registry import select
from tapdot.kernels.target import find_target
from tapdot.kernels.workload import Operand, Workload

FAMILY = IntegerSparseFullyConnected()
SHAPES = [(1, 64, 32, 2, 0.5), (1, 203, 100, 4, 0.4), (3, 301, 48, 1, 0.3), (8, 1100, 24, 8, 0.2), (2, 7, 3, 1, 0.9)]
"""Rows, inputs, outputs, share, quads kept; inputs that fill the last quad and that do not, indices of one byte and of two."""
EVERYWHERE = [(shape, target) for shape in SHAPES for target in ("host", "host:avx2")]
EVERYWHERE += [
    (shape, target) for shape in SHAPES[1:3] for target in ("host:avx512", "host:generic", "cortex-a76", "cortex-a76:neon")
]
EVERYWHERE += [(SHAPES[1], "cortex-x2")]


@pytest.mark.parametrize(("shape", "target"), EVERYWHERE, ids=str)
def test_matches_the_reference(target, shape):
    rows, inputs, outputs, share, kept = shape
    workload, arrays = sparse_gemm(pruned(outputs, inputs, share, kept), rows, inputs, zero_point=9)
    check(FAMILY, workload, find_target(target), arrays=arrays)


@pytest.mark.parametrize("target", ["host", "host:generic"])
@pytest.mark.parametrize("epilogue", ["Reals(acc, r0)", "acc", RESIDUAL], ids=["reals", "raw sums", "residual"])
def test_epilogues_of_signed_codes(target, epilogue):
    fkw = pruned(40, 90, 2, 0.5)
    workload, arrays = sparse_gemm(fkw, 2, 90, epilogue, dtype="int8", zero_point=-11, bias=epilogue != "acc")
    assert np.unique(check(FAMILY, workload, find_target(target), arrays=arrays)).size > 3


@pytest.mark.parametrize("target", ["host", "host:avx2", "cortex-a76:neon"])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_largest_codes_and_weights(target, dtype):
    """Pairs of products of -128 and 127 stay within 16 bits where they are summed there."""
    fkw = pruned(32, 128, 1, 0.8)
    extreme = FKW(**{**fkw.arrays, "weight": np.where(fkw.weight < 0, -127, 127).astype(np.int8)})
    workload, arrays = sparse_gemm(extreme, 1, 128, "acc", dtype=dtype)
    info = np.iinfo(dtype)
    for codes in (np.full((1, 128), info.min), np.full((1, 128), info.max)):
        check(FAMILY, workload, find_target(target), arrays=[codes.astype(dtype), *arrays[1:]])


def test_nothing_left_of_the_weights():
    fkw = pruned(16, 16, 16 // 16, 0.0)
    assert fkw.kernels == 0
    workload, arrays = sparse_gemm(fkw, 1, 16)
    check(FAMILY, workload, find_target("host"), arrays=arrays)


def test_every_configuration_computes_the_same():
    workload, arrays = sparse_gemm(pruned(50, 150, 2, 0.5), 5, 150)
    target = find_target("host:avx2")
    space = FAMILY.space(workload, target)
    for rows, ahead in zip(space["rows"][:3], space["ahead"][:3], strict=True):
        check(FAMILY, workload, target, {"rows": rows, "ahead": ahead}, arrays=arrays)


def test_tasks_hold_equal_shares_of_the_quads():
    """Tasks end where the quads are cut evenly, not the outputs."""
    workload, arrays = sparse_gemm(pruned(256, 4096, 1, 0.5), 1, 4096)
    target = find_target("host")
    packed = FAMILY.pack(
        workload, FAMILY.default_config(workload, target), target, dict(enumerate(arrays[1:8], 1)) | {8: arrays[8], 9: arrays[9]}
    )
    starts, tasks = packed[2], packed[3]
    quads = np.diff(starts[::16][tasks])
    assert tasks[0] == 0 and tasks[-1] == 16 and quads.max() <= 2 * quads.mean()
    check(FAMILY, workload, target, arrays=arrays)


def test_serves_quads_only_and_is_chosen():
    workload, _ = sparse_gemm(pruned(16, 64, 2, 0.5), 1, 64)
    target = find_target("host")
    assert select(workload, target).name == FAMILY.name
    patterns = list(workload.inputs)
    patterns[6] = Operand((8, 4), "uint8", None, True)
    assert not FAMILY.serves(Workload(workload.op, tuple(patterns), workload.outputs, workload.attributes), target)


def test_links_alone_on_a_phone():
    workload, _ = sparse_gemm(pruned(20, 63, 2, 0.5), 1, 63)
    assert_links_alone(FAMILY, workload, find_target("cortex-a76"))
