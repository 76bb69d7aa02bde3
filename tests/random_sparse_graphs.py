"""Random small networks with pruned layers among dense ones, in float32 and in integers.

Most convolutions are 3x3 kernels that keep four taps, or 1x1 kernels that keep quads of four inputs; fully connected layers keep
quads. Shares, pattern sets, strides and pads of every kind; numbers of channels that fill no quad; filters of which nothing is
left; kept weights that are zero. ``random_sparse_graph(seed)`` and ``random_sparse_integer_graph(seed)`` make one each: the first
layer is always pruned.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests import random_graphs, random_integer_graphs

from tapdot.compiler.graph import Graph
from tapdot.kernels.fkw import Structure
from tapdot.kernels.patterns import ALL_PATTERNS, KEPT, PATTERN_COUNTS, QUAD

Choose = Callable[[Sequence[Any]], Any]


def random_sparse_graph(seed: int, steps: int = 8) -> Graph:
    """A float network of up to ``steps`` pieces from a seed."""
    return _Floats(seed).grow(steps)


def random_sparse_integer_graph(seed: int, steps: int = 8) -> Graph:
    """A network of up to ``steps`` pieces in the integer dialect from a seed."""
    return _Integers(seed).grow(steps)


def random_structure(shape: tuple[int, ...], choose: Choose, numbers: np.random.Generator) -> Structure:
    """What is kept of a weight ``[O, I, kH, kW]`` or ``[O, I]``; at least one kernel is."""
    share = choose([share for share in (1, 2, 4, 8) if shape[0] % share == 0])
    groups = shape[0] // share
    by_quads = shape[2:] != (3, 3)
    patterns = QUAD if by_quads else ALL_PATTERNS[numbers.permutation(len(ALL_PATTERNS))[: choose(PATTERN_COUNTS)]]
    units = -(-shape[1] // KEPT) if by_quads else shape[1]
    kept = numbers.integers(0, len(patterns), (groups, units))
    rate = choose((0.5, 0.3, 0.7, 0.9, 0.0))
    kept[numbers.random(kept.shape) < rate] = -1
    if choose((False, False, True)):
        kept[numbers.integers(groups)] = -1  # filters of which nothing is left
    if by_quads and units * groups > 1:  # quads say nothing of what is pruned unless some are
        kept[numbers.random(kept.shape) < 0.2] = -1
        kept.reshape(-1)[numbers.integers(kept.size)] = -1
    if (kept < 0).all():
        kept[numbers.integers(groups), numbers.integers(units)] = 0
    return Structure(kept, patterns, share)


def pruned(weight: NDArray[Any], choose: Choose, numbers: np.random.Generator) -> NDArray[Any]:
    """A weight with its filters first, zero but for a random structure; some of what is kept is zero as well."""
    mask = random_structure(weight.shape, choose, numbers).mask(weight.shape)
    if choose((False, True)):
        mask &= numbers.random(weight.shape) > 0.05
    return np.where(mask, weight, 0).astype(weight.dtype)


def geometry(choose: Choose, shape: tuple[int, ...]) -> tuple[int, dict[str, Any]] | None:
    """Kernel size and attributes of a convolution that may be pruned; None where the plane is too small."""
    size = choose((3, 3, 1))
    strides = (choose((1, 1, 2)), choose((1, 1, 2)))
    if choose((True, False)):
        strides = (strides[0], strides[0])
    pads = (1,) * 4 if size == 3 and choose((True, False)) else tuple(choose((0, 1, size // 2, 2)) for _ in range(4))
    if size == 1 and choose((True, True, False)):
        pads = (0,) * 4
    for extent, begin, end in zip(shape[2:], pads[:2], pads[2:], strict=True):
        if extent + begin + end < size:
            return None
    return size, {"strides": strides, "pads": pads, "dilations": (1, 1), "group": 1}


class _Floats(random_graphs._Network):
    """Float networks."""

    def __init__(self, seed: int) -> None:
        super().__init__(random.Random(seed).choice)
        self.numbers = np.random.default_rng(seed)
        self.grow_first()

    def grow_first(self) -> None:
        """A pruned layer that all others follow, so that no network is without."""
        weight = self.numbers.standard_normal((8, self.shape("input")[1], 3, 3)).astype(np.float32) / 3
        made = pruned(weight, self.choose, self.numbers)
        self.planes = [self.node("Conv", "input", self.builder.constant(made, "weights"), pads=(1, 1, 1, 1))]

    def convolution(self, x: str) -> str | None:
        if self.choose((False, False, False, True)):
            return super().convolution(x)
        batch, channels, height, width = self.shape(x)
        found, filters = geometry(self.choose, self.shape(x)), self.choose((8, 16, 5, 12, 1, 24))
        if found is None or batch * filters * (height + 2) * (width + 2) > 3 * random_graphs.MOST_ELEMENTS:
            return None
        size, attributes = found
        weight = self.numbers.standard_normal((filters, channels, size, size)) / np.sqrt(channels * size * size / 2)
        made = pruned(weight.astype(np.float32), self.choose, self.numbers)
        bias = [self.weights(filters)] if self.choose((False, True)) else []
        return self.node("Conv", x, self.builder.constant(made, "weights"), *bias, **attributes)

    def head(self, x: str) -> str:
        """A classifier of two layers, the first pruned by quads of inputs."""
        if self.choose((True, False)):
            x = self.node("GlobalAveragePool", x)
        flat = self.node("Flatten", x)
        columns, hidden = self.shape(flat)[1], self.choose((16, 24, 8, 10))
        made = pruned(self.numbers.standard_normal((hidden, columns)).astype(np.float32), self.choose, self.numbers)
        features = self.node("Gemm", flat, self.builder.constant(made, "weights"), self.weights(hidden), transB=1)
        if self.choose((True, False)):
            features = self.node("Relu", features)
        logits = self.node("Gemm", features, self.weights(hidden, 3, fan_in=hidden), self.weights(3))
        return self.node("Softmax", logits, axis=1) if self.choose((False, True)) else logits


class _Integers(random_integer_graphs._Network):
    """Networks in the integer dialect."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.first = True
        while (made := self.convolution(self.planes[0])) is None:
            pass
        self.planes = [made]
        self.first = False

    def weights(self, *shape: int) -> NDArray[Any]:
        """Dense weights as ever; those of a matrix product, which lie as [inputs, outputs], often pruned by quads."""
        weight = super().weights(*shape)
        if len(shape) == 2 and self.choose((True, True, False)):
            return np.ascontiguousarray(pruned(weight.T, self.choose, self.numbers).T)
        return weight

    def convolution(self, x: str, depthwise: bool = False) -> str | None:
        if depthwise or (not self.first and self.choose((False, False, False, True))):
            return super().convolution(x, depthwise)
        batch, channels, height, width = self.shape(x)
        found, filters = geometry(self.choose, self.shape(x)), self.choose((8, 16, 5, 12, 1, 24, 32))
        if found is None or batch * filters * (height + 2) * (width + 2) > 2 * random_integer_graphs.MOST_ELEMENTS:
            return None
        size, attributes = found
        if self.first and size != 3:
            return None
        attributes["zero_point"] = self.zero_points[x]
        weight = pruned(super().weights(filters, channels, size, size), self.choose, self.numbers)
        if not weight.any():
            return None
        bound = int(np.abs(weight.astype(np.int64)).reshape(filters, -1).sum(1).max()) * self.largest(x)
        inputs = [x, self.constant(weight, "int8"), *self.bias(filters, bound)]
        text, extras, zero_point = self.epilogue(self.computed("QConv", inputs, attributes), bound + 2**20)
        return self.add("QConv", self.trimmed([*inputs, *extras]), zero_point, **attributes, epilogue=text)
