"""Fully connected layers: a row-major activation times a constant matrix.

One row is a stream of weights: every weight is used once, so the kernel reads them in exactly the order they lie in and keeps
enough independent sums that arithmetic never waits. Several rows share each weight through the register tile of the convolutions,
with rows in the place of positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from tapdot.kernels import epilogue, expression
from tapdot.kernels.emit import (
    Registers,
    Value,
    argument,
    broadcasts,
    constant,
    load,
    load_partial,
    loop,
    multiply_add,
    splat,
    store,
    store_partial,
)
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.layout import round_up
from tapdot.kernels.operands import FULL, SCALAR
from tapdot.kernels.parallel import pays
from tapdot.kernels.register_tile import Products, Tile, accumulate, channel_step, segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function
from tapdot.kernels.workload import Operand, Workload

COLUMN_VECTOR = "columns"
"""An operand with one number a column of the result."""
MEMORY_BYTES_PER_CYCLE = 8.0
"""What one core reads from memory, roughly; it only decides whether threads pay."""
STREAMED_SUMS = 8
"""Independent sums of a stream of weights: the latency of a multiply-add times two of them a cycle."""


def operand_kind(operand: Operand, shape: tuple[int, ...]) -> str | None:
    """How an operand broadcasts to a result ``[M, N]``: scalar, one number a column, full, or None (not served)."""
    own = (1,) * (2 - len(operand.shape)) + operand.shape
    if own == (1, 1):
        return SCALAR
    if own == (1, shape[1]):
        return COLUMN_VECTOR
    return FULL if own == shape and not operand.constant else None


@dataclass(frozen=True)
class Plan:
    """The matrix cut into panels of vectors: ``[panel][K][vectors, lanes]``, the last panel perhaps narrower."""

    workload: Workload
    lanes: int
    vectors_per_panel: int

    @classmethod
    def of(cls, workload: Workload, config: Config, target: Target) -> Plan:
        return cls(workload, target.isa.lanes, config["vectors"])

    @property
    def rows(self) -> int:
        return self.workload.output.shape[0]

    @property
    def depth(self) -> int:
        return self.workload.inputs[0].shape[1]  # type: ignore[union-attr]

    @property
    def columns(self) -> int:
        return self.workload.output.shape[1]

    @property
    def vectors(self) -> int:
        return -(-self.columns // self.lanes)

    def panels(self) -> list[tuple[slice, int]]:
        """(columns of the matrix, columns of the panel with padding) of every panel."""
        cuts = segments(self.vectors, self.vectors_per_panel)
        return [
            (
                slice((start + piece * size) * self.lanes, min((start + (piece + 1) * size) * self.lanes, self.columns)),
                size * self.lanes,
            )
            for start, pieces, size in cuts
            for piece in range(pieces)
        ]


class FullyConnected(Family):
    """``FusedGemm`` of a row-major ``[M, K]`` with a constant ``[K, N]``.

    Configuration: ``vectors`` of columns in a panel and ``rows`` of the register tile.
    """

    name = "gemm"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "FusedGemm" or any(operand is None for operand in workload.inputs[:2]):
            return False
        a, w = workload.inputs[:2]
        assert a is not None and w is not None
        extras, shape = workload.inputs[3:], workload.output.shape
        bias = workload.inputs[2] if len(workload.inputs) > 2 else None
        tree = expression.parse(workload["epilogue"])
        return (
            len(a.shape) == 2
            and a.dtype == "float32"
            and not a.constant
            and w.constant
            and (bias is None or (bias.constant and bias.elements == shape[1]))
            and all(extra is not None and extra.dtype == "float32" and operand_kind(extra, shape) for extra in extras)
            and set(expression.operators(tree)) <= epilogue.supported_operators()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        return Ports(tuple(None if operand is None or operand.constant else Port() for operand in workload.inputs), (Port(),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        plan = Plan(workload, target.isa.lanes, 1)
        return {
            "vectors": [v for v in (1, 2, 3, 4, 6, 8) if v <= plan.vectors],
            "rows": [r for r in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14) if r <= plan.rows],
        }

    def default_config(self, workload: Workload, target: Target) -> Config:
        isa, plan = target.isa, Plan(workload, target.isa.lanes, 1)
        if plan.rows == 1:
            return {"vectors": min(plan.vectors, STREAMED_SUMS), "rows": 1}
        tiles = [
            tile
            for vectors, rows in product(range(1, 9), range(1, 25))
            if vectors <= plan.vectors and rows <= plan.rows and (tile := Tile(vectors, rows, 1)).fits(isa)
        ]

        def cycles(tile: Tile) -> float:
            cuts = product(segments(plan.vectors, tile.vectors), segments(plan.rows, tile.rows))
            return sum(v_count * r_count * Tile(v, r, 1).cycles(isa) for (_, v_count, v), (_, r_count, r) in cuts)

        best = min(tiles or [Tile(1, 1, 1)], key=cycles)
        return {"vectors": best.vectors, "rows": best.rows}

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        return config if Tile(config["vectors"], config["rows"], 1).fits(target.isa) else None

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan = Plan.of(workload, config, target)
        panels = []
        for columns, padded in plan.panels():
            panel = np.zeros((plan.depth, padded), np.float32)
            panel[:, : columns.stop - columns.start] = constants[1][:, columns]
            panels.append(panel.reshape(-1))
        vectors = [self._padded(constants[index], plan.lanes) for index in sorted(constants) if index >= 2]
        if 2 not in constants:
            vectors.insert(0, np.zeros(plan.vectors * plan.lanes, np.float32))
        return [np.concatenate(panels), *vectors]

    @staticmethod
    def _padded(vector: np.ndarray, lanes: int) -> np.ndarray:
        flat = np.asarray(vector, np.float32).reshape(-1)
        return np.concatenate([flat, np.zeros(round_up(flat.size, lanes) - flat.size, np.float32)])

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = Plan.of(workload, config, target)
        weight = np.empty((plan.depth, plan.columns), np.float32)
        offset = 0
        for columns, padded in plan.panels():
            panel = packed[0][offset : offset + plan.depth * padded].reshape(plan.depth, padded)
            weight[:, columns] = panel[:, : columns.stop - columns.start]
            offset += plan.depth * padded
        found = {1: weight}
        has_bias = len(workload.inputs) > 2 and workload.inputs[2] is not None
        indices = ([2] if has_bias else []) + [i for i, x in enumerate(workload.inputs) if i > 2 and x is not None and x.constant]
        for index, array in zip(indices, packed[1 if has_bias else 2 :], strict=True):
            operand = workload.inputs[index]
            assert operand is not None
            found[index] = np.asarray(array[: operand.elements]).reshape(operand.shape)
        return found

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Emitter(workload, config, target).emit()
        return finished[0]


class _Emitter:
    """Writes the loops of one product."""

    def __init__(self, workload: Workload, config: Config, target: Target) -> None:
        self.plan = Plan.of(workload, config, target)
        self.tile_rows = config["rows"]
        self.workload, self.isa = workload, target.isa
        self.expression = expression.parse(workload["epilogue"])
        self.extras = {f"r{index}": operand for index, operand in enumerate(workload.inputs[3:]) if operand is not None}

    def emit(self) -> None:
        plan, lanes = self.plan, self.isa.lanes
        self.weights = argument("weights", plan.depth * plan.vectors * lanes, "float32")
        self.bias = argument("bias", plan.vectors * lanes, "float32")
        self.buffers: dict[str, Buffer] = {}
        for name, operand in self.extras.items():
            if operand.constant:
                self.buffers[name] = argument(name, round_up(operand.elements, lanes), "float32")
        self.a = argument("a", plan.rows * plan.depth, "float32")
        for name, operand in self.extras.items():
            if not operand.constant:
                self.buffers[name] = argument(name, operand.elements, "float32")
        self.y = argument("y", plan.rows * plan.columns, "float32")
        cycles = plan.depth * plan.vectors * lanes * max(4 / MEMORY_BYTES_PER_CYCLE, plan.rows / lanes / self.isa.fma_per_cycle)
        parallel = pays(cycles)
        whole = plan.columns // lanes
        for first, panels, vectors in segments(plan.vectors, plan.vectors_per_panel):
            partial = first + panels * vectors > whole
            if panels > partial:
                with loop(panels - partial, parallel=parallel) as panel:
                    self._panel(first + panel * vectors, vectors, lanes)
            if partial:
                self._panel(first + (panels - 1) * vectors, vectors, plan.columns - whole * lanes)

    def _panel(self, first: Value, vectors: int, filled: int) -> None:
        """Every row of a panel; ``filled`` lanes of its last vector are columns of the result."""
        start = T.Bind(first * self.isa.lanes * self.plan.depth)
        for row_start, pieces, rows in segments(self.plan.rows, self.tile_rows):
            with loop(pieces) as piece:
                row = row_start + piece * rows
                single = rows == 1
                values = self._stream(row, first, vectors, start) if single else self._tile(row, rows, first, vectors, start)
                for (v, r), value in values.items():
                    self._finish(row + r, first + v, value, self.isa.lanes if v < vectors - 1 else filled)

    def _stream(self, row: Value, first: Value, vectors: int, start: Value) -> dict[tuple[int, int], Value]:
        """One row: consecutive weights, sums split over ``depth`` where the vectors alone are too few to hide latency.

        A narrower last panel splits them no further: classes with equal weights get equal logits, wherever they stand.
        """
        isa, depth = self.isa, self.plan.depth
        panel, copies = vectors * isa.lanes, max(1, STREAMED_SUMS // self.plan.vectors_per_panel)
        registers = Registers(vectors * copies, isa.lanes)
        for v in range(vectors):
            registers[v] = load(self.bias, (first + v) * isa.lanes, isa.lanes)
        for index in range(vectors, vectors * copies):
            registers[index] = constant(0.0, isa.lanes)
        step = max(isa.lanes if isa.multiply_by_lane else 1, copies)
        for offset, pieces, count in segments(depth, step):
            with loop(pieces) as piece:
                k = offset + piece * count
                weight = T.Bind(start + k * panel)
                scalars = broadcasts(isa, self.a, row * depth + k, count)
                for index in range(count):
                    for v in range(vectors):
                        register = index % copies * vectors + v
                        vector = load(self.weights, weight + index * panel + v * isa.lanes, isa.lanes)
                        registers[register] = multiply_add(isa, vector, scalars[index], registers[register])
        sums: dict[tuple[int, int], Value] = {}
        for v in range(vectors):
            value = registers[v]
            for copy in range(1, copies):
                value = value + registers[copy * vectors + v]
            sums[v, 0] = T.Bind(value)
        return sums

    def _tile(self, row: Value, rows: int, first: Value, vectors: int, start: Value) -> dict[tuple[int, int], Value]:
        """Several rows at once."""
        isa, depth = self.isa, self.plan.depth
        tile = Tile(vectors, rows, 1)
        registers = Registers(tile.accumulators, isa.lanes)
        for v in range(vectors):
            bias = load(self.bias, (first + v) * isa.lanes, isa.lanes)
            for r in range(rows):
                registers[v * rows + r] = bias
        step = channel_step(isa, tile.accumulators, depth, 16, aligned=True)
        accumulate(
            Products.of_floats(isa),
            tile,
            registers,
            self.weights,
            start,
            self.a,
            (),
            depth,
            step,
            lambda tap, k: row * depth + k,
            [r * depth for r in range(rows)],
            1,
        )
        return {(v, r): registers[v * rows + r] for v in range(vectors) for r in range(rows)}

    def _finish(self, row: Value, vector: Value, value: Value, filled: int) -> None:
        """Epilogue and store of one vector of columns."""
        lanes, columns = self.isa.lanes, self.plan.columns
        place = row * columns + vector * lanes
        operands = {"acc": T.Bind(value)}
        for name, operand in self.extras.items():
            kind, buffer = operand_kind(operand, self.workload.output.shape), self.buffers[name]
            if kind == SCALAR:
                operands[name] = splat(buffer[0], lanes)
                continue
            start = vector * lanes if kind == COLUMN_VECTOR else place
            exact = filled == lanes or operand.constant
            operands[name] = load(buffer, start, lanes) if exact else load_partial(Registers(1, lanes), buffer, start, filled)
        result = epilogue.emit(self.expression, operands, self.isa, lanes)
        if filled == lanes:
            store(self.y, place, result, lanes)
        else:
            store_partial(Registers(1, lanes), self.y, place, result, filled)
