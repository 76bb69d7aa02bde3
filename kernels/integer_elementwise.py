"""Integer chains that no producer could take: residual sums, rescaled branches, products of codes, tables.

A chain over four dimensions runs over channel blocks of 16, position by position, or over the positions of planar rows
(:mod:`kernels.planar_chains`); of other ranks, over row-major memory. A table
alone needs no channels and no positions: whole vectors of bytes are looked up, wherever they stand in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from tapdot.kernels.elementwise import leaf_names
from tapdot.kernels.emit import Value, argument, loop, when, write_halo
from tapdot.kernels.expression import ACCUMULATOR, Apply, Leaf, operators, parse, tables
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.integer_epilogue import IntegerEpilogue
from tapdot.kernels.integer_operands import BLOCK, FULL, IntegerOperands
from tapdot.kernels.integer_rows import PositionEpilogue
from tapdot.kernels.isa.code_lookup import ENTRIES, as_stored, code_lookup, from_stored
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays, row_splits
from tapdot.kernels.planar_chains import PLANAR, emit_chain, in_planar_rows
from tapdot.kernels.register_tile import segments
from tapdot.kernels.relayout import Plane, copy_plane, copy_run
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function
from tapdot.kernels.vector_math.arithmetic import vector_of
from tapdot.kernels.workload import Operand, Workload

UNROLLED_POSITIONS = 4
"""Positions in the body of the innermost loop of a chain."""


class TableLookup(Family):
    """``Elementwise`` that is one ``Lookup`` of codes in a constant table, of any rank."""

    name = "table_lookup"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "Elementwise" or len(workload.inputs) != 2:
            return False
        codes, table = workload.inputs
        return (
            parse(workload["expression"]) == Apply("Lookup", (Leaf(ACCUMULATOR), Leaf("r0")))
            and codes is not None
            and table is not None
            and codes.dtype in CODES
            and table.dtype in CODES
            and codes.shape == workload.output.shape
            and (codes.constant, table.constant) == (False, True)
            and prod(table.shape) == ENTRIES
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        port = Port((BLOCK, 1)) if len(workload.output.shape) == 4 else Port()
        return Ports((port, None), (port,), uniform=len(workload.output.shape) == 4)

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        codes, _ = workload.inputs
        assert codes is not None
        return [as_stored(constants[1], codes.dtype, _offset(codes), _offset(workload.output))]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        codes, table = workload.inputs
        assert codes is not None and table is not None
        found = from_stored(np.asarray(packed[0]), table.dtype, codes.dtype, _offset(codes), _offset(workload.output))
        return {1: found.reshape(table.shape)}

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            self._emit(workload, target)
        return finished[0]

    @staticmethod
    def _emit(workload: Workload, target: Target) -> None:
        codes, result = workload.inputs[0], workload.output
        assert codes is not None
        lookup = code_lookup(target.isa, target.features)
        table = argument("table", ENTRIES, "uint8")
        x = argument("x", codes.elements, codes.stored_dtype)
        y = argument("y", result.elements, result.stored_dtype)
        registers = lookup.load(table)

        def convert(value: Value, lanes: int) -> Value:
            index = T.Cast(vector_of("uint8", lanes), value)
            found = table[T.Cast("int32", index)] if lanes == 1 else lookup.emit(index, registers)
            return T.Cast(vector_of(result.stored_dtype, lanes), found)

        if len(result.shape) != 4:
            copy_run(x, 0, y, 0, codes.elements, lookup.lanes, convert, any_lanes=False)
            return
        source, into = codes.layout or Layout(), result.layout or Layout()
        blocks = into.blocks(result.shape[1])
        with loop(result.shape[0] * blocks) as task:
            n, block = task // blocks, task % blocks
            write_halo(y, into, result.shape, n, block, result.stored_dtype, lookup.lanes)
            here, there = Plane(x, source, result.shape, n, block), Plane(y, into, result.shape, n, block)
            copy_plane(here, there, lookup.lanes, convert, any_lanes=False)


def _offset(operand: Operand) -> int:
    return operand.layout.code_offset if operand.layout is not None else 0


class IntegerChain(Family):
    """``Elementwise`` over codes and int32 values, with the operators of an integer epilogue."""

    name = "integer_elementwise"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "Elementwise" or not workload.inputs or any(operand is None for operand in workload.inputs):
            return False
        if not any(operand.dtype in CODES and not operand.constant for operand in workload.inputs if operand):
            return False
        epilogue = _epilogue(_as_matrix(workload), target)
        return epilogue.served() and FULL in epilogue.roles

    def ports(self, workload: Workload, target: Target) -> Ports:
        if len(workload.output.shape) == 4:
            if not _positions(workload, target).served():
                return Ports(tuple(_epilogue(workload, target).ports()), (Port((BLOCK,)),))
            inputs = [port and replace(port, blocks=_with_planar(port.blocks)) for port in _epilogue(workload, target).ports()]
            behind = [port and replace(port, behind=bool(port.blocks)) for port in inputs]
            return Ports(tuple(behind), (Port((BLOCK, PLANAR)),), uniform=True)
        return Ports(tuple(None if operand is None or operand.constant else Port() for operand in workload.inputs), (Port(),))

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        return _bound(workload, target).pack(constants)

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        found = _bound(workload, target).unpack(packed)
        return {index: array.reshape(workload.inputs[index].shape) for index, array in found.items()}  # type: ignore[union-attr]

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            if in_planar_rows(workload.output):
                emit_chain(workload, _positions(workload, target), _cycles(workload, target))
            elif len(workload.output.shape) == 4:
                _emit_blocks(workload, target)
            else:
                _emit_matrix(_as_matrix(workload), target)
        return finished[0]


def _epilogue(workload: Workload, target: Target) -> IntegerEpilogue:
    return IntegerEpilogue(workload, 0, target.isa, "expression", leaf_names(workload))


def _positions(workload: Workload, target: Target) -> PositionEpilogue:
    return PositionEpilogue(workload, 0, target.isa, "expression", leaf_names(workload))


def _bound(workload: Workload, target: Target) -> IntegerOperands:
    """The operands of a chain whose layouts have been chosen."""
    return _positions(workload, target) if in_planar_rows(workload.output) else _epilogue(_as_matrix(workload), target)


def _with_planar(blocks: tuple[int, ...]) -> tuple[int, ...]:
    return (*blocks, PLANAR) if blocks and PLANAR not in blocks else blocks


def _as_matrix(workload: Workload) -> Workload:
    """A chain of any rank but four whose operands are full, scalar or tables, as one over a row; else the workload itself."""
    shape = workload.output.shape
    if len(shape) == 4:
        return workload
    whole = (1, prod(shape))
    read_whole = tables(parse(workload["expression"]))
    inputs: list[Operand] = []
    for name, operand in zip(leaf_names(workload), workload.inputs, strict=True):
        assert operand is not None
        if name in read_whole:
            inputs.append(operand)
        elif prod(operand.shape) == 1:
            inputs.append(replace(operand, shape=(1, 1)))
        elif operand.shape == shape:
            inputs.append(replace(operand, shape=whole))
        else:
            return workload
    return replace(workload, inputs=tuple(inputs), outputs=(replace(workload.output, shape=whole),))


def _cycles(workload: Workload, target: Target) -> float:
    """Roughly what a chain costs: some cycles an operator and vector of int32."""
    return workload.output.elements / target.isa.lanes * 2 * (2 + len(operators(parse(workload["expression"]))))


def _arguments(workload: Workload, epilogue: IntegerEpilogue) -> Buffer:
    """Declares all arguments, the result last."""
    epilogue.declare_constants()
    epilogue.declare_variables()
    return argument("y", workload.output.elements, workload.output.stored_dtype)


def _emit_matrix(workload: Workload, target: Target) -> None:
    """Rows of a matrix, 16 columns at a time."""
    epilogue = _epilogue(workload, target)
    y = _arguments(workload, epilogue)
    rows, columns = workload.output.shape
    vectors = BLOCK // target.isa.lanes
    whole, rest = divmod(columns, BLOCK)
    with loop(rows) as row:
        if whole:
            with loop(whole, parallel=rows == 1 and pays(_cycles(workload, target))) as index:
                first = index * BLOCK
                epilogue.emit_store(epilogue.channels(first, vectors), [], y, row, first)
        if rest:
            first = whole * BLOCK
            epilogue.emit_store(epilogue.channels(first, vectors), [], y, row, first, filled=rest)


def _emit_blocks(workload: Workload, target: Target) -> None:
    """Channel blocks of 16, position by position."""
    epilogue = _epilogue(workload, target)
    y = _arguments(workload, epilogue)
    result, layout = workload.output, workload.output.layout or Layout(BLOCK)
    batch, channels, height, width = result.shape
    kind = result.stored_dtype
    full = [operand for operand, role in zip(epilogue.operands, epilogue.roles, strict=True) if role == FULL]
    dense = width > 1 and not any(operand.layout and operand.layout.halo for operand in (*full, result))
    rows, columns = (1, height * width) if dense else (height, width)
    blocks, parallel = layout.blocks(channels), pays(_cycles(workload, target))
    splits = row_splits(batch * blocks, rows, target.cores) if parallel else 1
    share = -(-rows // splits)
    with loop(batch * blocks * splits, parallel=parallel) as task:
        n, block, split = task // (splits * blocks), task // splits % blocks, task % splits
        first = block * BLOCK
        with when(split == 0, splits > 1):
            write_halo(y, layout, result.shape, n, block, kind, target.isa.lanes * 4 // np.dtype(kind).itemsize)
        constants = epilogue.channels(first, BLOCK // target.isa.lanes)
        with loop(share) as turn:
            row = split * share + turn
            with when(row < rows, share * splits > rows):
                for start, pieces, count in segments(columns, UNROLLED_POSITIONS):
                    with loop(pieces) as piece:
                        epilogue.emit_run(constants, [()] * count, y, n, first, row, start + piece * count)
