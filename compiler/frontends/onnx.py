"""From ONNX files to graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, inliner

from tapdot.compiler.errors import GraphError, ModelError
from tapdot.compiler.frontends.onnx_file import input_dtype, read_onnx, tensor_array
from tapdot.compiler.frontends.onnx_opset import DEFAULT_DOMAINS, attribute, label, to_table_opset
from tapdot.compiler.frontends.onnx_quantized import expand_quantized
from tapdot.compiler.frontends.problems import Problems, listed, reason_of
from tapdot.compiler.frontends.shapes import Dimension, fix_shapes
from tapdot.compiler.graph import Attribute, Graph, GraphBuilder, Node
from tapdot.compiler.interpreter import evaluate_node
from tapdot.compiler.operators import lookup, registered
from tapdot.compiler.operators.shapes import ONNX_DTYPES
from tapdot.compiler.types import Quant, TensorType

ONNX_NUMBERS = {name: number for number, name in ONNX_DTYPES.items()}
CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")


def import_onnx(source: str | Path | onnx.ModelProto, *, shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """The graph of an ONNX model: a file (weights inside or beside it) or a loaded model.

    ``shapes`` gives sizes to inputs whose dimensions the model leaves open. Value and node names are the model's. Whatever
    follows from constants and static shapes alone is computed here, so that shapes are numbers everywhere.

    Raises ModelError that lists all that is wrong: a file that is none, types or operators that are not supported, open
    dimensions, weights that are not finite.
    """
    name = "the ONNX model" if isinstance(source, onnx.ModelProto) else repr(str(source))
    problems = Problems(name)
    file = read_onnx(source, problems)
    model = _inlined(file.model, problems)
    model = to_table_opset(model, problems)
    expand_quantized(model.graph)
    _check_operators(model.graph, problems)
    _drop_indices(model.graph, problems)
    importer = _Importer(model.graph.name or "graph", file.weights, problems)
    importer.declare_inputs(model.graph, shapes)
    problems.raise_any()
    importer.add_nodes(model.graph.node)
    problems.raise_any()
    return importer.finish(model.graph)


def _inlined(model: onnx.ModelProto, problems: Problems) -> onnx.ModelProto:
    """The model without local functions."""
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # the inliner reports by several exception types
        problems.add(f"Its local functions cannot be inlined: {reason_of(error)}; export it without functions.")
        return model


def _check_operators(graph: onnx.GraphProto, problems: Problems) -> None:
    """Adds every operator that the table does not have, each once with the nodes that apply it."""
    unknown: dict[tuple[str, str], list[NodeProto]] = {}
    for node in graph.node:
        known = node.op_type in registered() or node.op_type in _FOLDED or node.op_type in CONTROL_FLOW
        if node.domain not in DEFAULT_DOMAINS or not known:
            unknown.setdefault((node.domain, node.op_type), []).append(node)
    for (domain, op), nodes in sorted(unknown.items(), key=lambda item: item[0]):
        names = listed(node.name or next(iter(node.output), "") for node in nodes)
        where = f"node {names}" if len(nodes) == 1 else f"nodes {names}"
        if domain not in DEFAULT_DOMAINS:
            problems.add(
                f"Operator {op} of domain {domain!r} ({where}) is not ONNX's own, so its meaning is not known here; export the "
                "model without it, or define it as a local function of the model."
            )
        else:
            problems.add(
                f"Operator {op} ({where}) is not supported; rewrite that part of the model with other operators, or cut the "
                "model before it (onnx.utils.extract_model) and compute the rest outside."
            )


def _drop_indices(graph: onnx.GraphProto, problems: Problems) -> None:
    """Takes the second result off every MaxPool, and adds a problem for each that somebody reads."""
    read = {name for node in graph.node for name in node.input}.union(value.name for value in graph.output)
    for node in graph.node:
        if node.domain not in DEFAULT_DOMAINS or node.op_type != "MaxPool" or len(node.output) < 2:
            continue
        if node.output[1] in read:
            problems.add(
                f"MaxPool node {label(node)} also tells where each maximum stood (its second result, {node.output[1]!r}), which "
                "is not computed; export the model without return_indices, with Resize or ConvTranspose in place of unpooling."
            )
        else:
            del node.output[1:]


class _Importer:
    """Adds nodes to a builder one by one; a node that fails is noted, and those that need its results are passed over."""

    def __init__(self, name: str, weights: Mapping[str, np.ndarray], problems: Problems) -> None:
        self.builder = GraphBuilder(name)
        self.weights = weights
        self.problems = problems
        self.values: dict[str, str] = {"": ""}
        """The graph's name of every ONNX value in reach; they differ only where a sub-graph reuses a name."""
        self.lost: set[str] = set()

    # -- inputs and constants -------------------------------------------------------------------------------------------------

    def declare_inputs(self, graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]] | None) -> None:
        """Inputs of the graph are those the model gives no value to."""
        free = [value for value in graph.input if value.name not in self.weights]
        dtypes = {value.name: input_dtype(value, self.problems) for value in free}
        declared = {value.name: _declared_shape(value) for value in free if value.type.HasField("tensor_type")}
        fixed = fix_shapes(declared, shapes, self.problems)
        for name, shape in fixed.items():
            dtype = dtypes[name]
            if dtype is not None:
                self.values[name] = self.builder.input(name, TensorType(shape, dtype))
        for tensor in graph.initializer:  # the converter adds some of its own
            if tensor.name not in self.weights:
                array = tensor_array(tensor, Path(), f"initializer {tensor.name!r}", self.problems)
                if array is not None:
                    self.constant(tensor.name, array)

    def constant(self, name: str, array: np.ndarray) -> None:
        """Gives an ONNX value a known array."""
        self.values[name] = self.builder.constant(array, name)

    def array(self, name: str) -> np.ndarray | None:
        """The array of an ONNX value where it is constant."""
        return self.builder.constants.get(self.values[name]) if name else None

    def resolve(self, name: str) -> bool:
        """Whether the value is there, taking weights in at their first use."""
        if name not in self.values and name in self.weights:
            self.constant(name, self.weights[name])
        return name in self.values

    # -- nodes ----------------------------------------------------------------------------------------------------------------

    def add_nodes(self, nodes: Sequence[NodeProto]) -> None:
        """Adds nodes in the model's order, which must be a topological one."""
        made = {output for node in nodes for output in node.output if output}
        for node in nodes:
            missing = [name for name in node.input if not self.resolve(name)]
            if not missing:
                self._add(node)
            else:
                for name in missing:
                    if name not in self.lost:
                        found = "which a later node makes" if name in made else "which nothing makes"
                        self.problems.add(
                            f"{node.op_type} node {label(node)} reads {name!r}, {found}; the model breaks ONNX's rules: export "
                            "it again."
                        )
            self.lost.update(name for name in node.output if name not in self.values)

    def _add(self, node: NodeProto) -> None:
        try:
            if node.op_type in CONTROL_FLOW:
                self._add_control_flow(node)
            elif node.op_type in _FOLDED:
                self.constant(node.output[0], _FOLDED[node.op_type](self, node))
            else:
                self._add_operator(node)
        except (GraphError, ModelError) as error:
            self.problems.add(str(error))

    def _add_operator(self, node: NodeProto) -> None:
        inputs = [self.values[name] for name in node.input]
        while inputs and not inputs[-1]:
            inputs.pop()
        outputs = list(node.output)
        while len(outputs) > 1 and not outputs[-1]:
            outputs.pop()
        attributes = {entry.name: _plain(entry, node) for entry in node.attribute}
        name, op = node.name or outputs[0], node.op_type
        if op == "CastLike":  # the element type it asks for is known, whatever the value
            op, attributes = "Cast", {"to": ONNX_NUMBERS[self.builder.types[inputs[1]].dtype]}
            inputs = inputs[:1]
        if inputs and all(self.builder.constants.get(value) is not None for value in inputs if value):
            for output, array in zip(outputs, self._evaluate(op, inputs, outputs, attributes, name), strict=False):
                if output:
                    self.constant(output, array)
                    self._keep_quant(op, inputs, attributes, self.values[output])
            return
        results = [self.builder.fresh(output or f"{name}.unused") for output in outputs]  # a result is known by its place
        self.builder.add(op, inputs, attributes, name=name, outputs=results)
        self.values.update((output, result) for output, result in zip(outputs, results, strict=True) if output)

    def _keep_quant(self, op: str, inputs: list[str], attributes: Mapping[str, Attribute], result: str) -> None:
        """Writes into the type of a constant what codes it was made of, for whoever quantizes it again."""
        kind, quant = self.builder.types[result], None
        if op == "DequantizeLinear":
            scale, zero = (None if index >= len(inputs) else self.builder.constants[inputs[index]] for index in (1, 2))
            assert scale is not None
            axis = None if scale.size == 1 else lookup(op).defaults(attributes)["axis"] % kind.rank
            zeros = (0,) if zero is None else tuple(int(value) for value in zero.reshape(-1))
            bits = 8 * self.builder.constants[inputs[0]].itemsize
            quant = Quant(bits, tuple(float(value) for value in scale.reshape(-1)), zeros, axis)
        elif op == "Transpose" and (known := self.builder.types[inputs[0]].quant) is not None:
            quant = known.transposed(lookup(op).defaults(attributes)["perm"] or range(kind.rank)[::-1])
        if quant is not None:
            self.builder.types[result] = replace(kind, quant=quant)

    def _evaluate(
        self, op: str, inputs: list[str], outputs: list[str], attributes: Mapping[str, Attribute], name: str
    ) -> list[np.ndarray]:
        """The results of a node whose operands are all constants."""
        entry, node = lookup(op), Node(op, tuple(inputs), tuple(outputs), attributes, name)
        entry.check(node)
        constants = self.builder.constants
        try:
            return list(evaluate_node(node, [constants[value] if value else None for value in inputs]))
        except GraphError:
            raise
        except Exception as error:  # torch reports misfits by many exception types
            kinds = ", ".join(str(TensorType.of(constants[value])) if value else "none" for value in inputs)
            raise GraphError(
                f"The operands of {op} node {name!r} do not fit: {reason_of(error)}. Its operands are: {kinds}."
            ) from error

    def _add_control_flow(self, node: NodeProto) -> None:
        """An If whose condition is known is replaced by the branch taken; all else is refused."""
        condition = self.array(node.input[0]) if node.op_type == "If" else None
        if condition is None:
            raise ModelError(
                f"{node.op_type} node {label(node)} decides at run time what is computed, which is not supported; export the "
                "model with static shapes, so that its conditions become constants, or without this control flow."
            )
        branch = attribute(node, "then_branch" if condition.item() else "else_branch")
        assert isinstance(branch, onnx.GraphProto)
        outer, self.weights = self.weights, dict(self.weights)
        shadowed = dict(self.values)
        for tensor in branch.initializer:
            array = tensor_array(tensor, Path(), f"initializer {tensor.name!r}", self.problems)
            if array is not None:
                self.weights[tensor.name] = array
        self.add_nodes(branch.node)
        results = [self.values[value.name] for value in branch.output if self.resolve(value.name)]
        self.weights, self.values = outer, shadowed
        self.values.update(zip(node.output, results, strict=False))

    def finish(self, graph: onnx.GraphProto) -> Graph:
        """The graph, verified."""
        outputs = []
        for value in graph.output:
            if not self.resolve(value.name):
                self.problems.add(f"Output {value.name!r} is made by no node; the model breaks ONNX's rules: export it again.")
            else:
                outputs.append(self.values[value.name])
        self.problems.raise_any()
        return self.builder.build(outputs).replace(notes=tuple(self.problems.notes)).verify()


# -- operators that never become nodes: their results follow from types and attributes ----------------------------------------


def _constant(importer: _Importer, node: NodeProto) -> np.ndarray:
    entry = node.attribute[0] if node.attribute else AttributeProto()
    value = onnx.helper.get_attribute_value(entry) if node.attribute else None
    match entry.name:
        case "value":
            assert value is not None
            array = tensor_array(value, Path(), f"constant {node.output[0]!r}", importer.problems)
            return np.zeros(0, np.float32) if array is None else array
        case "value_float" | "value_floats":
            return np.array(value, np.float32)
        case "value_int" | "value_ints":
            return np.array(value, np.int64)
    raise ModelError(
        f"Constant node {label(node)} holds {entry.name or 'nothing'}, which is not supported; use a tensor of numbers."
    )


def _constant_of_shape(importer: _Importer, node: NodeProto) -> np.ndarray:
    shape = importer.array(node.input[0])
    if shape is None:
        raise ModelError(
            f"ConstantOfShape node {label(node)} has a shape that is computed at run time; fix the shapes when exporting the "
            "model."
        )
    value = attribute(node, "value")
    fill: np.ndarray | None = np.zeros(1, np.float32)
    if isinstance(value, onnx.TensorProto):
        fill = tensor_array(value, Path(), f"value of ConstantOfShape node {label(node)}", importer.problems)
    return np.full(shape.tolist(), 0 if fill is None else fill.item(), np.float32 if fill is None else fill.dtype)


def _shape(importer: _Importer, node: NodeProto) -> np.ndarray:
    shape = importer.builder.types[importer.values[node.input[0]]].shape
    start, end = attribute(node, "start", 0), attribute(node, "end", None)
    return np.array(shape[start:end], np.int64)  # type: ignore[index]


def _size(importer: _Importer, node: NodeProto) -> np.ndarray:
    return np.array(importer.builder.types[importer.values[node.input[0]]].elements, np.int64)


_FOLDED: dict[str, Callable[[_Importer, NodeProto], np.ndarray]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape,
    "Size": _size,
}


# -- pieces of the format -------------------------------------------------------------------------------------------------------


def _declared_shape(value: onnx.ValueInfoProto) -> list[Dimension] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [size.dim_value if size.HasField("dim_value") else size.dim_param for size in tensor.shape.dim]


def _plain(entry: AttributeProto, node: NodeProto) -> Attribute:
    """An attribute as plain data."""
    value = onnx.helper.get_attribute_value(entry)
    match entry.type:
        case AttributeProto.INT | AttributeProto.FLOAT:
            return value
        case AttributeProto.STRING:
            return value.decode()
        case AttributeProto.INTS | AttributeProto.FLOATS:
            return tuple(value)
        case AttributeProto.STRINGS:
            return tuple(text.decode() for text in value)
    kind = AttributeProto.AttributeType.Name(entry.type).lower()
    raise ModelError(f"Attribute {entry.name!r} of {node.op_type} node {label(node)} is a {kind}, which is not supported.")
