"""Integer chains and sums over whole planes, in planar rows of codes: vectors of positions of one channel."""

from __future__ import annotations

from tapdot.kernels.emit import Registers, Value, argument, intrinsic, loop
from tapdot.kernels.integer_operands import FULL
from tapdot.kernels.integer_rows import NARROWED, PositionEpilogue
from tapdot.kernels.layout import Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.register_tile import segments
from tapdot.kernels.tvm_adapter import T, tirx
from tapdot.kernels.workload import Operand, Workload

PLANAR = 1


def in_planar_rows(operand: Operand) -> bool:
    """Whether an operand whose layout has been chosen lies in planar rows; row-major ones do, without a halo."""
    return len(operand.shape) == 4 and (operand.layout is None or operand.layout.channel_block == PLANAR)


def emit_chain(workload: Workload, epilogue: PositionEpilogue, cycles: float) -> None:
    """An expression over operands of four dimensions, row by row; where nothing has a halo, a plane is one row."""
    lanes, result = epilogue.isa.lanes, workload.output
    epilogue.declare_constants()
    epilogue.declare_variables()
    y = argument("y", result.elements, result.stored_dtype)
    batch, channels, height, width = result.shape
    full = [operand for operand, role in zip(epilogue.operands, epilogue.roles, strict=True) if role == FULL]
    dense = width > 1 and not any(operand.layout and operand.layout.halo for operand in (*full, result))
    rows, columns = (1, height * width) if dense else (height, width)
    with loop(batch * channels, parallel=pays(cycles)) as plane:
        n, channel = plane // channels, plane % channels
        epilogue.emit_halo(y, n, channel)
        values = epilogue.channel(channel)
        with loop(rows) as row:
            for start, count, size in segments(-(-columns // lanes), NARROWED):
                with loop(count) as index:
                    x = (start + index * size) * lanes
                    left = columns - start * lanes if count == 1 else size * lanes
                    if start + count * size == -(-columns // lanes) and columns % lanes and count > 1:
                        x = T.Bind(T.min(x, columns - size * lanes))  # the last run overlaps the one before it
                    nothing = [epilogue.vectors.number(0)] * size
                    epilogue.emit(values, nothing, y, n, channel, [(row, x)], size * lanes, min(left, size * lanes))


def emit_plane_sums(workload: Workload, epilogue: PositionEpilogue) -> None:
    """``QGlobalSum``: the sum of every plane, then the epilogue for one position."""
    x_operand, result, vectors = workload.inputs[0], workload.output, epilogue.vectors
    assert x_operand is not None
    lanes, layout = vectors.lanes, x_operand.layout or Layout()
    epilogue.declare_constants()
    x = argument("x", x_operand.elements, x_operand.stored_dtype)
    epilogue.declare_variables()
    y = argument("y", result.elements, result.stored_dtype)
    batch, channels, height, width = x_operand.shape
    rows, columns = (height, width) if layout.halo else (1, height * width)
    zero = height * width * (workload["zero_point"] + layout.code_offset)
    with loop(batch * channels, parallel=pays(batch * channels * (50 + height * width / lanes))) as plane:
        n, channel = plane // channels, plane % channels
        sums = Registers(NARROWED, lanes, "int32")
        for index in range(NARROWED):
            sums[index] = vectors.number(0)
        with loop(rows) as row:
            start = T.Bind(layout.offset(x_operand.shape, n, channel, row, 0))
            for first, count, size in segments(columns // lanes, NARROWED):
                with loop(count) as index:
                    for v, value in enumerate(vectors.widen(x, start + (first + index * size) * lanes, size)):
                        sums[v] = sums[v] + value
            if columns % lanes:
                (value,) = vectors.widen(x, start + columns // lanes * lanes, 1)
                kept = T.ramp(T.int32(0), 1, lanes) < T.broadcast(T.int32(columns % lanes), lanes)
                sums[0] = sums[0] + tirx.Select(kept, value, vectors.number(0))
        total: Value = T.Bind((sums[0] + sums[1]) + (sums[2] + sums[3]))
        one = T.Bind(intrinsic(f"llvm.vector.reduce.add.v{lanes}i32", "int32", total) - T.int32(zero))
        epilogue.emit_halo(y, n, channel)
        everywhere = T.Bind(T.broadcast(one, lanes))
        epilogue.emit(epilogue.channel(channel), [everywhere], y, n, channel, [(0, 0)], lanes, 1)
