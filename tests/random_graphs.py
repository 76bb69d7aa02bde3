"""Random small convolutional networks for property tests.

``graphs()`` is a hypothesis strategy: branches, concatenations, residuals, odd sizes, strides, uneven pads, groups, dilations,
pools, gates and activations, in the operators an importer makes. Failing examples shrink to few nodes. ``random_graph(seed)``
makes one without hypothesis.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.types import TensorType

T = TypeVar("T")
Choose = Callable[[Sequence[Any]], Any]

MOST_ELEMENTS = 6000
"""Elements of the largest value, so that an example runs in milliseconds."""


@st.composite
def graphs(draw: st.DrawFn, max_steps: int = 10) -> Graph:
    """A graph of up to ``max_steps`` random pieces; weights are seeded by the structure."""
    steps = draw(st.integers(1, max_steps))
    return _Network(lambda options: draw(st.sampled_from(list(options)))).grow(steps)


def random_graph(seed: int, steps: int = 10) -> Graph:
    """The same kind of graph from a seed."""
    return _Network(random.Random(seed).choice).grow(steps)


class _Network:
    """Grows a graph piece by piece; ``choose`` makes every decision, the simplest option stands first."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.builder = GraphBuilder("random")
        self.numbers = np.random.default_rng(0)
        shape = (choose((1, 2)), choose((3, 1, 4, 8)), choose((6, 7, 9, 12)), choose((6, 5, 11)))
        self.planes = [self.builder.input("input", TensorType(shape, "float32"))]

    def grow(self, steps: int) -> Graph:
        """The whole network."""
        pieces = (
            self.activation,
            self.convolution,
            self.batch_norm,
            self.residual,
            self.pool,
            self.concat,
            self.arithmetic,
            self.squeeze_and_excite,
            self.shuffle,
            self.pad,
            self.nothing,
            self.composite_activation,
        )
        for _ in range(steps):
            made = self.choose(pieces)(self.pick())
            if made is not None:
                self.planes.append(made)
        outputs = [self.choose((self.identity, self.head))(self.planes[-1])]
        if self.choose((False, True)) and len(self.planes) > 2:
            outputs.append(self.planes[len(self.planes) // 2])
        if outputs[0] in self.builder.inputs or outputs[0] in outputs[1:]:
            outputs[0] = self.node("Relu", outputs[0])
        return self.builder.build(outputs)

    # -- small things ---------------------------------------------------------------------------------------------------------

    def pick(self) -> str:
        """Mostly the newest value, sometimes an older one."""
        return self.choose((self.planes[-1], self.planes[-1], *self.planes[-3:]))  # type: ignore[no-any-return]

    def shape(self, value: str) -> tuple[int, ...]:
        return self.builder.types[value].shape

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.builder.add(op, inputs, attributes)[0]

    def weights(self, *shape: int, fan_in: int = 1) -> str:
        array = self.numbers.standard_normal(shape) / np.sqrt(fan_in)
        return self.builder.constant(array.astype(np.float32), "weights")

    def positive(self, *shape: int) -> str:
        return self.builder.constant(self.numbers.uniform(0.5, 1.5, shape).astype(np.float32), "positive")

    def ints(self, *values: int) -> str:
        return self.builder.constant(np.asarray(values, np.int64), "ints")

    def number(self, value: float) -> str:
        return self.builder.constant(np.asarray(value, np.float32), "number")

    def identity(self, x: str) -> str:
        return x

    # -- pieces ---------------------------------------------------------------------------------------------------------------

    def convolution(self, x: str) -> str | None:
        batch, channels, height, width = self.shape(x)
        group = self.choose((1, channels, 2)) if channels % 2 == 0 else self.choose((1, channels))
        filters = group * self.choose((2, 1, 3)) if group > 1 else self.choose((4, 1, 5, 8))
        kernel = (self.choose((1, 3, 2, 5)), self.choose((1, 3, 4)))
        dilations = (self.choose((1, 2)), self.choose((1, 1, 2)))
        strides = (self.choose((1, 2)), self.choose((1, 2, 3)))
        attributes: dict[str, Any] = {"group": group, "dilations": dilations, "strides": strides}
        if self.choose((False, False, False, True)):
            attributes["auto_pad"] = self.choose(("SAME_UPPER", "SAME_LOWER"))
        else:
            pads = tuple(self.choose((size // 2, 0, 1)) for size in kernel * 2)
            attributes["pads"] = pads
            for size, begin, end, taps, dilation in zip((height, width), pads[:2], pads[2:], kernel, dilations, strict=True):
                if size + begin + end < (taps - 1) * dilation + 1:
                    return None
        w = self.weights(filters, channels // group, *kernel, fan_in=channels // group * kernel[0] * kernel[1])
        bias = [self.weights(filters)] if self.choose((False, True)) else []
        if batch * filters * height * width > MOST_ELEMENTS:
            return None
        return self.node("Conv", x, w, *bias, **attributes)

    def batch_norm(self, x: str) -> str:
        channels = self.shape(x)[1]
        statistics = (self.positive(channels), self.weights(channels), self.weights(channels), self.positive(channels))
        return self.node("BatchNormalization", x, *statistics, epsilon=self.choose((1e-5, 1e-3)))

    def activation(self, x: str) -> str:
        op = self.choose(("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "Clip", "PRelu", "Elu"))
        if op == "Clip":
            return self.node("Clip", x, self.number(0.0), self.number(6.0))
        if op == "PRelu":
            return self.node("PRelu", x, self.positive(self.choose((1, self.shape(x)[1])), 1, 1))
        return self.node(op, x)

    def composite_activation(self, x: str) -> str:
        kind = self.choose(("silu", "hard swish", "clamp"))
        if kind == "silu":
            return self.node("Mul", x, self.node("Sigmoid", x))
        shifted = self.node("Clip", self.node("Add", x, self.number(3.0)), self.number(0.0), self.number(6.0))
        if kind == "clamp":
            return shifted
        return self.node("Div", self.node("Mul", x, shifted), self.number(6.0))

    def residual(self, x: str) -> str:
        same = [value for value in self.planes if self.shape(value) == self.shape(x)]
        return self.node(self.choose(("Add", "Mul", "Sub", "Max")), x, self.choose(same))

    def arithmetic(self, x: str) -> str:
        channels = self.shape(x)[1]
        shape = self.choose(((channels, 1, 1), (1, channels, 1, 1), (), (1,), (1, 1, 1, 1), self.shape(x)[2:]))
        operands = [x, self.positive(*shape)]
        op = self.choose(("Add", "Mul", "Sub", "Div"))
        if op in ("Sub", "Div") and self.choose((False, True)) and len(shape) <= 3:
            operands.reverse()
        if op == "Div" and operands[1] == x:
            operands[1] = self.node("Add", self.node("Abs", x), self.number(1.0))
        return self.node(op, *operands)

    def pool(self, x: str) -> str | None:
        height, width = self.shape(x)[2:]
        kernel = (self.choose((2, 3, 1)), self.choose((2, 3)))
        if height < kernel[0] or width < kernel[1]:
            return None
        attributes: dict[str, Any] = {
            "kernel_shape": kernel,
            "strides": (self.choose((2, 1)), self.choose((2, 1, 3))),
            "ceil_mode": self.choose((0, 1)),
        }
        if self.choose((False, True)):
            attributes["pads"] = tuple(min(self.choose((1, 0)), size - 1) for size in kernel * 2)
        if self.choose((False, True)):
            return self.node("AveragePool", x, **attributes, count_include_pad=self.choose((0, 1)))
        return self.node("MaxPool", x, **attributes)

    def concat(self, x: str) -> str | None:
        shape = self.shape(x)
        fits = [value for value in self.planes if self.shape(value)[2:] == shape[2:]]
        others = [self.choose(fits) for _ in range(self.choose((1, 2)))]
        if sum(int(np.prod(self.shape(value))) for value in (x, *others)) > MOST_ELEMENTS:
            return None
        return self.node("Concat", x, *others, axis=1)

    def squeeze_and_excite(self, x: str) -> str:
        channels = self.shape(x)[1]
        if self.choose((True, False)):
            pooled = self.node("GlobalAveragePool", x)
        else:
            pooled = self.node("ReduceMean", x, self.ints(2, 3), keepdims=1)
        gate = self.node("Conv", pooled, self.weights(channels, channels, 1, 1, fan_in=channels), self.weights(channels))
        return self.node("Mul", x, self.node(self.choose(("Sigmoid", "HardSigmoid")), gate))

    def shuffle(self, x: str) -> str:
        batch, channels, height, width = self.shape(x)
        groups = 2 if channels % 2 == 0 else 1
        split = self.node("Reshape", x, self.ints(batch, groups, channels // groups, height, width))
        moved = self.node("Transpose", split, perm=(0, 2, 1, 3, 4))
        return self.node("Reshape", moved, self.ints(0, -1, height, width))

    def pad(self, x: str) -> str | None:
        if int(np.prod(self.shape(x))) > MOST_ELEMENTS // 3:
            return None
        pads = (0, 0, self.choose((1, 0)), self.choose((0, 2)), 0, 0, self.choose((0, 1)), self.choose((1, 0)))
        return self.node("Pad", x, self.ints(*pads))

    def nothing(self, x: str) -> str:
        kind = self.choose(("Identity", "Dropout", "Concat", "Slice", "Transpose", "Reshape"))
        match kind:
            case "Concat":
                return self.node("Concat", x, axis=1)
            case "Slice":
                return self.node("Slice", x, self.ints(0), self.ints(1000), self.ints(2))
            case "Transpose":
                turned = self.node("Transpose", x, perm=(0, 2, 3, 1))
                return self.node("Transpose", turned, perm=(0, 3, 1, 2))
            case "Reshape":
                flat = self.node("Flatten", x)
                return self.node("Reshape", flat, self.ints(*self.shape(x)))
        return self.node(kind, x)

    def head(self, x: str) -> str:
        """A classifier."""
        if self.choose((True, False)):
            x = self.node("GlobalAveragePool", x)
        flat = self.node("Flatten", x)
        columns = self.shape(flat)[1]
        kind = self.choose(("Gemm", "transposed", "MatMul"))
        if kind == "MatMul":
            product = self.node("MatMul", flat, self.weights(columns, 3, fan_in=columns))
            logits = self.node("Add", product, self.weights(3))
        elif kind == "Gemm":
            logits = self.node("Gemm", flat, self.weights(columns, 3, fan_in=columns), self.weights(3), alpha=0.5)
        else:
            logits = self.node("Gemm", flat, self.weights(3, columns, fan_in=columns), transB=1)
        return self.node("Softmax", logits, axis=1) if self.choose((False, True)) else logits
