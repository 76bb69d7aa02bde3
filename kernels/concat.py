"""Concatenation along channels by copying, for the cases in which the parts could not be made slices of one buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tapdot.kernels.emit import Value, argument, load, loop, store, write_halo
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.relayout import CODE_TILE, DTYPES, Plane, conversion, copy_plane, vector_lanes
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function
from tapdot.kernels.workload import Operand, Workload


def preferred_block(workload: Workload, target: Target) -> int:
    """The channel block of parts and result where nobody asks for planar rows."""
    return CODE_TILE if workload.output.dtype in CODES else target.isa.lanes


def in_whole_blocks(workload: Workload, block: int) -> bool:
    """Whether every part but the last fills its channel blocks."""
    return all(part.shape[1] % block == 0 for part in workload.inputs[:-1] if part is not None)


class Concatenate(Family):
    """``Concat`` along axis 1 of four-dimensional tensors in channel vectors, or all in planar rows.

    Where every part but the last fills its channel blocks, parts are whole blocks and are copied so. Other parts are served where
    they are codes: a channel block of the result is then put together from bytes of several blocks.
    """

    name = "concat"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "Concat" or workload["axis"] not in (1, -3) or not workload.inputs:
            return False
        parts = [operand for operand in workload.inputs if operand is not None]
        return (
            len(parts) == len(workload.inputs)
            and len(workload.output.shape) == 4
            and workload.output.dtype in DTYPES
            and not any(part.constant for part in parts)
            and (workload.output.dtype in CODES or in_whole_blocks(workload, target.isa.lanes))
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        port = Port((preferred_block(workload, target), 1))
        return Ports((port,) * len(workload.inputs), (port,), uniform=True)

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            emitter = _Emitter(workload, target)
            if in_whole_blocks(workload, emitter.block):
                emitter.copy_blocks()
            else:
                emitter.join_bytes()
        return finished[0]


@dataclass(frozen=True)
class Piece:
    """Lanes ``[first, stop)`` of a block of the result: channels of one part from ``channel`` on."""

    part: int
    first: int
    stop: int
    channel: int


def pieces(channels: list[int], block: int) -> Iterator[tuple[int, int, tuple[Piece, ...]]]:
    """Blocks of a result of parts with so many channels, as (first, count, pieces of the first).

    Consecutive blocks that lie inside one part differ by a whole block in every piece, so they are one entry.
    """
    starts = np.cumsum([0, *channels]).tolist()
    runs: list[tuple[int, int, tuple[Piece, ...]]] = []
    for index in range(-(-starts[-1] // block)):
        low, high = index * block, min((index + 1) * block, starts[-1])
        made = tuple(
            Piece(part, max(start, low) - low, min(stop, high) - low, max(start, low) - start)
            for part, (start, stop) in enumerate(pairwise(starts))
            if max(start, low) < min(stop, high)
        )
        if runs and len(made) == 1 and _follows(runs[-1], made[0], block):
            first, count, before = runs[-1]
            runs[-1] = first, count + 1, before
        else:
            runs.append((index, 1, made))
    yield from runs


def _follows(run: tuple[int, int, tuple[Piece, ...]], piece: Piece, block: int) -> bool:
    _, count, before = run
    return before == (Piece(piece.part, piece.first, piece.stop, piece.channel - count * block),)


class _Emitter:
    """Writes the loops of one concatenation."""

    def __init__(self, workload: Workload, target: Target) -> None:
        self.parts: list[Operand] = [operand for operand in workload.inputs if operand is not None]
        self.result = workload.output
        self.into = self.result.layout or Layout()
        self.block = self.into.channel_block
        self.lanes = vector_lanes(target, self.result.dtype)
        self.parallel = pays(self.result.elements * np.dtype(self.result.dtype).itemsize / 8)
        self.buffers = [argument(f"x{index}", part.elements, part.stored_dtype) for index, part in enumerate(self.parts)]
        self.y = argument("y", self.result.elements, self.result.stored_dtype)
        self.layouts = [part.layout or Layout() for part in self.parts]

    def _halo(self, n: Value, block: Value) -> None:
        write_halo(self.y, self.into, self.result.shape, n, block, self.result.stored_dtype, self.lanes)

    def copy_blocks(self) -> None:
        """Every part, block by block."""
        first = 0
        for buffer, part, layout in zip(self.buffers, self.parts, self.layouts, strict=True):
            blocks = layout.blocks(part.shape[1])
            with loop(part.shape[0] * blocks, parallel=self.parallel) as task:
                n, index = task // blocks, task % blocks
                self._halo(n, first + index)
                source = Plane(buffer, layout, part.shape, n, index)
                into = Plane(self.y, self.into, self.result.shape, n, first + index)
                copy_plane(source, into, self.lanes, conversion(part, self.result))
            first += blocks

    def join_bytes(self) -> None:
        """Every block of the result, from the parts its lanes come from."""
        batch, _, height, width = self.result.shape
        for first, count, made in pieces([part.shape[1] for part in self.parts], self.block):
            with loop(batch * count, parallel=self.parallel) as task:
                n, further = task // count, task % count
                self._halo(n, first + further)
                with loop(height) as y, loop(width) as x:
                    place = self.into.offset(self.result.shape, n, first + further, y, x)
                    store(self.y, place, self._joined(made, n, further, y, x), self.block)

    def _joined(self, made: tuple[Piece, ...], n: Value, further: Value, y: Value, x: Value) -> Value:
        """The lanes of one block at one position; ``further`` blocks lie between the pieces' channels and those wanted."""
        value: Value = None
        for piece in made:
            part, layout, buffer = self.parts[piece.part], self.layouts[piece.part], self.buffers[piece.part]
            for source in range(piece.channel // self.block, (piece.channel + piece.stop - piece.first - 1) // self.block + 1):
                lanes = {
                    lane: piece.channel + lane - piece.first - source * self.block
                    for lane in range(piece.first, piece.stop)
                    if 0 <= piece.channel + lane - piece.first - source * self.block < self.block
                }
                vector = self._load(buffer, layout.offset(part.shape, n, source + further, y, x), part)
                base = value if value is not None else vector
                order = [self.block + lanes[lane] if lane in lanes else lane for lane in range(self.block)]
                value = T.Bind(T.Shuffle([base, vector], order))
        return value

    def _load(self, buffer: Buffer, start: Value, part: Operand) -> Value:
        return T.Bind(conversion(part, self.result)(load(buffer, start, self.block), self.block))
