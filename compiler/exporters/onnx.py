"""From graphs to ONNX files: operators are ONNX's by name already, so this writes down what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, helper, numpy_helper

from tapdot.compiler.errors import ModelError
from tapdot.compiler.files import write_bytes
from tapdot.compiler.graph import Attribute, Graph, Node
from tapdot.compiler.operators import OPSET, lookup
from tapdot.compiler.types import DTYPES, TensorType

LARGEST_FILE = 2**31 - 1
"""Bytes of a protocol buffer."""
GROUPS_BY_CHANNEL = 21
"""From this opset on scales of GroupNormalization go by channel."""

_KINDS = {"int": AttributeProto.INT, "float": AttributeProto.FLOAT, "str": AttributeProto.STRING}
_KINDS |= {"Ints": AttributeProto.INTS, "Floats": AttributeProto.FLOATS, "Strings": AttributeProto.STRINGS}


def export_onnx(graph: Graph) -> onnx.ModelProto:
    """A model that imports as this graph: names, attributes, shapes and weights are its own.

    Raises ModelError, naming the nodes, for a graph with operators of tapdot's own, as passes leave it behind.
    """
    opset = max([OPSET, *(_since(graph, node) for node in graph.nodes)])
    made = helper.make_graph(
        [_node(node) for node in graph.nodes],
        graph.name or "graph",
        [_declared(name, graph.type(name)) for name in graph.inputs],
        [_declared(name, graph.type(name)) for name in graph.outputs],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        made, opset_imports=opsets, producer_name="tapdot", ir_version=helper.find_min_ir_version_for(opsets, ignore_unknown=True)
    )


def save_onnx(graph: Graph, path: Path) -> None:
    """Writes the model, all at once; raises ModelError for what ONNX cannot hold, and TapdotError where the disk refuses."""
    model = export_onnx(graph)
    size = model.ByteSize()
    if size > LARGEST_FILE:
        raise ModelError(f"An .onnx file holds at most 2 GiB, and this model has {size / 2**30:.1f} GiB of weights.")
    write_bytes(path, model.SerializeToString())


def _since(graph: Graph, node: Node) -> int:
    """The opset that a node needs."""
    try:
        onnx.defs.get_schema(node.op, OPSET, "")
    except onnx.defs.SchemaError:
        try:
            return int(onnx.defs.get_schema(node.op).since_version)
        except onnx.defs.SchemaError:
            raise ModelError(
                f"ONNX has no operator {node.op} (node {node.name!r}); export the graph as it was imported, before passes "
                "rewrite it."
            ) from None
    if node.op == "GroupNormalization" and graph.type(node.inputs[1]).shape[0] != node.attributes["num_groups"]:
        return GROUPS_BY_CHANNEL
    return OPSET


def _node(node: Node) -> onnx.NodeProto:
    proto = helper.make_node(node.op, list(node.inputs), list(node.outputs), node.name)
    proto.attribute.extend(_attribute(node.op, name, value) for name, value in node.attributes.items())
    return proto


def _attribute(op: str, name: str, value: Attribute) -> onnx.AttributeProto:
    """With the type that the operator table says: an empty list has none of its own."""
    annotation = lookup(op).attributes[name].annotation.removesuffix(" | None")
    return helper.make_attribute(name, _plain(annotation, value), attr_type=_KINDS[annotation])


def _plain(annotation: str, value: Any) -> Any:
    if annotation in ("Ints", "Strings"):
        return list(value)
    if annotation == "Floats":
        return [float(item) for item in value]
    return float(value) if annotation == "float" else value


def _declared(name: str, kind: TensorType) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENT_TYPES[kind.dtype], list(kind.shape))


_ELEMENT_TYPES: Mapping[str, int] = {name: helper.np_dtype_to_tensor_dtype(dtype) for name, dtype in DTYPES.items()}
