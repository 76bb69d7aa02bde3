"""The nine small models that ship inside the onnx package, as they are and with weights worth computing with.

As shipped, every weight is one constant (ConstantOfShape), so the outputs are almost uniform and hide most mistakes.
``randomised`` draws them anew from a seed: He et al.'s deviation for weights, small biases, positive variances.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.runner import Runner

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = tuple(sorted(path.stem.removeprefix("light_") for path in FOLDER.glob("*.onnx")))


def path(name: str) -> Path:
    """The model's file."""
    return FOLDER / f"light_{name}.onnx"


def input_name(model: onnx.ModelProto) -> str:
    """The one input that is no weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    (name,) = (value.name for value in model.graph.input if value.name not in weights)
    return name


def shipped_input(model: onnx.ModelProto) -> np.ndarray:
    """The input the shipped output belongs to."""
    (value,) = (value for value in model.graph.input if value.name == input_name(model))
    return Runner.generate_dummy_data(value)


def shipped_output(name: str) -> np.ndarray:
    """The output that ships beside the model."""
    tensor = onnx.TensorProto()
    tensor.ParseFromString((FOLDER / f"light_{name}_output_0.pb").read_bytes())
    return numpy_helper.to_array(tensor)


def randomised(name: str, seed: int = 0) -> onnx.ModelProto:
    """The model with seeded weights in place of the constant ones, and its logits (the softmax's operand) as output.

    A value's draw depends on its name and the seed alone.
    """
    model = onnx.load(path(name))
    graph = model.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    roles = _roles(graph)
    drawn: dict[str, np.ndarray] = {}
    nodes = []
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.output[0] in roles:
            shape = tuple(int(size) for size in shapes[node.input[0]])
            drawn[node.output[0]] = _draw(roles[node.output[0]], shape, seed ^ zlib.crc32(node.output[0].encode()))
        else:
            nodes.append(node)
    kept = [node.SerializeToString() for node in nodes]
    del graph.node[:]
    for data in kept:
        graph.node.add().ParseFromString(data)
    for weight, array in drawn.items():
        graph.initializer.append(numpy_helper.from_array(array, weight))
        if weight not in {value.name for value in graph.input}:
            graph.input.append(onnx.helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, array.shape))
    last = graph.node[len(graph.node) - 1]
    if last.op_type == "Softmax":
        shape = [size.dim_value for size in graph.output[0].type.tensor_type.shape.dim]
        graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, shape))
        del graph.node[len(graph.node) - 1]
    return model


def _roles(graph: onnx.GraphProto) -> dict[str, str]:
    """What each constant value is to its reader: ``weight``, ``bias``, ``scale``, ``mean`` or ``variance``."""
    aliases = {node.output[0]: node.input[0] for node in graph.node if node.op_type in ("Unsqueeze", "Reshape")}
    operands = {
        "Conv": ("", "weight", "bias"),
        "Gemm": ("", "weight", "bias"),
        "BatchNormalization": ("", "scale", "bias", "mean", "variance"),
        "Mul": ("", "scale"),
        "Add": ("", "bias"),
    }
    made = {node.output[0] for node in graph.node if node.op_type == "ConstantOfShape"}
    roles = {}
    for node in graph.node:
        for value, role in zip(node.input, operands.get(node.op_type, ()), strict=False):
            value = aliases.get(value, value)
            if role and value in made:
                roles[value] = role
    return roles


def _draw(role: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    match role:
        case "weight":  # [outputs, inputs..., window...], with ones around it where the model reshapes it
            fan_in = math.prod([size for size in shape if size > 1][1:])
            return generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / fan_in))
        case "scale":
            return generator.uniform(0.5, 1.0, shape).astype(np.float32)
        case "variance":
            return generator.uniform(0.8, 1.5, shape).astype(np.float32)
    return generator.standard_normal(shape, np.float32) * np.float32(0.1)
