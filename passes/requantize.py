"""From simulated integers to integers: the network between its first quantize and its last dequantize.

Before::

    %q = Elementwise(%x) {expression="FakeQuantize(acc, dtype='uint8', high=255, low=0, scale=0.02, zero_point=0)"}
    %y = FusedConv(%q, %w, %b, %r) {... epilogue="FakeQuantize(Relu(Add(acc, r0)), scale=0.05, ...)"}

After::

    %q: uint8 = Quantize(%x) {scale=0.02 ...}
    %y: uint8 = QConv(%q, %w, %b, %m, %s, %r) {... epilogue="Narrow(Add(Dyadic(acc, r0, r1), Dyadic(Widen(r2), ...)), ...)"}

The walk is forwards. A tensor has codes where its producer's expression ends in a FakeQuantize, or where it only moves codes.

  1. A convolution over planes, or matrix product, of codes with constant weights sums in int32 (``QConv``, ``QGemm``); its
     weights get symmetric scales by output channel, its bias the scale ``S_w[c] * S_x`` (Jacob et al., CVPR 2018, section 2.4).
  2. Its epilogue becomes integers where ``passes.integer_expressions`` can express it. Where nothing quantizes its result, it
     ends in one float multiply a channel (``Reals``).
  3. Average pools sum codes and divide by a dyadic multiplier; branches of a Concat are rescaled to one scale; a MaxPool and what
     only moves elements work on codes as they are.
  4. All else stays float between a Dequantize and a Quantize: an island, named in the notes with its reason.
  5. Every accumulator, every int32 on the way and every operand of a high-half multiply is proved to fit 32 bits with the real
     weights, or the node is refused.

Values keep their names: the codes of a value have its name, or ``name.codes`` where the graph gives the value out as floats.
"""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from tapdot.compiler.errors import ModelError, TapdotError
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators.fused import parsed
from tapdot.compiler.pipeline import Notes, Pass, Property
from tapdot.kernels.expression import operators
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.fuse import FUSED
from tapdot.passes.requantize_walk import HOSTS, Choices, Walk

FLOAT, INT8 = "float", "int8"


def expression_of(node: Node) -> str | None:
    """The text of a node's expression, where it has one."""
    text = node.attributes.get("epilogue", node.attributes.get("expression"))
    return text if isinstance(text, str) else None


def _not_integer(graph: Graph) -> str | None:
    for node in graph.nodes:
        text = expression_of(node)
        applied = (*operators(parsed(text)), node.op) if text else (node.op,)
        if "FakeQuantize" in applied:
            return f"node {node.name!r} simulates codes in floats"
        reads = {graph.type(name).dtype for name in node.inputs if name}
        makes = {graph.type(name).dtype for name in node.outputs if name}
        codes, real = {"int8", "uint8"}, "float32"
        if reads & codes and real in makes and not {"Dequantize", "Reals"} & set(applied):
            return f"node {node.name!r} makes floats of codes without a Dequantize"
        if real in reads - _constant_dtypes(graph, node) and makes & codes and node.op not in ("Quantize", "Cast"):
            return f"node {node.name!r} makes codes of floats without a Quantize"
    return None


def _constant_dtypes(graph: Graph, node: Node) -> set[str]:
    """Element types that only constants among the operands have."""
    computed = {graph.type(name).dtype for name in node.inputs if name and name not in graph.constants}
    return {graph.type(name).dtype for name in node.inputs if name in graph.constants} - computed


INTEGER = Property("no float operator between Quantize and Dequantize but in islands", _not_integer)


@dataclass(frozen=True)
class Requantize(Pass):
    """See the module."""

    per_channel: bool = True
    """Weights get a scale for each output channel; False: one a tensor."""
    weight_bits: int = 8
    """Bits of the weights' codes, 2 to 8, where ``widths`` do not say; those of activations are the calibration's choice."""
    first_layer: Literal["int8", "float"] = "int8"
    """The first convolution or matrix product."""
    last_layer: Literal["int8", "float"] = "int8"
    """The last convolution or matrix product."""
    keep_float: tuple[str, ...] = ()
    """Names of nodes, or of values they make, that stay float."""
    widths: BitWidths = field(default_factory=BitWidths)
    """Of single layers' weights."""

    requires = (FUSED,)
    ensures = (INTEGER,)
    tolerance = None

    def run(self, graph: Graph, notes: Notes) -> Graph:
        self.check()
        BitWidths(self.widths.weights).check_names(graph)
        simulated = any("FakeQuantize" in operators(parsed(text)) for node in graph.nodes if (text := expression_of(node)))
        integer = any(graph.type(name).dtype in ("int8", "uint8") for name in graph.types)
        if not simulated and integer:
            return graph
        walk = self.walk(graph)
        made = walk.run()
        if not walk.quantized:
            raise ModelError(self._nothing(graph, walk, simulated))
        for name, bits in self.widths.weights.items():
            if name in walk.floats and bits < 8:
                raise TapdotError(
                    f"Expected a layer on integers to have weights of {bits} bits, but {name!r} stays float: {walk.floats[name]}."
                    " Leave it out of the bit widths."
                )
        self._remark(walk, notes)
        return made

    def check(self) -> None:
        """Raises TapdotError for widths that no kernel serves."""
        if not 2 <= self.weight_bits <= 8:
            raise TapdotError(
                f"Expected 2 to 8 bits for requantize.weight_bits, found {self.weight_bits}: no kernel serves others."
            )

    def walk(self, graph: Graph) -> Walk:
        """The walk over a fused graph that these options ask for, not begun yet."""
        return Walk(graph, choices=Choices(self.per_channel, self.weight_bits, self.kept(graph), self.widths))

    def kept(self, graph: Graph) -> dict[str, str]:
        """Nodes that stay float by choice, with the reason. Raises TapdotError for a name that is none."""
        chosen: dict[str, str] = {}
        products = [node.name for node in graph.nodes if node.op in HOSTS]
        if products and self.first_layer == FLOAT:
            chosen[products[0]] = "first_layer=float"
        if products and self.last_layer == FLOAT:
            chosen[products[-1]] = "last_layer=float"
        names = {node.name: node.name for node in graph.nodes}
        names |= {output: node.name for node in graph.nodes for output in node.outputs if output not in names}
        for name in self.keep_float:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1, 0.5)
                raise TapdotError(
                    f"Expected a node of the graph in requantize.keep_float, found {name!r}."
                    + (f" Did you mean {near[0]!r}?" if near else " `tapdot inspect MODEL` lists them.")
                )
            chosen[names[name]] = "keep_float"
        return chosen

    def _nothing(self, graph: Graph, walk: Walk, simulated: bool) -> str:
        if not simulated:
            return (
                f"Expected calibrated tensors in {graph.name!r}, found none: without ranges there is nothing to quantize. Give "
                "data (--data) or let it be distilled (--zero-shot)."
            )
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in list(walk.floats.items())[:3])
        return (
            f"Expected a convolution, matrix product or pool to quantize in {graph.name!r}, found none that can be"
            + (f" ({reasons})" if reasons else "")
            + "; use the recipe float."
        )

    def _remark(self, walk: Walk, notes: Notes) -> None:
        counts = ", ".join(f"{count} {op}" for op, count in Counter(walk.quantized.values()).most_common())
        scales = "one scale an output channel" if self.per_channel else "one scale a tensor"
        products = sum(op in HOSTS for op in walk.quantized.values())
        own = f"weights of {_census_of_bits(walk) or f'{self.weight_bits} bits'}, {scales}"
        came = f"{walk.adopted} weights with the codes that the model came with"
        notes.add(f"Quantized: {counts}; " + ", ".join([own] * (products > walk.adopted) + [came] * (walk.adopted > 0)) + ".")
        if walk.coarse:
            first = ", ".join(map(repr, walk.coarse[:3])) + (", ..." if len(walk.coarse) > 3 else "")
            notes.add(
                f"Warning: {len(walk.coarse)} depthwise convolutions ({first}) have one scale for the weights of all channels, "
                "which costs accuracy (Krishnamoorthi, 2018, section 3.1): quantize them by channel."
            )
        notes.reasons.update(walk.floats)
        by_reason: dict[str, list[str]] = {}
        for name, reason in walk.floats.items():
            by_reason.setdefault(reason, []).append(repr(name))
        for reason, names in by_reason.items():
            notes.add(f"{', '.join(names)} {'stays' if len(names) == 1 else 'stay'} float: {reason}.")
        for line in walk.remarks:
            notes.add(line)


def _census_of_bits(walk: Walk) -> str:
    """The widths of the weights that were quantized here, and how many layers have each where there are several."""
    count = Counter(weights.bits for weights in walk.weights.values() if not weights.adopted)
    if len(count) < 2:
        return "".join(f"{bits} bits" for bits in count)
    *most, last = [f"{bits} ({count[bits]})" for bits in sorted(count, reverse=True)]
    return f"{', '.join(most)} and {last} bits"
