"""Further operands of an epilogue over vectors of consecutive positions of one channel, in planar rows."""

from __future__ import annotations

from tapdot.kernels.emit import Registers, Value, load, load_partial, splat
from tapdot.kernels.family import Port
from tapdot.kernels.layout import Layout
from tapdot.kernels.operands import CHANNEL, FULL, SCALAR, ExtraOperands
from tapdot.kernels.planar_tiles import PlanarTiles
from tapdot.kernels.tvm_adapter import T


class PlanarOperands(ExtraOperands):
    """Residuals, per-channel vectors and scalars for a kernel that writes planar rows."""

    def planar_ports(self) -> list[Port | None]:
        """Residuals and per-channel operands lie in planar rows; a scalar lies anywhere."""
        return [None if port is None else Port((1,)) if port.blocks else port for port in self.ports(1)]

    def residual_pitches(self, width: int) -> set[int]:
        """Row pitches of the operands that are read position by position."""
        return {
            (operand.layout or Layout()).pitch(width)
            for operand, kind in zip(self.operands, self.kinds, strict=True)
            if kind == FULL
        }

    def channel(self, n: Value, channel: Value, lanes: int) -> dict[str, Value]:
        """The operands that do not change along a plane, each in every lane."""
        found: dict[str, Value] = {}
        for name, operand, kind in zip(self.names, self.operands, self.kinds, strict=True):
            buffer, layout = self._buffers[name], operand.layout or Layout()
            if kind == SCALAR:
                start = 0 if operand.constant or len(operand.shape) != 4 else layout.offset(operand.shape, 0, 0, 0, 0)
                found[name] = T.Bind(splat(buffer[start], lanes))
            elif kind == CHANNEL:
                start = channel if operand.constant else layout.offset(operand.shape, 0, channel, 0, 0)
                found[name] = T.Bind(splat(buffer[start], lanes))
        return found

    def origins(self, n: Value, channel: Value, tiles: PlanarTiles, y: Value, x: Value) -> dict[str, Value]:
        """For every residual, where the plane's position (line y, x) lies."""
        return {
            name: T.Bind((operand.layout or Layout()).offset(operand.shape, n, channel, y, x))
            for name, operand, kind in zip(self.names, self.operands, self.kinds, strict=True)
            if kind == FULL
        }

    def positions(
        self, origins: dict[str, Value], row: int, offset: int, width: int, lanes: int, filled: int
    ) -> dict[str, Value]:
        """Residuals as vectors, ``row`` lines and ``offset`` positions from their origins on."""
        found = {}
        for name, operand in zip(self.names, self.operands, strict=True):
            if name in origins:
                start = origins[name] + row * (operand.layout or Layout()).pitch(width) + offset
                buffer = self._buffers[name]
                whole = filled == lanes
                found[name] = load(buffer, start, lanes) if whole else load_partial(Registers(1, lanes), buffer, start, filled)
        return found
