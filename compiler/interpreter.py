"""The reference: a graph run node by node in torch by the operator table's own semantics, differentiable throughout."""

from __future__ import annotations

import copy
import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup
from tapdot.compiler.operators.table import DTYPE_NAMES
from tapdot.compiler.types import TensorType

Evaluate = Callable[[Node, Sequence[Tensor | None]], Sequence[Tensor]]


def to_tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor, sharing its memory where torch can (a read-only array is copied)."""
    array = np.asarray(array)
    return torch.from_numpy(array) if array.flags.writeable else torch.from_numpy(array.copy())


def to_array(tensor: Tensor) -> np.ndarray:
    """The tensor as a dense numpy array."""
    return np.array(tensor.detach().cpu().contiguous().numpy(), order="C", copy=None)


def interpret(
    graph: Graph,
    inputs: Mapping[str, Tensor],
    *,
    keep: Collection[str] = (),
    observe: Callable[[str, Tensor], None] = lambda name, value: None,
) -> dict[str, Tensor]:
    """Runs a graph; returns its outputs and the values named in ``keep``, by name.

    ``observe`` is shown every input and result once it is known. Values nobody reads any more are freed on the way.
    Gradients flow to inputs that require them. Raises InputError where the inputs do not fit the graph or ``keep`` names no value
    of it.
    """
    check_inputs(graph, inputs)
    unknown = [name for name in keep if name not in graph.types]
    if unknown:
        raise InputError(f"Expected names of values of graph {graph.name!r} to keep, found {unknown[0]!r}.")
    known: dict[str, Tensor] = {}

    def constant(name: str) -> Tensor:
        if name not in known:
            known[name] = to_tensor(graph.constants[name])
        return known[name]

    def evaluate(node: Node, operands: Sequence[Tensor | None]) -> Sequence[Tensor]:
        results = lookup(node.op).apply(node, operands, graph.constants)
        for name, result in zip(node.outputs, results, strict=False):
            observe(name, result)
        return results

    for name in graph.inputs:
        observe(name, inputs[name])
    return _execute(graph, inputs, constant, evaluate, keep)


def evaluate_node(node: Node, arrays: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
    """The results of one node whose operands are all known, as for constant folding."""
    constants = {name: array for name, array in zip(node.inputs, arrays, strict=True) if name and array is not None}
    operands = [None if array is None else to_tensor(array) for array in arrays]
    with torch.no_grad():
        results = lookup(node.op).apply(node, operands, constants)
    return tuple(to_array(result) for result in results[: len(node.outputs)])


def check_inputs(graph: Graph, inputs: Mapping[str, Tensor]) -> None:
    """Raises InputError unless there is exactly one tensor of the right shape and element type for each input of the graph."""
    expected = ", ".join(f"{name}: {graph.type(name)}" for name in graph.inputs)
    for name in graph.inputs:
        if name not in inputs:
            raise InputError(f"Expected a tensor for every input of the graph ({expected}), found none for {name!r}.")
        kind = graph.type(name)
        found = TensorType(tuple(inputs[name].shape), DTYPE_NAMES.get(inputs[name].dtype, str(inputs[name].dtype)))
        if (found.shape, found.dtype) != (kind.shape, kind.dtype):
            raise InputError(
                f"Expected input {name!r} to be {kind.dtype}{list(kind.shape)}, found {found.dtype}{list(found.shape)}."
            )
    for name in inputs:
        if name not in graph.inputs:
            raise InputError(f"Unknown input {name!r}; the graph takes: {expected}.")


def _execute(
    graph: Graph,
    inputs: Mapping[str, Tensor],
    constant: Callable[[str], Tensor],
    evaluate: Evaluate,
    keep: Collection[str] = (),
) -> dict[str, Tensor]:
    """The loop every way of running a graph shares; ``evaluate`` gives a node's meaning."""
    wanted = {*graph.outputs, *keep}
    last_reader = {name: node for node in graph.nodes for name in node.inputs}
    values = dict(inputs)
    for node in graph.nodes:
        entry = lookup(node.op)
        operands = [
            None if not name or entry.is_static(index) else values[name] if name in values else constant(name)
            for index, name in enumerate(node.inputs)
        ]
        results = evaluate(node, operands)
        for name, result in zip(node.outputs, results, strict=False):
            if name in wanted or name in last_reader:
                values[name] = result
        del operands, results
        for name in node.inputs:
            if last_reader.get(name) is node and name not in wanted:
                values.pop(name, None)
    return {name: values[name] if name in values else constant(name) for name in dict.fromkeys([*graph.outputs, *keep])}


def mangled(name: str, taken: Callable[[str], bool] = lambda _: False) -> str:
    """A value's name as a parameter's, which may hold no dot and be no attribute of its module; :func:`unmangled` undoes it."""
    safe = urllib.parse.quote(name, safe="").replace(".", "%2E")
    return f"%{ord(safe[0]):02X}{safe[1:]}" if taken(safe) else safe


def unmangled(name: str) -> str:
    """The value's name that :func:`mangled` hid."""
    return urllib.parse.unquote(name)


class GraphModule(nn.Module):
    """A graph as a torch module, to differentiate, prune and train.

    Float constants are parameters, named by :func:`mangled`; integers and the running statistics of batch norms are buffers;
    static operands (shapes, bounds) stay in the graph. In ``train()`` mode batch norms use and update batch statistics and
    dropouts drop. ``weights()`` and ``to_graph()`` bring the arrays back by name.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self._places: dict[str, str] = {}
        statistics = {name for node in graph.nodes if node.op == "BatchNormalization" for name in node.inputs[3:5]}
        read = {name for node in graph.nodes for index, name in enumerate(node.inputs) if not lookup(node.op).is_static(index)}
        for name, array in graph.constants.items():
            if name not in read and name not in graph.outputs:
                continue
            place = self._places[name] = mangled(name, lambda text: hasattr(self, text))
            tensor = torch.from_numpy(np.array(array))  # a copy: training must not write into the graph
            if tensor.is_floating_point() and name not in statistics:
                self.register_parameter(place, nn.Parameter(tensor))
            else:
                self.register_buffer(place, tensor)

    def constant(self, name: str) -> Tensor:
        """The parameter or buffer that holds a constant of the graph."""
        return getattr(self, self._places[name])

    def operand(self, name: str) -> Tensor:
        """What nodes compute with where they name a constant: the same, but in modules that simulate something of it."""
        return self.constant(name)

    def find(self, name: str) -> Tensor | None:
        """The same, or None for a constant that no node computes with."""
        return self.constant(name) if name in self._places else None

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Takes arrays by the names of the graph's constants, as :meth:`weights` gives them."""
        with torch.no_grad():
            for name in self._places:
                self.constant(name).copy_(to_tensor(weights[name]))

    def weights(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers, by the names of the graph's constants."""
        return {name: np.array(to_array(self.constant(name))) for name in self._places}

    def to_graph(self) -> Graph:
        """The graph with this module's weights."""
        return self.graph.replace(constants={**self.graph.constants, **self.weights()})

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Takes tensors in the order of ``graph.inputs``; returns the output, or a tuple where there are several."""
        results = self.values(*inputs)
        outputs = tuple(results[name] for name in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def values(self, *inputs: Tensor, keep: Collection[str] = ()) -> dict[str, Tensor]:
        """As :meth:`forward`, by name and with the intermediate values named in ``keep``."""
        if len(inputs) != len(self.graph.inputs):
            raise InputError(f"Expected {len(self.graph.inputs)} input tensors, found {len(inputs)}.")
        named = dict(zip(self.graph.inputs, inputs, strict=True))
        return _execute(self.graph, named, self.operand, self._evaluate, keep)

    def _evaluate(self, node: Node, operands: Sequence[Tensor | None]) -> Sequence[Tensor]:
        entry = lookup(node.op)
        if self.training and node.op == "BatchNormalization":
            x, scale, bias, mean, var = operands
            settings = entry.defaults(node.attributes)
            assert x is not None
            # ONNX's momentum is the share that stays, torch's the share that is new.
            return (F.batch_norm(x, mean, var, scale, bias, True, 1 - settings["momentum"], settings["epsilon"]),)
        if self.training and node.op == "Dropout":
            x = operands[0]
            assert x is not None
            ratio = self.graph.constants[node.operand(1)].item() if node.operand(1) else 0.5
            mask = F.dropout(torch.ones_like(x), ratio)
            return x * mask, mask != 0
        return entry.apply(node, operands, self.graph.constants)

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphModule:
        """Copies weights and shares the graph, which never changes."""
        twin = type(self).__new__(type(self))
        memo[id(self)], memo[id(self.graph)] = twin, self.graph
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin
