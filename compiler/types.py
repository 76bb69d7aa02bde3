"""Types of the values in a graph."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tapdot.compiler.errors import GraphError
from tapdot.kernels.layout import Layout, elements
from tapdot.kernels.numerics import NARROW_BITS

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("float32"),
    "float16": np.dtype("float16"),
    "float64": np.dtype("float64"),
    "int8": np.dtype("int8"),
    "uint8": np.dtype("uint8"),
    "int16": np.dtype("int16"),
    "uint16": np.dtype("uint16"),
    "int32": np.dtype("int32"),
    "uint32": np.dtype("uint32"),
    "int64": np.dtype("int64"),
    "uint64": np.dtype("uint64"),
    "bool": np.dtype("bool"),
    **dict.fromkeys(NARROW_BITS, np.dtype("int8")),
}
"""Element types a graph may hold, by the name they print under, and the elements of their arrays.

``int4`` and ``int2`` are types of constants: weights whose codes need no whole byte. Their arrays hold one code a byte.
"""


@dataclass(frozen=True)
class Quant:
    """What integer codes mean: ``real = scale * (code - zero_point)``.

    A scale is knowledge about a tensor, never something executed inside an integer graph. ``axis`` is None for one scale per
    tensor, else the axis along which the tuples run.
    """

    bits: int
    scale: tuple[float, ...]
    zero_point: tuple[int, ...] = (0,)
    axis: int | None = None

    def __str__(self) -> str:
        scale = ",".join(repr(value) for value in self.scale)
        zero = ",".join(str(value) for value in self.zero_point)
        axis = "" if self.axis is None else f" axis={self.axis}"
        return f"!quant(bits={self.bits} scale={scale} zero_point={zero}{axis})"

    def transposed(self, order: Sequence[int]) -> Quant:
        """Of the tensor whose axis ``i`` is axis ``order[i]`` of this one."""
        return self if self.axis is None else replace(self, axis=list(order).index(self.axis))

    @classmethod
    def parse(cls, text: str) -> Quant:
        """The inverse of ``str``."""
        fields = dict(part.split("=", 1) for part in text.removeprefix("!quant(").removesuffix(")").split())
        return cls(
            int(fields["bits"]),
            tuple(float(value) for value in fields["scale"].split(",")),
            tuple(int(value) for value in fields["zero_point"].split(",")),
            int(fields["axis"]) if "axis" in fields else None,
        )


@dataclass(frozen=True)
class TensorType:
    """Shape, element type, and where known the meaning of its codes and its place in memory."""

    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None = None
    layout: Layout | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> int:
        """Logical elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of the physical buffer (of the row-major tensor where no layout is set); of narrow codes, packed side by side."""
        bits = NARROW_BITS.get(self.dtype, 8 * DTYPES[self.dtype].itemsize)
        return -(-elements(self.shape, self.layout) * bits // 8)

    def holds(self, array: np.ndarray) -> bool:
        """Whether an array is one of this shape and element type."""
        if tuple(array.shape) != self.shape or array.dtype != DTYPES[self.dtype]:
            return False
        limit = 2 ** (NARROW_BITS.get(self.dtype, 8) - 1)
        narrow = self.dtype in NARROW_BITS and array.size > 0
        return not narrow or (-limit <= int(array.min()) and int(array.max()) < limit)

    def with_layout(self, layout: Layout | None) -> TensorType:
        """The same type at another place in memory."""
        return replace(self, layout=layout)

    def __str__(self) -> str:
        text = f"{self.dtype}[{','.join(str(size) for size in self.shape)}]"
        if self.quant is not None:
            text += f" {self.quant}"
        if self.layout is not None:
            text += f" {self.layout}"
        return text

    @classmethod
    def parse(cls, text: str) -> TensorType:
        """The type that prints as ``text``; raises GraphError when it is none."""
        match = _TYPE.fullmatch(text.strip())
        if match is None or match["dtype"] not in DTYPES:
            raise GraphError(f"Expected a type such as float32[1,3,224,224], found {text!r}.")
        shape = tuple(int(size) for size in match["shape"].split(",") if size)
        try:
            quant = Quant.parse(match["quant"]) if match["quant"] else None
            layout = Layout.parse(match["layout"]) if match["layout"] else None
        except (KeyError, ValueError, TypeError) as error:
            raise GraphError(f"Expected a type such as float32[1,3,224,224], found {text!r}.") from error
        return cls(shape, match["dtype"], quant, layout)

    @classmethod
    def of(cls, array: np.ndarray) -> TensorType:
        """The type of a numpy array."""
        return cls(tuple(array.shape), array.dtype.name)


def described(array: np.ndarray) -> str:
    """An array for a message that finds it to be of another type; of integers, what they reach to."""
    reach = f" of {array.min()} to {array.max()}" if array.dtype.kind in "iu" and array.size else ""
    return f"{TensorType.of(array)}{reach}"


_TYPE = re.compile(r"(?P<dtype>\w+)\[(?P<shape>[\d,]*)\](?: (?P<quant>!quant\([^)]*\)))?(?: (?P<layout><[^>]*>))?")
