"""The register tile: a block of output channel vectors times a patch of positions, summed over taps and channels in registers.

Every dense family (convolution, 1x1, fully connected; float or integer) is this one inner loop with other addresses. For each
input channel (for each quad of them in codes) the tile loads ``vectors`` weight vectors and broadcasts one operand per position,
and does ``vectors * rows * columns`` multiply-adds; accumulators never leave registers inside the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tapdot.kernels.emit import Registers, Value, broadcasts, load, loop, multiply_add, prefetch
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.integer import IntegerVectors
from tapdot.kernels.tvm_adapter import Buffer, T


@dataclass(frozen=True)
class Products:
    """What the innermost loop multiplies and adds: float32 values, or dot products of codes.

    ``lanes``: sums in an accumulator. ``unit``: consecutive input channels that one multiply-add consumes. ``units_per_load``:
    units that one load of inputs serves. ``weights(buffer, offset)``, ``broadcasts(buffer, offset, units)`` and
    ``multiply_add(accumulator, broadcast, weights)`` emit them. ``units_per_weights``: units whose weights lie packed in one
    vector in memory; ``weights`` gives an operand for each.
    """

    lanes: int
    unit: int
    units_per_load: int
    weights: Callable[[Buffer, Value], Sequence[Any]]
    broadcasts: Callable[[Buffer, Value, int], Sequence[Any]]
    multiply_add: Callable[[Value, Any, Any], Value]
    wide_indices: bool = False
    """Whether loops over channels count in 64 bits: addresses then become pointers that the loop advances."""
    units_per_weights: int = 1

    def operands(self, buffer: Buffer, start: Value, offsets: Sequence[int], units: int) -> Sequence[Sequence[Any]]:
        """:attr:`broadcasts` at the offset of every position."""
        return [self.broadcasts(buffer, start + offset, units) for offset in offsets]

    @classmethod
    def of_floats(cls, isa: Isa) -> Products:
        """float32 values, one channel at a time."""
        return cls(
            isa.lanes,
            1,
            isa.lanes if isa.multiply_by_lane else 1,
            lambda buffer, offset: (load(buffer, offset, isa.lanes),),
            lambda buffer, offset, count: broadcasts(isa, buffer, offset, count),
            lambda accumulator, scalar, weights: multiply_add(isa, weights, scalar, accumulator),
        )

    @classmethod
    def of_codes(cls, vectors: IntegerVectors, narrow: bool = False) -> Products:
        """8-bit codes, a quad of channels at a time; ``narrow`` weights have 4 bits, and those of two quads lie packed."""
        return cls(
            vectors.lanes,
            QUAD,
            vectors.quads_per_load,
            vectors.narrow_weights if narrow else lambda buffer, offset: (vectors.weights(buffer, offset),),
            vectors.quads,
            vectors.dot,
            vectors.quads_per_load > 1,
            2 if narrow else 1,
        )


QUAD = 4
"""Consecutive channels that a lane of a dot product sums."""

UNROLLED_MULTIPLY_ADDS = 128
"""Multiply-adds in the body of the innermost loop: enough to hide its overhead, few enough for the decoded-op cache."""


@dataclass(frozen=True)
class Tile:
    """``vectors`` of output channels by ``rows`` by ``columns`` of output positions."""

    vectors: int
    rows: int
    columns: int

    @property
    def positions(self) -> int:
        return self.rows * self.columns

    @property
    def accumulators(self) -> int:
        return self.vectors * self.positions

    def fits(self, isa: Isa) -> bool:
        """Whether accumulators, weight vectors and scalars stay in registers.

        One broadcast is gone after its position; a vector of scalars per position serves a whole step of channels.
        """
        scalars = self.positions if isa.multiply_by_lane else 1
        return self.accumulators + self.vectors + scalars <= isa.registers

    def cycles(self, isa: Isa, taps: int = 1, weights_in_first_level: bool = False) -> float:
        """Cycles of one input channel at one tap.

        The dearest of arithmetic, loads and the latency of dependent adds, and what comes from the second-level cache on top: the
        weights, unless a chunk of them stays in the first level, and the inputs, which ``taps`` visits share.
        """
        scalar_loads = self.positions / (isa.lanes if isa.multiply_by_lane else 1)
        arithmetic = self.accumulators / isa.fma_per_cycle
        loads = (self.vectors + scalar_loads) / isa.loads_per_cycle
        weights = 0 if weights_in_first_level else self.vectors * isa.lanes * FLOAT_BYTES / WEIGHT_BYTES_PER_CYCLE
        inputs = self.positions * FLOAT_BYTES / INPUT_BYTES_PER_CYCLE / taps
        control = STEP_CYCLES + VECTOR_CYCLES * self.vectors
        return 1.08 * max(arithmetic, 1.15 * loads, isa.fma_latency) + control + weights + inputs


FLOAT_BYTES = 4
STEP_CYCLES = 0.4
VECTOR_CYCLES = 0.35
"""Loop control and addresses of a step, and of each weight vector in it, that multiply-adds do not hide."""

WEIGHT_BYTES_PER_CYCLE = 50.0
INPUT_BYTES_PER_CYCLE = 30.0
"""What streams from outside the first-level cache into a core that computes: weights line after line, inputs in short runs."""

FIRST_LEVEL_BYTES = 24 * 1024
"""Of the first-level data cache, the part weights may hold on to."""


def even_parts(total: int, most: int) -> list[int]:
    """Sizes up to ``most`` that cut ``total`` into parts as equal as can be: what is worth trying for an axis of a tile."""
    return sorted({size for parts in range(1, total + 1) if (size := -(-total // parts)) <= most})


def segments(total: int, step: int) -> Iterator[tuple[int, int, int]]:
    """Cuts ``range(total)`` into runs of equal pieces: yields (start, pieces, size of a piece), at most two of them."""
    whole, rest = divmod(total, step)
    if whole:
        yield 0, whole, step
    if rest:
        yield whole * step, 1, rest


def channel_step(isa: Isa, accumulators: int, channels: int, input_block: int, aligned: bool) -> int:
    """Input channels handled per iteration of the innermost loop; they are consecutive in memory."""
    if isa.multiply_by_lane and input_block % isa.lanes == 0 and aligned and channels >= isa.lanes:
        return isa.lanes
    wanted = max(1, UNROLLED_MULTIPLY_ADDS // accumulators)
    limit = math.gcd(input_block, 16) if input_block > 1 and aligned else (16 if input_block == 1 else 1)
    step = 1
    while step * 2 <= min(wanted, limit, channels):
        step *= 2
    return step


LINE_FLOATS = 16
"""float32 values in a cache line of 64 bytes."""


@dataclass(frozen=True)
class Prefetch:
    """Weights of the next chunk, fetched into the second-level cache while this one is computed.

    A core that computes near its limit cannot also wait for weights that come from memory once. Tiles that share a chunk fetch
    the next one together: every ``period`` iterations of the innermost loop ask for ``lines`` cache lines from ``start`` on. They
    stand outside that loop, whose registers are all taken.
    """

    start: Value
    lines: int
    period: int
    line: int
    """Weights in a cache line."""

    @classmethod
    def plan(
        cls, next_chunk: Value, chunk: int, iterations: int, index: Value, tiles: int, line: int = LINE_FLOATS
    ) -> Prefetch | None:
        """The share of tile number ``index`` of ``tiles`` in fetching ``chunk`` weights while it does ``iterations``.

        None where so many tiles share a chunk that it does not matter.
        """
        if tiles > PREFETCH_TILES:
            return None
        period = PREFETCH_PERIOD
        lines = -(-chunk * period // (line * iterations * tiles))
        return cls(next_chunk + index * (-(-iterations // period) * lines * line), lines, period, line)

    def emit(self, weights: Buffer, turn: Value) -> None:
        """The prefetches of one turn."""
        for line in range(self.lines):
            prefetch(weights, self.start + (turn * self.lines + line) * self.line)


PREFETCH_TILES = 16
"""With more tiles than this on one chunk, the wait for its weights is a small share of the work."""

PREFETCH_PERIOD = 8
"""Iterations of the innermost loop between two turns of prefetching."""


def accumulate(
    products: Products,
    tile: Tile,
    accumulators: Registers,
    weights: Buffer,
    weight_start: Value,
    inputs: Buffer,
    taps: Sequence[int],
    channels: int,
    step: int,
    input_offset: Callable[[Sequence[Value], Value], Value],
    position_offsets: Sequence[int],
    channel_stride: int,
    ahead: Prefetch | None = None,
) -> None:
    """Emits the loops over taps and channels of one tile.

    Channels count in units of ``products`` everywhere: single ones or quads. ``taps`` are the extents of the tap loops;
    ``input_offset(tap, channel)`` addresses position 0 of the tile at that tap and channel; position ``p`` lies
    ``position_offsets[p]`` further. ``channel_stride`` is the distance of consecutive channels in a step. Weights lie as
    ``[*taps, channels / units_per_weights, vectors, lanes * unit]`` from ``weight_start`` on; channels and ``step`` are multiples
    of ``units_per_weights``. ``ahead`` says which weights to fetch meanwhile.
    """
    vector = products.lanes * products.unit
    panel, units = tile.vectors * vector, products.units_per_weights
    assert channels % units == step % units == 0

    def body(tap: Sequence[Value], tap_index: Value, turn: Value, count: int) -> None:
        start = T.Bind(input_offset(tap, turn * step))
        weight = T.Bind(weight_start + (tap_index * (channels // units) + turn * (step // units)) * panel)
        together = channel_stride == products.unit and products.units_per_load > 1
        scalars = products.operands(inputs, start, position_offsets, count) if together else None
        for group in range(count // units):
            if scalars is not None:  # what stands in a register is taken lane by lane; weights pass through
                for v in range(tile.vectors):
                    for unit, vector_weights in enumerate(products.weights(weights, weight + group * panel + v * vector)):
                        for position in range(tile.positions):
                            register, scalar = v * tile.positions + position, scalars[position][group * units + unit]
                            accumulators[register] = products.multiply_add(accumulators[register], scalar, vector_weights)
                continue
            vectors = [products.weights(weights, weight + group * panel + v * vector) for v in range(tile.vectors)]
            for unit in range(units):
                for position, offset in enumerate(position_offsets):
                    scalar = products.broadcasts(inputs, start + offset + (group * units + unit) * channel_stride, 1)[0]
                    for v, vector_weights in enumerate(vectors):
                        register = v * tile.positions + position
                        accumulators[register] = products.multiply_add(accumulators[register], scalar, vector_weights[unit])

    def turns(extent: int) -> Value:
        return T.int64(extent) if products.wide_indices and extent > 1 else extent

    def tap_loops(extents: Sequence[int], tap: tuple[Value, ...], tap_index: Value) -> None:
        if extents:
            with loop(extents[0]) as index:
                tap_loops(extents[1:], (*tap, index), tap_index * extents[0] + index)
            return
        whole, rest = divmod(channels, step)
        if whole and ahead is not None and whole % ahead.period == 0:
            with loop(turns(whole // ahead.period)) as group:
                ahead.emit(weights, tap_index * (whole // ahead.period) + group)
                with loop(turns(ahead.period)) as index:
                    body(tap, tap_index, group * ahead.period + index, step)
        elif whole:
            with loop(turns(whole)) as index:
                body(tap, tap_index, index, step)
        if rest:
            body(tap, tap_index, whole, rest)

    tap_loops(taps, (), 0)
