"""Gathers of patterns without dot products: every tap of a window is a row of its own, and is multiplied on its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from tapdot.kernels.emit import Value, argument, load, splat, store
from tapdot.kernels.isa.pattern_gather import TAP_ROWS, PatternGather
from tapdot.kernels.patterns import KEPT, TAPS
from tapdot.kernels.position_block import Block
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, T


class TapRows(PatternGather):
    """A window holds every tap's codes side by side, in 32 bits. An operand is a list of four vectors, and so are weights."""

    scratch_dtype = "int32"

    def __init__(self, target: Target, strides: tuple[int, int], plane: tuple[int, int]) -> None:
        super().__init__(target, strides)
        self.block = Block(1, self.lanes, 1, min(self.lanes, plane[1]), 1, self.lanes)
        self.window = TAPS * self.lanes
        self.entry, self.registers = KEPT, KEPT

    def table(self, patterns: np.ndarray) -> np.ndarray:
        return (patterns.astype(np.int32) * self.lanes).reshape(-1)

    def patterns(self, table: np.ndarray) -> np.ndarray:
        return (table.reshape(-1, KEPT) // self.lanes).astype(np.uint8)

    def declare_table(self, patterns: int) -> None:
        self._table = argument("table", patterns * self.entry, "int32")

    def pack_window(self, x: Buffer, start: Value, pitch: int, scratch: Buffer, place: Value) -> None:
        for tap in range(TAPS):
            dy, dx = divmod(tap, TAP_ROWS)
            for column in range(0, self.lanes, self.block.piece):
                first, size = start + dy * pitch + dx + self.block.position(column)[1] * self.strides[1], self.block.piece
                codes = x[T.ramp(first, self.strides[1], size) if size > 1 else first]
                wide = codes.astype(f"int32x{size}" if size > 1 else "int32")
                store(scratch, place + tap * self.lanes + column, T.Bind(wide), size)

    def pattern(self, place: Value) -> Any:
        return [T.Bind(self._table[place + tap]) for tap in range(KEPT)]

    def operands(self, pattern: Any, scratch: Buffer, place: Value, last: bool = False) -> list[Any]:
        return [[load(scratch, place + tap, self.lanes) for tap in pattern]]

    def weights(self, buffer: Buffer, kernel: Value, share: int) -> list[Any]:
        places = [(kernel * share + member) * KEPT for member in range(share)]
        return [[T.Bind(splat(buffer[place + tap].astype("int32"), self.lanes)) for tap in range(KEPT)] for place in places]


def gathers(target: Target, strides: tuple[int, int], plane: tuple[int, int]) -> tuple[PatternGather, ...]:
    """The one block shape: a row of a vector's lanes."""
    return (TapRows(target, strides, plane),)
