"""1x1 convolution of codes whose weights are pruned by quads of input channels: a dot for every quad that is left.

The planes of the result are lines of positions, cut into tiles of strips. For a tile, the codes of every quad of channels are
interleaved once into a scratch; then every share group, in the order of visits, runs through its own list of quads: one load a
vector serves all filters of the group, whose weights stand in every lane. Sums stay in registers from the bias to the epilogue.
Where the rows of the input are further apart than those of the result, or strided, they are copied into such lines first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tapdot.kernels.emit import Registers, Value, argument, load, loop, splat, store
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.fkw import FKW
from tapdot.kernels.integer_operands import FULL
from tapdot.kernels.integer_quad_plan import PLANAR, Piece, QuadPlan, Tiles, default_config, space
from tapdot.kernels.integer_quad_rows import Line, LineEpilogue, copy_rows
from tapdot.kernels.integer_rows import PositionEpilogue
from tapdot.kernels.integer_sparse import ARRAYS, BIAS, EXTRAS, folded_bias, group_bounds
from tapdot.kernels.integer_sparse_plan import Geometry
from tapdot.kernels.layout import CODES, Layout
from tapdot.kernels.parallel import pays
from tapdot.kernels.patterns import KEPT, QUAD
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, PrimFunc, T, function
from tapdot.kernels.workload import Operand, Workload

PLANAR_BLOCK = 1


class QuadConvolution(Family):
    """``QSparseConv`` with 1x1 kernels, stride 1 or 2, on planar rows.

    Configuration: ``strips`` of a tile, ``chunks`` of the input channels, ``splits`` of the filters among threads.
    """

    name = "quad_convolution"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "QSparseConv" or any(operand is None for operand in workload.inputs[:BIAS]):
            return False
        x, *arrays = (operand for operand in workload.inputs[:BIAS] if operand is not None)
        bias = workload.inputs[BIAS] if len(workload.inputs) > BIAS else None
        return (
            len(x.shape) == 4
            and x.dtype in CODES
            and not x.constant
            and all(array.constant for array in arrays)
            and arrays[4].stored_dtype == "int8"
            and arrays[5].shape == QUAD.shape
            and (bias is None or bias.constant)
            and tuple(workload["kernel_shape"]) == (1, 1)
            and set(workload["strides"]) <= {1, 2}
            and not any(workload["pads"])
            and PositionEpilogue(workload, EXTRAS, target.isa).served()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        inputs: list[Port | None] = [None] * min(len(workload.inputs), EXTRAS)
        inputs[0] = Port((PLANAR_BLOCK,), behind=True)
        extras = []
        for port in PositionEpilogue(workload, EXTRAS, target.isa).ports():
            extras.append(Port(port.blocks, behind=True) if port is not None and port.blocks else port)
        return Ports((*inputs, *extras), (Port((PLANAR_BLOCK,)),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        return space(workload, target)

    def default_config(self, workload: Workload, target: Target) -> Config:
        return default_config(workload, target)

    def cost(self, workload: Workload, target: Target) -> float:
        """The estimate of the default configuration."""
        geometry = Geometry(workload)
        return QuadPlan.of(workload, self.default_config(workload, target), target).cycles() * geometry.batch

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        plan = QuadPlan.of(workload, config, target)
        return config if plan.fits(plan.tile_vectors) else None

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan = QuadPlan.of(workload, config, target)
        fkw = FKW(*(constants[index] for index in ARRAYS))
        bias = constants.get(BIAS, np.zeros(plan.geometry.filters, np.int32))
        return [
            _at_least_one(plan.operands.pack_weights(fkw.weight)),
            _at_least_one(fkw.index.astype(np.int32) % plan.chunk * plan.unit),
            _chunk_starts(plan, fkw),
            fkw.reorder.astype(np.int32) * fkw.share,
            group_bounds(fkw, plan.splits),
            folded_bias(workload, plan.operands.operand_offset, fkw, bias, 1),
            *LineEpilogue(workload, EXTRAS, plan).masks,
            *PositionEpilogue(workload, EXTRAS, target.isa).pack(constants),
        ]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan = QuadPlan.of(workload, config, target)
        geometry = plan.geometry
        weights, places, starts, channels, _, stored_bias, *rest = (np.asarray(array) for array in packed)
        count = geometry.kernels
        offset = starts[:: plan.chunks]
        lengths = np.diff(offset)
        chunks = np.repeat(np.arange(starts.size - 1) % plan.chunks, np.diff(starts))
        arrays = (
            channels // geometry.share,
            offset,
            places[:count] // plan.unit + chunks * plan.chunk,
            np.stack([np.zeros_like(lengths), lengths], axis=1),
            plan.operands.unpack_weights(weights[: count * geometry.share * KEPT]),
            QUAD,
        )
        found = {
            index: np.ascontiguousarray(array, workload.inputs[index].stored_dtype)  # type: ignore[union-attr]
            for index, array in zip(ARRAYS, arrays, strict=True)
        }
        if len(workload.inputs) > BIAS and workload.inputs[BIAS] is not None:
            fkw = FKW(*(found[index] for index in ARRAYS))
            found[BIAS] = folded_bias(workload, plan.operands.operand_offset, fkw, stored_bias, -1)
        masks = len(LineEpilogue(workload, EXTRAS, plan).masks)
        return {**found, **PositionEpilogue(workload, EXTRAS, target.isa).unpack(rest[masks:])}

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Emitter(workload, QuadPlan.of(workload, config, target)).emit()
        return finished[0]


def _chunk_starts(plan: QuadPlan, fkw: FKW) -> np.ndarray:
    """``[groups * chunks + 1]``: where the quads of every group begin that lie in each chunk; lists are in the order of inputs.

    Raises ValueError where they are not.
    """
    chunk, group = fkw.index.astype(np.int64) // plan.chunk, fkw.group_ids
    place = group * plan.chunks + chunk
    if (np.diff(place) < 0).any():
        raise ValueError("Expected the quads of every group in the order of their inputs, as FKW.compress leaves them.")
    return np.searchsorted(place, np.arange(fkw.groups * plan.chunks + 1)).astype(np.int32)


def _at_least_one(array: np.ndarray) -> np.ndarray:
    """The array, or a single zero where it is empty: buffers have elements."""
    return array if array.size else np.zeros(1, array.dtype)


class _Emitter:
    """Writes the loops of one layer."""

    def __init__(self, workload: Workload, plan: QuadPlan) -> None:
        self.plan, self.workload = plan, workload
        self.operands, self.lanes = plan.operands, plan.isa.lanes
        self.epilogue = LineEpilogue(workload, EXTRAS, plan)
        self.operand: Operand = plan.geometry.x

    def emit(self) -> None:
        plan, geometry = self.plan, self.plan.geometry
        self.weights = argument("weights", max(1, geometry.kernels * geometry.share * KEPT), self.operands.weight_dtype)
        self.places = argument("places", max(1, geometry.kernels), "int32")
        self.starts = argument("starts", geometry.groups * plan.chunks + 1, "int32")
        self.channels = argument("reorder", geometry.groups, "int32")
        self.bounds = argument("bounds", plan.splits + 1, "int32")
        self.bias = argument("bias", geometry.filters, "int32")
        self.epilogue.declare_masks()
        self.epilogue.declare_constants()
        self.x = argument("x", self.operand.elements, self.operand.stored_dtype)
        self.epilogue.declare_variables()
        self.y = argument("y", self.workload.output.elements, self.workload.output.stored_dtype)
        threads = pays(plan.cycles() * geometry.batch)
        if plan.output_layout.halo:
            with loop(geometry.batch) as n, loop(geometry.filters) as channel:
                self.epilogue.emit_border(self.y, n, channel)
        for tiles in plan.tiles():
            with loop(geometry.batch * tiles.count, parallel=threads and plan.splits == 1) as task:
                self._tile(task // tiles.count, tiles, task % tiles.count, threads)

    def _tile(self, n: Value, tiles: Tiles, index: Value, threads: bool) -> None:
        plan = self.plan
        scratch = T.alloc_buffer((plan.scratch,), self.operands.scratch_dtype)
        pieces = list(plan.pieces(tiles, index))
        partial = None
        if plan.chunks > 1:
            partial = T.alloc_buffer((plan.geometry.filters * plan.tile_vectors * self.lanes,), "int32")
            with T.serial(plan.chunks - 1) as chunk:
                self._chunk(scratch, partial, n, pieces, chunk, threads)
        self._chunk(scratch, partial, n, pieces, plan.chunks - 1, threads)

    def _chunk(
        self, scratch: Buffer, partial: Buffer | None, n: Value, pieces: Sequence[Piece], chunk: Value, threads: bool
    ) -> None:
        """Packs one chunk of the input channels, and visits all groups; the last chunk (an int) finishes them."""
        plan = self.plan
        self._pack(scratch, n, pieces, chunk)
        with loop(plan.splits, parallel=threads and plan.splits > 1) as split:
            first, last = (0, plan.geometry.groups) if plan.splits == 1 else (self.bounds[split], self.bounds[split + 1])
            with T.serial(last - first) as group:
                self._group(scratch, partial, n, pieces, chunk, first + group)

    # -- operands -----------------------------------------------------------------------------------------------------------

    def _pack(self, scratch: Buffer, n: Value, pieces: Sequence[Piece], chunk: Value) -> None:
        """The operands of the quads of a chunk at the positions of a tile."""
        plan, geometry = self.plan, self.plan.geometry
        layout, shape = plan.input_layout, geometry.x.shape
        step = plan.pitch - layout.pitch(shape[3])
        in_place = plan.direct or (plan.masked and geometry.strides == (1, 1))
        copies = None if in_place else T.alloc_buffer((KEPT * plan.line,), self.x.dtype)
        row = self._first_row(pieces)
        first = chunk * plan.chunk
        count = min(plan.chunk, plan.quads - first) if isinstance(first, int) else plan.chunk
        with loop(count) as quad:
            lines: list[Line] = []
            for k in range(KEPT):
                channel = (first + quad) * KEPT + k
                if geometry.channels % KEPT:
                    channel = T.min(channel, geometry.channels - 1)
                if copies is None:
                    start = T.Bind(layout.offset(shape, n, channel, 0, 0))
                    lines.append(Line(self.x, start, 0 if plan.direct else step, plan.pitch, plan.strip_rows))
                    continue
                self._copy(self.x, geometry.x, n, channel, row, geometry.strides, copies, k * plan.line)
                lines.append(Line(copies, k * plan.line - row * plan.pitch))
            for piece in pieces:
                place = quad * plan.unit + piece.offset * self.operands.vector_bytes
                channels = [line.read(piece, plan.strip) for line in lines]
                self.operands.pack(channels, self.x.dtype, piece.vectors, scratch, place)

    def _first_row(self, pieces: Sequence[Piece]) -> Value:
        """The first row that a tile touches: no piece begins before the first one, or before a rest that is alone."""
        start = pieces[0].start
        if isinstance(start, int):
            return start // self.plan.pitch
        return T.Bind(start // self.plan.pitch)

    def _copy(
        self,
        source: Buffer,
        operand: Operand,
        n: Value,
        channel: Value,
        row: Value,
        strides: tuple[int, int],
        target: Buffer,
        place: int,
    ) -> None:
        """Rows from ``row`` of the result on, those that a tile may touch, as a line from ``place`` on."""
        plan = self.plan
        layout = operand.layout or Layout()
        start = T.Bind(layout.offset(operand.shape, n, channel, row * strides[0], 0))
        rows = min(plan.line_rows, plan.geometry.height) if isinstance(row, int) else plan.line_rows
        rows = T.min(rows, plan.geometry.height - row)
        step = layout.pitch(operand.shape[3]) * strides[0]
        copy_rows(source, start, step, strides[1], plan.geometry.width, rows, target, place, plan.pitch)

    # -- sums ---------------------------------------------------------------------------------------------------------------

    def _group(
        self, scratch: Buffer, partial: Buffer | None, n: Value, pieces: Sequence[Piece], chunk: Value, group: Value
    ) -> None:
        """The quads of one share group in a chunk at one tile; after the last chunk the results of its filters."""
        members, share, chunks = self.plan.members, self.plan.geometry.share, self.plan.chunks
        channel = T.Bind(self.channels[group])
        first = T.Bind(self.starts[group * chunks + chunk].astype("int64"))
        count = T.Bind(self.starts[group * chunks + chunk + 1].astype("int64") - first)
        vectors = sum(piece.vectors for piece in pieces)
        for member in range(0, share, members):
            sums = self._begin(partial, channel + member, chunk, vectors)
            self._quads(scratch, pieces, sums, member, first, count)
            if isinstance(chunk, int):
                self._finish(sums, n, pieces, channel + member)
            else:
                self._keep(sums, partial, channel + member, vectors)

    def _begin(self, partial: Buffer | None, channel: Value, chunk: Value, vectors: int) -> Registers:
        """Sums that begin with the biases in the first chunk, else where the chunk before left them."""
        sums = Registers(self.plan.members * vectors, self.lanes, "int32")
        for index in range(self.plan.members):
            bias = None if partial is not None and isinstance(chunk, int) else splat(self.bias[channel + index], self.lanes)
            bias = T.Bind(bias) if bias is not None else None
            for v in range(vectors):
                value = bias
                if partial is not None:
                    value = load(partial, self._partial_place(channel + index, v), self.lanes)
                    value = T.Bind(T.if_then_else(chunk == 0, bias, value)) if bias is not None else value
                sums[index * vectors + v] = value
        return sums

    def _keep(self, sums: Registers, partial: Buffer | None, channel: Value, vectors: int) -> None:
        for index in range(self.plan.members):
            for v in range(vectors):
                store(partial, self._partial_place(channel + index, v), sums[index * vectors + v], self.lanes)

    def _partial_place(self, channel: Value, vector: int) -> Value:
        return (channel * self.plan.tile_vectors + vector) * self.lanes

    def _finish(self, sums: Registers, n: Value, pieces: Sequence[Piece], channel: Value) -> None:
        """The results of the filters that were computed together, from number ``channel`` on."""
        vectors = sum(piece.vectors for piece in pieces)
        for index in range(self.plan.members):
            registers = range(index * vectors, (index + 1) * vectors)
            values = self.epilogue.shift_ahead(self.epilogue.channel(channel + index), channel + index, sums, registers)
            lines = self._residual_lines(n, channel + index, pieces)
            done = index * vectors
            for piece in pieces:
                own = [T.Bind(sums[done + v]) for v in range(piece.vectors)]
                done += piece.vectors
                self.epilogue.emit_piece(values, own, self.y, n, channel + index, piece, lines)

    def _quads(self, scratch: Buffer, pieces: Sequence[Piece], sums: Registers, member: int, first: Value, count: Value) -> None:
        step = self.operands.step
        with T.serial(T.Bind(count // step) if step > 1 else count) as index:
            self._dots(scratch, pieces, sums, member, first + index * step, step)
        if step > 1:
            done = T.Bind(first + count // step * step)
            with T.serial(count % step) as index:
                self._dots(scratch, pieces, sums, member, done + index, 1)

    def _dots(self, scratch: Buffer, pieces: Sequence[Piece], sums: Registers, member: int, kernel: Value, kernels: int) -> None:
        """Some consecutive quads of a list: each operand is loaded once for all filters."""
        members, vectors = self.plan.members, sum(piece.vectors for piece in pieces)
        weights = self.operands.weights(self.weights, kernel, kernels, member)
        for number in range(kernels):
            place = T.Bind(self.places[kernel + number])
            done = 0
            for piece in pieces:
                here = place + piece.offset * self.operands.vector_bytes
                for v in range(piece.vectors):
                    operand = self.operands.operand(scratch, here, v, piece.vectors)
                    for index in range(members):
                        register = index * vectors + done + v
                        sums[register] = self.operands.dot(sums[register], operand, weights[number * members + index])
                done += piece.vectors

    def _residual_lines(self, n: Value, channel: Value, pieces: Sequence[Piece]) -> dict[str, Line]:
        """By name, the planes of operands whose rows are not as far apart as those of the result: copies, if need be."""
        plan, epilogue = self.plan, self.epilogue
        found: dict[str, Line] = {}  # two operands may be equal in all but their name
        for name, operand, role in zip(epilogue.names, epilogue.operands, epilogue.roles, strict=True):
            layout = operand.layout or PLANAR
            step = plan.pitch - layout.pitch(plan.geometry.width)
            if role != FULL or plan.geometry.height == 1 or step == 0:
                continue
            if plan.masked and operand.dtype in CODES:
                start = T.Bind(layout.offset(operand.shape, n, channel, 0, 0))
                found[name] = Line(epilogue.buffer(name), start, step, plan.pitch, plan.strip_rows)
                continue
            copy = T.alloc_buffer((plan.line,), operand.stored_dtype)
            row = self._first_row(pieces)
            self._copy(epilogue.buffer(name), operand, n, channel, row, (1, 1), copy, 0)
            found[name] = Line(copy, -row * plan.pitch)
        return found
