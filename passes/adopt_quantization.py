"""Models quantized elsewhere: what their quantization operators say becomes FakeQuantize.

Before::

    %q = QuantizeLinear(%x, %scale, %zero)
    %d = DequantizeLinear(%q, %scale, %zero)
    %y = Conv(%d, %w, %b)

After::

    %d = FakeQuantize(%x) {scale=0.02 zero_point=128 low=0 high=255 dtype="uint8"}
    %y = Conv(%d, %w, %b)

Scales, zero points and element types are the model's own. Constants were dequantized when the model was read; their types carry
the Quant they came with, so that requantization finds their codes again. What the caller gives as codes stays a Dequantize, what
it takes as codes a Quantize.

Legal where
  1. scale and zero point are constants of one element, and the codes are 8 bits wide,
  2. every reader of the codes takes them back with the same scale and zero point, or only moves them (MaxPool, Reshape, ...),
     which it then does with the floats that they stand for,
  3. a second FakeQuantize of what is codes with the same meaning already adds nothing and goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tapdot.compiler.errors import ModelError
from tapdot.compiler.graph import Graph, Node, unique_name
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.types import DTYPES, TensorType
from tapdot.passes.codes import Codes
from tapdot.passes.movement import SAME_ON_CODES

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class AdoptQuantization(Pass):
    """See the module."""

    tolerance = None  # a division becomes a multiplication by the inverse, which turns ties

    def run(self, graph: Graph, notes: Notes) -> Graph:
        if not any(node.op in (QUANTIZE, DEQUANTIZE) for node in graph.nodes):
            return graph
        adoption = _Adoption(graph)
        for node in graph.nodes:
            adoption.visit(node)
        notes.add(f"{adoption.count} tensors keep the scales that the model came with.")
        return adoption.finish()


class _Adoption:
    """One walk over the nodes; names of values are kept, those of codes stand for floats from now on."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.types = dict(graph.types)
        self.codes: dict[str, tuple[str, Codes]] = {}
        """Old values of codes: the float that they stand for, and how."""
        self.meanings: dict[str, Codes] = {}
        """New float values that are codes in disguise."""
        self.same: dict[str, str] = {}
        """Old values that are another value now."""
        self.count = 0

    def visit(self, node: Node) -> None:
        """Adds what stands for one node."""
        node = replace(node, inputs=tuple(self.same.get(name, name) for name in node.inputs))
        if node.op == QUANTIZE:
            self.quantize(node)
        elif node.op == DEQUANTIZE:
            self.dequantize(node)
        elif any(name in self.codes for name in node.inputs):
            self.move(node)
        else:
            if node.op in SAME_ON_CODES and node.inputs[0] in self.meanings:
                self.meanings |= dict.fromkeys(node.outputs, self.meanings[node.inputs[0]])
            self.nodes.append(node)

    def quantize(self, node: Node) -> None:
        codes = self.parameters(node, self.graph.type(node.output).dtype)
        x = node.inputs[0]
        if x in self.meanings and self.meanings[x] == codes:  # (3)
            self.codes[node.output] = (x, codes)
        else:
            result = unique_name(f"{x.removesuffix('.reals')}.codes", self.types)
            self.nodes.append(Node("FakeQuantize", (x,), (result,), codes.attributes, node.name))
            self.types[result] = replace(self.graph.type(x), quant=None)
            self.codes[node.output], self.meanings[result] = (result, codes), codes
            self.count += 1
        if node.output in self.graph.outputs:
            self.nodes.append(
                Node("Quantize", (self.codes[node.output][0],), node.outputs, codes.attributes, f"{node.name}.codes")
            )

    def dequantize(self, node: Node) -> None:
        x = node.inputs[0]
        codes = self.parameters(node, self.graph.type(x).dtype)
        if x not in self.codes:
            given = {"scale": codes.scale, "zero_point": codes.zero_point}
            self.nodes.append(Node("Dequantize", (x,), node.outputs, given, node.name))
            self.meanings[node.output] = codes
            return
        real, meaning = self.codes[x]
        if not meaning.means_the_same_as(codes):  # (2)
            raise ModelError(
                f"Expected DequantizeLinear node {node.name!r} to use the scale {meaning.scale:.6g} and zero point "
                f"{meaning.zero_point} that its operand was quantized with, found {codes.scale:.6g} and {codes.zero_point}; "
                "quantize the model again."
            )
        if node.output in self.graph.outputs:
            self.nodes.append(Node("Identity", (real,), node.outputs, {}, node.name))
        else:
            self.same[node.output] = real

    def move(self, node: Node) -> None:
        """A node that reads codes: it may move them."""
        reals = [self.codes[name] for name in node.inputs if name in self.codes]
        meaning = reals[0][1]
        data = node.inputs if node.op == "Concat" else node.inputs[:1]
        if node.op not in (*SAME_ON_CODES, "Concat") or any(self.codes.get(name, ("", None))[1] != meaning for name in data):
            raise ModelError(
                f"{node.op} node {node.name!r} computes with codes of type {meaning.dtype} directly, which has no meaning here; "
                "quantize the model in the QDQ format."
            )
        inputs = tuple(self.codes[name][0] if name in self.codes else name for name in node.inputs)
        outputs = tuple(unique_name(f"{name}.reals", self.types) for name in node.outputs)
        self.nodes.append(replace(node, inputs=inputs, outputs=outputs))
        for old, new in zip(node.outputs, outputs, strict=True):
            self.types[new] = TensorType(self.graph.type(old).shape, "float32")
            self.codes[old], self.meanings[new] = (new, meaning), meaning
            if old in self.graph.outputs:
                self.nodes.append(Node("Quantize", (new,), (old,), meaning.attributes, f"{node.name}.codes"))

    def parameters(self, node: Node, dtype: str) -> Codes:
        """Criterion 1. Raises ModelError where it does not hold."""
        scale, zero = (self.graph.constants.get(name) for name in (node.operand(1), node.operand(2)))
        if scale is None or (node.operand(2) and zero is None) or scale.size != 1 or (zero is not None and zero.size != 1):
            found = "computed at run time" if scale is None else f"{scale.size} by axis"
            raise ModelError(
                f"Expected one constant scale and zero point for the activation at {node.op} node {node.name!r}, found {found}; "
                "quantize activations by tensor, statically."
            )
        if dtype not in ("int8", "uint8"):
            raise ModelError(
                f"Expected codes of 8 bits (int8, uint8) at {node.op} node {node.name!r}, found {dtype}, which no kernel serves; "
                "quantize activations to 8 bits."
            )
        bounds = np.iinfo(DTYPES[dtype])
        value = float(scale.item())
        if not (np.isfinite(value) and value >= np.finfo(np.float32).tiny):  # a subnormal scale has no inverse in float32
            raise ModelError(
                f"Expected a positive scale at {node.op} node {node.name!r}, found {value}; quantize the model again."
            )
        return Codes(value, 0 if zero is None else int(zero.item()), int(bounds.min), int(bounds.max), dtype)

    def finish(self) -> Graph:
        """The new graph."""
        return self.graph.replace(nodes=tuple(self.nodes), types=self.types).pruned()
