"""Fully connected layers of codes whose weights are pruned by quads of inputs and stored as FKW (``kernels.fkw``).

The lists of a share group are one stream: for every vector of quads the kernel reads their indices and gathers their codes once,
and every filter of the group takes a dot of them. A lane sums whatever quads fall to it; the lanes of sixteen outputs are summed
together. Lists are stored without padding: what a vector reads beyond the end of a list is replaced by zeros. On a core with
wide vectors the stream of weights comes from memory as fast as it can; it is asked for well ahead of the gathers.

Outputs are computed in their natural order, whatever the visiting order of the groups: they meet the epilogue as vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Registers, Value, argument, load, local_buffer, loop, prefetch, store, when
from tapdot.kernels.estimates import streaming
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.fkw import FKW, smallest_index
from tapdot.kernels.gemm import MEMORY_BYTES_PER_CYCLE
from tapdot.kernels.integer_epilogue import IntegerEpilogue
from tapdot.kernels.integer_operands import BLOCK
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.gathered_dots import QUAD, GatheredDots, sums_of_lanes
from tapdot.kernels.layout import CODES
from tapdot.kernels.parallel import pays
from tapdot.kernels.patterns import QUAD as QUAD_PATTERN
from tapdot.kernels.register_tile import segments
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function
from tapdot.kernels.workload import Workload

REORDER, OFFSET, INDEX, STRIDE, WEIGHT, PATTERNS, BIAS, EXTRAS = range(1, 9)
"""The operands of ``QSparseGemm`` after its input."""
TASKS_PER_CORE = 4
SLACK = 64
"""Bytes behind weights and indices that a last vector may read."""
QUAD_CYCLES = 0.8
"""To gather one quad."""
LIST_CYCLES = 30.0
"""Of a list besides its whole vectors: its last quads, its end, which is seldom foreseen, and the sums of its lanes."""
LINE = 64
"""Bytes in a cache line."""


@dataclass(frozen=True)
class Plan:
    """Sizes of one layer."""

    workload: Workload
    isa: Isa

    def _shape(self, operand: int) -> tuple[int, ...]:
        return self.workload.inputs[operand].shape  # type: ignore[union-attr]

    @property
    def rows(self) -> int:
        return self.workload.output.shape[0]

    @property
    def depth(self) -> int:
        return self._shape(0)[1]

    @property
    def columns(self) -> int:
        return self.workload.output.shape[1]

    @property
    def kernels(self) -> int:
        """Quads stored, each ``share`` times four weights."""
        return self._shape(WEIGHT)[0]

    @property
    def share(self) -> int:
        return self._shape(WEIGHT)[1]

    @property
    def quads(self) -> int:
        """Quads of inputs; the last may be partly filled."""
        return -(-self.depth // QUAD)

    @property
    def blocks(self) -> int:
        """Blocks of outputs."""
        return -(-self.columns // BLOCK)

    @property
    def groups(self) -> int:
        """Share groups of whole blocks."""
        return self.blocks * BLOCK // self.share

    @cached_property
    def index_dtype(self) -> str:
        """Indices are offsets of codes; the last quad begins inside the one before it where it is not full."""
        return smallest_index(self.depth - QUAD).name

    @property
    def missing(self) -> int:
        """Codes that the last quad lacks; its weights lie that many places later."""
        return -self.depth % QUAD

    def tasks(self, target: Target) -> int:
        """Into how many runs of blocks the layer is cut for threads."""
        return max(1, min(self.blocks, TASKS_PER_CORE * target.cores))


class IntegerSparseFullyConnected(Family):
    """``QSparseGemm`` of row-major codes ``[M, K]``, K at least 4, with int8 weights pruned by quads.

    Configuration: ``rows`` that share one reading of a list; ``ahead``: how many bytes of weights ahead memory is asked for (0:
    not at all).
    """

    name = "integer_sparse_gemm"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "QSparseGemm" or any(operand is None for operand in workload.inputs[:BIAS]):
            return False
        a, *arrays = workload.inputs[:BIAS]
        bias = workload.inputs[BIAS] if len(workload.inputs) > BIAS else None
        weight, patterns = workload.inputs[WEIGHT], workload.inputs[PATTERNS]
        assert a is not None and weight is not None and patterns is not None
        return (
            len(a.shape) == 2
            and a.shape[1] >= QUAD
            and a.dtype in CODES
            and not a.constant
            and all(operand is not None and operand.constant for operand in arrays)
            and weight.stored_dtype == "int8"
            and BLOCK % weight.shape[1] == 0
            and patterns.shape == QUAD_PATTERN.shape
            and (bias is None or (bias.constant and bias.elements == workload.output.shape[1]))
            and IntegerEpilogue(workload, EXTRAS, target.isa).served()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        return Ports(tuple(None if operand is None or operand.constant else Port() for operand in workload.inputs), (Port(),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        plan = Plan(workload, target.isa)
        return {"rows": list(range(1, self._most_rows(plan) + 1)), "ahead": (0, 2048, 4096, 8192, 16384)}

    def default_config(self, workload: Workload, target: Target) -> Config:
        plan = Plan(workload, target.isa)
        return {"rows": self._most_rows(plan), "ahead": 8192 if target.isa.lanes > QUAD else 0}

    @staticmethod
    def _most_rows(plan: Plan) -> int:
        """Rows whose sums stay in registers with one vector of codes each."""
        room = plan.isa.registers - 4
        return max(1, min(plan.rows, room // (plan.share + 1)))

    def cost(self, workload: Workload, target: Target) -> float:
        """Gathers and dots of every list, the end of each, or the bytes where no cache holds them."""
        plan, lanes = Plan(workload, target.isa), target.isa.lanes
        rate = GatheredDots(target.isa).vectors.dots_per_cycle
        gathers = plan.kernels * plan.rows * (QUAD_CYCLES + plan.share / (lanes * rate))
        return max(gathers + plan.groups * LIST_CYCLES, streaming(plan.kernels * (plan.share * QUAD + 2)))

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        """Indices, weights (:meth:`_parts`), list starts, task starts, the visiting order, biases."""
        plan = Plan(workload, target.isa)
        fkw = FKW(*(constants[operand] for operand in range(REORDER, BIAS)))
        counts = np.diff(fkw.offset.astype(np.int64))
        natural = np.argsort(fkw.reorder, kind="stable")
        starts = np.zeros(plan.groups + 1, np.int32)
        starts[1 : fkw.groups + 1] = np.cumsum(counts[natural])
        starts[fkw.groups + 1 :] = starts[fkw.groups]
        order = np.argsort(fkw.reorder.astype(np.int64)[fkw.group_ids], kind="stable")  # of the kernels
        quads, weight = fkw.index.astype(np.int64)[order], fkw.weight[order]
        weight = self._last_quads(plan, quads, weight, plan.missing)
        indices = np.zeros(plan.kernels + SLACK, plan.index_dtype)
        indices[: plan.kernels] = np.minimum(quads * QUAD, plan.depth - QUAD)
        weights = np.zeros(plan.kernels * plan.share * QUAD + SLACK, np.int8)
        weights[: weights.size - SLACK] = np.concatenate([part.reshape(-1) for part in self._parts(plan, weight, starts)])
        bias = np.zeros(plan.blocks * BLOCK, np.int32)
        given = constants.get(BIAS, np.zeros(plan.columns, np.int32)).reshape(-1)
        bias[: plan.columns] = self._folded(workload, target, fkw, given, 1)
        epilogue = IntegerEpilogue(workload, EXTRAS, target.isa).pack(constants)
        return [indices, weights, starts, self._task_starts(plan, target, starts), constants[REORDER], bias, *epilogue]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = Plan(workload, target.isa)
        indices, weights, starts, _, reorder, bias, *rest = (np.asarray(array) for array in packed)
        index = indices[: plan.kernels].astype(np.int64)
        flat = weights[: plan.kernels * plan.share * QUAD]
        weight = np.empty((plan.kernels, plan.share, QUAD), np.int8)
        done = 0
        for part in self._parts(plan, weight, starts):
            part[...] = flat[done : done + part.size].reshape(part.shape)
            done += part.size
        quads = -(-index // QUAD)
        weight = self._last_quads(plan, quads, weight, -plan.missing)
        visits = reorder.astype(np.int64)
        counts = np.diff(starts)[visits]
        order = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in visits] or [np.zeros(0)]).astype(
            np.int64
        )
        arrays = {
            REORDER: reorder,
            OFFSET: np.concatenate([[0], np.cumsum(counts)]),
            INDEX: quads[order],
            STRIDE: np.stack([np.zeros_like(counts), counts], axis=1),
            WEIGHT: weight[order],
            PATTERNS: QUAD_PATTERN,
        }
        found = {operand: self._typed(workload, operand, array) for operand, array in arrays.items()}
        if len(workload.inputs) > BIAS and workload.inputs[BIAS] is not None:
            fkw = FKW(*(found[operand] for operand in range(REORDER, BIAS)))
            found[BIAS] = self._typed(workload, BIAS, self._folded(workload, target, fkw, bias[: plan.columns], -1))
        return {**found, **IntegerEpilogue(workload, EXTRAS, target.isa).unpack(rest)}

    @staticmethod
    def _parts(plan: Plan, weight: np.ndarray, starts: np.ndarray) -> Iterator[np.ndarray]:
        """Views of ``[kernels, share, 4]`` in the order of memory.

        Of every list the whole vectors, ``[vectors, share, lanes, 4]``, then the rest, ``[share, quads, 4]``.
        """
        lanes = plan.isa.lanes
        for start, end in pairwise(starts):
            middle = end - (end - start) % lanes
            yield weight[start:middle].reshape(-1, lanes, plan.share, QUAD).swapaxes(1, 2)
            yield weight[middle:end].swapaxes(0, 1)

    @staticmethod
    def _last_quads(plan: Plan, quads: np.ndarray, weight: np.ndarray, places: int) -> np.ndarray:
        """The weights ``[kernels, share, 4]`` with those of the last quad moved some places to the right."""
        last = quads == plan.quads - 1
        return np.where(last[:, np.newaxis, np.newaxis], np.roll(weight, places, axis=2), weight)

    @staticmethod
    def _typed(workload: Workload, operand: int, array: np.ndarray) -> np.ndarray:
        """An array in the type and shape of an operand."""
        wanted = workload.inputs[operand]
        assert wanted is not None
        return np.ascontiguousarray(array.astype(wanted.stored_dtype).reshape(wanted.shape))

    @staticmethod
    def _folded(workload: Workload, target: Target, fkw: FKW, bias: np.ndarray, sign: int) -> np.ndarray:
        """The bias with the zero point and what is added to stored codes folded in (``sign`` 1), or taken out again (-1)."""
        a = workload.inputs[0]
        assert a is not None
        sums = np.zeros((fkw.groups, fkw.share), np.int64)
        np.add.at(sums, fkw.reorder.astype(np.int64)[fkw.group_ids], fkw.weight.sum(axis=2, dtype=np.int64))
        offset = GatheredDots(target.isa).operand_offset(a.stored_dtype)
        return numerics.folded_bias(bias, sign * sums.reshape(-1), workload["zero_point"], offset)

    @staticmethod
    def _task_starts(plan: Plan, target: Target, starts: np.ndarray) -> np.ndarray:
        """The first block of every task, and the end: each task has about as many quads as another."""
        tasks, per_block = plan.tasks(target), BLOCK // plan.share
        at_blocks = starts[::per_block].astype(np.int64) + np.arange(plan.blocks + 1)
        wanted = np.arange(tasks + 1) * at_blocks[-1] / tasks
        return np.searchsorted(at_blocks, wanted).astype(np.int32)

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Emitter(workload, config, target).emit()
        return finished[0]


class _Emitter:
    """Writes the loops of one layer."""

    def __init__(self, workload: Workload, config: Config, target: Target) -> None:
        self.plan, self.isa, self.target = Plan(workload, target.isa), target.isa, target
        self.rows, self.ahead = config["rows"], config["ahead"]
        self.workload = workload
        self.dots = GatheredDots(target.isa)
        self.epilogue = IntegerEpilogue(workload, EXTRAS, target.isa)

    def emit(self) -> None:
        plan = self.plan
        tasks = plan.tasks(self.target)
        self.indices = argument("indices", plan.kernels + SLACK, plan.index_dtype)
        self.weights = argument("weights", plan.kernels * plan.share * QUAD + SLACK, "int8")
        self.starts = argument("starts", plan.groups + 1, "int32")
        task_starts = argument("tasks", tasks + 1, "int32")
        argument("reorder", self.workload.inputs[REORDER].elements, self.workload.inputs[REORDER].dtype)  # type: ignore[union-attr]
        self.bias = argument("bias", plan.blocks * BLOCK, "int32")
        self.epilogue.declare_constants()
        self.a = argument("a", plan.rows * plan.depth, self.workload.inputs[0].stored_dtype)  # type: ignore[union-attr]
        self.epilogue.declare_variables()
        self.y = argument("y", self.workload.output.elements, self.workload.output.stored_dtype)
        cycles = max(
            plan.kernels * (plan.share * QUAD + 2) / MEMORY_BYTES_PER_CYCLE,
            plan.kernels * plan.rows * (1 + plan.share / self.isa.lanes),
        )
        with loop(tasks, parallel=tasks > 1 and pays(cycles)) as task:
            first = T.Bind(task_starts[task])
            with T.serial(task_starts[task + 1] - first) as number:
                block = T.Bind(first + number)
                self._any_block(block)

    def _any_block(self, block: Value) -> None:
        last, rest = self.plan.blocks - 1, self.plan.columns % BLOCK
        if not rest:
            self._block(block, None)
            return
        with T.If(block < last):
            with T.Then():
                self._block(block, None)
            with T.Else():
                self._block(last, rest)

    def _block(self, block: Value, filled: int | None) -> None:
        """Every row of sixteen outputs, of which ``filled`` are outputs (None: all)."""
        plan, lanes = self.plan, self.isa.lanes
        vectors, per_block = BLOCK // lanes, BLOCK // plan.share
        channel = block * BLOCK
        channel_values = self.epilogue.channels(channel, vectors)
        groups = per_block if filled is None else filled // plan.share
        for row_start, pieces, rows in segments(plan.rows, self.rows):
            with loop(pieces) as piece:
                row = row_start + piece * rows
                sums = local_buffer(rows * BLOCK * lanes, "int32")
                with loop(groups) as group:
                    self._group(block * per_block + group, group, row, rows, sums)
                for r in range(rows):
                    self._finish(sums, r, groups * plan.share, channel, channel_values, row + r, filled)

    def _finish(
        self,
        sums: Buffer,
        r: int,
        outputs: int,
        channel: Value,
        channel_values: Sequence[Mapping[str, list[Value]]],
        row: Value,
        filled: int | None,
    ) -> None:
        """The results of row ``r`` of the tile from the lane sums of ``outputs`` outputs."""
        lanes, values = self.isa.lanes, []
        for first in range(0, BLOCK, lanes):
            own = [
                load(sums, (r * BLOCK + output) * lanes, lanes) if output < outputs else self.dots.vectors.number(0)
                for output in range(first, first + lanes)
            ]
            values.append(T.Bind(sums_of_lanes(own, lanes) + load(self.bias, channel + first, lanes)))
        self.epilogue.emit_store(channel_values, values, self.y, row, channel, filled=filled)

    def _group(self, group: Value, place: Value, row: Value, rows: int, sums: Buffer) -> None:
        """The lane sums of one share group's filters, the ``place``-th of its block, written to ``sums``."""
        plan, lanes = self.plan, self.isa.lanes
        size = plan.share * lanes * QUAD
        registers = Registers(rows * plan.share, lanes, "int32")
        for register in range(registers.count):
            registers[register] = self.dots.vectors.number(0)
        start = T.Bind(self.starts[group].astype("int64"))
        count = T.Bind(self.starts[group + 1] - self.starts[group])
        weights = T.Bind(start * (plan.share * QUAD))
        whole = T.Bind(count // lanes)
        with T.serial(whole) as vector:
            if self.ahead:
                for line in range(0, size, LINE):
                    prefetch(self.weights, weights + vector * size + self.ahead + line)
            self._vector(registers, start + vector * lanes, weights + vector * size, row, rows, None)
        rest = T.Bind(count - whole * lanes)
        with when(rest > 0):
            self._vector(registers, start + whole * lanes, weights + whole * size, row, rows, rest)
        for r in range(rows):
            for s in range(plan.share):
                store(sums, (r * BLOCK + place * plan.share + s) * lanes, registers[r * plan.share + s], lanes)

    def _vector(self, registers: Registers, index: Value, weights: Value, row: Value, rows: int, filled: Value) -> None:
        """The dots of one vector of quads, of which ``filled`` belong to the list (None: all)."""
        plan, dots, lanes = self.plan, self.dots, self.isa.lanes
        places = dots.indices(self.indices, index)
        codes = []
        for r in range(rows):
            own = dots.gather(self.a, [place + (row + r) * plan.depth for place in places])
            codes.append(own if filled is None else dots.first(own, filled))
        for s in range(plan.share):
            offset = s * (lanes if filled is None else filled) * QUAD
            own = load(self.weights, weights + offset, dots.size)
            for r in range(rows):
                register = r * plan.share + s
                registers[register] = dots.dot(registers[register], codes[r], own, self.a.dtype)
