"""What a tensor of codes means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.compiler.errors import ModelError
from tapdot.compiler.types import Quant
from tapdot.kernels import numerics


@dataclass(frozen=True)
class Codes:
    """A tensor of codes in [low, high]: ``real = scale * (code - zero_point)``."""

    scale: float
    zero_point: int
    low: int
    high: int
    dtype: str

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Codes:
        """What the attributes of a FakeQuantize, Quantize or Dequantize say."""
        return cls(
            float(attributes["scale"]),
            int(attributes.get("zero_point", 0)),
            int(attributes["low"]),
            int(attributes["high"]),
            str(attributes["dtype"]),
        )

    @property
    def attributes(self) -> dict[str, float | int | str]:
        """As attributes of a FakeQuantize or Quantize."""
        return {
            "scale": self.scale,
            "zero_point": self.zero_point,
            "low": self.low,
            "high": self.high,
            "dtype": self.dtype,
        }

    @property
    def bits(self) -> int:
        """Bits that hold every code."""
        return max((self.high - self.low).bit_length(), 1)

    @property
    def quant(self) -> Quant:
        """For the tensor's type."""
        return Quant(self.bits, (self.scale,), (self.zero_point,))

    def means_the_same_as(self, other: Codes) -> bool:
        """Whether a code stands for the same real number here and there."""
        return (self.scale, self.zero_point, self.dtype) == (other.scale, other.zero_point, other.dtype)

    def quantize(self, reals: np.ndarray | float) -> np.ndarray:
        """Codes of numbers, as a Quantize makes them."""
        return numerics.quantize(np.asarray(reals), self.scale, self.zero_point, self.low, self.high)


def check_width(node: str, codes: Codes) -> None:
    """Raises ModelError for codes that no kernel holds."""
    kinds = ("int8", "uint8")
    if codes.dtype not in kinds:
        raise ModelError(
            f"Expected codes of 8 bits or fewer (int8, uint8) at node {node!r}, found {codes.dtype}; calibrate with 8 bits."
        )
    bounds = np.iinfo(codes.dtype)
    if not bounds.min <= codes.low <= codes.high <= bounds.max or not math.isfinite(codes.scale) or codes.scale <= 0:
        raise ModelError(
            f"Expected codes within {codes.dtype}'s {bounds.min} to {bounds.max} and a positive scale at node {node!r}, found "
            f"codes {codes.low} to {codes.high} at scale {codes.scale}; calibrate with 8 bits or fewer."
        )
