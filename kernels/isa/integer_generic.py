"""Integer vectors without special instructions: correct everywhere, and what other instruction sets are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapdot.kernels.isa.integer import IntegerVectors, Value
from tapdot.kernels.tvm_adapter import Buffer, T


class WrittenOut(IntegerVectors):
    """Products in int32, scaling in int64; weights lie as ``[4, lanes]``."""

    weight_registers = 4
    quad_registers = 4
    dots_per_cycle = 0.1

    def operand_offset(self, stored_dtype: str) -> int:
        return 0

    def quads(self, buffer: Buffer, offset: Value, count: int) -> list[Any]:
        return [
            [T.Bind(T.broadcast(buffer[offset + 4 * quad + k].astype("int32"), self.lanes)) for k in range(4)]
            for quad in range(count)
        ]

    def weights(self, buffer: Buffer, offset: Value) -> Any:
        return self.widen(buffer, offset, 4)

    def weights_of(self, codes: Value) -> Any:
        lanes = self.lanes
        parts = [T.Bind(T.Shuffle([codes], list(range(k * lanes, (k + 1) * lanes)))) for k in range(4)]
        return [T.Bind(part.astype(self.vector)) for part in parts]

    def dot(self, accumulator: Value, quad: Any, weights: Any) -> Value:
        for code, weight in zip(quad, weights, strict=True):
            accumulator = accumulator + code * weight
        return T.Bind(accumulator)

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        return weights.swapaxes(-1, -2).reshape(*weights.shape[:-2], -1)

    def unpack_weights(self, packed: np.ndarray) -> np.ndarray:
        return packed.reshape(*packed.shape[:-1], 4, self.lanes).swapaxes(-1, -2)

    def dyadic(self, x: Value, multiplier: Sequence[Value], shift: Sequence[Value]) -> Value:
        wide = f"int64x{self.lanes}"
        places = T.Bind(shift[0].astype(wide))
        half = T.shift_left(T.broadcast(T.int64(1), self.lanes), places - T.broadcast(T.int64(1), self.lanes))
        product = T.Bind(x.astype(wide) * multiplier[0].astype(wide) + half)
        return T.Bind(T.shift_right(product, places).astype(self.vector))
