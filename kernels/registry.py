"""Every kernel family, in the order in which they are asked. Nothing else picks kernels."""

from __future__ import annotations

from functools import cache

from tapdot.kernels.concat import Concatenate
from tapdot.kernels.convolution import DenseConvolution
from tapdot.kernels.depthwise import DepthwiseConvolution
from tapdot.kernels.elementwise import ElementwiseChain
from tapdot.kernels.fallback import Fallback
from tapdot.kernels.family import Family
from tapdot.kernels.gemm import FullyConnected
from tapdot.kernels.global_pooling import GlobalPooling
from tapdot.kernels.integer_convolution import IntegerConvolution
from tapdot.kernels.integer_depthwise import IntegerDepthwise
from tapdot.kernels.integer_elementwise import IntegerChain, TableLookup
from tapdot.kernels.integer_gemm import IntegerFullyConnected
from tapdot.kernels.integer_matrix_convolution import IntegerMatrixConvolution
from tapdot.kernels.integer_pooling import IntegerGlobalSum, IntegerSumPooling
from tapdot.kernels.integer_quad_convolution import QuadConvolution
from tapdot.kernels.integer_sparse import PatternConvolution
from tapdot.kernels.integer_sparse_gemm import IntegerSparseFullyConnected
from tapdot.kernels.integer_sparse_neon import NeonPatternConvolution
from tapdot.kernels.pooling import Pooling
from tapdot.kernels.quantize import DequantizeEdge, QuantizeEdge
from tapdot.kernels.relayout import Relayout
from tapdot.kernels.sparse_convolution import SparseConvolution
from tapdot.kernels.sparse_gemm import SparseFullyConnected
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Workload


class NoFamilyError(LookupError):
    """No family serves a workload, or there is none of a name; the message says which and what there is."""


@cache
def families() -> tuple[Family, ...]:
    """The special ones before the general ones; the last takes what has no kernel of ours."""
    return (
        DepthwiseConvolution(),
        IntegerDepthwise(),
        PatternConvolution(),
        NeonPatternConvolution(),
        QuadConvolution(),
        IntegerMatrixConvolution(),
        IntegerConvolution(),
        DenseConvolution(),
        SparseConvolution(),
        FullyConnected(),
        SparseFullyConnected(),
        IntegerFullyConnected(),
        IntegerSparseFullyConnected(),
        Pooling(),
        GlobalPooling(),
        IntegerSumPooling(),
        IntegerGlobalSum(),
        ElementwiseChain(),
        TableLookup(),
        IntegerChain(),
        QuantizeEdge(),
        DequantizeEdge(),
        Relayout(),
        Concatenate(),
        Fallback(),
    )


def select(workload: Workload, target: Target) -> Family:
    """The first family that serves the workload on the target; raises :class:`NoFamilyError` when none does."""
    for family in families():
        if family.serves(workload, target):
            return family
    operands = ", ".join("none" if x is None else f"{x.dtype}{list(x.shape)}" for x in workload.inputs)
    raise NoFamilyError(
        f"Expected a kernel family that serves {workload.op}({operands}) on target {target.name!r}, and none of "
        f"{', '.join(family.name for family in families())} does. Compute it outside the network, or replace it before compiling."
    )


def family_by_name(name: str) -> Family:
    """The family of that name, as manifests and records store it."""
    for family in families():
        if family.name == name:
            return family
    raise NoFamilyError(
        f"Expected the name of a kernel family ({', '.join(family.name for family in families())}), found {name!r}."
    )
