"""Bringing an ONNX model to the operator table's opset.

Older models go through the onnx package's version converter, except for the operators in ``UPGRADES``, which it refuses or gets
wrong: they are rewritten here and hidden from it. Of newer models those nodes are accepted that mean the same at the table's
opset.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper, version_converter

from tapdot.compiler.errors import ModelError
from tapdot.compiler.frontends.problems import Problems, listed, reason_of
from tapdot.compiler.operators import OPSET, registered

OLDEST = 7
"""The first opset that is read; before it, Add and its kind broadcast by an attribute."""

DEFAULT_DOMAINS = ("", "ai.onnx")
HIDDEN = "tapdot.hidden"
"""The domain under which finished nodes pass the converter, which leaves domains alone that it does not know."""


def default_version(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model uses; raises ModelError where it names none."""
    for entry in model.opset_import:
        if entry.domain in DEFAULT_DOMAINS:
            return int(entry.version)
    domains = listed(entry.domain for entry in model.opset_import)
    raise ModelError(
        f"Expected a model of ONNX's own operators, found one that imports only {domains}; export it without custom operators."
    )


def to_table_opset(model: onnx.ModelProto, problems: Problems) -> onnx.ModelProto:
    """The model at opset ``OPSET``; nodes that cannot be brought there are added to ``problems``."""
    version = default_version(model)
    if version < OLDEST:
        problems.add(f"It uses opset {version}; opset {OLDEST} is the oldest that is read: export it again, with opset {OPSET}.")
        return model
    if version > OPSET:
        for node in _nodes(model.graph):
            reason = newer_meaning(node, version)
            if reason:
                problems.add(f"{node.op_type} node {label(node)} {reason}; export the model with opset {OPSET}.")
            _drop_new_attributes(node, version)
        return model
    if version == OPSET:
        return model
    _upgrade(model, version)
    try:
        converted = version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter reports by RuntimeError, ConvertError and others
        problems.add(
            f"It cannot be converted from opset {version} to {OPSET}: {reason_of(error)}; export it again, with opset {OPSET}."
        )
        return model
    for node in _nodes(converted.graph):
        if node.domain == HIDDEN:
            node.domain = ""
    return converted


def newer_meaning(node: NodeProto, version: int) -> str:
    """Why a node of a newer opset cannot be read as one of the table's, or an empty string.

    Most changes since only widen the element types. What counts:
    1. attributes that did not exist, unless they have the default with which they mean nothing;
    2. operands that did not exist.

    One operator changed its meaning under the same signature, GroupNormalization (scales by channel), and the table's reads both.
    """
    if node.domain not in DEFAULT_DOMAINS or node.op_type not in registered():
        return ""  # said elsewhere
    try:
        new = onnx.defs.get_schema(node.op_type, version, "")
        old = onnx.defs.get_schema(node.op_type, OPSET, "")
    except onnx.defs.SchemaError:
        return ""  # new since, and in the table: the table has this one's meaning
    if new.since_version == old.since_version:
        return ""
    for attribute in node.attribute:
        known = new.attributes.get(attribute.name)
        if attribute.name not in old.attributes and known is not None and attribute != known.default_value:
            return f"has the attribute {attribute.name!r} of opset {new.since_version}, which opset {OPSET} does not know"
    if len(node.input) > len(old.inputs) and old.inputs[-1].option != onnx.defs.OpSchema.FormalParameterOption.Variadic:
        return f"has {len(node.input)} operands as of opset {new.since_version}, while opset {OPSET} knows {len(old.inputs)}"
    return ""


def _drop_new_attributes(node: NodeProto, version: int) -> None:
    """Takes away, in place, what an older opset does not know and what means nothing (legality: ``newer_meaning`` found no
    reason).
    """
    if node.domain not in DEFAULT_DOMAINS or not onnx.defs.has(node.op_type, OPSET, ""):
        return
    known = onnx.defs.get_schema(node.op_type, OPSET, "").attributes
    for entry in [entry for entry in node.attribute if entry.name not in known]:
        node.attribute.remove(entry)


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    """The plain value of an attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


# -- operators the converter does not bring over ----------------------------------------------------------------------------


def _upsample(node: NodeProto) -> list[NodeProto]:
    """Upsample and the first Resize (scales as attribute to opset 8, then as operand): asymmetric coordinates, nearest rounded
    down.
    """
    nodes = []
    if len(node.input) == 1:
        scales = numpy_helper.from_array(np.array(attribute(node, "scales"), np.float32), "")
        nodes.append(helper.make_node("Constant", [], [f"{node.output[0]}__scales"], value=scales))
        scales_name = nodes[0].output[0]
    else:
        scales_name = node.input[1]
    mode = attribute(node, "mode", b"nearest")
    nodes.append(
        helper.make_node(
            "Resize",
            [node.input[0], "", scales_name],
            list(node.output),
            node.name,
            mode=mode,
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    )
    return nodes


def _hardmax(node: NodeProto) -> list[NodeProto]:
    """Hardmax over all axes from ``axis`` on, taken together."""
    x, y = node.input[0], node.output[0]
    return [
        helper.make_node("Shape", [x], [f"{y}__shape"]),
        helper.make_node("Flatten", [x], [f"{y}__rows"], axis=attribute(node, "axis", 1)),
        helper.make_node("Hardmax", [f"{y}__rows"], [f"{y}__chosen"], node.name, axis=1),
        helper.make_node("Reshape", [f"{y}__chosen", f"{y}__shape"], [y]),
    ]


UPGRADES: dict[str, tuple[int, Callable[[NodeProto], list[NodeProto]]]] = {
    "Upsample": (9, _upsample),
    "Resize": (10, _upsample),
    "Hardmax": (12, _hardmax),
}
"""Operator -> (last opset that needs it, node -> nodes at ``OPSET`` in its place)."""


def _upgrade(model: onnx.ModelProto, version: int) -> None:
    """Rewrites, in place, the nodes that have a row in ``UPGRADES``."""
    upgraded, changed = [], False
    for node in model.graph.node:
        last, upgrade = UPGRADES.get(node.op_type, (0, None))
        if upgrade is None or version > last or node.domain not in DEFAULT_DOMAINS:
            upgraded.append(node)
            continue
        changed = True
        for replacement in upgrade(node):
            replacement.domain = HIDDEN
            upgraded.append(replacement)
    if changed:
        kept = [node.SerializeToString() for node in upgraded]
        del model.graph.node[:]
        for data in kept:
            model.graph.node.add().ParseFromString(data)
        model.opset_import.append(helper.make_opsetid(HIDDEN, 1))


def _nodes(graph: onnx.GraphProto) -> list[NodeProto]:
    """All nodes, those of sub-graphs included."""
    found = []
    for node in graph.node:
        found.append(node)
        for entry in node.attribute:
            for inner in ([entry.g] if entry.HasField("g") else []) + list(entry.graphs):
                found.extend(_nodes(inner))
    return found


def label(node: NodeProto) -> str:
    """What people may know a node by: its name, or the first value it makes."""
    return repr(node.name) if node.name else f"that makes {next(iter(node.output), '')!r}"
