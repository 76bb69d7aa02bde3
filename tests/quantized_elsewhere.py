"""Models that onnxruntime's static quantizer writes, and how far kernels of codes are from onnxruntime, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from tapdot.compiler.frontends.onnx import import_onnx
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.interpreter import interpret, to_tensor
from tapdot.compiler.operators import lookup
from tapdot.compiler.pipeline import run
from tapdot.passes.recipes import recipe


class Reader(CalibrationDataReader):
    """Images, one by one, for the only input of a model."""

    def __init__(self, name: str, images: Sequence[np.ndarray]) -> None:
        self.name = name
        self.left: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.left, None)
        return None if image is None else {self.name: image}


def quantize(source: Path, into: Path, images: Sequence[np.ndarray], **options: Any) -> Path:
    """The float model as onnxruntime's ``quantize_static`` writes it, with ranges from some images."""
    name = onnx.load(source, load_external_data=False).graph.input[0].name
    quantize_static(str(source), str(into), Reader(name, images), **options)
    return into


def integer(path: Path) -> Graph:
    """The model in the integer dialect."""
    return run(import_onnx(path), recipe("int8")).graph


def answer(path: Path, image: np.ndarray) -> np.ndarray:
    """What onnxruntime gives for the only output."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image})
    return np.asarray(found)


def own_answer(graph: Graph, image: np.ndarray) -> np.ndarray:
    """What the reference gives for the only output."""
    with torch.no_grad():
        found = interpret(graph, {graph.inputs[0]: torch.from_numpy(image)})
    return found[graph.outputs[0]].numpy()


@dataclass(frozen=True)
class Compared:
    """Codes that one node made of onnxruntime's codes, against onnxruntime's: ``{difference: how many}``."""

    node: Node
    differences: dict[int, int]

    @property
    def largest(self) -> int:
        return max(self.differences)

    @property
    def steps(self) -> int:
        """How often onnxruntime rounds to codes where this node does once or as often."""
        return str(self.node.attributes.get("epilogue") or self.node.attributes.get("expression")).count("Narrow(")


@dataclass(frozen=True)
class _Codes:
    """What one QuantizeLinear of onnxruntime makes."""

    scale: float
    array: np.ndarray


def compare_kernels(path: Path, graph: Graph, image: np.ndarray) -> list[Compared]:
    """Every node whose codes onnxruntime has too, each on onnxruntime's own codes, so that nothing adds up.

    Branches of a Concat are on its common scale here, and on their own in onnxruntime: the Concat is compared in their place.
    """
    known = _codes_of_onnxruntime(path, image)
    values = {name: to_tensor(array) for name, array in graph.constants.items()} | {graph.inputs[0]: torch.from_numpy(image)}
    compared = []
    for node in graph.nodes:
        entry = lookup(node.op)
        operands = [None if not name or entry.is_static(index) else values[name] for index, name in enumerate(node.inputs)]
        with torch.no_grad():
            (result,) = entry.apply(node, operands, graph.constants)
        theirs, quant = known.get(node.output.removesuffix(".codes")), graph.type(node.output).quant
        if theirs is not None and quant is not None and quant.scale[0] == theirs.scale:
            differences = np.abs(result.numpy().astype(int) - theirs.array.astype(int))
            found, counts = np.unique(differences, return_counts=True)
            compared.append(Compared(node, dict(zip(found.tolist(), counts.tolist(), strict=True))))
            result = torch.from_numpy(theirs.array)
        values[node.output] = result
    return compared


def _codes_of_onnxruntime(path: Path, image: np.ndarray) -> dict[str, _Codes]:
    """By the name of the float value that each QuantizeLinear reads; computed as the model is written, with floats in between."""
    model = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    for node in nodes:
        kind = onnx.helper.np_dtype_to_tensor_dtype(constants[node.input[2]].dtype)
        model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], kind, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    arrays = session.run([node.output[0] for node in nodes], {model.graph.input[0].name: image})
    return {
        node.input[0]: _Codes(float(constants[node.input[1]].item()), np.asarray(array))
        for node, array in zip(nodes, arrays, strict=True)
    }
