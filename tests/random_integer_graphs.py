"""Random small integer networks, made directly in the integer dialect, for comparing kernels with the reference byte for byte.

Convolutions of every kind with zero points, strides, pads, groups and odd channel counts, residuals, branches, pools, gates,
tables and fully connected layers; weights and codes are often the largest there are. The network is computed while it grows, so
that scales make results use the range of codes; no accumulator leaves what ``kernels.numerics.high_half_shifts`` allows.
``random_integer_graph(seed)`` makes one; with ``mixed``, weights and codes have 8, 4 or 2 bits, layer by layer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.operators import lookup
from tapdot.compiler.operators.fused import apply_expression
from tapdot.compiler.types import Quant, TensorType
from tapdot.kernels import numerics

Choose = Callable[[Sequence[Any]], Any]
LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}
MOST_ELEMENTS = 12_000
"""Elements of the largest value, so that a network runs in milliseconds."""


def random_integer_graph(seed: int, steps: int = 8, *, mixed: bool = False) -> Graph:
    """A network of up to ``steps`` pieces from a seed."""
    return (_MixedNetwork if mixed else _Network)(seed).grow(steps)


class _Network:
    """Grows a graph piece by piece; every value between pieces is codes with a zero point."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.choose: Choose = self.random.choice
        self.numbers = np.random.default_rng(seed)
        self.builder = GraphBuilder(f"integers{seed}")
        self.zero_points: dict[str, int] = {}
        self.values: dict[str, Tensor] = {}
        shape = (
            self.choose((1, 1, 1, 2)),
            self.choose((3, 16, 4, 1, 24, 5)),
            self.choose((9, 8, 14, 5)),
            self.choose((8, 11, 7)),
        )
        if self.choose((True, True, False)):
            image = self.builder.input("input", TensorType(shape, "float32"))
            self.values[image] = torch.from_numpy(self.numbers.standard_normal(shape).astype(np.float32))
            dtype, zero_point = self.kind()
            low, high = LIMITS[dtype]
            first = self.add("Quantize", [image], zero_point, scale=0.03, zero_point=zero_point, low=low, high=high, dtype=dtype)
        else:
            dtype, zero_point = self.kind()
            first = self.builder.input("input", TensorType(shape, dtype, Quant(8, (0.03,), (zero_point,))))
            self.zero_points[first] = zero_point
            self.values[first] = torch.from_numpy(self.numbers.integers(*LIMITS[dtype], shape, endpoint=True).astype(dtype))
        self.planes = [first]

    def grow(self, steps: int) -> Graph:
        """The whole network."""
        pieces = (
            self.convolution,
            self.convolution,
            self.convolution,
            self.depthwise,
            self.residual,
            self.max_pool,
            self.average_pool,
            self.concat,
            self.table,
            self.gate,
            self.rescaled,
            self.affine,
            self.movement,
            self.island,
        )
        for _ in range(self.random.randint(2, steps)):
            made = self.choose(pieces)(self.pick())
            if made is not None:
                self.planes.append(made)
        outputs = [self.choose((self.logits, self.reals, self.codes))(self.planes[-1])]
        if self.choose((False, True)) and len(self.planes) > 2:
            extra = self.planes[len(self.planes) // 2]
            outputs += [extra] if extra not in self.builder.inputs and extra not in outputs else []
        return self.builder.build(outputs)

    # -- small things ---------------------------------------------------------------------------------------------------------

    def pick(self) -> str:
        """Mostly the newest value, sometimes an older one."""
        return self.choose((self.planes[-1], self.planes[-1], *self.planes[-3:]))  # type: ignore[no-any-return]

    def shape(self, value: str) -> tuple[int, ...]:
        return self.builder.types[value].shape

    def dtype(self, value: str) -> str:
        return self.builder.types[value].dtype

    def kind(self) -> tuple[str, int]:
        """An element type of codes and a zero point."""
        dtype = self.choose(("uint8", "int8"))
        low, high = LIMITS[dtype]
        return dtype, self.choose((0, 0, low, high, self.random.randint(low, high)))

    def add(self, op: str, inputs: Sequence[str], zero_point: int, /, **attributes: Any) -> str:
        """A node whose result is codes with that zero point."""
        (value,) = self.builder.add(op, inputs, attributes)
        self.zero_points[value] = zero_point
        self.values[value] = self.computed(op, inputs, attributes)
        return value

    def computed(self, op: str, inputs: Sequence[str], attributes: dict[str, Any]) -> Tensor:
        """What an operator gives for the values so far."""
        entry, arguments = lookup(op), []
        for index, name in enumerate(inputs):
            array = self.builder.constants.get(name)
            arguments.append(
                array if entry.is_static(index) else self.values.get(name) if array is None else torch.from_numpy(array)
            )
        return entry.compute(*arguments, **attributes)  # type: ignore[no-any-return]

    def constant(self, array: Any, dtype: str = "int32") -> str:
        return self.builder.constant(np.asarray(array).astype(dtype), "constant")

    def weight(self, array: np.ndarray) -> str:
        """A constant of weights, in the narrowest type that the network uses for them."""
        return self.constant(array, "int8")

    def weights(self, *shape: int) -> np.ndarray:
        """int8 weights: of all kinds, all as large as can be, or of large ones with random signs."""
        kind = self.choose(("any", "any", "any", "largest", "smallest", "signs", "few"))
        if kind in ("largest", "smallest"):
            return np.full(shape, 127 if kind == "largest" else -127, np.int8)
        if kind == "signs":
            return (self.numbers.integers(0, 2, shape) * 254 - 127).astype(np.int8)
        made = self.numbers.integers(-127, 128, shape)
        return (made * (self.numbers.random(shape) < 0.2) if kind == "few" else made).astype(np.int8)

    def largest(self, value: str) -> int:
        """The largest magnitude of a code without its zero point."""
        low, high = LIMITS[self.dtype(value)]
        return max(high - self.zero_points[value], self.zero_points[value] - low)

    def scale(self, sums: Tensor, bound: int, channels: int | None = None) -> tuple[str, list[str]]:
        """A ``Dyadic`` of such sums that makes codes of them, as a format of text, and its operands.

        No sum is larger than ``bound``. With ``channels`` there is a pair of numbers for each, in constants.
        """
        largest = max(1, int(sums.abs().max()))
        ratios = np.exp(self.numbers.uniform(np.log(80), np.log(600), channels or 1)) / largest
        if largest < 2**12 and self.choose((False, False, True)):
            ratios[:] = 1.0  # multiplier 2^30, shift 30
        elif channels and self.choose((False, False, False, True)):
            ratios[self.random.randrange(len(ratios))] = 2.0 ** -self.random.randint(24, 32)  # shifts up to the largest
        pairs = [numerics.dyadic_parameters(float(ratio)) for ratio in np.minimum(ratios, 2.0**20)]
        # abs(sum) << max(0, 33 - shift) < 2^31, on which kernels rely
        pairs = [(m, max(s, bound.bit_length() + 2)) for m, s in pairs]
        if channels is None:
            (m, s) = pairs[0]
            return f"Dyadic({{}}, multiplier={m}, shift={s})", []
        arrays = [np.array(column).reshape(1, -1, 1, 1) for column in zip(*pairs, strict=True)]
        return "Dyadic({}, {}, {})", [self.constant(array) for array in arrays]

    def rescale(self, text: str, values: Sequence[str], bound: int) -> str:
        """A ``Dyadic`` around an expression over values."""
        arrays = [self.values[name] if name in self.values else torch.from_numpy(self.builder.constants[name]) for name in values]
        return self.scale(apply_expression(text, arrays), bound)[0].format(text)

    def widened(self, value: str, leaf: str = "acc") -> str:
        """Codes without their zero point, scaled."""
        scaled, _ = self.scale(self.values[value].int() - self.zero_points[value], self.largest(value))
        return scaled.format(f"Widen({leaf}, zero_point={self.zero_points[value]})")

    def narrow(self, text: str) -> tuple[str, str, int]:
        """A ``Narrow`` around an expression, to any type, with or without a clamp of its own; the type and zero point too."""
        dtype, zero_point = self.kind()
        low, high = LIMITS[dtype]
        if self.choose((False, False, True)):
            low = self.choose((zero_point, low + self.random.randint(0, 60)))  # a relu, or anything
            low = min(low, high - 60)
            high = self.choose((high, self.random.randint(low + 30, high)))
        return f"Narrow({text}, zero_point={zero_point}, low={low}, high={high}, dtype={dtype!r})", dtype, zero_point

    # -- pieces -----------------------------------------------------------------------------------------------------------------

    def epilogue(self, sums: Tensor, bound: int) -> tuple[str, list[str], int]:
        """From an accumulator to codes: scaled, perhaps with a residual of its shape, perhaps through a table."""
        shape = tuple(sums.shape)
        text, operands = self.scale(sums, bound, shape[1])
        text = text.format("acc", "r0", "r1")
        same = [value for value in self.planes if self.shape(value) == shape]
        if same and self.choose((True, False)):
            residual = self.choose(same)
            text = f"Add({text}, {self.widened(residual, f'r{len(operands)}')})"
            operands.append(residual)
        text, dtype, zero_point = self.narrow(text)
        if self.choose((False, False, False, True)):
            dtype, zero_point = self.kind()
            text = f"Lookup({text}, r{len(operands)})"
            operands.append(self.constant(self.numbers.integers(*LIMITS[dtype], 256, endpoint=True), dtype))
        return text, operands, zero_point

    def bias(self, filters: int, magnitude: int) -> list[str]:
        if self.choose((False, True)):
            limit = max(1, min(magnitude, 2**20))
            return [self.constant(self.numbers.integers(-limit, limit, filters))]
        return [""]

    def convolution(self, x: str, depthwise: bool = False) -> str | None:
        batch, channels, height, width = self.shape(x)
        divisors = [count for count in (1, 2, 3, 4, 8) if channels % count == 0]
        group = channels if depthwise else self.choose((1, 1, 1, *divisors))
        filters = channels * self.choose((1, 1, 2)) if depthwise else group * self.choose((16, 3, 8, 17, 32, 5, 40))
        filters = filters if group == 1 or depthwise else group * self.choose((4, 16, 1, 5))
        kernel = (self.choose((3, 1, 3, 2, 5)), self.choose((3, 1, 3, 4)))
        if self.choose((True, False)):
            kernel = (kernel[0], kernel[0])
        dilations = (self.choose((1, 1, 1, 2)), self.choose((1, 1, 1, 2)))
        strides = (self.choose((1, 1, 2)), self.choose((1, 1, 2, 3)))
        pads = tuple(self.choose((size // 2, size // 2, 0, 1)) for size in kernel * 2)
        for size, begin, end, taps, dilation in zip((height, width), pads[:2], pads[2:], kernel, dilations, strict=True):
            if size + begin + end < (taps - 1) * dilation + 1:
                return None
        if batch * filters * height * width > MOST_ELEMENTS:
            return None
        w = self.weights(filters, channels // group, *kernel)
        bound = int(np.abs(w.astype(np.int64)).reshape(filters, -1).sum(1).max()) * self.largest(x)
        bias = self.bias(filters, bound)
        attributes = {
            "strides": strides,
            "pads": pads,
            "dilations": dilations,
            "group": group,
            "zero_point": self.zero_points[x],
        }
        inputs = [x, self.weight(w), *bias]
        sums = self.computed("QConv", inputs, attributes)
        text, extras, zero_point = self.epilogue(sums, bound + 2**20)
        return self.add("QConv", self.trimmed([*inputs, *extras]), zero_point, **attributes, epilogue=text)

    @staticmethod
    def trimmed(inputs: list[str]) -> list[str]:
        """Without omitted operands at the end."""
        while not inputs[-1]:
            inputs.pop()
        return inputs

    def depthwise(self, x: str) -> str | None:
        return self.convolution(x, depthwise=True)

    def residual(self, x: str) -> str:
        """A sum that was not fused."""
        other = self.choose([value for value in self.planes if self.shape(value) == self.shape(x)])
        op = self.choose(("Add", "Add", "Sub", "Max", "Min"))
        text, _, zero_point = self.narrow(f"{op}({self.widened(x)}, {self.widened(other, 'r0')})")
        return self.add("Elementwise", [x, other], zero_point, expression=text)

    def global_sum(self, x: str) -> str:
        height, width = self.shape(x)[2:]
        attributes = {"zero_point": self.zero_points[x]}
        sums = self.computed("QGlobalSum", [x], attributes)
        text, _, zero_point = self.narrow(self.scale(sums, self.largest(x) * height * width)[0].format("acc"))
        return self.add("QGlobalSum", [x], zero_point, **attributes, epilogue=text)

    def gate(self, x: str) -> str:
        """Squeeze and excite: codes times one code a channel."""
        channels = self.shape(x)[1]
        pooled = self.global_sum(x)
        inputs = [pooled, self.weight(self.weights(channels, channels, 1, 1)), ""]
        attributes: dict[str, Any] = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
        attributes["zero_point"] = self.zero_points[pooled]
        sums = self.computed("QConv", inputs, attributes)
        text, extras, zero_point = self.epilogue(sums, channels * 127 * self.largest(pooled))
        gate = self.add("QConv", self.trimmed([*inputs, *extras]), zero_point, **attributes, epilogue=text)
        product = f"Mul(Widen(acc, zero_point={self.zero_points[x]}), Widen(r0, zero_point={self.zero_points[gate]}))"
        text, _, zero_point = self.narrow(self.rescale(product, [x, gate], self.largest(x) * self.largest(gate)))
        return self.add("Elementwise", [x, gate], zero_point, expression=text)

    def rescaled(self, x: str) -> str:
        """Codes on another scale."""
        text, _, zero_point = self.narrow(self.widened(x))
        return self.add("Elementwise", [x], zero_point, expression=text)

    def affine(self, x: str) -> str:
        """A factor and a shift for every channel."""
        channels = self.shape(x)[1]
        factors = self.constant(self.numbers.integers(-3000, 3000, (1, channels, 1, 1)))
        shifts = self.constant(self.numbers.integers(-(10**5), 10**5, (1, channels, 1, 1)))
        inner = f"Add(Mul(Widen(acc, zero_point={self.zero_points[x]}), r0), r1)"
        text, _, zero_point = self.narrow(self.rescale(inner, [x, factors, shifts], 3000 * self.largest(x) + 10**5))
        return self.add("Elementwise", [x, factors, shifts], zero_point, expression=text)

    def table(self, x: str) -> str:
        dtype, zero_point = self.kind()
        values = self.constant(self.numbers.integers(*LIMITS[dtype], 256, endpoint=True), dtype)
        return self.add("Elementwise", [x, values], zero_point, expression="Lookup(acc, r0)")

    def max_pool(self, x: str) -> str | None:
        height, width = self.shape(x)[2:]
        kernel = (self.choose((2, 3, 1)), self.choose((2, 3)))
        if height < kernel[0] or width < kernel[1]:
            return None
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": (self.choose((2, 1)), self.choose((2, 1, 3)))}
        if self.choose((False, True)):
            attributes["pads"] = tuple(min(self.choose((1, 0)), size - 1) for size in kernel * 2)
        return self.add("MaxPool", [x], self.zero_points[x], **attributes)

    def average_pool(self, x: str) -> str | None:
        height, width = self.shape(x)[2:]
        kernel = (self.choose((2, 3, 1)), self.choose((2, 3)))
        if height < kernel[0] or width < kernel[1]:
            return None
        pads = tuple(min(self.choose((1, 0, 0)), size - 1) for size in kernel * 2)
        strides = (self.choose((2, 1)), self.choose((2, 1, 3)))
        attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads, "zero_point": self.zero_points[x]}
        sums = self.computed("QSumPool", [x], attributes)
        text, _, zero_point = self.narrow(self.scale(sums, kernel[0] * kernel[1] * self.largest(x))[0].format("acc"))
        return self.add("QSumPool", [x], zero_point, **attributes, epilogue=text)

    def concat(self, x: str) -> str | None:
        """Codes of one type and one zero point."""
        batch, _, height, width = self.shape(x)
        dtype, zero_point = self.kind()
        low, high = LIMITS[dtype]
        fits = [v for v in self.planes if (self.shape(v)[0], *self.shape(v)[2:]) == (batch, height, width)]
        parts = [x, *(self.choose(fits) for _ in range(self.choose((1, 2))))]
        if sum(int(np.prod(self.shape(value))) for value in parts) > MOST_ELEMENTS:
            return None
        branches = []
        for part in parts:
            if (self.dtype(part), self.zero_points[part]) == (dtype, zero_point) and self.choose((True, False)):
                branches.append(part)
                continue
            text = f"Narrow({self.widened(part)}, zero_point={zero_point}, low={low}, high={high}, dtype={dtype!r})"
            branches.append(self.add("Elementwise", [part], zero_point, expression=text))
        return self.add("Concat", branches, zero_point, axis=1)

    def movement(self, x: str) -> str | None:
        """Codes that only move."""
        batch, channels, height, width = self.shape(x)
        zero_point = self.zero_points[x]
        match self.choose(("shuffle", "slice", "pad", "resize", "turn")):
            case "shuffle" if channels % 2 == 0:
                split = self.add("Reshape", [x, self.ints(batch, 2, channels // 2, height, width)], zero_point)
                moved = self.add("Transpose", [split], zero_point, perm=(0, 2, 1, 3, 4))
                return self.add("Reshape", [moved, self.ints(batch, channels, height, width)], zero_point)
            case "slice" if channels > 1:
                return self.add("Slice", [x, self.ints(channels // 2), self.ints(channels), self.ints(1)], zero_point)
            case "pad" if batch * channels * height * width < MOST_ELEMENTS // 2:
                value = self.constant(zero_point, self.dtype(x))
                return self.add("Pad", [x, self.ints(0, 0, 1, 0, 0, 0, 0, 2), value], zero_point)
            case "resize" if batch * channels * height * width < MOST_ELEMENTS // 4:
                scales = self.builder.constant(np.array([1, 1, 2, 2], np.float32), "scales")
                return self.add(
                    "Resize",
                    [x, "", scales],
                    zero_point,
                    mode="nearest",
                    nearest_mode="floor",
                    coordinate_transformation_mode="asymmetric",
                )
            case "turn":
                return self.add("Transpose", [x], zero_point, perm=(0, 1, 3, 2))
        return None

    def island(self, x: str) -> str | None:
        """A float function between two kinds of codes; rare, as bytes may differ after it."""
        if self.choose((True, True, True, False)):
            return None
        real = self.add("Dequantize", [x], 0, scale=0.02, zero_point=self.zero_points[x])
        curved = self.add("Sigmoid", [real], 0)
        dtype, zero_point = self.kind()
        low, high = LIMITS[dtype]
        return self.add("Quantize", [curved], zero_point, scale=1 / 200, zero_point=zero_point, low=low, high=high, dtype=dtype)

    def ints(self, *values: int) -> str:
        return self.builder.constant(np.asarray(values, np.int64), "ints")

    # -- heads ------------------------------------------------------------------------------------------------------------------

    def logits(self, x: str) -> str:
        """A classifier over pooled or flattened codes, in float32 or in codes."""
        if self.choose((True, False)):
            x = self.global_sum(x)
        zero_point = self.zero_points[x]
        flat = self.add("Flatten", [x], zero_point, axis=1)
        columns = self.shape(flat)[1]
        classes = self.choose((10, 3, 16, 37))
        w = self.weights(columns, classes)
        bound = int(np.abs(w.astype(np.int64)).sum(0).max()) * self.largest(flat)
        inputs = [flat, self.weight(w), *self.bias(classes, bound)]
        if self.choose((True, False)):
            scales = self.builder.constant(self.numbers.uniform(1e-5, 1e-3, (1, classes)).astype(np.float32), "scales")
            attributes = {"zero_point": zero_point, "epilogue": "Reals(acc, r0)"}
            (value,) = self.builder.add("QGemm", [*inputs, scales], attributes)
            return self.builder.add("Softmax", [value], {"axis": 1})[0] if self.choose((False, False, True)) else value
        sums = self.computed("QGemm", inputs, {"zero_point": zero_point})
        text, _, made = self.narrow(self.scale(sums, bound + 2**20)[0].format("acc"))
        return self.add("QGemm", self.trimmed(inputs), made, zero_point=zero_point, epilogue=text)

    def reals(self, x: str) -> str:
        return self.builder.add("Dequantize", [x], {"scale": 0.0473, "zero_point": self.zero_points[x]})[0]

    def codes(self, x: str) -> str:
        """The codes themselves; a node of their own where they are the caller's."""
        return self.rescaled(x) if x in self.builder.inputs else x


class _MixedNetwork(_Network):
    """Weights of 8, 4 and 2 bits and codes of as few: a random choice for every layer and tensor."""

    def weights(self, *shape: int) -> np.ndarray:
        made = super().weights(*shape)
        limit = numerics.weight_limit(self.choose((8, 4, 4, 2)))
        return np.rint(made * (limit / 127)).astype(np.int8)

    def weight(self, array: np.ndarray) -> str:
        needed = next(bits for bits in (2, 4, 8) if np.abs(array).max(initial=0) <= numerics.weight_limit(bits))
        return self.builder.constant(array, "weight", numerics.weight_dtype(needed))

    def narrow(self, text: str) -> tuple[str, str, int]:
        bits = self.choose((8, 4, 4, 2))
        if bits == 8:
            return super().narrow(text)
        dtype = self.choose(("uint8", "int8"))
        low, high = numerics.code_range(bits, dtype == "int8")
        zero_point = self.choose((0, 0, low, high))
        return f"Narrow({text}, zero_point={zero_point}, low={low}, high={high}, dtype={dtype!r})", dtype, zero_point
