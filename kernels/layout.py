"""Physical types: how a tensor of logical shape ``[N, C, H, W]`` lies in memory.

A layout is data, not code: a channel block, a halo on four sides, a row pitch and a stored value for the halo. Everything that
places or finds an element (kernels, the memory planner, the exact unpack of the reference) asks this module.

``channel_block`` is the number of consecutive channels that are interleaved at one position:

====== ===================================== ==========================================
block  name                                  used by
====== ===================================== ==========================================
1      planar rows                           the outside world, tap gathering
4      channel quads                         channel dots, NEON float vectors
8, 16  channel vectors                       AVX2 and AVX-512 float vectors
====== ===================================== ==========================================

Rows are ``pitch`` positions apart with ``pitch = W + max(left, right)``: one strip of halo serves the end of a row and the start
of the next, so a layout with any halo also keeps ``max(left, right)`` positions of lead and of tail in every plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapdot.kernels.numerics import NARROW_BITS

ALIGNMENT = 64
"""Every buffer in the arena and every array in ``weights.bin`` starts at a multiple of this many bytes."""

READ_SLACK = 64
"""Bytes behind the end of a tensor's buffer that a kernel may read, never write: its vectors run over the ends of planar rows.

What stands there is anything. The caller's own tensors have no such slack; kernels that read it read what other kernels made.
"""


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``value``."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Halo:
    """Positions stored around every plane, in the order of ONNX ``pads`` for two spatial axes."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0

    def union(self, other: Halo) -> Halo:
        """The smallest halo that serves both."""
        return Halo(
            max(self.top, other.top),
            max(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def covers(self, other: Halo) -> bool:
        """Whether a reader that needs ``other`` can read a buffer with this halo."""
        return self.union(other) == self

    def __bool__(self) -> bool:
        return any((self.top, self.left, self.bottom, self.right))

    def __iter__(self) -> Any:
        return iter((self.top, self.left, self.bottom, self.right))


@dataclass(frozen=True)
class Layout:
    """The physical type of a 4-D tensor; see the module's docstring for the meaning of the fields.

    ``zero`` is the value stored in the halo and in the padded lanes of the last channel block that a producer fills on purpose.
    ``code_offset`` is added to every 8-bit code where it is stored, 128 or -128, for cores whose dot products want the other
    sign: the stored element type is then the other one of int8 and uint8 (:func:`stored_dtype`). ``zero`` is a stored value, so
    it has the offset in it.
    """

    channel_block: int = 1
    halo: Halo = field(default_factory=Halo)
    zero: int = 0
    code_offset: int = 0

    # -- geometry, all in elements of a tensor of logical shape [N, C, H, W] --------------------------------------------------

    @property
    def side(self) -> int:
        """Positions between the end of one row and the start of the next."""
        return max(self.halo.left, self.halo.right)

    def pitch(self, width: int) -> int:
        """Positions from one row to the next."""
        return width + self.side

    def plane(self, height: int, width: int) -> int:
        """Positions of one channel block's plane, halo, lead and tail included."""
        return (self.halo.top + height + self.halo.bottom) * self.pitch(width) + self.side

    def blocks(self, channels: int) -> int:
        """Channel blocks of a tensor with that many channels; the last may be partly filled."""
        return -(-channels // self.channel_block)

    def origin(self, width: int) -> int:
        """Positions from the start of a plane to its logical (0, 0)."""
        return self.halo.top * self.pitch(width) + self.side

    def room_behind(self, shape: tuple[int, ...]) -> int:
        """Positions of a plane behind the end of its last row."""
        _, _, height, width = shape
        return self.plane(height, width) - self.origin(width) - (height - 1) * self.pitch(width) - width

    def size(self, shape: tuple[int, ...]) -> int:
        """Elements of the whole buffer."""
        batch, channels, height, width = shape
        return batch * self.blocks(channels) * self.plane(height, width) * self.channel_block

    def offset(self, shape: tuple[int, ...], n: Any, block: Any, y: Any, x: Any) -> Any:
        """Element offset of lane 0 of position (y, x) in channel block ``block`` of image ``n``; for ints and TIR expressions."""
        _, channels, height, width = shape
        plane = self.plane(height, width)
        position = y * self.pitch(width) + x + self.origin(width)
        return ((n * self.blocks(channels) + block) * plane + position) * self.channel_block

    def is_dense_order(self, shape: tuple[int, ...]) -> bool:
        """Whether the buffer is, byte for byte, the row-major tensor."""
        _, channels, height, width = shape
        if self.halo or self.code_offset:
            return False
        return self.channel_block == 1 or (height * width == 1 and channels % self.channel_block == 0)

    # -- moving tensors in and out ----------------------------------------------------------------------------------------------

    def store(self, array: np.ndarray, fill: int | float | None = None) -> np.ndarray:
        """The flat buffer that holds ``array`` (``[N, C, H, W]``); all else is the stored ``fill`` (default ``zero``)."""
        array = shifted(array, self.code_offset)
        batch, channels, height, width = array.shape
        block = self.channel_block
        flat = np.full(self.size(array.shape), self.zero if fill is None else fill, array.dtype)
        view = self._strided(flat, array.shape)
        whole = channels // block
        view[:, :whole] = array[:, : whole * block].reshape(batch, whole, block, height, width).transpose(0, 1, 3, 4, 2)
        if channels % block:
            view[:, whole, :, :, : channels % block] = array[:, whole * block :].transpose(0, 2, 3, 1)
        return flat

    def load(self, flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The tensor of logical ``shape`` that lies in the flat buffer; the exact inverse of :meth:`store`."""
        batch, channels, height, width = shape
        view = self._strided(flat, shape)
        whole = view.transpose(0, 1, 4, 2, 3).reshape(batch, -1, height, width)
        return np.ascontiguousarray(shifted(whole[:, :channels], -self.code_offset))

    def _strided(self, flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A writable view ``[N, blocks, H, W, channel_block]`` of the elements inside the flat buffer."""
        batch, channels, height, width = shape
        block, item = self.channel_block, flat.itemsize
        plane = self.plane(height, width) * block * item
        start = flat[self.origin(width) * block :]
        return np.lib.stride_tricks.as_strided(
            start,
            (batch, self.blocks(channels), height, width, block),
            (plane * self.blocks(channels), plane, self.pitch(width) * block * item, block * item, item),
        )

    # -- text -------------------------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        parts = [f"block={self.channel_block}"]
        if self.halo:
            parts.append("halo=" + ",".join(str(side) for side in self.halo))
        if self.zero:
            parts.append(f"zero={self.zero}")
        if self.code_offset:
            parts.append(f"offset={self.code_offset}")
        return "<" + " ".join(parts) + ">"

    @classmethod
    def parse(cls, text: str) -> Layout:
        """The layout that prints as ``text``."""
        fields = dict(part.split("=", 1) for part in text.strip("<>").split())
        halo = Halo(*(int(side) for side in fields["halo"].split(","))) if "halo" in fields else Halo()
        return cls(int(fields["block"]), halo, int(fields.get("zero", 0)), int(fields.get("offset", 0)))

    def json(self) -> dict[str, Any]:
        """Plain data for workload keys and manifests."""
        return {"block": self.channel_block, "halo": list(self.halo), "zero": self.zero, "offset": self.code_offset}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Layout:
        """The inverse of :meth:`json`."""
        return cls(data["block"], Halo(*data["halo"]), data["zero"], data["offset"])


DENSE = Layout()
"""Row-major ``[N, C, H, W]``: what comes in from and goes out to the caller."""


def elements(shape: tuple[int, ...], layout: Layout | None) -> int:
    """Elements of a buffer; ``layout`` None means row-major, of any rank."""
    return math.prod(shape) if layout is None else layout.size(shape)


_OTHER_SIGN = {"int8": "uint8", "uint8": "int8"}
CODES = frozenset(_OTHER_SIGN)
"""Element types of quantized activations."""


def stored_dtype(dtype: str, layout: Layout | None) -> str:
    """The element type that lies in memory: the other sign of an 8-bit type where the layout has an offset.

    Weights narrower than a byte lie one a byte, unless a family packs them.
    """
    if dtype in NARROW_BITS:
        return "int8"
    return _OTHER_SIGN[dtype] if layout is not None and layout.code_offset else dtype


def shifted(array: np.ndarray, offset: int) -> np.ndarray:
    """8-bit codes plus 128 or -128, as the element type of the other sign; the array itself for 0."""
    if not offset:
        return array
    return (array.astype(np.int16) + offset).astype(_OTHER_SIGN[array.dtype.name])
