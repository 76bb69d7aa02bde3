"""Fully connected layers of codes: a row-major activation times a constant matrix of weights of 8 bits or fewer.

One row is a stream of weights, as many vectors of columns side by side as hide the latency of a dot product; several rows share
each weight through the register tile of the convolutions, with rows in the place of positions.

Memory is what limits one row. So weights of 4 bits and fewer lie packed, a byte for two quads, and are unpacked in registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Registers, Value, argument, load, local_buffer, loop
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.gemm import MEMORY_BYTES_PER_CYCLE
from tapdot.kernels.integer_convolution_plan import tile_vectors
from tapdot.kernels.integer_epilogue import IntegerEpilogue
from tapdot.kernels.integer_operands import BLOCK
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.integer import IntegerVectors, integer_vectors, narrow_vectors
from tapdot.kernels.layout import CODES, round_up
from tapdot.kernels.numerics import NARROW_BITS
from tapdot.kernels.parallel import pays
from tapdot.kernels.register_tile import QUAD, Products, Tile, accumulate, segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, T, function, tirx
from tapdot.kernels.workload import Workload

STEP_QUADS = 4
"""Quads in the body of the innermost loop: 16 codes, which one load may serve."""


@dataclass(frozen=True)
class Plan:
    """The matrix cut into panels of vectors: ``[panel][quads][vectors][lanes * 4]``, the last panel perhaps narrower.

    Packed weights are cut alike, with pairs of quads in the place of quads.
    """

    workload: Workload
    isa: Isa
    vectors_per_panel: int

    @property
    def rows(self) -> int:
        return self.workload.output.shape[0]

    @property
    def depth(self) -> int:
        return self.workload.inputs[0].shape[1]  # type: ignore[union-attr]

    @property
    def narrow(self) -> bool:
        """Whether two weights share a byte."""
        return self.workload.inputs[1].dtype in NARROW_BITS  # type: ignore[union-attr]

    @property
    def emitters(self) -> IntegerVectors:
        """What multiplies."""
        return narrow_vectors(self.isa) if self.narrow else integer_vectors(self.isa)

    @property
    def packed_quads(self) -> int:
        """Quads whose weights share bytes."""
        return 2 if self.narrow else 1

    @property
    def quads(self) -> int:
        return round_up(-(-self.depth // QUAD), self.packed_quads)

    @property
    def whole_quads(self) -> int:
        """Those that are read from the activation itself: nothing behind a row is."""
        return self.depth // (QUAD * self.packed_quads) * self.packed_quads

    @property
    def column_bytes(self) -> int:
        """Bytes of a vector of columns."""
        return self.quads // self.packed_quads * self.isa.lanes * QUAD

    @property
    def columns(self) -> int:
        return self.workload.output.shape[1]

    @property
    def vectors(self) -> int:
        """Vectors of columns; they fill whole blocks."""
        return round_up(self.columns, BLOCK) // self.isa.lanes

    def panels(self) -> list[tuple[int, int]]:
        """(first vector, vectors) of every panel."""
        cuts = segments(self.vectors, self.vectors_per_panel)
        return [(start + piece * size, size) for start, pieces, size in cuts for piece in range(pieces)]

    def fits(self, vectors: int, rows: int) -> bool:
        """Whether sums, weights and quads stay in registers."""
        emitters = self.emitters
        weights, quads = (
            (2, rows * emitters.quad_registers)
            if emitters.quads_per_load > 1
            else (vectors * self.packed_quads, emitters.quad_registers)
        )
        used = vectors * rows + weights * emitters.weight_registers + quads + emitters.spare_registers
        return used <= self.isa.registers


class IntegerFullyConnected(Family):
    """``QGemm`` of row-major codes ``[M, K]`` with a constant int8 ``[K, N]``.

    Configuration: ``vectors`` of columns in a panel and ``rows`` of the register tile.
    """

    name = "integer_gemm"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "QGemm" or any(operand is None for operand in workload.inputs[:2]):
            return False
        a, w = workload.inputs[:2]
        assert a is not None and w is not None
        bias = workload.inputs[2] if len(workload.inputs) > 2 else None
        return (
            len(a.shape) == 2
            and a.dtype in CODES
            and not a.constant
            and w.constant
            and w.stored_dtype == "int8"
            and (bias is None or (bias.constant and bias.elements == workload.output.shape[1]))
            and IntegerEpilogue(workload, 3, target.isa).served()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        return Ports(tuple(None if operand is None or operand.constant else Port() for operand in workload.inputs), (Port(),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        plan = Plan(workload, target.isa, 1)
        return {
            "vectors": tile_vectors(target.isa, plan.vectors),
            "rows": [r for r in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14) if r <= plan.rows],
        }

    def default_config(self, workload: Workload, target: Target) -> Config:
        plan = Plan(workload, target.isa, 1)
        tiles = [
            (vectors, rows)
            for vectors, rows in product(tile_vectors(target.isa, plan.vectors), range(1, min(plan.rows, 24) + 1))
            if plan.fits(vectors, rows)
        ]

        def cycles(tile: tuple[int, int]) -> float:
            cuts = product(segments(plan.vectors, tile[0]), segments(plan.rows, tile[1]))
            return sum(v_count * r_count * Tile(v, r, 1).cycles(target.isa) for (_, v_count, v), (_, r_count, r) in cuts)

        vectors, rows = min(tiles, key=cycles, default=(1, 1))
        return {"vectors": vectors, "rows": rows}

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        return config if Plan(workload, target.isa, 1).fits(config["vectors"], config["rows"]) else None

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan = Plan(workload, target.isa, config["vectors"])
        emitters = plan.emitters
        weight = np.zeros((plan.quads * QUAD, plan.vectors * target.isa.lanes), np.int8)
        weight[: plan.depth, : plan.columns] = constants[1]
        quads = weight.reshape(plan.quads, QUAD, plan.vectors, target.isa.lanes).transpose(2, 0, 3, 1)
        vectors = emitters.pack_weights(quads)
        if plan.narrow:
            vectors = emitters.pack_narrow(vectors[:, ::2], vectors[:, 1::2])
        panels = [vectors[first : first + count].transpose(1, 0, 2).reshape(-1) for first, count in plan.panels()]
        bias = np.zeros(plan.vectors * target.isa.lanes, np.int32)
        given = constants.get(2, np.zeros(plan.columns, np.int32)).reshape(-1)
        bias[: plan.columns] = self._folded(workload, target, constants[1], given, 1)
        return [np.concatenate(panels), bias, *IntegerEpilogue(workload, 3, target.isa).pack(constants)]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = Plan(workload, target.isa, config["vectors"])
        emitters = plan.emitters
        size, rows, panels = plan.column_bytes, plan.quads // plan.packed_quads, []
        for first, count in plan.panels():
            panel = np.asarray(packed[0][first * size : (first + count) * size]).reshape(rows, count, -1)
            vectors = panel.transpose(1, 0, 2)
            if plan.narrow:
                vectors = np.stack(emitters.unpack_narrow(vectors), axis=2).reshape(count, plan.quads, -1)
            panels.append(emitters.unpack_weights(vectors))
        quads = np.concatenate(panels).transpose(1, 3, 0, 2)
        weight = np.ascontiguousarray(quads.reshape(plan.quads * QUAD, -1)[: plan.depth, : plan.columns])
        found: dict[int, np.ndarray] = {1: weight}
        bias = workload.inputs[2] if len(workload.inputs) > 2 else None
        if bias is not None:
            found[2] = self._folded(workload, target, weight, packed[1][: plan.columns], -1).reshape(bias.shape)
        return {**found, **IntegerEpilogue(workload, 3, target.isa).unpack(packed[2:])}

    @staticmethod
    def _folded(workload: Workload, target: Target, weight: np.ndarray, bias: np.ndarray, sign: int) -> np.ndarray:
        """The bias with the zero point and what is added to stored codes folded in (``sign`` 1), or taken out again (-1)."""
        a = workload.inputs[0]
        assert a is not None
        sums = sign * weight.sum(axis=0, dtype=np.int64)
        offset = Plan(workload, target.isa, 1).emitters.operand_offset(a.stored_dtype)
        return numerics.folded_bias(bias, sums, workload["zero_point"], offset)

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Emitter(workload, config, target).emit()
        return finished[0]


class _Emitter:
    """Writes the loops of one product."""

    def __init__(self, workload: Workload, config: Config, target: Target) -> None:
        self.plan = Plan(workload, target.isa, config["vectors"])
        self.tile_rows = config["rows"]
        self.workload, self.isa = workload, target.isa
        self.products = Products.of_codes(self.plan.emitters, self.plan.narrow)
        self.epilogue = IntegerEpilogue(workload, 3, target.isa)

    def emit(self) -> None:
        plan, lanes = self.plan, self.isa.lanes
        self.weights = argument("weights", plan.column_bytes * plan.vectors, "int8")
        self.bias = argument("bias", plan.vectors * lanes, "int32")
        self.epilogue.declare_constants()
        self.a = argument("a", plan.rows * plan.depth, self.workload.inputs[0].stored_dtype)  # type: ignore[union-attr]
        self.epilogue.declare_variables()
        self.y = argument("y", self.workload.output.elements, self.workload.output.stored_dtype)
        loads = plan.column_bytes * plan.vectors / MEMORY_BYTES_PER_CYCLE
        dots = plan.rows * plan.quads * plan.vectors / plan.emitters.dots_per_cycle
        parallel = pays(max(loads, dots))
        for first, panels, vectors in segments(plan.vectors, plan.vectors_per_panel):
            size = vectors * lanes
            whole = min(panels, max(0, plan.columns - first * lanes) // size)
            if whole:
                with loop(whole, parallel=parallel) as panel:
                    self._panel(first + panel * vectors, vectors, None)
            for panel in range(whole, panels):  # the one with the last columns; what follows it is padding
                filled = plan.columns - first * lanes - panel * size
                if filled > 0:
                    self._panel(first + panel * vectors, vectors, filled)

    def _panel(self, first: Value, vectors: int, filled: int | None) -> None:
        """Every row of a panel, of which ``filled`` columns are columns of the result (None: all)."""
        plan, lanes = self.plan, self.isa.lanes
        start = T.Bind(first * plan.column_bytes)
        channel_values = self.epilogue.channels(first * lanes, vectors)
        for row_start, pieces, rows in segments(plan.rows, self.tile_rows):
            with loop(pieces) as piece:
                row = row_start + piece * rows
                sums = self._sums(Tile(vectors, rows, 1), row, first * lanes, start)
                for r in range(rows):
                    values = [T.Bind(sums[v * rows + r]) for v in range(vectors)]
                    self.epilogue.emit_store(channel_values, values, self.y, row + r, first * lanes, filled=filled)

    def _sums(self, tile: Tile, row: Value, column: Value, start: Value) -> Registers:
        """The sums of several rows, biases included: vector ``v`` of row ``r`` stands at ``v * rows + r``."""
        plan, lanes = self.plan, self.isa.lanes
        registers = Registers(tile.accumulators, lanes, "int32")
        for v in range(tile.vectors):
            bias = load(self.bias, column + v * lanes, lanes)
            for r in range(tile.rows):
                registers[v * tile.rows + r] = bias
        whole = plan.whole_quads
        if whole:
            accumulate(
                self.products,
                tile,
                registers,
                self.weights,
                start,
                self.a,
                (),
                whole,
                min(STEP_QUADS, whole),
                lambda tap, quad: row * plan.depth + quad * QUAD,
                [r * plan.depth for r in range(tile.rows)],
                QUAD,
            )
        if plan.depth > whole * QUAD:
            self._rest(tile, registers, row, start + whole // plan.packed_quads * tile.vectors * lanes * QUAD)
        return registers

    def _rest(self, tile: Tile, registers: Registers, row: Value, start: Value) -> None:
        """The last codes of a row that fill no quad, or no pair of packed ones: nothing behind the row is read."""
        depth, quads, done = self.plan.depth, self.plan.packed_quads, self.plan.whole_quads * QUAD
        tail = local_buffer(tile.rows * quads * QUAD, self.a.dtype)
        for r in range(tile.rows):
            for k in range(quads * QUAD):
                inside = done + k < depth
                code = self.a[(row + r) * depth + done + k] if inside else tirx.const(0, self.a.dtype)
                T.buffer_store(tail, code, [r * quads * QUAD + k])
        codes = [self.products.broadcasts(tail, index * QUAD, 1)[0] for index in range(tile.rows * quads)]
        for v in range(tile.vectors):
            for unit, weights in enumerate(self.products.weights(self.weights, start + v * self.isa.lanes * QUAD)):
                for r in range(tile.rows):
                    register, quad = v * tile.rows + r, codes[r * quads + unit]
                    registers[register] = self.products.multiply_add(registers[register], quad, weights)
