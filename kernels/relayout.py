"""Copies of a tensor into another physical layout: what is left when two neighbours want to see it differently.

Between layouts of one channel block whole rows are copied. Between planar rows and channel vectors, squares are transposed in
registers (:mod:`kernels.planar_blocks`). Every other pair of blocks goes element by element. Every byte of the result is
written: the halo and the padded lanes of the last channel block hold the layout's ``zero``. Codes that are stored with another
sign on both sides change it on the way: 128 more or less is one bit of the byte.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tapdot.kernels.emit import Value, argument, load, loop, splat, store, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.planar_blocks import Convert, Plane, Shape, Squares
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function, tirx
from tapdot.kernels.vector_math.arithmetic import vector_of
from tapdot.kernels.workload import Operand, Workload

CODE_TILE = 16
"""Positions and channels of a tile of codes that is transposed in registers: a vector of sixteen bytes is on every core."""
QUAD = 4
"""Channels that lie together in an image of codes."""

DTYPES = frozenset({"float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"})
"""Element types that are moved."""

EmitBlock = Callable[[Shape, Layout, Layout, Value, Value, int], None]
"""Emits one channel block: ``(shape, source, into, n, block, channels in it)``."""


def vector_lanes(target: Target, dtype: str) -> int:
    """Elements of a type in one vector register."""
    return target.isa.lanes * 4 // np.dtype(dtype).itemsize


def unchanged(value: Value, lanes: int) -> Value:
    """No conversion."""
    return value


def conversion(source: Operand, into: Operand) -> Convert:
    """From the element type one operand is stored in to that of another, which holds the same codes."""
    if source.stored_dtype == into.stored_dtype:
        return unchanged

    def flip(value: Value, lanes: int) -> Value:
        """The other sign: the topmost bit of every byte changes."""
        kind = into.stored_dtype
        bit = tirx.const(128 if kind == "uint8" else -128, kind)
        return T.Cast(vector_of(kind, lanes), value) ^ splat(bit, lanes)

    return flip


def copy_run(
    source: Buffer,
    start: Value,
    into: Buffer,
    to: Value,
    count: int,
    lanes: int,
    convert: Convert = unchanged,
    any_lanes: bool = True,
) -> None:
    """Copies ``count`` consecutive elements in vectors, of which the last overlaps the one before it.

    Fewer elements than a vector has go in shorter vectors where ``convert`` takes ``any_lanes``, else one by one.
    """
    while lanes > count:
        lanes = lanes // 2 if any_lanes else 1
    whole, rest = divmod(count, lanes)
    with loop(whole) as index:
        store(into, to + index * lanes, convert(load(source, start + index * lanes, lanes), lanes), lanes)
    if rest:
        last = count - lanes
        store(into, to + last, convert(load(source, start + last, lanes), lanes), lanes)


def copy_plane(source: Plane, into: Plane, lanes: int, convert: Convert = unchanged, any_lanes: bool = True) -> None:
    """Copies the positions of one plane between layouts of the same channel block; see :func:`copy_run`."""
    _, _, height, width = source.shape
    block = source.layout.channel_block
    assert block == into.layout.channel_block
    if not source.layout.halo and not into.layout.halo:
        copy_run(source.buffer, source.at(0, 0), into.buffer, into.at(0, 0), height * width * block, lanes, convert, any_lanes)
        return
    with loop(height) as y:
        copy_run(source.buffer, source.at(y, 0), into.buffer, into.at(y, 0), width * block, lanes, convert, any_lanes)


class Relayout(Family):
    """``Relayout``: one tensor of one element type, the same logical shape on both sides, another place.

    A row-major tensor of any rank may only be copied as it is; layouts are for four dimensions.
    """

    name = "relayout"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "Relayout" or len(workload.inputs) != 1 or workload.inputs[0] is None or len(workload.outputs) != 1:
            return False
        x, y = workload.inputs[0], workload.output
        placed = x.layout is not None or y.layout is not None
        return (
            not x.constant
            and x.shape == y.shape
            and x.dtype == y.dtype
            and x.dtype in DTYPES
            and (len(x.shape) == 4 or not placed)
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        x, y = workload.inputs[0], workload.output
        assert x is not None
        return Ports(
            (Port() if x.layout is None else Port((x.layout.channel_block,), x.layout.halo),),
            (Port() if y.layout is None else Port((y.layout.channel_block,), y.layout.halo),),
        )

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Emitter(workload, target).emit()
        return finished[0]


class _Emitter:
    """Writes the loops of one copy."""

    def __init__(self, workload: Workload, target: Target) -> None:
        x, y = workload.inputs[0], workload.output
        assert x is not None
        self.operands = x, y
        self.lanes = vector_lanes(target, x.dtype)
        self.convert = conversion(x, y)
        self.isa, self.codes = target.isa, x.dtype in CODES
        self.tile = CODE_TILE if self.codes else self.lanes
        self.exact = False
        self.parallel = pays(y.elements * np.dtype(y.dtype).itemsize / 8)

    def emit(self) -> None:
        x, y = self.operands
        self.x = argument("x", x.elements, x.stored_dtype)
        self.y = argument("y", y.elements, y.stored_dtype)
        if x.layout == y.layout and not (x.layout and x.layout.halo):
            copy_run(self.x, 0, self.y, 0, x.elements, self.lanes)
            return
        source, into = x.layout or Layout(), y.layout or Layout()
        shape = x.shape
        if into.channel_block == 1 and source.channel_block > 1:
            self._blocks(shape, source, into, source.blocks(shape[1]), source.channel_block, self._scatter)
        else:
            self._blocks(shape, source, into, into.blocks(shape[1]), into.channel_block, self._gather)

    def _blocks(self, shape: Shape, source: Layout, into: Layout, blocks: int, block: int, emit: EmitBlock) -> None:
        """Calls ``emit`` for every channel block, the whole ones in a loop and a partly filled one by itself.

        Short rows of a row-major tensor, which may be the caller's: the last block is read exactly, element by element.
        """
        batch, channels = shape[:2]
        whole, rest = divmod(channels, block)
        parts = [(0, whole, block), (whole, 1 if rest else 0, rest)]
        if self._overruns(source, into):
            parts = [*parts[:1], (whole, 1, rest)] if rest else [(0, whole - 1, block), (whole - 1, 1, block)]
        for first, count, filled in parts:
            if count:
                self.exact = self._overruns(source, into) and first + count == blocks
                with loop(batch * count, parallel=self.parallel) as task:
                    emit(shape, source, into, task // count, first + task % count, filled)

    def _overruns(self, source: Layout, into: Layout) -> bool:
        """Whether reading a vector from the start of the last row may run over the end of a tensor of the caller's."""
        _, columns = self._plane(self.operands[1].shape, source, into)
        return source == Layout() and columns < self.tile

    # -- into channel blocks, or planar to planar -----------------------------------------------------------------------------

    def _gather(self, shape: Shape, source: Layout, into: Layout, n: Value, block: Value, filled: int) -> None:
        """Writes one channel block of the result, of which ``filled`` lanes are channels."""
        width_block, kind = into.channel_block, self.operands[1].stored_dtype
        zero = tirx.const(into.zero, kind)
        target_plane = Plane(self.y, into, shape, n, block)
        write_halo(self.y, into, shape, n, block, kind, self.lanes)
        if source.channel_block == into.channel_block and filled == width_block:
            copy_plane(Plane(self.x, source, shape, n, block), target_plane, self.lanes, self.convert)
            return

        def element(lane: int, y: Value, x: Value) -> Value:
            channel = block * width_block + lane
            return source.offset(shape, n, channel // source.channel_block, y, x) + channel % source.channel_block

        rows, columns = self._plane(shape, source, into)
        if source.channel_block == 1 and width_block % self.tile == 0 and not self.exact:
            squares = Squares.of(rows, columns, self.tile, self.isa, self.codes, self.convert)
            for first in range(0, width_block, self.tile):
                lanes = range(first, min(filled, first + self.tile))
                planes = [Plane(self.x, source, shape, n, block * width_block + lane) for lane in lanes]
                squares.to_block(planes, zero, target_plane, first)
            return
        tiled = source.channel_block == 1 and self.codes and width_block == QUAD and columns >= self.tile
        with loop(rows) as y:
            if tiled:
                with loop(columns // self.tile) as tile:
                    x = tile * self.tile
                    channels = [
                        self.convert(load(self.x, element(lane, y, x), self.tile), self.tile)
                        if lane < filled
                        else T.broadcast(zero, self.tile)
                        for lane in range(width_block)
                    ]
                    quads = [lane * self.tile + position for position in range(self.tile) for lane in range(QUAD)]
                    store(self.y, T.Bind(target_plane.at(y, x)), T.Shuffle(channels, quads), QUAD * self.tile)
            done = columns // self.tile * self.tile if tiled else 0
            if columns > done:
                with loop(columns - done) as index:
                    start = T.Bind(target_plane.at(y, done + index))
                    for lane in range(width_block):
                        value = self.convert(self.x[element(lane, y, done + index)], 1) if lane < filled else zero
                        T.buffer_store(self.y, value, [start + lane])

    # -- from channel blocks to planar rows -------------------------------------------------------------------------------------

    def _scatter(self, shape: Shape, source: Layout, into: Layout, n: Value, block: Value, filled: int) -> None:
        """Reads one channel block, of which ``filled`` lanes are channels, into that many planes."""
        source_plane = Plane(self.x, source, shape, n, block)
        planes = [Plane(self.y, into, shape, n, block * source.channel_block + lane) for lane in range(filled)]
        rows, columns = self._plane(shape, source, into)
        if source.channel_block % self.tile == 0:
            squares = Squares.of(rows, columns, self.tile, self.isa, self.codes, self.convert)
            for first in range(0, filled, self.tile):
                squares.to_planes(source_plane, first, planes[first : first + self.tile])
        else:
            with loop(rows) as y, loop(columns) as x:
                start = T.Bind(source_plane.at(y, x))
                for lane, plane in enumerate(planes):
                    T.buffer_store(self.y, self.convert(self.x[start + lane], 1), [plane.at(y, x)])
        for plane in planes:
            write_halo(self.y, into, shape, n, plane.block, self.operands[1].stored_dtype, self.lanes)

    @staticmethod
    def _plane(shape: Shape, source: Layout, into: Layout) -> tuple[int, int]:
        """Rows and columns to walk: without halos a whole plane is one row."""
        _, _, height, width = shape
        return (height, width) if source.halo or into.halo else (1, height * width)
