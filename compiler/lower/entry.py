"""The entry function: calls every kernel with views into the weights, the arena and the caller's tensors."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Any

import numpy as np

from tapdot.compiler.memory import ARENA, INPUT, OUTPUT
from tapdot.compiler.program import ENTRY, WEIGHTS, Argument, Program
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function, tirx

PACKED_PREFIX = "__tvm_ffi_"
"""What the code generator puts before the name of an exported function."""


def call_symbols(program: Program) -> list[str]:
    """The linker symbol each call goes to: its kernel's own the first time, an alias ``<symbol>.<n>`` each further time.

    The code generator declares an external function anew at every call, and one module cannot declare a name twice.
    """
    seen: Counter[str] = Counter()
    symbols = []
    for call in program.calls:
        symbols.append(PACKED_PREFIX + call.symbol + (f".{seen[call.symbol]}" if seen[call.symbol] else ""))
        seen[call.symbol] += 1
    return symbols


def aliases(program: Program) -> dict[str, str]:
    """The kernel symbol behind every alias of :func:`call_symbols`, for the linker."""
    return {
        symbol: PACKED_PREFIX + call.symbol
        for call, symbol in zip(program.calls, call_symbols(program), strict=True)
        if symbol != PACKED_PREFIX + call.symbol
    }


def entry_function(program: Program) -> PrimFunc:
    """``main(weights: uint8[n], arena: uint8[m], inputs..., outputs...)``; calls kernels directly: no lookup, no allocation."""
    finished: list[PrimFunc] = []
    with function(ENTRY, finished):
        buffers: dict[tuple[str, int], Buffer] = {
            (WEIGHTS, 0): T.arg("weights", T.buffer((program.weights_bytes,), "uint8")),
            (ARENA, 0): T.arg("arena", T.buffer((program.arena_bytes,), "uint8")),
        }
        for space, tensors in ((INPUT, program.inputs), (OUTPUT, program.outputs)):
            for index, tensor in enumerate(tensors):
                buffers[space, index] = T.arg(f"{space}_{index}", T.buffer(tensor.shape, tensor.dtype))
        for call, symbol in zip(program.calls, call_symbols(program), strict=True):
            views = [_view(buffers[argument.space, argument.index], argument) for argument in call.arguments]
            T.evaluate(T.call_cpacked(symbol, *views))
    return finished[0]


def _view(buffer: Buffer, argument: Argument) -> Any:
    """A one-dimensional tensor on the stack over part of a buffer."""
    start: list[int] = [0] * len(buffer.shape)
    if argument.space in (WEIGHTS, ARENA):
        start[0] = argument.offset
    elif argument.offset:
        remaining = argument.offset // np.dtype(argument.dtype).itemsize
        for axis in range(len(buffer.shape)):
            step = prod(int(extent) for extent in buffer.shape[axis + 1 :])
            start[axis], remaining = divmod(remaining, step)
    shape = T.tvm_stack_make_shape(argument.elements)
    return T.tvm_stack_make_array(T.address_of(buffer[tuple(start)]), shape, 0, 1, tirx.const(0, argument.dtype), 0)
