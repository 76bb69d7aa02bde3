"""What calibration remembers of a tensor, and the range of reals it gives codes to.

====================  =========================================================================================================
method                the range
====================  =========================================================================================================
``minmax``            from the smallest to the largest value seen
``moving_average``    exponential moving averages of each sample's smallest and largest value (Jacob et al., CVPR 2018, sec. 3.1)
``percentile``        without the largest magnitudes, so that ``percentile`` of 100 values are inside (Li et al., CVPR 2019)
``mse``               the one whose codes have the least squared error (Banner et al., NeurIPS 2019, by search)
``entropy``           the one whose codes lose the least information (Migacz, "8-bit inference with TensorRT", GTC 2017)
``prediction``        the one that changes the network's answers least (PD-Quant, CVPR 2023), looked for by
                      ``passes.prediction_ranges`` around what ``mse`` says
====================  =========================================================================================================

All statistics are streams of bounded memory, and depend on the values and (``moving_average``) the order of the samples, but
never on how samples came in batches: counts are integers, and bins nest when the histogram grows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tapdot.kernels import numerics
from tapdot.passes.codes import Codes

Method = Literal["minmax", "moving_average", "percentile", "mse", "entropy", "prediction"]
WITH_HISTOGRAM = ("percentile", "mse", "entropy", "prediction")

BINS = 4096
"""Bins of a histogram on either side of zero; at least half of those on the longer side are in use."""
CANDIDATES = 128
"""Ranges among which ``mse`` and ``entropy`` choose: shares of the whole range, the smallest 1/CANDIDATES."""
MOMENTUM = 0.9
"""Share of a moving average that stays when a sample comes."""


# -- codes -------------------------------------------------------------------------------------------------------------------


class EmptyRangeError(ValueError):
    """A range that is nothing but zero, or too narrow for a scale in float32."""


def codes_of_range(low: float, high: float, bits: int, *, signed: bool, asymmetric: bool) -> Codes:
    """Codes for the reals between ``low`` and ``high``; zero is always among them, exactly.

    Symmetric unless ``asymmetric``: ``scale = high / (2^b - 1)`` where nothing is negative, else the smallest for which
    ``[low, high]`` fits ``[-2^(b-1), 2^(b-1) - 1]``. With a zero point codes are unsigned, ``scale = (high - low) / (2^b - 1)``
    (Jacob et al., CVPR 2018, eq. 1). The scale is a float32. Raises :class:`EmptyRangeError`.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    asymmetric = asymmetric and signed
    least, most = numerics.code_range(bits, signed and not asymmetric)
    wide = (high - low) / (most - least) if asymmetric else max(high / most, low / least if least else 0.0)
    scale = float(np.float32(wide))
    if not (scale >= float(np.finfo(np.float32).tiny) and math.isfinite(numerics.inverse_scale(scale))):
        raise EmptyRangeError(f"no scale fits the range from {low:g} to {high:g}")
    zero_point = int(np.clip(np.rint(least - low / scale), least, most)) if asymmetric else 0
    return Codes(scale, zero_point, least, most, "int8" if least < 0 else "uint8")


# -- statistics --------------------------------------------------------------------------------------------------------------


class Observer:
    """Statistics of one tensor; ``update`` takes a row of samples, ``float32[samples, elements]``."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.samples = 0
        self.low, self.high = math.inf, -math.inf
        self._moving: tuple[float, float] | None = None
        self._exponent: int | None = None
        self._counts = np.zeros(2 * BINS, np.int64)

    def update(self, rows: Tensor) -> None:
        """Takes in more samples; every value must be finite."""
        if not rows.numel():
            return
        lows, highs = rows.amin(1).tolist(), rows.amax(1).tolist()
        self.samples += len(lows)
        self.low, self.high = min(self.low, *lows), max(self.high, *highs)
        if self.method == "moving_average":
            for ends in zip(lows, highs, strict=True):
                old = self._moving or ends
                self._moving = (
                    MOMENTUM * old[0] + (1 - MOMENTUM) * ends[0],
                    MOMENTUM * old[1] + (1 - MOMENTUM) * ends[1],
                )
        elif self.method in WITH_HISTOGRAM:
            self._count(rows)

    def _count(self, rows: Tensor) -> None:
        largest = max(-self.low, self.high)
        if largest > 0:
            self._grow(math.frexp(largest)[1])
        if self._exponent is None:  # nothing but zeros so far
            self._counts[BINS] += rows.numel()
            return
        per_unit = math.ldexp(BINS, -self._exponent)
        # A power of two times a float32 is exact, so bins nest whatever the width was when a value came.
        places = torch.floor(rows.reshape(-1).double() * per_unit).clamp_(-BINS, BINS - 1).int() + BINS
        self._counts += torch.bincount(places, minlength=2 * BINS).numpy()

    def _grow(self, exponent: int) -> None:
        """Lets the histogram reach to ``2^exponent`` on both sides by merging neighbouring bins."""
        if self._exponent is None:
            self._exponent = exponent
        merged = min(max(exponent - self._exponent, 0), BINS.bit_length())
        self._exponent = max(self._exponent, exponent)
        if merged:
            places = (np.arange(-BINS, BINS) >> merged) + BINS
            self._counts = np.bincount(places, self._counts, 2 * BINS).astype(np.int64)

    def range(self, bits: int, *, signed: bool, asymmetric: bool, percentile: float) -> tuple[float, float]:
        """The range by the method; for symmetric signed codes the two ends have one magnitude unless values allow less."""
        if self.method == "moving_average" and self._moving is not None:
            return self._moving
        if self.method in WITH_HISTOGRAM and self._exponent is not None:
            values, counts = self.histogram()
            candidates = list(_shrunk(self.low, self.high, symmetric=signed and not asymmetric))
            if self.method == "percentile":
                return _percentile(values, counts, percentile, symmetric=not asymmetric, ends=(self.low, self.high))
            lost = _lost_information if self.method == "entropy" else _squared_error
            codes = [codes_of_range(*ends, bits, signed=signed, asymmetric=asymmetric) for ends in candidates]
            losses = [lost(values, counts, candidate) for candidate in codes]
            return candidates[int(np.argmin(losses))]
        return self.low, self.high

    def histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the occupied bins (zero for the one that zeros fall into when nothing is negative), and their counts."""
        assert self._exponent is not None
        used = np.flatnonzero(self._counts)
        width = math.ldexp(1 / BINS, self._exponent)
        centres = np.clip((used - BINS + 0.5) * width, self.low, self.high)
        centres[used == BINS] = 0.0
        return centres, self._counts[used]


def _shrunk(low: float, high: float, *, symmetric: bool) -> Iterator[tuple[float, float]]:
    """Ranges that are shares of the whole one, the whole one first."""
    if symmetric:
        high = max(-low, high)
        low = -high
    for share in range(CANDIDATES, 0, -1):
        yield low * share / CANDIDATES, high * share / CANDIDATES


def _percentile(
    values: np.ndarray, counts: np.ndarray, percentile: float, *, symmetric: bool, ends: tuple[float, float]
) -> tuple[float, float]:
    """The range of all but a share of the values; of their magnitudes where codes are symmetric."""
    outside = (1 - percentile / 100) * counts.sum()
    low, high = ends
    if symmetric:
        order = np.argsort(np.abs(values), kind="stable")
        beyond = counts[order][::-1].cumsum()[::-1]
        inside = np.abs(values[order])[beyond > outside]
        most = float(inside[-1]) if len(inside) else max(-low, high)
        return max(low, -most), min(high, most)
    below, above = counts.cumsum(), counts[::-1].cumsum()[::-1]
    return float(values[below > outside / 2][0]), float(values[above > outside / 2][-1])


def _squared_error(values: np.ndarray, counts: np.ndarray, codes: Codes) -> float:
    difference = values - numerics.dequantize(codes.quantize(values), codes.scale, codes.zero_point)
    return float((difference * difference) @ counts)


def _lost_information(values: np.ndarray, counts: np.ndarray, codes: Codes) -> float:
    """Kullback-Leibler divergence of the values' distribution, cut at the ends, from what codes can tell of it.

    Inside a code's interval every occupied bin is as likely as the others; the mass beyond the ends is counted into the last bins
    of the one distribution and is missing from the other, so that cutting costs. Zeros are left out: every range codes them
    exactly. What chance adds in a finite sample, half a count for each bin more than codes (Miller, 1955), is taken off.
    """
    values, counts = values[values != 0], counts[values != 0]
    quantized = numerics.quantize(values, codes.scale, codes.zero_point, -(2**30), 2**30)
    inside = (quantized >= codes.low) & (quantized <= codes.high)
    if not inside.any():
        return math.inf
    reference = counts[inside].astype(np.float64)
    code = quantized[inside] - codes.low
    levels = codes.high - codes.low + 1
    per_code = np.bincount(code, counts[inside], levels) / np.maximum(np.bincount(code, minlength=levels), 1)
    known = per_code[code]
    reference[0] += counts[~inside & (quantized < codes.low)].sum()
    reference[-1] += counts[~inside & (quantized > codes.high)].sum()
    p, q = reference / reference.sum(), known / known.sum()
    noise = (len(code) - len(np.unique(code))) / (2 * counts.sum())
    return float((p * np.log(p / q)).sum() - noise)
