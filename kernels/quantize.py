"""The edges of an integer network: float32 values to codes and back, into the layout the neighbour wants, in one pass.

Both are one multiplication a value (``kernels.numerics``). Values are clamped before they are rounded, which changes nothing as
the bounds are integers, and keeps the rounding within what one addition does on every core; NaN becomes the zero point.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Value, argument, load, loop, splat, store, when, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays, row_splits
from tapdot.kernels.planar_blocks import transposed
from tapdot.kernels.relayout import CODE_TILE, QUAD
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function, tirx
from tapdot.kernels.vector_math import statements
from tapdot.kernels.vector_math.arithmetic import lanes_of, vector_of
from tapdot.kernels.workload import Workload

PIXELS = 4
"""Channels up to which a tensor is an image, which lies in quads."""
FEW_CYCLES = 1.5
"""Of one value, roughly."""


def zero_point_of(workload: Workload) -> int:
    """The code of a real zero."""
    return int(workload["zero_point"]) if "zero_point" in workload.options else 0


class _Edge(Family):
    """One operand, one result of the same shape."""

    op: str

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != self.op or len(workload.inputs) != 1:
            return False
        x = workload.inputs[0]
        return x is not None and not x.constant and x.elements > 0 and self._serves(x.dtype, workload.output.dtype)

    @abstractmethod
    def _serves(self, source: str, into: str) -> bool:
        """Whether the element types are those of the edge."""


class QuantizeEdge(_Edge):
    """``Quantize`` of float32 planes or channel vectors into codes: quads for images, else channel blocks of 16."""

    name = "quantize"
    op = "Quantize"

    def _serves(self, source: str, into: str) -> bool:
        return source == "float32" and into in CODES

    def ports(self, workload: Workload, target: Target) -> Ports:
        shape = workload.output.shape
        if len(shape) != 4:
            return Ports((Port(),), (Port(),))
        blocks = (QUAD, CODE_TILE, 1) if shape[1] <= PIXELS else (CODE_TILE, QUAD, 1)
        return Ports((Port((1, target.isa.lanes)),), (Port(blocks),))

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Quantizer(workload, target).emit()
        return finished[0]


class DequantizeEdge(_Edge):
    """``Dequantize`` of codes in any layout into float32 planes or channel vectors."""

    name = "dequantize"
    op = "Dequantize"

    def _serves(self, source: str, into: str) -> bool:
        return source in CODES and into == "float32"

    def ports(self, workload: Workload, target: Target) -> Ports:
        if len(workload.output.shape) != 4:
            return Ports((Port(),), (Port(),))
        return Ports((Port((CODE_TILE, QUAD, 1)),), (Port((1, target.isa.lanes)),))

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Dequantizer(workload, target).emit()
        return finished[0]


class _Walk:
    """The loops both edges share: blocks of one side, rows, and runs of positions."""

    def __init__(self, workload: Workload, target: Target) -> None:
        self.workload, self.isa, self.cores = workload, target.isa, target.cores
        x = workload.inputs[0]
        assert x is not None
        self.x_operand, self.y_operand = x, workload.output
        shape = workload.output.shape
        self.shape: Any = shape if len(shape) == 4 else (1, 1, 1, int(np.prod(shape)))
        self.source, self.into = x.layout or Layout(), workload.output.layout or Layout()
        self.math = statements(target.isa)
        self.x = argument("x", x.elements, x.stored_dtype)
        self.y = argument("y", workload.output.elements, workload.output.stored_dtype)

    @property
    def dense(self) -> bool:
        """Whether a plane is one row, on both sides."""
        return not self.source.halo and not self.into.halo

    def blocks(self, block: int, emit: Callable[[Value, Value, int, Value], None]) -> None:
        """Calls ``emit(n, block, channels in it, y)`` for every row of every channel block."""
        batch, channels, height, _ = self.shape
        rows = 1 if self.dense else height
        whole, rest = divmod(channels, block)
        parallel = pays(FEW_CYCLES * int(np.prod(self.shape)))
        for first, count, filled in ((0, whole, block), (whole, 1 if rest else 0, rest)):
            if not count:
                continue
            splits = row_splits(batch * count, rows, self.cores) if parallel else 1
            share = -(-rows // splits)
            with loop(batch * count * splits, parallel=parallel) as task:
                n, index, split = task // (splits * count), first + task // splits % count, task % splits
                with when(split == 0, splits > 1):
                    self.halo(n, index, block, filled)
                with loop(share) as turn:
                    y = split * share + turn
                    with when(y < rows, share * splits > rows):
                        emit(n, index, filled, y)

    def halo(self, n: Value, index: Value, block: int, filled: int) -> None:
        """Writes the halos of the planes that channel block ``index`` of size ``block`` covers in the result."""
        kind, own = self.y_operand.stored_dtype, self.into.channel_block
        lanes = self.isa.lanes * 4 // np.dtype(kind).itemsize
        for plane in range(-(-filled // own)):
            write_halo(self.y, self.into, self.shape, n, index * (block // own) + plane, kind, lanes)

    @contextmanager
    def runs(self, lanes: int) -> Iterator[Value]:
        """Positions of a row in runs of ``lanes``; the last run overlaps the one before it. Rows are at least that long."""
        width = self.columns
        with loop(-(-width // lanes)) as piece:
            yield T.Bind(T.min(piece * lanes, width - lanes)) if width % lanes else piece * lanes

    @property
    def columns(self) -> int:
        """Positions of a row."""
        _, _, height, width = self.shape
        return int(height * width if self.dense else width)

    def at(self, layout: Layout, n: Value, channel: Value, y: Value, x: Value) -> Value:
        """The offset of one channel at a position."""
        block = layout.channel_block
        return layout.offset(self.shape, n, channel // block, y, x) + channel % block

    def one_by_one(self, convert: Callable[[Value], Value], padding: Value) -> None:
        """Every pair of layouts without code of its own."""
        block = self.into.channel_block

        def row(n: Value, index: Value, filled: int, y: Value) -> None:
            with loop(self.columns) as x:
                for lane in range(block):
                    place = self.at(self.into, n, index * block + lane, y, x)
                    if lane < filled:
                        value = convert(self.x[self.at(self.source, n, index * block + lane, y, x)])
                        T.buffer_store(self.y, value, [place])
                    else:
                        T.buffer_store(self.y, padding, [place])

        self.blocks(block, row)


class _Quantizer(_Walk):
    """Writes the loops of a ``Quantize``."""

    def __init__(self, workload: Workload, target: Target) -> None:
        super().__init__(workload, target)
        zero_point = zero_point_of(workload)
        self.scale = numerics.inverse_scale(workload["scale"])
        self.bounds = float(workload["low"] - zero_point), float(workload["high"] - zero_point)
        self.kind = workload.output.stored_dtype
        self.zero = zero_point + self.into.code_offset

    def emit(self) -> None:
        lanes, planar = self.isa.lanes, self.source.channel_block == 1
        block = self.into.channel_block
        if planar and self.columns >= lanes and block == 1:
            self.blocks(1, self._plane_row)
        elif planar and self.columns >= lanes and block == QUAD:
            self.blocks(QUAD, self._quad_row)
        elif planar and self.columns >= lanes and block == CODE_TILE:
            self.blocks(CODE_TILE, self._tile_row)
        elif self.source.channel_block == lanes and block == CODE_TILE:
            self.blocks(CODE_TILE, self._vector_row)
        else:
            self.one_by_one(lambda value: T.Cast(self.kind, self._codes(value, self.zero)), tirx.const(self.into.zero, self.kind))

    def _codes(self, x: Value, zero: int) -> Value:
        """Values as codes plus ``zero`` less the zero point, in int32."""
        m = self.math
        scaled = m.share(x * m.like(x, self.scale))
        scaled = m.select(m.absolute(scaled) <= m.like(scaled, float("inf")), scaled, m.like(scaled, 0.0))
        low, high = self.bounds
        clamped = m.minimum(m.like(scaled, high), m.maximum(m.like(scaled, low), scaled))
        rounded = m.nearest(clamped)[1]
        return m.share(rounded + m.like(rounded, zero)) if zero else rounded

    def _plane_row(self, n: Value, channel: Value, filled: int, y: Value) -> None:
        """Planar to planar."""
        lanes = self.isa.lanes
        with self.runs(lanes) as x:
            values = load(self.x, self.at(self.source, n, channel, y, x), lanes)
            codes = T.Cast(vector_of(self.kind, lanes), self._codes(values, self.zero))
            store(self.y, self.at(self.into, n, channel, y, x), codes, lanes)

    def _quads(self, n: Value, first: Value, filled: int, y: Value, x: Value) -> Value:
        """Four channels from ``first`` on at a run of positions: each int32 holds the four stored bytes of a position.

        Bytes are put together unsigned, where none reaches into its neighbours; the sign is changed for all at once.
        """
        lanes, signed = self.isa.lanes, self.kind == "int8"
        quad: Value = None
        for lane in range(QUAD):
            if lane < filled:
                values = load(self.x, self.at(self.source, n, first + lane, y, x), lanes)
                code = self._codes(values, self.zero + 128 * signed)
            else:
                code = splat(tirx.const(self.into.zero + 128 * signed, "int32"), lanes)
            shifted = code << self.math.like(code, 8 * lane) if lane else code
            quad = shifted if quad is None else quad | shifted
        quad = self.math.share(quad)
        return self.math.share(quad ^ self.math.like(quad, -0x7F7F7F80)) if signed else quad

    def _store_bytes(self, place: Value, value: Value) -> None:
        """int32 vectors as the bytes they are made of."""
        count = 4 * lanes_of(value)
        store(self.y, place, T.reinterpret(vector_of(self.kind, count), value), count)

    def _quad_row(self, n: Value, block: Value, filled: int, y: Value) -> None:
        """Planes to quads."""
        with self.runs(self.isa.lanes) as x:
            self._store_bytes(self.into.offset(self.shape, n, block, y, x), self._quads(n, block * QUAD, filled, y, x))

    def _tile_row(self, n: Value, block: Value, filled: int, y: Value) -> None:
        """Planes to blocks of 16: four quads, put side by side at every position."""
        lanes = self.isa.lanes
        with self.runs(lanes) as x:
            a, b, c, d = (self._quads(n, block * CODE_TILE + 4 * part, filled - 4 * part, y, x) for part in range(4))
            place = T.Bind(self.into.offset(self.shape, n, block, y, x))
            halves = zip(_interleaved(a, b, 1), _interleaved(c, d, 1), strict=True)
            for number, value in enumerate(quarter for ab, cd in halves for quarter in _interleaved(ab, cd, 2)):
                self._store_bytes(place + number * 4 * lanes, value)

    def _vector_row(self, n: Value, block: Value, filled: int, y: Value) -> None:
        """Channel vectors of floats to blocks of 16, position by position."""
        lanes = self.isa.lanes
        with loop(self.columns) as x:
            codes = []
            for part in range(CODE_TILE // lanes):
                if part * lanes < filled:
                    index = block * (CODE_TILE // lanes) + part
                    values = load(self.x, self.source.offset(self.shape, n, index, y, x), lanes)
                    codes.append(self._codes(values, self.zero))
                else:
                    codes.append(splat(tirx.const(self.into.zero, "int32"), lanes))
            whole = codes[0] if len(codes) == 1 else T.Shuffle(codes, list(range(CODE_TILE)))
            place = self.into.offset(self.shape, n, block, y, x)
            store(self.y, place, T.Cast(vector_of(self.kind, CODE_TILE), whole), CODE_TILE)


def _interleaved(a: Value, b: Value, size: int) -> tuple[Value, Value]:
    """Groups of ``size`` lanes of two vectors in turns, in two vectors."""
    lanes = lanes_of(a)
    order = [side * lanes + group * size + lane for group in range(lanes // size) for side in range(2) for lane in range(size)]
    return T.Bind(T.Shuffle([a, b], order[:lanes])), T.Bind(T.Shuffle([a, b], order[lanes:]))


class _Dequantizer(_Walk):
    """Writes the loops of a ``Dequantize``."""

    def __init__(self, workload: Workload, target: Target) -> None:
        super().__init__(workload, target)
        self.scale = float(np.float32(workload["scale"]))
        self.zero = zero_point_of(workload) + self.source.code_offset

    def emit(self) -> None:
        lanes = self.isa.lanes
        source, into = self.source.channel_block, self.into.channel_block
        if source == CODE_TILE and into == 1 and self.columns >= CODE_TILE:
            self.blocks(CODE_TILE, self._tile_row)
        elif source == CODE_TILE and into == lanes:
            self.blocks(CODE_TILE, self._vector_row)
        elif source == into == 1 and self.columns >= lanes:
            self.blocks(1, self._plane_row)
        else:
            self.one_by_one(self._reals, tirx.const(0.0, "float32"))

    def _reals(self, codes: Value) -> Value:
        """Stored codes as float32 values."""
        lanes = lanes_of(codes)
        wide = self.math.share(T.Cast(vector_of("int32", lanes), codes))
        difference = self.math.share(wide - self.math.like(wide, self.zero)) if self.zero else wide
        return self.math.share(T.Cast(vector_of("float32", lanes), difference) * splat(T.float32(self.scale), lanes))

    def _plane_row(self, n: Value, channel: Value, filled: int, y: Value) -> None:
        """Planar to planar."""
        lanes = self.isa.lanes
        with self.runs(lanes) as x:
            codes = load(self.x, self.at(self.source, n, channel, y, x), lanes)
            store(self.y, self.at(self.into, n, channel, y, x), self._reals(codes), lanes)

    def _tile_row(self, n: Value, block: Value, filled: int, y: Value) -> None:
        """Blocks of 16 to planes, through a square of bytes that is transposed."""
        with self.runs(CODE_TILE) as x:
            start = T.Bind(self.source.offset(self.shape, n, block, y, x))
            positions = [load(self.x, start + index * CODE_TILE, CODE_TILE) for index in range(CODE_TILE)]
            for lane, codes in enumerate(transposed(positions, CODE_TILE)[:filled]):
                place = self.at(self.into, n, block * CODE_TILE + lane, y, x)
                store(self.y, place, self._reals(codes), CODE_TILE)

    def _vector_row(self, n: Value, block: Value, filled: int, y: Value) -> None:
        """Blocks of 16 to channel vectors of floats, position by position."""
        lanes = self.isa.lanes
        with loop(self.columns) as x:
            codes = load(self.x, self.source.offset(self.shape, n, block, y, x), CODE_TILE)
            values = self._reals(codes)
            for part in range(CODE_TILE // lanes):
                if part * lanes < filled:
                    index = block * (CODE_TILE // lanes) + part
                    some = values if lanes == CODE_TILE else T.Shuffle([values], list(range(part * lanes, (part + 1) * lanes)))
                    store(self.y, self.into.offset(self.shape, n, index, y, x), some, lanes)
