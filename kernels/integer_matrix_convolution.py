"""Dense convolution of codes by matrix products, ``smmla`` of the i8mm extension: two positions, two filters, eight channels.

A multiply-add does twice the work of a dot product. Its operands are pairs: rows of eight channels of two positions, taken apart
from blocks of 16 channels as they are loaded, and of two filters, packed that way. All else is as in ``integer_convolution``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tapdot.kernels.emit import Registers, Value, load
from tapdot.kernels.family import Config
from tapdot.kernels.integer_convolution import Emitter, IntegerConvolution
from tapdot.kernels.integer_convolution_plan import STEP_INSTRUCTIONS, QuadGeometry, finish_instructions
from tapdot.kernels.integer_operands import BLOCK
from tapdot.kernels.isa.integer_neon import OCTET, MatrixDots, position_pairs
from tapdot.kernels.register_tile import Prefetch, Products, Tile, accumulate
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, T
from tapdot.kernels.workload import Workload


class OctetGeometry(QuadGeometry):
    """A ``QConv`` whose input channels are summed eight at a time."""

    unit = OCTET

    def may_pack(self, tile_vectors: int) -> bool:
        return False

    def fits(self, tile: Tile, packed: bool = False) -> bool:
        """Whether accumulators, both octets of every pair of positions and two passing vectors of weights stay in registers."""
        pairs = -(-tile.positions // 2)
        return 2 * tile.vectors * pairs + 2 * pairs + 2 <= self.isa.registers

    def tile_cycles(self, tile: Tile) -> float:
        """Instructions of one tile."""
        octets, pairs = self.window(tile.vectors) // OCTET, -(-tile.positions // 2)
        steps = -(-octets // 2)
        side_by_side = self.strides[1] == 1 and tile.columns % 2 == 0
        loads = steps * pairs * (1 if side_by_side else 4) + octets * tile.vectors
        products = octets * 2 * tile.vectors * pairs
        return self.taps * (products + loads + (steps + 1) * STEP_INSTRUCTIONS) + finish_instructions(tile) + tile.accumulators


class IntegerMatrixConvolution(IntegerConvolution):
    """What ``IntegerConvolution`` computes, with the same configuration, where octets pay.

    That is for more than one position, and eight channels or more in blocks that no group straddles.
    """

    name = "integer_matrix_convolution"
    geometry = OctetGeometry

    def _vectors(self, geometry: QuadGeometry) -> MatrixDots:
        return MatrixDots(geometry.isa)

    def serves(self, workload: Workload, target: Target) -> bool:
        if target.isa.dot != "smmla" or not super().serves(workload, target):
            return False
        geometry = OctetGeometry(workload, target.isa)
        whole = geometry.group == 1 or (geometry.channels_per_group % BLOCK == 0 and geometry.filters_per_group % BLOCK == 0)
        return whole and geometry.channels_per_group >= OCTET and geometry.height * geometry.width > 1

    def _emitter(self, workload: Workload, config: Config, target: Target) -> Emitter:
        return _MatrixEmitter(workload, self._plan(workload, config, target), target)


@dataclass(frozen=True)
class _Pairs(Products):
    """Products whose operands belong to two positions."""

    vectors: MatrixDots | None = None

    def operands(self, buffer: Buffer, start: Value, offsets: Sequence[int], units: int) -> Sequence[Sequence[Any]]:
        assert self.vectors is not None
        return self.vectors.pairs(buffer, start, offsets, units)


class _MatrixEmitter(Emitter):
    """Sums in accumulators of two positions and two filters, regrouped before the epilogue."""

    def _sums(
        self,
        tile: Tile,
        channel: Value,
        offsets: Sequence[int],
        weight_start: Value,
        kernel: tuple[int, int],
        units: int,
        step: int,
        input_offset: Callable[[Sequence[Value], Value], Value],
        ahead: Prefetch | None,
    ) -> Registers:
        dots, lanes = MatrixDots(self.isa), self.isa.lanes
        pairs = len(position_pairs(offsets))
        accumulators = Registers(2 * tile.vectors * pairs, lanes, "int32")
        for v in range(tile.vectors):
            for half, bias in enumerate(dots.spread(load(self.bias, channel + v * lanes, lanes))):
                for pair in range(pairs):
                    accumulators[(2 * v + half) * pairs + pair] = bias
        accumulate(
            _Pairs(2, OCTET, 2, lambda buffer, offset: (dots.weights(buffer, offset),), dots.quads, dots.dot, vectors=dots),
            Tile(2 * tile.vectors, 1, pairs),
            accumulators,
            self.weights,
            weight_start,
            self.x,
            kernel,
            units,
            step,
            input_offset,
            offsets,
            OCTET,
            ahead,
        )
        sums = Registers(tile.accumulators, lanes, "int32")
        for v in range(tile.vectors):
            for pair in range(pairs):
                low, high = (T.Bind(accumulators[(2 * v + half) * pairs + pair]) for half in range(2))
                for position, value in enumerate(dots.regrouped(low, high)):
                    if 2 * pair + position < tile.positions:
                        sums[v * tile.positions + 2 * pair + position] = value
        return sums
