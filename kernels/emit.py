"""Emitters shared by the families: vectors of float32, positions of a layout, the halo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import Layout
from tapdot.kernels.tvm_adapter import ON_STACK, Buffer, T, tirx

Value = Any
"""A TIR expression or a Python int."""


@contextmanager
def loop(extent: int, parallel: bool = False) -> Iterator[Value]:
    """A run-time loop over ``range(extent)``; nothing is emitted around a single iteration."""
    if extent == 1:
        yield 0
    elif parallel:
        with T.parallel(extent) as index:
            yield index
    else:
        with T.serial(extent) as index:
            yield index


def argument(name: str, size: int, dtype: str) -> Buffer:
    """A flat buffer argument of the function being built; it may lie anywhere inside a larger one."""
    return T.arg(name, T.buffer((size,), dtype, offset_factor=1))


def ramp(offset: Value, lanes: int) -> Value:
    """The index of ``lanes`` consecutive elements."""
    return offset if lanes == 1 else T.ramp(offset, 1, lanes)


def load(buffer: Buffer, offset: Value, lanes: int) -> Value:
    """A vector of consecutive elements."""
    return T.Bind(buffer[ramp(offset, lanes)])


def store(buffer: Buffer, offset: Value, value: Value, lanes: int) -> None:
    """Writes a vector to consecutive elements."""
    T.buffer_store(buffer, value, [ramp(offset, lanes)])


def splat(value: Value, lanes: int) -> Value:
    """One scalar in every lane."""
    return value if lanes == 1 else T.broadcast(value, lanes)


def constant(value: float, lanes: int) -> Value:
    """A float32 literal in every lane."""
    return splat(T.float32(value), lanes)


def intrinsic(name: str, dtype: str, *arguments: Value) -> Value:
    """A pure LLVM intrinsic by its full name."""
    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(name), *arguments, dtype=dtype)


def multiply_add(isa: Isa, a: Value, b: Value, c: Value, lanes: int | None = None) -> Value:
    """``a * b + c``: rounded once where the hardware can, twice where it cannot."""
    if not isa.fma:
        return a * b + c
    lanes = isa.lanes if lanes is None else lanes
    return intrinsic("llvm.fma", "float32" if lanes == 1 else f"float32x{lanes}", a, b, c)


def broadcasts(isa: Isa, buffer: Buffer, offset: Value, count: int) -> list[Value]:
    """``count`` consecutive scalars, each in every lane of a vector.

    Where an instruction can take one lane of a register, one load serves as many scalars as a vector holds.
    """
    if isa.multiply_by_lane and count == isa.lanes:
        quad = load(buffer, offset, count)
        return [T.Shuffle([quad], [lane] * isa.lanes) for lane in range(count)]
    return [T.Bind(splat(buffer[offset + index], isa.lanes)) for index in range(count)]


def local_buffer(size: int, dtype: str) -> Buffer:
    """A small array for intermediate values; where it is only indexed by constants, LLVM keeps it in registers."""
    return T.alloc_buffer((size,), dtype, scope="local", annotations=ON_STACK)


def prefetch(buffer: Buffer, offset: Value, write: bool = False) -> None:
    """Asks for the cache line of an element, to be in the second-level cache soon; harmless past the end of the buffer."""
    access, second_level, data = T.int32(int(write)), T.int32(2), T.int32(1)
    identifier = T.llvm_lookup_intrinsic_id("llvm.prefetch")
    T.evaluate(T.call_llvm_intrin(identifier, T.address_of(buffer[offset]), access, second_level, data, dtype="void"))


class Registers:
    """An array of vectors that lives in registers: it is only ever indexed by Python ints."""

    def __init__(self, count: int, lanes: int, dtype: str = "float32") -> None:
        self.lanes = lanes
        self.count = count
        self._buffer = local_buffer(count * lanes, dtype)

    def __getitem__(self, index: int) -> Value:
        return self._buffer[ramp(index * self.lanes, self.lanes)]

    def __setitem__(self, index: int, value: Value) -> None:
        store(self._buffer, index * self.lanes, value, self.lanes)

    def lane(self, index: int) -> Value:
        """One element of the array, counted through all vectors."""
        return self._buffer[index]

    def set_lane(self, index: int, value: Value) -> None:
        """Overwrites one element of the array."""
        T.buffer_store(self._buffer, value, [index])


def fill(buffer: Buffer, start: Value, count: int, value: Value, lanes: int) -> None:
    """Writes ``value`` to ``count`` consecutive elements."""
    whole = count // lanes
    if whole > 4:
        with T.serial(whole) as index:
            store(buffer, start + index * lanes, splat(value, lanes), lanes)
    else:
        for index in range(whole):
            store(buffer, start + index * lanes, splat(value, lanes), lanes)
    rest = count - whole * lanes
    if rest:
        with loop(rest) as index:
            T.buffer_store(buffer, value, [start + whole * lanes + index])


def write_halo(
    buffer: Buffer,
    layout: Layout,
    shape: tuple[int, ...],
    n: Value,
    block: Value,
    dtype: str,
    lanes: int,
    between_rows: bool = True,
) -> None:
    """Writes everything of one plane that is no position of the tensor: the rows above and below, and the strips between rows.

    ``between_rows`` False leaves the strips to the caller.
    """
    if not layout.halo:
        return
    _, _, height, width = shape
    step = layout.channel_block
    pitch, side = layout.pitch(width), layout.side
    start = layout.offset(shape, n, block, 0, 0)
    value = tirx.const(layout.zero, dtype)
    before = layout.origin(width)
    after = layout.plane(height, width) - before - (height - 1) * pitch - width
    fill(buffer, start - before * step, before * step, value, lanes)
    if between_rows and side and height > 1:
        with loop(height - 1) as y:
            fill(buffer, start + (y * pitch + width) * step, side * step, value, lanes)
    fill(buffer, start + ((height - 1) * pitch + width) * step, after * step, value, lanes)


def store_partial(scratch: Registers, buffer: Buffer, offset: Value, value: Value, count: int) -> None:
    """Writes the first ``count`` lanes of a vector."""
    if count == scratch.lanes:
        store(buffer, offset, value, count)
        return
    scratch[0] = value
    for lane in range(count):
        T.buffer_store(buffer, scratch.lane(lane), [offset + lane])


def load_partial(scratch: Registers, buffer: Buffer, offset: Value, count: int) -> Value:
    """A vector of which the first ``count`` lanes are read and the others are zero."""
    if count == scratch.lanes:
        return load(buffer, offset, count)
    scratch[0] = constant(0.0, scratch.lanes)
    for lane in range(count):
        scratch.set_lane(lane, buffer[offset + lane])
    return T.Bind(scratch[0])


@contextmanager
def when(condition: Value, needed: bool = True) -> Iterator[None]:
    """``if condition`` around what follows; nothing where it is known not to be needed."""
    if not needed:
        yield
        return
    with T.If(condition), T.Then():
        yield


__all__: Sequence[str] = [name for name in globals() if not name.startswith("_")]
