"""ONNX operators that compute on codes, written with those that compute on floats.

A model quantized elsewhere says ``QLinearConv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias)``; that becomes::

    DequantizeLinear(x), DequantizeLinear(w), DequantizeLinear(bias, x_scale * w_scale) -> Conv -> QuantizeLinear

so that these models and those with explicit QuantizeLinear and DequantizeLinear pairs (QDQ) are one form. Operators of the domain
``com.microsoft`` are those that onnxruntime's quantizer writes in its operator-oriented format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
from onnx import NodeProto, helper

MICROSOFT = "com.microsoft"


class _Expansion:
    """The nodes in the place of one; ``node``'s attributes go to the operator on floats."""

    def __init__(self, node: NodeProto) -> None:
        self.node = node
        self.nodes: list[NodeProto] = []
        self.label = node.name or node.output[0]

    def add(self, op: str, inputs: Sequence[str], output: str, name: str, **attributes: Any) -> str:
        """A node of ONNX's own operators."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], name, **attributes))
        return output

    def reals(self, codes: str, scale: str, zero: str, axis: int = 1) -> str:
        """An operand as floats."""
        place = f"{self.label}.{len(self.nodes)}"
        inputs = [codes, scale, zero] if zero else [codes, scale]
        return self.add("DequantizeLinear", inputs, f"{place}.reals", f"{place}.dequantize", axis=axis)

    def bias(self, sums: str, first: str, second: str) -> str:
        """An int32 bias, whose scale is the product of two."""
        scale = self.add("Mul", [first, second], f"{self.label}.bias_scale", f"{self.label}.bias_scale")
        return self.reals(sums, scale, "", axis=0)

    def floats(self, op: str, inputs: Sequence[str], scale: str, zero: str, drop: Sequence[str] = ()) -> list[NodeProto]:
        """The operator on floats, and its result as codes (as floats, without a scale)."""
        output = self.node.output[0]
        result = f"{output}.reals" if scale else output
        self.add(op, inputs, result, self.node.name)
        self.nodes[-1].attribute.extend(entry for entry in self.node.attribute if entry.name not in drop)
        if scale:
            self.add("QuantizeLinear", [result, scale, zero] if zero else [result, scale], output, f"{self.label}.quantize")
        return self.nodes


def _operand(node: NodeProto, index: int) -> str:
    return node.input[index] if index < len(node.input) else ""


def _convolution(node: NodeProto) -> list[NodeProto]:
    made, (x, xs, xz, w, ws, wz, ys, yz) = _Expansion(node), node.input[:8]
    operands = [made.reals(x, xs, xz), made.reals(w, ws, wz, axis=0)]
    if _operand(node, 8):
        operands.append(made.bias(node.input[8], xs, ws))
    return made.floats("Conv", operands, ys, yz)


def _product(node: NodeProto) -> list[NodeProto]:
    made, (a, sa, za, b, sb, zb, ys, yz) = _Expansion(node), node.input[:8]
    return made.floats("MatMul", [made.reals(a, sa, za), made.reals(b, sb, zb, axis=-1)], ys, yz)


def _gemm(node: NodeProto) -> list[NodeProto]:
    made, (a, sa, za, b, sb, zb) = _Expansion(node), node.input[:6]
    flags = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    operands = [made.reals(a, sa, za), made.reals(b, sb, zb, axis=0 if flags.get("transB") else 1)]
    if _operand(node, 6):
        operands.append(made.bias(node.input[6], sa, sb))
        if flags.get("alpha", 1.0) != 1.0:
            operands[-1] = made.add("Mul", [operands[-1], _constant(made, float(flags["alpha"]))], f"{made.label}.bias", "")
    return made.floats("Gemm", operands, _operand(node, 7), _operand(node, 8))


def _constant(made: _Expansion, value: float) -> str:
    return made.add("Constant", [], f"{made.label}.alpha", "", value_float=value)


def _pair(op: str) -> Callable[[NodeProto], list[NodeProto]]:
    def expand(node: NodeProto) -> list[NodeProto]:
        made, (a, sa, za, b, sb, zb, ys) = _Expansion(node), node.input[:7]
        return made.floats(op, [made.reals(a, sa, za), made.reals(b, sb, zb)], ys, _operand(node, 7))

    return expand


def _single(op: str, *drop: str) -> Callable[[NodeProto], list[NodeProto]]:
    def expand(node: NodeProto) -> list[NodeProto]:
        made, (x, xs, xz, ys) = _Expansion(node), node.input[:4]
        if any(entry.name == "channels_last" and entry.i for entry in node.attribute):
            return [node]  # refused by its name and domain
        return made.floats(op, [made.reals(x, xs, xz)], ys, _operand(node, 4), drop)

    return expand


def _concat(node: NodeProto) -> list[NodeProto]:
    made, (ys, yz, *rest) = _Expansion(node), node.input
    triples = [rest[start : start + 3] for start in range(0, len(rest), 3)]
    return made.floats("Concat", [made.reals(*triple) for triple in triples], ys, yz)


def _plain(node: NodeProto) -> list[NodeProto]:
    same = NodeProto()
    same.CopyFrom(node)
    same.domain = ""
    return [same]


EXPANSIONS: dict[tuple[str, str], Callable[[NodeProto], list[NodeProto]]] = {
    ("", "QLinearConv"): _convolution,
    ("", "QLinearMatMul"): _product,
    (MICROSOFT, "QLinearAdd"): _pair("Add"),
    (MICROSOFT, "QLinearMul"): _pair("Mul"),
    (MICROSOFT, "QLinearAveragePool"): _single("AveragePool", "channels_last"),
    (MICROSOFT, "QLinearGlobalAveragePool"): _single("GlobalAveragePool", "channels_last"),
    (MICROSOFT, "QLinearLeakyRelu"): _single("LeakyRelu"),
    (MICROSOFT, "QLinearSigmoid"): _single("Sigmoid"),
    (MICROSOFT, "QLinearSoftmax"): _single("Softmax", "opset"),
    (MICROSOFT, "QLinearConcat"): _concat,
    (MICROSOFT, "QGemm"): _gemm,
    (MICROSOFT, "QuantizeLinear"): _plain,
    (MICROSOFT, "DequantizeLinear"): _plain,
}
"""(domain, operator) -> nodes of ONNX's own operators in its place."""


def expand_quantized(graph: onnx.GraphProto) -> None:
    """Rewrites, in place, the operators that have a row in ``EXPANSIONS``."""
    rows = [EXPANSIONS.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type)) for node in graph.node]
    if not any(rows):
        return
    expanded = [made for node, row in zip(graph.node, rows, strict=True) for made in (row(node) if row else [node])]
    kept = [node.SerializeToString() for node in expanded]
    del graph.node[:]
    for data in kept:
        graph.node.add().ParseFromString(data)
