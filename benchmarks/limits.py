"""What this machine can do at best: float multiply-adds, 8-bit dot products, reading memory.

    python -m benchmarks.limits --threads 1

Each limit is a loop of one instruction over accumulators that never leave registers, with more chains of dependent
instructions than the pipelines have slots, so the result is the rate of the instruction and of nothing else.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import machine
from tapdot.kernels import emit
from tapdot.kernels.isa import Isa
from tapdot.kernels.target import Target, find_target
from tapdot.kernels.tvm_adapter import PrimFunc, build, codegen, function, tvm

CHAINS = 12
"""Two pipelines of at most six cycles; two operands beside them still fit sixteen registers."""
ITERATIONS = 1 << 20
READ_BYTES = 1 << 28
"""Far beyond any cache."""


@dataclass(frozen=True)
class Limit:
    """One measurable rate: `run` does `work` (multiply-accumulates or bytes) once."""

    name: str
    unit: str
    instruction: str
    work: int
    run: Callable[[], None]


@dataclass(frozen=True)
class DotInstruction:
    """An instruction (or pair) that adds products of 8-bit codes to 32-bit sums."""

    name: str
    feature: str
    intrinsic: str
    sums: int
    operand_types: tuple[str, str]
    macs: int
    accumulates: bool = True


# Best first. Where nothing accumulates 8-bit products, codes are widened to 16 bits and multiplied in pairs.
DOT_INSTRUCTIONS = (
    DotInstruction("vpdpbusd zmm", "avx512vnni", "llvm.x86.avx512.vpdpbusd.512", 16, ("uint8x64", "int8x64"), 64),
    DotInstruction("vpdpbusd ymm", "avxvnni", "llvm.x86.avx512.vpdpbusd.256", 8, ("uint8x32", "int8x32"), 32),
    DotInstruction("sdot", "dotprod", "llvm.aarch64.neon.sdot.v4i32.v16i8", 4, ("int8x16", "int8x16"), 16),
    DotInstruction(
        "vpmaddwd zmm", "avx512bw", "llvm.x86.avx512.pmaddw.d.512", 16, ("int16x32", "int16x32"), 32, accumulates=False
    ),
    DotInstruction("vpmaddwd ymm", "avx2", "llvm.x86.avx2.pmadd.wd", 8, ("int16x16", "int16x16"), 16, accumulates=False),
)


def find_dot_instruction(target: Target) -> DotInstruction | None:
    """The best dot product of the target, None where it has none of the table's."""
    with tvm.target.Target(target.llvm()):
        for instruction in DOT_INSTRUCTIONS:
            if codegen.llvm_cpu_has_features(instruction.feature):
                return instruction
    return None


def multiply_add_kernel(isa: Isa, threads: int) -> PrimFunc:
    """sums[t] += a * b, CHAINS vectors a thread, ITERATIONS times."""
    finished: list[PrimFunc] = []
    size = CHAINS * isa.lanes
    with function("multiply_add", finished):
        sums = emit.argument("sums", threads * size, "float32")
        operands = emit.argument("operands", 2 * isa.lanes, "float32")
        with emit.loop(threads, parallel=True) as thread:
            a, b = (emit.load(operands, index * isa.lanes, isa.lanes) for index in range(2))
            registers = emit.Registers(CHAINS, isa.lanes)
            for chain in range(CHAINS):
                registers[chain] = emit.load(sums, thread * size + chain * isa.lanes, isa.lanes)
            with emit.loop(ITERATIONS):
                for chain in range(CHAINS):
                    registers[chain] = emit.multiply_add(isa, a, b, registers[chain])
            for chain in range(CHAINS):
                emit.store(sums, thread * size + chain * isa.lanes, registers[chain], isa.lanes)
    return finished[0]


def dot_kernel(instruction: DotInstruction, threads: int) -> PrimFunc:
    """sums[t] = dot(sums[t], a, b), CHAINS vectors a thread, ITERATIONS times.

    A product that does not accumulate takes the sums as one of its factors: with two constant ones it would be computed
    once and for all.
    """
    finished: list[PrimFunc] = []
    lanes = instruction.sums
    size = CHAINS * lanes
    sum_type = f"int32x{lanes}"
    with function("dot", finished):
        sums = emit.argument("sums", threads * size, "int32")
        operands = emit.argument("operands", 2 * lanes, "int32")
        with emit.loop(threads, parallel=True) as thread:
            raw = [emit.load(operands, index * lanes, lanes) for index in range(2)]
            a, b = (
                emit.T.Bind(emit.T.reinterpret(value, dtype=dtype))
                for value, dtype in zip(raw, instruction.operand_types, strict=True)
            )
            registers = emit.Registers(CHAINS, lanes, "int32")
            for chain in range(CHAINS):
                registers[chain] = emit.load(sums, thread * size + chain * lanes, lanes)
            with emit.loop(ITERATIONS):
                for chain in range(CHAINS):
                    if instruction.accumulates:
                        registers[chain] = emit.intrinsic(instruction.intrinsic, sum_type, registers[chain], a, b)
                    else:
                        factor = emit.T.reinterpret(registers[chain], dtype=instruction.operand_types[0])
                        registers[chain] = emit.intrinsic(instruction.intrinsic, sum_type, factor, b) + raw[0]
            for chain in range(CHAINS):
                emit.store(sums, thread * size + chain * lanes, registers[chain], lanes)
    return finished[0]


def read_kernel(isa: Isa, elements: int, threads: int) -> PrimFunc:
    """sums[t] = the sum of thread t's share of a large array."""
    finished: list[PrimFunc] = []
    size, part = CHAINS * isa.lanes, elements // threads
    with function("read", finished):
        sums = emit.argument("sums", threads * size, "float32")
        data = emit.argument("data", elements, "float32")
        with emit.loop(threads, parallel=True) as thread:
            registers = emit.Registers(CHAINS, isa.lanes)
            for chain in range(CHAINS):
                registers[chain] = emit.constant(0.0, isa.lanes)
            with emit.loop(part // size) as step:
                for chain in range(CHAINS):
                    place = thread * part + step * size + chain * isa.lanes
                    registers[chain] = registers[chain] + data[emit.ramp(place, isa.lanes)]
            for chain in range(CHAINS):
                emit.store(sums, thread * size + chain * isa.lanes, registers[chain], isa.lanes)
    return finished[0]


def prepare_limits(threads: int) -> list[Limit]:
    """The limits of this machine as runnable loops; the 8-bit one only where the processor has an instruction for it.

    More than one thread needs TVM_NUM_THREADS set before TVM starts its own (`machine.pin` does).
    """
    target = find_target("host")
    isa = target.isa

    def compiled(kernel: PrimFunc, *arrays: np.ndarray) -> Callable[[], None]:
        symbol = str(kernel.attrs["global_symbol"])
        module = build({symbol: kernel}, target.llvm())
        entry, arguments = module[symbol], [tvm.runtime.tensor(array) for array in arrays]
        return lambda: entry(*arguments)

    size = CHAINS * isa.lanes
    # Every chain starts from its own value, or the compiler would see that they are all one; denormals are avoided.
    starts = np.arange(1, threads * size + 1, dtype=np.float32)
    limits = [
        Limit(
            "float32 multiply-add",
            "MAC/s",
            f"{isa.name} {'fma' if isa.fma else 'multiply, add'}",
            threads * ITERATIONS * size,
            compiled(multiply_add_kernel(isa, threads), starts, np.full(2 * isa.lanes, 0.5, np.float32)),
        )
    ]
    instruction = find_dot_instruction(target)
    if instruction is not None:
        lanes = instruction.sums
        limits.append(
            Limit(
                "int8 dot",
                "MAC/s",
                instruction.name,
                threads * ITERATIONS * CHAINS * instruction.macs,
                compiled(
                    dot_kernel(instruction, threads),
                    np.arange(1, threads * CHAINS * lanes + 1, dtype=np.int32),
                    np.full(2 * lanes, 0x01020102, np.int32),
                ),
            )
        )
    elements = READ_BYTES // 4 // (threads * size) * (threads * size)
    limits.append(
        Limit(
            "memory read",
            "B/s",
            f"{isa.name} load",
            elements * 4,
            compiled(read_kernel(isa, elements, threads), np.zeros(threads * size, np.float32), np.ones(elements, np.float32)),
        )
    )
    return limits


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the machine's limits, pinned to as many cores as threads.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()
    machine.pin(machine.choose_cores(arguments.threads))
    rates: dict[str, float] = {}
    for limit in prepare_limits(arguments.threads):
        limit.run()
        seconds = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            limit.run()
            seconds.append(time.perf_counter() - start)
        rates[limit.name] = limit.work / statistics.median(seconds)
        if not arguments.json:
            print(f"{limit.name:22} {rates[limit.name] / 1e9:8.1f} G{limit.unit}   {limit.instruction}")
    if arguments.json:
        print(json.dumps({"machine": machine.describe().json(), "threads": arguments.threads, "limits": rates}))


if __name__ == "__main__":
    main()
