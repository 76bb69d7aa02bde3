"""What kernels cost where nobody has measured them: cycles of one core, from a few rates of its instruction table.

The models are as simple as they can be and still rank the ways in which one layer may be computed. Of dense kernels: products at
a share of what the multiply-add or dot instructions can do. Of sparse kernels: for every stored kernel and vector of positions,
one gather of its taps, and the products of the filters that share it. Of both: the weights' bytes, where they do not fit a cache,
and what is done for every input and output element. Of copies: bytes.

These are the common estimates. The sparse families of x86 and AArch64 override ``Family.cost`` with the estimates of their own
plans, so what is said here of sparse kernels ranks only those of generic code. Dense kernels, copies and operators' definitions
are estimated here on every core.

The constants were fitted on one AVX-512 VNNI core, and are counts of instructions elsewhere: they rank, and promise no speed.
"""

from __future__ import annotations

import math

from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.integer import integer_vectors
from tapdot.kernels.numerics import NARROW_BITS
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Operand, Workload

DENSE_SHARE = 0.82
"""Of the machine's products a cycle, in dense kernels."""
CACHED_WEIGHT_BYTES = 1 << 20
MEMORY_BYTES_PER_CYCLE = 8.0
COPIED_BYTES_PER_CYCLE = 16.0
DENSE_INPUT_CYCLES, DENSE_OUTPUT_CYCLES = 0.8, 1.5
PATTERN_INPUT_CYCLES, PATTERN_OUTPUT_CYCLES = 3.0, 3.0
QUAD_INPUT_CYCLES, QUAD_OUTPUT_CYCLES = 1.0, 2.7
"""For a vector of input elements that is read or packed, and for one of results that goes through an epilogue, in dense
kernels, and in sparse kernels of 3x3 and of 1x1."""
FLOAT_TAP_CYCLES = 0.75
"""To load one tap of a vector of positions."""
SPARSE_OPERATORS = frozenset({"SparseConv", "QSparseConv", "SparseGemm", "QSparseGemm"})
FALLBACK_CYCLES = 1.5
"""For a product in a kernel that is not tuned."""


def cycles(workload: Workload, target: Target) -> float:
    """Of one inference by a kernel of ours, on one core. Only differences between ways to compute one thing mean something."""
    if workload.op in SPARSE_OPERATORS:
        return _sparse(workload, target)
    if workload.op in ("FusedConv", "QConv", "FusedGemm", "QGemm"):
        return _dense(workload, target)
    return copying(sum(_bytes(x) for x in (*workload.variable_inputs, *workload.outputs)))


def fallback_cycles(workload: Workload) -> float:
    """Of a kernel made from the operator's definition."""
    elements = sum(math.prod(x.shape) for x in (*workload.variable_inputs, *workload.outputs))
    return FALLBACK_CYCLES * (products(workload) + elements)


def copying(moved: float) -> float:
    """To read and write so many bytes in another order."""
    return moved / COPIED_BYTES_PER_CYCLE


def products(workload: Workload) -> int:
    """Multiplications of weights in a convolution or matrix product, dense or sparse; 0 for anything else."""
    positions = math.prod(workload.output.shape) // (workload.output.shape[1] if len(workload.output.shape) > 1 else 1)
    if workload.op in SPARSE_OPERATORS:
        return math.prod(_shape(workload, 5)) * positions
    if workload.op in ("FusedConv", "QConv", "FusedGemm", "QGemm"):
        return math.prod(_shape(workload, 1)) * positions
    return 0


def _dense(workload: Workload, target: Target) -> float:
    weights = math.prod(_shape(workload, 1))
    codes = workload.op.startswith("Q")
    rate = code_products_per_cycle(target.isa) if codes else target.isa.lanes * target.isa.fma_per_cycle
    inputs, outputs = (math.prod(x.shape) / target.isa.lanes for x in (workload.variable_inputs[0], workload.output))
    elements = inputs * DENSE_INPUT_CYCLES + outputs * DENSE_OUTPUT_CYCLES
    narrow = workload.op == "QGemm" and workload.inputs[1].dtype in NARROW_BITS  # type: ignore[union-attr]
    return max(products(workload) / (rate * DENSE_SHARE) + elements, streaming(weights * (0.5 if narrow else 1 if codes else 4)))


def _sparse(workload: Workload, target: Target) -> float:
    """A gather for every stored kernel and vector of positions, then the products of the filters that share it."""
    isa, codes = target.isa, workload.op.startswith("Q")
    kernels, share, kept = _shape(workload, 5)
    planes = len(workload.output.shape) == 4
    by_quads = _shape(workload, 6) == (1, 4)
    batch, filters, *plane = workload.output.shape
    channels = workload.inputs[0].shape[1]  # type: ignore[union-attr]
    stored = streaming(kernels * (share * kept * (1 if codes else 4) + 2))
    if not planes:  # vectors run over filters or inputs: at most a product an instruction lane, and every byte once
        rate = code_products_per_cycle(isa) if codes else isa.lanes * isa.fma_per_cycle
        return max(2 * products(workload) / rate, stored)
    height, width = plane
    strides = workload["strides"]
    vectors = math.ceil(batch * height * (width + (not by_quads)) / isa.lanes)
    if codes:
        dots = share * 4 * isa.lanes / code_products_per_cycle(isa)
        kernel_cycles = gather_cycles(target, by_quads) + 0.9 * dots
    else:
        kernel_cycles = kept * (FLOAT_TAP_CYCLES + share / isa.fma_per_cycle)
    per_input, per_output = (QUAD_INPUT_CYCLES, QUAD_OUTPUT_CYCLES) if by_quads else (PATTERN_INPUT_CYCLES, PATTERN_OUTPUT_CYCLES)
    elements = channels * per_input * strides[0] * strides[1] + filters * per_output
    return max(vectors * (kernels * kernel_cycles + elements), stored)


def gather_cycles(target: Target, by_quads: bool) -> float:
    """To bring the four codes of a stored kernel into every lane of a vector of positions."""
    isa = target.isa
    if by_quads:
        return 0.6  # four channels lie interleaved: a load
    if isa.name.startswith("avx512"):
        return 0.85 if "avx512vbmi" in target.features else 4.0
    if isa.name == "avx2":
        return 4.0
    return 1.0 if isa.dot in ("sdot", "smmla") else 3.0 if isa.dot else 16.0


def code_products_per_cycle(isa: Isa) -> float:
    """Of 8-bit codes."""
    return isa.lanes * 4 * integer_vectors(isa).dots_per_cycle * (2 if isa.dot == "smmla" else 1)


def streaming(weight_bytes: float) -> float:
    """To read weights that no cache holds from one inference to the next."""
    return weight_bytes / MEMORY_BYTES_PER_CYCLE if weight_bytes > CACHED_WEIGHT_BYTES else 0.0


def _shape(workload: Workload, index: int) -> tuple[int, ...]:
    operand = workload.inputs[index]
    assert operand is not None
    return operand.shape


def _bytes(operand: Operand) -> int:
    sizes = {"8": 1, "6": 2, "2": 4, "4": 8, "l": 1}
    return math.prod(operand.shape) * sizes[operand.dtype[-1]]
