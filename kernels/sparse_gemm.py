"""Fully connected layers pruned by quads of inputs: a row-major activation times FKW weights, float.

A quad's weights for the filters of its group lie together, four numbers a filter, and so do its four inputs: a vector holds the
quads of several filters, is multiplied with the inputs repeated, and is summed over each four lanes once a group is done. With
one row every weight is used once: the kernel streams the arrays as FKW stores them, index in its smallest type, and is bound by
their bytes. Several rows share each weight. Where a row of inputs is larger than the first-level cache, all groups visit one
chunk of it after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tapdot.kernels import epilogue, expression
from tapdot.kernels.emit import Registers, Value, argument, constant, load, loop, multiply_add, ramp, splat, store
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.fkw import FKW
from tapdot.kernels.gemm import COLUMN_VECTOR, MEMORY_BYTES_PER_CYCLE, operand_kind
from tapdot.kernels.isa import Isa
from tapdot.kernels.layout import round_up
from tapdot.kernels.operands import SCALAR
from tapdot.kernels.parallel import pays
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.register_tile import FLOAT_BYTES, segments
from tapdot.kernels.sparse_units import group_cuts, not_empty
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function
from tapdot.kernels.workload import Operand, Workload

ARRAYS = range(1, 7)
REORDER, OFFSET, INDEX, _, WEIGHT, _ = ARRAYS
BIAS, EXTRAS = 7, 8
MOST_ROWS = 8
"""Rows that share a weight; more of them are further tiles."""
STREAMED_SUMS = 8
"""Independent sums: the latency of a multiply-add times two of them a cycle."""
MOST_SPLITS = 64
CHUNKS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
CHUNK_BYTES = 16 * 1024
"""Of the first-level cache, what inputs may take beside the weights that stream through it."""


@dataclass(frozen=True)
class Plan:
    """A workload of ``SparseGemm`` cut for a target.

    ``rows`` of a tile, ``quads`` of one step, ``chunks`` of the inputs, ``splits`` of the groups among threads.
    """

    workload: Workload
    isa: Isa
    rows: int
    quads: int
    chunks: int
    splits: int

    @classmethod
    def of(cls, workload: Workload, config: Config, target: Target) -> Plan:
        return cls(workload, target.isa, config["rows"], config["quads"], config["chunks"], config["splits"])

    def operand(self, index: int) -> Operand:
        """A constant operand."""
        found = self.workload.inputs[index]
        assert found is not None
        return found

    @property
    def groups(self) -> int:
        """Share groups of columns of the result."""
        return self.operand(REORDER).shape[0]

    @property
    def share(self) -> int:
        """Columns of a group."""
        return self.operand(WEIGHT).shape[1]

    @property
    def batch(self) -> int:
        """Rows of the result."""
        return self.workload.output.shape[0]

    @property
    def depth(self) -> int:
        """Inputs of a row."""
        return self.operand(0).shape[1]

    @property
    def row_pitch(self) -> int:
        """Inputs of a row, whole quads."""
        return round_up(self.depth, KEPT)

    @property
    def chunk(self) -> int:
        """Quads of inputs in a chunk."""
        return -(-self.row_pitch // KEPT // self.chunks)

    def starts(self, stored: FKW) -> np.ndarray:
        """``[chunks * groups + 1]``: where the quads of every group in every chunk begin, once they are sorted by chunk."""
        counts = np.zeros((self.chunks, self.groups), np.int64)
        np.add.at(counts, (stored.index.astype(np.int64) // self.chunk, stored.group_ids), 1)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)

    def order(self, starts: np.ndarray) -> np.ndarray:
        """``[nk]``: FKW's number of every quad, chunk after chunk; inside a group FKW has the chunks in order too."""
        counts = np.diff(starts).reshape(self.chunks, self.groups)
        groups = np.repeat(np.tile(np.arange(self.groups), self.chunks), counts.reshape(-1))
        return np.argsort(np.argsort(groups, kind="stable"), kind="stable")

    @cached_property
    def lanes(self) -> int:
        """Lanes of a vector of weights: whole quads of one group."""
        return min(self.isa.lanes, KEPT * self.share)

    @property
    def vectors(self) -> int:
        """Vectors of a quad's weights."""
        return KEPT * self.share // self.lanes

    @property
    def copies(self) -> int:
        """Sets of sums, taken in turn."""
        room = (self.isa.registers - 3) // (self.rows * self.vectors)
        return max(1, min(self.quads, room, -(-STREAMED_SUMS // (self.rows * self.vectors))))

    def cycles(self) -> float:
        """Estimated cycles on one core."""
        weights = self.operand(WEIGHT).elements
        bytes_read = weights * (4 + 2 / (KEPT * self.share))
        return max(bytes_read / MEMORY_BYTES_PER_CYCLE, weights * self.batch / self.lanes / self.isa.fma_per_cycle)


class SparseFullyConnected(Family):
    """``SparseGemm`` of a row-major float ``[M, K]``.

    Configuration: see :class:`Plan`.
    """

    name = "sparse_gemm"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "SparseGemm" or any(operand is None for operand in workload.inputs[:BIAS]):
            return False
        a, weight = workload.inputs[0], workload.inputs[WEIGHT]
        assert a is not None and weight is not None
        extras = workload.inputs[EXTRAS:]
        tree = expression.parse(workload["epilogue"])
        return (
            len(a.shape) == 2
            and a.dtype == weight.dtype == "float32"
            and not a.constant
            and KEPT * weight.shape[1] % min(target.isa.lanes, KEPT * weight.shape[1]) == 0
            and all(operand is None or operand.constant for operand in workload.inputs[1:EXTRAS])
            and all(x is not None and x.dtype == "float32" and operand_kind(x, workload.output.shape) for x in extras)
            and set(expression.operators(tree)) <= epilogue.supported_operators()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        return Ports(tuple(None if operand is None or operand.constant else Port() for operand in workload.inputs), (Port(),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        plan = Plan(workload, target.isa, 1, 1, 1, 1)
        return {
            "rows": [rows for rows in range(1, MOST_ROWS + 1) if rows <= plan.batch],
            "quads": [1, 2, 4, 8],
            "chunks": [chunks for chunks in CHUNKS if chunks * KEPT <= plan.depth],
            "splits": [splits for splits in (1, 2, 4, 8, 16, 32, MOST_SPLITS) if splits <= plan.groups],
        }

    def default_config(self, workload: Workload, target: Target) -> Config:
        plan = Plan(workload, target.isa, 1, 1, 1, 1)
        tiles = -(-plan.batch // MOST_ROWS)
        rows, splits = -(-plan.batch // tiles), 1
        while pays(plan.cycles()) and splits < 4 * target.cores and splits * 2 <= min(plan.groups, MOST_SPLITS):
            splits *= 2
        wanted = plan.depth * FLOAT_BYTES * min(rows, 2) // CHUNK_BYTES
        chunks = max(chunks for chunks in CHUNKS if chunks <= max(1, wanted))
        return {"rows": rows, "quads": 8 if rows * plan.vectors == 1 else 2, "chunks": chunks, "splits": splits}

    def cost(self, workload: Workload, target: Target) -> float:
        return Plan(workload, target.isa, min(MOST_ROWS, workload.output.shape[0]), 1, 1, 1).cycles()

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        plan = Plan.of(workload, config, target)
        return config if plan.rows * plan.vectors <= target.isa.registers - 3 else None

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan = Plan.of(workload, config, target)
        bias = np.zeros(plan.groups * plan.share, np.float32)
        if BIAS in constants:
            bias[:] = constants[BIAS]
        stored = FKW(*(constants[index] for index in ARRAYS))
        starts = plan.starts(stored)
        order = plan.order(starts)
        if plan.chunks > 1 and np.any(np.diff(stored.index[order].astype(np.int64) // plan.chunk) < 0):
            raise ValueError("Expected the quads of every group in ascending order of inputs, as FKW.compress leaves them.")
        moved = replace(stored, index=stored.index[order], weight=stored.weight[order])
        arrays = [not_empty(array.reshape(-1)) for name, array in moved.arrays.items() if name != "offset"]
        extras = [np.asarray(constants[index], np.float32).reshape(-1) for index in sorted(constants) if index >= EXTRAS]
        return [*arrays, starts, group_cuts(stored, plan.splits), bias, *extras]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = Plan.of(workload, config, target)
        arrays = dict(zip([index for index in ARRAYS if index != OFFSET], packed, strict=False))
        starts = packed[len(ARRAYS) - 1]
        back = np.argsort(plan.order(starts))
        counts = np.diff(starts).reshape(plan.chunks, plan.groups).sum(axis=0)
        arrays[OFFSET] = np.concatenate([[0], np.cumsum(counts)])
        arrays[INDEX] = arrays[INDEX][: len(back)][back]
        arrays[WEIGHT] = arrays[WEIGHT].reshape(-1, plan.share * KEPT)[: len(back)][back].reshape(-1)
        if workload.inputs[BIAS : BIAS + 1] not in ((), (None,)):
            arrays[BIAS] = packed[len(ARRAYS) + 1]
        extras = [index for index, x in enumerate(workload.inputs) if index >= EXTRAS and x is not None and x.constant]
        arrays |= dict(zip(extras, packed[len(ARRAYS) + 2 :], strict=True))
        found = {}
        for index, array in arrays.items():
            operand = workload.inputs[index]
            assert operand is not None
            found[index] = np.asarray(array)[: operand.elements].reshape(operand.shape).astype(operand.dtype)
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
        self.workload, self.isa, self.lanes = workload, target.isa, self.plan.lanes
        self.expression = expression.parse(workload["epilogue"])
        self.extras = {f"r{index}": operand for index, operand in enumerate(workload.inputs[EXTRAS:]) if operand is not None}

    def emit(self) -> None:
        plan = self.plan
        operands = {index: plan.operand(index) for index in ARRAYS}
        names = ("reorder", "offset", "index", "stride", "weight", "patterns")
        self.arrays = {
            index: argument(name, max(1, operands[index].elements), operands[index].dtype)
            for name, index in zip(names, ARRAYS, strict=True)
            if index != OFFSET
        }
        self.starts = argument("starts", plan.chunks * plan.groups + 1, "int32")
        self.cuts = argument("cuts", plan.splits + 1, "int32")
        self.bias = argument("bias", plan.groups * plan.share, "float32")
        self.buffers: dict[str, Buffer] = {}
        for name, operand in self.extras.items():
            if operand.constant:
                self.buffers[name] = argument(name, operand.elements, "float32")
        self.a = argument("a", plan.batch * plan.depth, "float32")
        for name, operand in self.extras.items():
            if not operand.constant:
                self.buffers[name] = argument(name, operand.elements, "float32")
        self.y = argument("y", self.workload.output.elements, "float32")
        if plan.rows > 1 or plan.row_pitch != plan.depth:
            self._gather_rows()
        with loop(plan.splits, parallel=pays(plan.cycles())) as part:
            for chunk in range(plan.chunks):
                with T.serial(self.cuts[part], self.cuts[part + 1]) as group:
                    begin, end = (T.Bind(self.starts[chunk * plan.groups + group + edge]) for edge in (0, 1))
                    first = T.Bind(T.Cast("int32", self.arrays[REORDER][group]) * plan.share)
                    for start, pieces, rows in segments(plan.batch, plan.rows):
                        with loop(pieces) as piece:
                            self._tile(start + piece * rows, rows, chunk, begin, end, first)

    def _gather_rows(self) -> None:
        """Copies the inputs so that the quads of a tile's rows lie side by side, with zeros where the last quad lacks inputs."""
        plan, a = self.plan, self.a
        self.a = T.alloc_buffer((plan.batch * plan.row_pitch,), "float32")
        whole, rest = divmod(plan.depth, KEPT)
        for start, pieces, rows in segments(plan.batch, plan.rows):
            with loop(pieces) as piece:
                first = T.Bind(start + piece * rows)
                into = T.Bind(first * plan.row_pitch)
                if whole:
                    with loop(whole) as quad:
                        for r in range(rows):
                            value = load(a, (first + r) * plan.depth + quad * KEPT, KEPT)
                            store(self.a, into + (quad * rows + r) * KEPT, value, KEPT)
                for r in range(rows):
                    for lane in range(KEPT if rest else 0):
                        value = a[(first + r) * plan.depth + whole * KEPT + lane] if lane < rest else T.float32(0)
                        T.buffer_store(self.a, value, [into + (whole * rows + r) * KEPT + lane])

    def _tile(self, row: Value, rows: int, chunk: int, begin: Value, end: Value, first: Value) -> None:
        """Some rows of the columns of a group, as far as the inputs of a chunk go."""
        plan = self.plan
        sums = Registers(rows * plan.vectors * plan.copies, self.lanes)
        for index in range(sums.count):
            sums[index] = constant(0.0, self.lanes)
        start = T.Bind(row * plan.row_pitch)
        whole = T.Bind((end - begin) // plan.quads)
        with T.serial(whole) as step:
            for quad in range(plan.quads):
                self._quad(sums, rows, start, begin + step * plan.quads + quad, quad % plan.copies)
        if plan.quads > 1:
            with T.serial(begin + whole * plan.quads, end) as rest:
                self._quad(sums, rows, start, rest, 0)
        for r in range(rows):
            per_copy = rows * plan.vectors
            values = []
            for vector in range(plan.vectors):
                value = sums[r * plan.vectors + vector]
                for copy in range(1, plan.copies):
                    value = value + sums[copy * per_copy + r * plan.vectors + vector]
                values.append(T.Bind(value))
            self._finish(values, row + r, chunk, first)

    def _quad(self, sums: Registers, rows: int, start: Value, quad: Value, copy: int) -> None:
        """The multiply-adds of one quad of inputs, for the columns of a group and the rows of a tile."""
        plan, lanes = self.plan, self.lanes
        place = T.Bind(T.Cast("int32", self.arrays[INDEX][quad]) * (KEPT * rows) + start)
        base = T.Bind(quad * (KEPT * plan.share))
        weights = [load(self.arrays[WEIGHT], base + vector * lanes, lanes) for vector in range(plan.vectors)]
        for r in range(rows):
            inputs = load(self.a, place + r * KEPT, KEPT)
            if lanes > KEPT:
                inputs = T.Bind(T.Shuffle([inputs] * (lanes // KEPT), list(range(lanes))))
            for vector, weight in enumerate(weights):
                index = (copy * rows + r) * plan.vectors + vector
                sums[index] = multiply_add(self.isa, weight, inputs, sums[index], lanes)

    def _finish(self, values: Sequence[Value], row: Value, chunk: int, first: Value) -> None:
        """Sums over the lanes of every filter; after the last chunk the epilogue. Sums wait in the result."""
        plan, share = self.plan, self.plan.share
        added = T.Bind(self._columns(values, 0) + self._columns(values, 2))
        place = T.Bind(row * (plan.groups * share) + first)
        column_sums = T.Bind(added + (self.y[ramp(place, share)] if chunk else self.bias[ramp(first, share)]))
        if chunk < plan.chunks - 1:
            store(self.y, place, column_sums, share)
            return
        operands = {"acc": column_sums}
        for name, operand in self.extras.items():
            kind, buffer = operand_kind(operand, self.workload.output.shape), self.buffers[name]
            if kind == SCALAR:
                operands[name] = T.Bind(splat(buffer[0], share))
            else:
                operands[name] = load(buffer, first if kind == COLUMN_VECTOR else place, share)
        store(self.y, place, epilogue.emit(self.expression, operands, self.isa, share), share)

    def _columns(self, values: Sequence[Value], half: int) -> Value:
        """Half of every filter's four lanes, added: a vector of the group's columns."""
        share = self.plan.share
        parts = []
        for lane in (half, half + 1):
            picked = [column * KEPT + lane for column in range(share)]
            parts.append(T.Bind(T.Shuffle(list(values), picked)))
        return parts[0] + parts[1]
