"""A small language of tensors: what an element is, as a function of its index, and loops that compute such elements.

A :class:`Tensor` is lazy. Moving elements around (transposing, slicing, padding, broadcasting) and element-wise functions compose
index functions and write no memory; :meth:`Builder.materialize` and :meth:`Builder.reduce` emit loops. Loops run over the result
in row-major order with its last axis innermost, as straight-line code that LLVM vectorizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from tapdot.kernels.emit import Value, local_buffer, loop
from tapdot.kernels.isa import Isa
from tapdot.kernels.tvm_adapter import Buffer, T, tirx
from tapdot.kernels.vector_math import statements

Shape = tuple[int, ...]
Index = tuple[Value, ...]

ROW = 512
"""Elements of a row that are accumulated together, at most: they stay in the first-level cache."""
PARTIAL_SUMS = 16
"""Accumulators of a reduction along the innermost axis."""


class UnsupportedError(Exception):
    """An operator in a form that is not built; the message says which form."""


def is_float(kind: str) -> bool:
    """Whether an element type is a floating-point one."""
    return kind.startswith("float")


def ravel(index: Sequence[Value], shape: Shape) -> Value:
    """The row-major offset of an index."""
    offset: Value = 0
    for position, size in zip(index, shape, strict=True):
        offset = offset * size + position
    return offset


def unravel(offset: Value, shape: Shape) -> Index:
    """The index at a row-major offset."""
    index: list[Value] = []
    for size in reversed(shape):
        index.append(0 if size == 1 else offset % size)
        offset = offset // size
    return tuple(reversed(index))


@dataclass(frozen=True)
class Tensor:
    """Elements by index; ``at(*index)`` may emit statements, so it is called where the element is computed.

    ``flat`` is the same by row-major offset, where that is simpler than by index.
    """

    shape: Shape
    dtype: str
    at: Callable[..., Value]
    flat: Callable[[Value], Value] | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def reshape(self, shape: Sequence[int]) -> Tensor:
        """The same elements in the same order."""
        wanted = tuple(shape)
        flat = self.flat or (lambda offset: self.at(*unravel(offset, self.shape)))
        if wanted == self.shape:
            return self
        return Tensor(wanted, self.dtype, lambda *index: flat(ravel(index, wanted)), flat)

    def permute(self, order: Sequence[int]) -> Tensor:
        """Axis ``i`` of the result is axis ``order[i]`` of this."""
        places = [list(order).index(axis) for axis in range(self.rank)]
        shape = tuple(self.shape[axis] for axis in order)
        return Tensor(shape, self.dtype, lambda *index: self.at(*(index[place] for place in places)))

    def broadcast(self, shape: Shape) -> Tensor:
        """Repeated along axes of size 1 and along new leading axes, as in numpy."""
        if shape == self.shape:
            return self
        missing = len(shape) - self.rank
        one = [size == 1 for size in self.shape]
        return Tensor(
            shape,
            self.dtype,
            lambda *index: self.at(*(0 if single else i for single, i in zip(one, index[missing:], strict=True))),
        )


def buffer_tensor(buffer: Buffer, shape: Shape, dtype: str) -> Tensor:
    """The row-major tensor in a flat buffer."""
    return Tensor(shape, dtype, lambda *index: buffer[ravel(index, shape)], lambda offset: buffer[offset])


class Builder:
    """Emits the loops of one kernel."""

    def __init__(
        self,
        isa: Isa,
        outputs: Sequence[tuple[Shape, str]],
        output_buffers: Sequence[Buffer],
        table_buffers: Sequence[Buffer] = (),
    ) -> None:
        self.math = statements(isa)
        self.outputs = list(outputs)
        """Shapes and element types of the results."""
        self._output_buffers = list(output_buffers)
        self._in_place: dict[int, Callable[[Value], Value] | None] = {}
        self.tables: list[np.ndarray] = []
        """Arrays the kernel needs besides its operands, in the order in which it asked for them."""
        self._table_buffers = list(table_buffers)

    # -- making tensors ---------------------------------------------------------------------------------------------------------

    def compute(self, shape: Sequence[int], dtype: str, at: Callable[..., Value]) -> Tensor:
        """A lazy tensor."""
        return Tensor(tuple(shape), dtype, at)

    def constant(self, value: float | int | bool, dtype: str) -> Value:
        """A scalar literal."""
        return tirx.const(bool(value) if dtype == "bool" else value, dtype)

    def table(self, array: np.ndarray) -> Tensor:
        """An array that is known when compiling, packed as an argument of the kernel.

        Without buffers for the tables this is a trial that only learns what they are.
        """
        number = len(self.tables)
        self.tables.append(np.ascontiguousarray(array))
        trial = number >= len(self._table_buffers)
        buffer = self.local(array.size, array.dtype.name) if trial else self._table_buffers[number]
        return buffer_tensor(buffer, array.shape, array.dtype.name)

    def full(self, shape: Sequence[int], value: float | int | bool, dtype: str) -> Tensor:
        """The same literal everywhere."""
        return self.compute(shape, dtype, lambda *index: self.constant(value, dtype))

    def map(self, function: Callable[..., Value], *operands: Tensor, dtype: str | None = None) -> Tensor:
        """A function of the elements of broadcast operands; they are shared, so it may use them more than once."""
        shape = broadcast_shape(*(operand.shape for operand in operands))
        spread = [operand.broadcast(shape) for operand in operands]

        def at(*index: Value) -> Value:
            return function(*(self.share(operand.at(*index)) for operand in spread))

        return self.compute(shape, dtype or operands[0].dtype, at)

    def share(self, value: Value) -> Value:
        """A value that is computed once however often it is used."""
        return self.math.share(value)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """Converted as C does; to bool by comparison with zero."""
        if x.dtype == dtype:
            return x
        if dtype == "bool":
            return self.map(lambda v: v != self.constant(0, x.dtype), x, dtype="bool")
        if (x.dtype, dtype) == ("float64", "float16"):
            return self.map(_half_of_double, x, dtype=dtype)
        return self.map(lambda v: T.Cast(dtype, v), x, dtype=dtype)

    # -- loops ------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def loops(self, extents: Sequence[int]) -> Iterator[Index]:
        """Nested loops, the last innermost."""
        with ExitStack() as stack:
            yield tuple(stack.enter_context(loop(extent)) for extent in extents)

    def local(self, count: int, dtype: str) -> Buffer:
        """Scratch memory on the stack."""
        return local_buffer(count, dtype)

    def scratch(self, shape: Shape, dtype: str) -> tuple[Buffer, Tensor]:
        """Memory for a whole intermediate tensor, and that tensor."""
        buffer = T.alloc_buffer((max(math.prod(shape), 1),), dtype)
        return buffer, buffer_tensor(buffer, shape, dtype)

    def output(self, number: int, shape: Shape) -> tuple[Buffer, Tensor]:
        """The memory of a result, for an operator that writes it itself and returns the tensor (or a reshape of it)."""
        tensor = buffer_tensor(self._output_buffers[number], shape, self.outputs[number][1])
        self._in_place[number] = tensor.flat
        return self._output_buffers[number], tensor

    def finish(self, number: int, result: Tensor) -> None:
        """Stores a result, unless it is where it belongs already."""
        written = self._in_place.get(number)
        if written is None or result.flat is not written:
            self.write(self._output_buffers[number], result)

    def write(self, buffer: Buffer, x: Tensor) -> None:
        """Stores a tensor, row-major."""
        shape = merged(x)
        with self.loops(shape.shape) as index:
            T.buffer_store(buffer, shape.at(*index), [ravel(index, shape.shape)])

    def materialize(self, x: Tensor) -> Tensor:
        """The same tensor in memory: for elements that are costly and read more than once."""
        buffer, result = self.scratch(x.shape, x.dtype)
        self.write(buffer, x)
        return result

    def reduce(
        self,
        shape: Shape,
        along: Shape,
        term: Callable[[Index, Index], Value],
        combine: Callable[[Value, Value], Value],
        initial: float | int | bool,
        dtype: str,
        *,
        contiguous: bool = False,
    ) -> Tensor:
        """``result[i] = combine over r of term(i, r)``, in memory.

        Innermost is the last axis of the result where that is long enough, else the last reduced axis in several partial results;
        the latter too where ``contiguous`` says that operands lie along the reduced axis.
        """
        buffer, result = self.scratch(shape, dtype)
        width = shape[-1] if shape and not contiguous else 1
        if width >= 4 or not along or along[-1] < 2 * PARTIAL_SUMS:
            self._reduce_rows(buffer, shape or (1,), along, lambda i, r: term(i[: len(shape)], r), combine, initial, dtype)
        else:
            self._reduce_within(buffer, shape, along, term, combine, initial, dtype)
        return result

    def _reduce_rows(
        self,
        buffer: Buffer,
        shape: Shape,
        along: Shape,
        term: Callable[[Index, Index], Value],
        combine: Callable[[Value, Value], Value],
        initial: float | int | bool,
        dtype: str,
    ) -> None:
        """A row of accumulators at a time."""
        width = shape[-1]
        with self.loops(shape[:-1]) as outer:
            for start, count, length in row_parts(width):
                with loop(count) as part:
                    row = self.local(length, dtype)
                    first = start + part * length
                    with loop(length) as x:
                        T.buffer_store(row, self.constant(initial, dtype), [x])
                    with self.loops(along) as reduced, loop(length) as x:
                        value = self.share(term((*outer, first + x), reduced))
                        T.buffer_store(row, combine(row[x], value), [x])
                    with loop(length) as x:
                        T.buffer_store(buffer, row[x], [ravel((*outer, first + x), shape)])

    def _reduce_within(
        self,
        buffer: Buffer,
        shape: Shape,
        along: Shape,
        term: Callable[[Index, Index], Value],
        combine: Callable[[Value, Value], Value],
        initial: float | int | bool,
        dtype: str,
    ) -> None:
        """Partial results side by side, which are combined at the end."""
        lanes, extent = PARTIAL_SUMS, along[-1]
        with self.loops(shape) as index:
            partial = self.local(lanes, dtype)
            with loop(lanes) as lane:
                T.buffer_store(partial, self.constant(initial, dtype), [lane])
            with self.loops(along[:-1]) as outer:
                with loop(extent // lanes) as chunk, loop(lanes) as lane:
                    value = self.share(term(index, (*outer, chunk * lanes + lane)))
                    T.buffer_store(partial, combine(partial[lane], value), [lane])
                if extent % lanes:
                    with loop(extent % lanes) as lane:
                        value = self.share(term(index, (*outer, extent // lanes * lanes + lane)))
                        T.buffer_store(partial, combine(partial[lane], value), [lane])
            with T.serial(1, lanes) as lane:
                T.buffer_store(partial, combine(partial[0], self.share(partial[lane])), [0])
            T.buffer_store(buffer, partial[0], [ravel(index, shape)])


def _half_of_double(value: Value) -> Value:
    """float64 to float16 with one rounding, by way of a float32 that is rounded to odd: few processors convert in one step, and
    what a compiler calls instead is a library's.

    Rounding to odd is towards zero, the last bit set where something was lost, which then tells a half from more or less than
    it; NaN stays one.
    """
    near = T.Cast("float32", value)
    back = T.Cast("float64", near)
    bits = T.reinterpret(near, dtype="uint32")
    towards_zero = bits - T.Cast("uint32", tirx.abs(back) > tirx.abs(value))
    odd = T.reinterpret(towards_zero | tirx.const(1, "uint32"), dtype="float32")
    return T.Cast("float16", T.Select(back == value, near, odd))


def broadcast_shape(*shapes: Shape) -> Shape:
    """The shape several broadcast to."""
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True))


def row_parts(width: int) -> list[tuple[int, int, int]]:
    """A row cut into parts of at most ``ROW``: (start, number of parts, length of each)."""
    if width <= ROW:
        return [(0, 1, width)]
    whole, rest = divmod(width, ROW)
    return [(0, whole, ROW)] + ([(whole * ROW, 1, rest)] if rest else [])


def merged(x: Tensor) -> Tensor:
    """One long axis where elements lie in memory in that order anyway."""
    return x.reshape((x.elements,)) if x.flat is not None else x
