"""What this machine can do at best: float multiply-adds, 8-bit dot products, reading memory.

    python -m benchmarks.limits --threads 1

The kernels are those of `tapdot.runtime.limit_kernels`, which a profile holds its layers against; here they run in a benchmark's
own process, between the turns of the engines.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import machine
from tapdot.kernels.target import find_target
from tapdot.kernels.tvm_adapter import PrimFunc, build, tvm
from tapdot.runtime import limit_kernels

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

    limits = [
        Limit(
            "float32 multiply-add",
            "MAC/s",
            f"{isa.name} {'fma' if isa.fma else 'multiply, add'}",
            limit_kernels.multiply_add_macs(isa, threads),
            compiled(limit_kernels.multiply_add_kernel(isa, threads), *limit_kernels.multiply_add_arrays(isa, threads)),
        )
    ]
    instruction = limit_kernels.find_dot_instruction(target)
    if instruction is not None:
        limits.append(
            Limit(
                "int8 dot",
                "MAC/s",
                instruction.name,
                limit_kernels.dot_macs(instruction, isa, threads),
                compiled(
                    limit_kernels.dot_kernel(instruction, isa, threads), *limit_kernels.dot_arrays(instruction, isa, threads)
                ),
            )
        )
    step = threads * limit_kernels.step_elements(isa)
    elements = READ_BYTES // 4 // step * step
    once = np.array([elements // step, 1], np.int32)
    arrays = once, np.zeros(step, np.float32), np.ones(elements, np.float32)
    read = limit_kernels.memory_kernels(isa, elements, threads)[limit_kernels.READ]
    limits.append(Limit("memory read", "B/s", f"{isa.name} load", elements * 4, compiled(read, *arrays)))
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
