"""Networks that compile in a second or two and have a bit of everything: for tests of what comes after the passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.types import TensorType

INPUT_SHAPE = (1, 3, 8, 8)


def small_network(seed: int = 0) -> Graph:
    """Two convolutions, the first in a residual, then pooling and a classifier of five classes."""
    numbers = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return numbers.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))

    builder = GraphBuilder("small")
    window = {"pads": (1, 1, 1, 1)}
    x = builder.input("image", TensorType(INPUT_SHAPE, "float32"))
    (stem,) = builder.add("Conv", (x, builder.constant(weights(16, 3, 3, 3), "stem.weight")), window)
    (first,) = builder.add("Relu", (stem,), {})
    (second,) = builder.add("Conv", (first, builder.constant(weights(16, 16, 3, 3), "body.weight")), window)
    (both,) = builder.add("Add", (second, first), {})
    (pooled,) = builder.add("GlobalAveragePool", (both,), {})
    (flat,) = builder.add("Flatten", (pooled,), {})
    (logits,) = builder.add("Gemm", (flat, builder.constant(weights(5, 16), "head.weight")), {"transB": 1})
    return builder.build([logits])


def small_onnx(
    path: Path, *, operator: str = "Relu", height: int | str = 8, weight: float | None = None, domain: str = ""
) -> Path:
    """An ``.onnx`` file: a convolution, ``operator`` on its result, a global pool. ``weight`` replaces one weight."""
    kernel = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    if weight is not None:
        kernel[0, 0, 0, 0] = weight
    shape = [1, 3, height, 8]
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["planes"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["planes"], ["active"], "activation", domain=domain),
        helper.make_node("GlobalAveragePool", ["active"], ["answer"], "pool"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 4, 1, 1])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path
