"""tapdot as an ONNX backend, as ``onnx.backend.test`` asks for one.

How a graph is run is an argument: the interpreter, or any function that takes a graph and returns a function from named arrays
to named arrays, as a compiled package does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx.backend.base import Backend, BackendRep

from tapdot.compiler.frontends.onnx import import_onnx
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret, to_array, to_tensor
from tapdot.compiler.operators import registered

Arrays = Mapping[str, np.ndarray]
INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
GraphRunner = Callable[[Graph], Callable[[Arrays], Arrays]]


def interpreted(graph: Graph) -> Callable[[Arrays], Arrays]:
    """Runs a graph in the reference interpreter."""

    def run(inputs: Arrays) -> Arrays:
        with torch.no_grad():
            results = interpret(graph, {name: to_tensor(array) for name, array in inputs.items()})
        return {name: to_array(tensor) for name, tensor in results.items()}

    return run


class TapdotRep(BackendRep):
    """A model waiting for its inputs.

    tapdot wants operands that shapes follow from (a target shape, axes, pads) as constants, while the node tests pass them as
    inputs: such inputs are built into the model when their values arrive.
    """

    def __init__(self, model: onnx.ModelProto, runner: GraphRunner) -> None:
        self.model = model
        self.runner = runner

    def run(self, inputs: Any, **kwargs: Any) -> tuple[np.ndarray, ...]:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        weights = {tensor.name for tensor in model.graph.initializer}
        names = [value.name for value in model.graph.input if value.name not in weights]
        arrays = dict(zip(names, inputs, strict=True))
        for name in static_inputs(model):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(arrays.pop(name)), name))
        graph = import_onnx(model, shapes={name: np.shape(array) for name, array in arrays.items()})
        results = self.runner(graph)({name: np.asarray(array) for name, array in arrays.items()})
        return tuple(np.asarray(results[name]) for name in graph.outputs)


def static_inputs(model: onnx.ModelProto) -> list[str]:
    """Graph inputs that some node reads as a static operand; integers also where they get there through other nodes."""
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.input if value.name not in known}
    sources = {name: {name} for name in inputs}
    found: set[str] = set()
    for node in model.graph.node:
        entry = registered().get(node.op_type)
        for index, name in enumerate(node.input):
            if (entry is not None and entry.is_static(index)) or node.op_type == "ConstantOfShape":
                found |= sources.get(name, set())
        reached = {source for name in node.input for source in sources.get(name, ()) if inputs[source] in INTEGERS}
        sources.update((name, reached) for name in node.output)
    return [name for name in inputs if name in found]


class TapdotBackend(Backend):
    """The backend; :meth:`using` makes one for another way to run graphs."""

    runner: GraphRunner = staticmethod(interpreted)

    @classmethod
    def using(cls, runner: GraphRunner) -> type[TapdotBackend]:
        """The same backend with graphs run by ``runner``."""
        return type(cls.__name__, (cls,), {"runner": staticmethod(runner)})

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> TapdotRep:
        return TapdotRep(model, cls.runner)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[np.ndarray, ...]:
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Sequence[np.ndarray], device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[np.ndarray, ...]:
        raise NotImplementedError("Node tests come as models.")

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"
