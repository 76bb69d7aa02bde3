"""Further operands of an epilogue: residuals, per-channel vectors, scalars, each read the way its shape broadcasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tapdot.kernels.emit import Value, argument, load, splat
from tapdot.kernels.epilogue import supported_operators
from tapdot.kernels.expression import leaves, operators, parse
from tapdot.kernels.family import Port
from tapdot.kernels.layout import Layout, round_up
from tapdot.kernels.tvm_adapter import Buffer
from tapdot.kernels.workload import Operand, Workload

FULL, CHANNEL, SCALAR = "full", "channel", "scalar"


def broadcast_kind(operand: Operand, shape: tuple[int, ...]) -> str | None:
    """How an operand broadcasts to a result of four-dimensional ``shape``: full, per channel, scalar, or None (not served).

    What is read in channel vectors has four dimensions itself, unless it is constant and packed: other ranks are row-major.
    """
    own = (1,) * (len(shape) - len(operand.shape)) + operand.shape
    if int(np.prod(own)) == 1:
        return SCALAR
    if len(operand.shape) != len(shape) and not operand.constant:
        return None
    if own == shape:
        return FULL
    if own[1] == shape[1] and own[0] == 1 and own[2:] == (1, 1) and (shape[0] == 1 or operand.constant):
        return CHANNEL
    return None


class ExtraOperands:
    """The operands of a workload from index ``first`` on, bound to the leaves ``r0``, ``r1``, ... of its epilogue.

    ``names`` overrides the leaves' names (a stand-alone chain calls its first operand ``acc``).
    """

    def __init__(self, workload: Workload, first: int, names: Sequence[str] | None = None, attribute: str = "epilogue") -> None:
        self.first = first
        self.shape = workload.output.shape
        self.attribute = str(workload.options.get(attribute, "acc"))
        self.operands = [operand for operand in workload.inputs[first:] if operand is not None]
        self.names = list(names) if names else [f"r{index}" for index in range(len(self.operands))]
        self.kinds = [broadcast_kind(operand, self.shape) for operand in self.operands]
        self._buffers: dict[str, Buffer] = {}

    def served(self) -> bool:
        """Whether every operand and every operator of the expression can be emitted."""
        tree = parse(self.attribute)
        return (
            all(operand.dtype == "float32" for operand in self.operands)
            and all(kind is not None for kind in self.kinds)
            and not any(kind == FULL and operand.constant for kind, operand in zip(self.kinds, self.operands, strict=True))
            and set(operators(tree)) <= supported_operators()
            and set(leaves(tree)) <= {"acc", *self.names}
        )

    def ports(self, lanes: int) -> list[Port | None]:
        """Full and per-channel operands lie in channel vectors; a scalar lies anywhere."""
        scalar = Port((lanes, 1))
        return [
            None if operand.constant else Port((lanes,)) if kind != SCALAR else scalar if len(operand.shape) == 4 else Port()
            for operand, kind in zip(self.operands, self.kinds, strict=True)
        ]

    # -- constants ----------------------------------------------------------------------------------------------------------

    def pack(self, constants: Mapping[int, np.ndarray], lanes: int) -> list[np.ndarray]:
        """Constant operands as vectors padded with zeros to whole vectors."""
        packed = []
        for index, operand in enumerate(self.operands):
            if operand.constant:
                flat = np.asarray(constants[self.first + index], np.float32).reshape(-1)
                packed.append(np.concatenate([flat, np.zeros(round_up(flat.size, lanes) - flat.size, np.float32)]))
        return packed

    def unpack(self, packed: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """The inverse of :meth:`pack`."""
        constant = [(index, operand) for index, operand in enumerate(self.operands) if operand.constant]
        return {
            self.first + index: np.asarray(array[: int(np.prod(operand.shape))]).reshape(operand.shape)
            for (index, operand), array in zip(constant, packed, strict=True)
        }

    # -- code ---------------------------------------------------------------------------------------------------------------

    def declare_constants(self, lanes: int) -> None:
        """Declares the packed constant operands as arguments, in order."""
        for name, operand in zip(self.names, self.operands, strict=True):
            if operand.constant:
                self._buffers[name] = argument(name, round_up(int(np.prod(operand.shape)), lanes), "float32")

    def declare_variables(self) -> None:
        """Declares the operands known at run time as arguments, in order."""
        for name, operand in zip(self.names, self.operands, strict=True):
            if not operand.constant:
                self._buffers[name] = argument(name, operand.elements, "float32")

    def load(self, n: Value, block: Value, y: Value, x: Value, lanes: int) -> dict[str, Value]:
        """Every operand as a vector of the channels of ``block`` at one position."""
        found: dict[str, Value] = {}
        for name, operand, kind in zip(self.names, self.operands, self.kinds, strict=True):
            buffer, layout = self._buffers[name], operand.layout or Layout()
            if kind == SCALAR:
                start = 0 if operand.constant or len(operand.shape) != 4 else layout.offset(operand.shape, 0, 0, 0, 0)
                found[name] = splat(buffer[start], lanes)
            elif operand.constant:
                found[name] = load(buffer, block * lanes, lanes)
            elif kind == CHANNEL:
                found[name] = load(buffer, layout.offset(operand.shape, 0, block, 0, 0), lanes)
            else:
                found[name] = load(buffer, layout.offset(operand.shape, n, block, y, x), lanes)
        return found
