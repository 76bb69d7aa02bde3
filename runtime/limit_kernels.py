"""Kernels that do one thing as fast as a processor can: multiply and add floats, sum products of codes, move memory, count.

Each compute kernel is a loop of one instruction over accumulators that never leave registers, with more chains of dependent
instructions than the pipelines have slots, so its time is that of the instruction and of nothing else. Each memory kernel goes
over as much of a buffer as it is told at run time, as often as it is told, so that one kernel serves every level of the caches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tapdot.kernels import emit
from tapdot.kernels.emit import T
from tapdot.kernels.isa import Isa
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, codegen, function, tvm

ITERATIONS = 1 << 20
"""Of the compute kernels' loops: a millisecond or a few."""
CYCLES = 1 << 18
"""That the cycle counter takes on a core with one-cycle additions: a tenth of a millisecond."""
CYCLES_IN_A_ROW = 64

MULTIPLY_ADD, DOT, READ, WRITE, COPY, COUNT = ("multiply_add", "dot", "read", "write", "copy", "count_cycles")
"""Symbols."""


@dataclass(frozen=True)
class DotInstruction:
    """An instruction (or pair) that adds products of 8-bit codes to 32-bit sums.

    ``feature`` is LLVM's name of what a processor needs for it; ``sums`` int32 lanes get ``macs`` products.
    """

    name: str
    feature: str
    intrinsic: str
    sums: int
    operand_types: tuple[str, str]
    macs: int
    form: str = "accumulates"
    """``pairs`` and ``widened`` products are of codes in 16 bits, and an addition puts them into the sums."""

    @property
    def operands(self) -> int:
        """int32 elements that the factors take."""
        return 2 * self.sums if self.form != "widened" else 2 * (WIDENED_LEFT + WIDENED_STEPS * chains_of(32) // WIDENED_LEFT)


WIDENED_LEFT, WIDENED_STEPS = 4, 8
"""Factors of widened products: those that stay in registers, and steps after which the others come again."""

# Best first. Where nothing accumulates 8-bit products, codes are widened to 16 bits and multiplied, in pairs on x86.
DOT_INSTRUCTIONS = (
    DotInstruction("vpdpbusd zmm", "avx512vnni", "llvm.x86.avx512.vpdpbusd.512", 16, ("uint8x64", "int8x64"), 64),
    DotInstruction("vpdpbusd ymm", "avxvnni", "llvm.x86.avx512.vpdpbusd.256", 8, ("uint8x32", "int8x32"), 32),
    DotInstruction("smmla", "i8mm", "llvm.aarch64.neon.smmla.v4i32.v16i8", 4, ("int8x16", "int8x16"), 32),
    DotInstruction("sdot", "dotprod", "llvm.aarch64.neon.sdot.v4i32.v16i8", 4, ("int8x16", "int8x16"), 16),
    DotInstruction("vpmaddwd zmm", "avx512bw", "llvm.x86.avx512.pmaddw.d.512", 16, ("int16x32", "int16x32"), 32, "pairs"),
    DotInstruction("vpmaddwd ymm", "avx2", "llvm.x86.avx2.pmadd.wd", 8, ("int16x16", "int16x16"), 16, "pairs"),
    DotInstruction("smlal", "neon", "llvm.aarch64.neon.smull.v4i32", 4, ("int16x4", "int16x4"), 4, "widened"),
)


def find_dot_instruction(target: Target) -> DotInstruction | None:
    """The best dot product of the target, None where it has none of the table's."""
    with tvm.target.Target(target.llvm()):
        for instruction in DOT_INSTRUCTIONS:
            if codegen.llvm_cpu_has_features(instruction.feature):
                return instruction
    return None


def chains_of(registers: int) -> int:
    """Accumulators of a compute kernel: four pipelines of six cycles where there are registers for them, else two."""
    return 24 if registers >= 32 else 12


def multiply_add_kernel(isa: Isa, threads: int) -> PrimFunc:
    """``sums[t] += a * b``: float32 ``sums[threads, chains, lanes]``, ``operands[2, lanes]``, ITERATIONS times."""
    finished: list[PrimFunc] = []
    count = chains_of(isa.registers)
    size = count * isa.lanes
    with function(MULTIPLY_ADD, finished):
        sums = emit.argument("sums", threads * size, "float32")
        operands = emit.argument("operands", 2 * isa.lanes, "float32")
        with emit.loop(threads, parallel=True) as thread:
            a, b = (emit.load(operands, index * isa.lanes, isa.lanes) for index in range(2))
            registers = emit.Registers(count, isa.lanes)
            for chain in range(count):
                registers[chain] = emit.load(sums, thread * size + chain * isa.lanes, isa.lanes)
            with emit.loop(ITERATIONS):
                for chain in range(count):
                    registers[chain] = emit.multiply_add(isa, a, b, registers[chain])
            for chain in range(count):
                emit.store(sums, thread * size + chain * isa.lanes, registers[chain], isa.lanes)
    return finished[0]


def multiply_add_macs(isa: Isa, threads: int) -> int:
    """Multiply-accumulates of a call of :func:`multiply_add_kernel`."""
    return threads * ITERATIONS * chains_of(isa.registers) * isa.lanes


def multiply_add_arrays(isa: Isa, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Arguments. Every chain starts from its own value, or the compiler would see that they are all one; no denormals."""
    size = threads * chains_of(isa.registers) * isa.lanes
    return np.arange(1, size + 1, dtype=np.float32), np.full(2 * isa.lanes, 0.5, np.float32)


def dot_macs(instruction: DotInstruction, isa: Isa, threads: int) -> int:
    """Multiply-accumulates of a call of :func:`dot_kernel`."""
    return threads * ITERATIONS * chains_of(isa.registers) * instruction.macs


def dot_arrays(instruction: DotInstruction, isa: Isa, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Arguments, for the same reasons."""
    size = threads * chains_of(isa.registers) * instruction.sums
    return np.arange(1, size + 1, dtype=np.int32), np.full(instruction.operands, 0x01020102, np.int32)


def dot_kernel(instruction: DotInstruction, isa: Isa, threads: int) -> PrimFunc:
    """``sums[t] = dot(sums[t], a, b)``: int32 ``sums[threads, chains, sums]`` and ``operands``, ITERATIONS times."""
    finished: list[PrimFunc] = []
    lanes = instruction.sums
    count = chains_of(isa.registers)
    size = count * lanes
    step = {"accumulates": _accumulate, "pairs": _add_pairs, "widened": _add_widened}[instruction.form]
    with function(DOT, finished):
        sums = emit.argument("sums", threads * size, "int32")
        operands = emit.argument("operands", instruction.operands, "int32")
        with emit.loop(threads, parallel=True) as thread:
            registers = emit.Registers(count, lanes, "int32")
            for chain in range(count):
                registers[chain] = emit.load(sums, thread * size + chain * lanes, lanes)
            step(instruction, operands, registers)
            for chain in range(count):
                emit.store(sums, thread * size + chain * lanes, registers[chain], lanes)
    return finished[0]


def _operand(operands: Buffer, offset: emit.Value, lanes: int, dtype: str) -> emit.Value:
    """``lanes`` int32 values as a vector of another type."""
    return T.Bind(T.reinterpret(emit.load(operands, offset, lanes), dtype=dtype))


def _accumulate(instruction: DotInstruction, operands: Buffer, registers: emit.Registers) -> None:
    lanes = instruction.sums
    a, b = (_operand(operands, index * lanes, lanes, dtype) for index, dtype in enumerate(instruction.operand_types))
    with emit.loop(ITERATIONS):
        for chain in range(registers.count):
            registers[chain] = emit.intrinsic(instruction.intrinsic, f"int32x{lanes}", registers[chain], a, b)


def _add_pairs(instruction: DotInstruction, operands: Buffer, registers: emit.Registers) -> None:
    """The sums are one of the factors: a product of two constant ones would be computed once and for all."""
    lanes = instruction.sums
    added = emit.load(operands, 0, lanes)
    b = _operand(operands, lanes, lanes, instruction.operand_types[1])
    with emit.loop(ITERATIONS):
        for chain in range(registers.count):
            factor = T.reinterpret(registers[chain], dtype=instruction.operand_types[0])
            registers[chain] = emit.intrinsic(instruction.intrinsic, f"int32x{lanes}", factor, b) + added


def _add_widened(instruction: DotInstruction, operands: Buffer, registers: emit.Registers) -> None:
    """Factors on one side are read in every step, a load for four products, so that no product is known before."""
    left_type, right_type = instruction.operand_types
    left = [_operand(operands, 2 * index, 2, left_type) for index in range(WIDENED_LEFT)]
    rights = registers.count // WIDENED_LEFT
    with emit.loop(ITERATIONS) as iteration:
        first = WIDENED_LEFT + iteration % WIDENED_STEPS * rights
        right = [_operand(operands, 2 * (first + index), 2, right_type) for index in range(rights)]
        for chain in range(registers.count):
            product = emit.intrinsic(
                instruction.intrinsic, f"int32x{instruction.sums}", left[chain % WIDENED_LEFT], right[chain // WIDENED_LEFT]
            )
            registers[chain] = registers[chain] + product


def memory_kernels(isa: Isa, elements: int, threads: int) -> dict[str, PrimFunc]:
    """``read(counts, sums, data)``, ``write(counts, values, data)`` and ``copy(counts, data, other)`` by their symbols.

    int32 ``counts`` is how many steps of :func:`step_elements` each thread makes over its own share, and how often. Float32
    ``data`` and ``other`` have ``elements`` each, ``sums`` and ``values`` a step's for every thread.
    """
    return {READ: _read(isa, elements, threads), WRITE: _write(isa, elements, threads), COPY: _copy(isa, elements, threads)}


def step_elements(isa: Isa) -> int:
    """Elements a thread moves in one step of a memory kernel."""
    return MEMORY_CHAINS * isa.lanes


MEMORY_CHAINS = 12


def _read(isa: Isa, elements: int, threads: int) -> PrimFunc:
    finished: list[PrimFunc] = []
    size = step_elements(isa)
    with function(READ, finished):
        counts = emit.argument("counts", 2, "int32")
        sums = emit.argument("sums", threads * size, "float32")
        data = emit.argument("data", elements, "float32")
        with emit.loop(threads, parallel=True) as thread:
            registers = emit.Registers(MEMORY_CHAINS, isa.lanes)
            for chain in range(MEMORY_CHAINS):
                registers[chain] = emit.constant(0.0, isa.lanes)
            with T.serial(counts[1]), T.serial(counts[0]) as step:
                for chain in range(MEMORY_CHAINS):
                    place = (thread * counts[0] + step) * size + chain * isa.lanes
                    registers[chain] = registers[chain] + data[emit.ramp(place, isa.lanes)]
            for chain in range(MEMORY_CHAINS):
                emit.store(sums, thread * size + chain * isa.lanes, registers[chain], isa.lanes)
    return finished[0]


def _write(isa: Isa, elements: int, threads: int) -> PrimFunc:
    finished: list[PrimFunc] = []
    size = step_elements(isa)
    with function(WRITE, finished):
        counts = emit.argument("counts", 2, "int32")
        values = emit.argument("values", threads * size, "float32")
        data = emit.argument("data", elements, "float32")
        with emit.loop(threads, parallel=True) as thread:
            value = emit.load(values, thread * size, isa.lanes)
            with T.serial(counts[1]), T.serial(counts[0]) as step:
                for chain in range(MEMORY_CHAINS):
                    emit.store(data, (thread * counts[0] + step) * size + chain * isa.lanes, value, isa.lanes)
    return finished[0]


def _copy(isa: Isa, elements: int, threads: int) -> PrimFunc:
    finished: list[PrimFunc] = []
    size = step_elements(isa)
    with function(COPY, finished):
        counts = emit.argument("counts", 2, "int32")
        data = emit.argument("data", elements, "float32")
        other = emit.argument("other", elements, "float32")
        with emit.loop(threads, parallel=True) as thread, T.serial(counts[1]), T.serial(counts[0]) as step:
            for chain in range(MEMORY_CHAINS):
                place = (thread * counts[0] + step) * size + chain * isa.lanes
                emit.store(other, place, data[emit.ramp(place, isa.lanes)], isa.lanes)
    return finished[0]


def cycle_kernel() -> PrimFunc:
    """``x = (x ^ a) + b`` on int32 ``numbers[x, a, b]``, CYCLES / 2 times, each operation waiting for the one before.

    Both take one cycle on every core worth the name, so time says the clock. No compiler knows a shorter way through such a
    chain, where it does through one of additions alone.
    """
    finished: list[PrimFunc] = []
    with function(COUNT, finished):
        numbers = emit.argument("numbers", 3, "int32")
        a, b = (T.Bind(numbers[index]) for index in (1, 2))
        x = emit.Registers(1, 1, "int32")
        x[0] = numbers[0]
        with emit.loop(CYCLES // CYCLES_IN_A_ROW):
            for _ in range(CYCLES_IN_A_ROW // 2):
                x[0] = T.bitwise_xor(x[0], a) + b
        emit.store(numbers, 0, x[0], 1)
    return finished[0]
