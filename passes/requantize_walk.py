"""The walk of ``passes.requantize``: one node after the other, from simulated codes to codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators.fused import parsed
from tapdot.kernels import numerics
from tapdot.kernels.expression import ACCUMULATOR, Expression, Leaf, leaves, substitute
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.coded_values import CodedValues
from tapdot.passes.codes import Codes
from tapdot.passes.concat_scales import common_codes, with_shared_scales
from tapdot.passes.constants import channel_shape
from tapdot.passes.integer_expressions import Accumulator, Inexpressible, IntegerExpressions, Linear, Meaning, Real
from tapdot.passes.integer_sums import Sum, check_pool, pool_sum
from tapdot.passes.integer_weights import IntegerWeights, integer_weights
from tapdot.passes.movement import MAXIMA, POOLS, SAME_ON_CODES
from tapdot.passes.overflow import accumulator_bounds, largest_partial_sums, prove_accumulator
from tapdot.passes.simulated import (
    apply,
    as_chain,
    as_epilogue,
    exchanged,
    is_simulated,
    operand_names,
    outermost_simulated,
    without_simulation,
)

CODES = "codes"
"""A leaf that stands for the codes a sum ends in, where floats follow."""
IN_FULL = Linear({Leaf(ACCUMULATOR): np.ones(())}, np.zeros(()))
HOSTS = {"FusedConv": "QConv", "FusedGemm": "QGemm"}


@dataclass(frozen=True)
class Choices:
    """What the pass was asked for."""

    per_channel: bool
    weight_bits: int
    kept: Mapping[str, str]
    """Nodes that stay float by choice, with the reason."""
    widths: BitWidths = field(default_factory=BitWidths)
    """Bits of single layers' weights."""


@dataclass(eq=False)
class Walk(CodedValues):
    """Builds the integer graph; ``quantized``, ``floats`` and ``remarks`` say what was done."""

    choices: Choices = field(kw_only=True)
    joined: Mapping[str, Codes] = field(default_factory=dict)
    """The codes of Concats by name, where they were known beforehand."""
    sums: dict[str, Sum] = field(default_factory=dict)
    """Pools whose only reader is an expression, which becomes their epilogue."""
    quantized: dict[str, str] = field(default_factory=dict)
    """Old nodes that compute with codes, and their operators."""
    floats: dict[str, str] = field(default_factory=dict)
    """Old nodes that stay float, and why."""
    coarse: list[str] = field(default_factory=list)
    """Depthwise convolutions whose channels share one scale."""
    weights: dict[str, IntegerWeights] = field(default_factory=dict)
    """The weights of each old node that sums products of codes."""

    @property
    def adopted(self) -> int:
        """How many weights kept the codes they came with."""
        return sum(weights.adopted for weights in self.weights.values())

    def run(self) -> Graph:
        """The integer graph."""
        for name in self.graph.inputs:
            self.reals[name] = self.builder.input(name, self.graph.type(name))
        graph, self.joined = with_shared_scales(self.graph)
        for node in graph.nodes:
            self.visit(node)
        outputs = [self.output(name) for name in self.graph.outputs]
        return self.builder.build(outputs).replace(notes=self.graph.notes)

    def visit(self, node: Node) -> None:
        """Adds what stands for one node."""
        try:
            if node.name in self.choices.kept:
                raise Inexpressible(self.choices.kept[node.name])
            if node.op in HOSTS:
                self.product(node)
            elif node.op == "Elementwise":
                self.chain(node)
            elif node.op in POOLS:
                self.average(node)
            elif node.op == "Concat":
                self.concat(node)
            elif node.op in SAME_ON_CODES:
                self.move(node)
            else:
                raise Inexpressible(f"{node.op} has no integer form")
        except Inexpressible as reason:
            self.keep(node, str(reason))

    # -- sums of products -----------------------------------------------------------------------------------------------------

    def product(self, node: Node) -> None:
        """FusedConv and FusedGemm (1, 2)."""
        x, w, b = node.inputs[0], node.inputs[1], node.operand(2)
        axis = 0 if node.op == "FusedConv" else 1
        if node.op == "FusedConv" and self.graph.type(x).rank != 4:
            raise Inexpressible(f"it is not over planes: its input has the shape {list(self.graph.type(x).shape)}")
        name, meaning = self.need_codes(x)
        weight, bias = self.graph.constants[w], self.graph.constants[b] if b else None
        integers = integer_weights(
            node.name,
            weight,
            bias,
            meaning.scale,
            axis=axis,
            bits=self.choices.widths.of_weights(node.name, self.choices.weight_bits),
            per_channel=self.choices.per_channel,
            kind=self.graph.type(w),
            only=node.name in self.choices.widths.weights,
        )
        if integers.remark:
            self.remarks.append(integers.remark)
        if node.attributes.get("group", 1) == weight.shape[0] > 1 and np.ptp(integers.scales) == 0:
            self.coarse.append(node.name)
        self.weights[node.name] = integers
        low, high = accumulator_bounds(integers.codes, integers.bias, meaning, axis)
        prove_accumulator(node.name, largest_partial_sums(integers.codes, integers.bias, meaning, axis))
        shape = channel_shape(len(low), self.graph.type(node.output).rank)
        acc = Accumulator((integers.scales * meaning.scale).reshape(shape), low.reshape(shape), high.reshape(shape))
        weights = self.constant(integers.codes, w)
        self.builder.types[weights] = replace(self.builder.types[weights], dtype=numerics.weight_dtype(integers.bits))
        operands = [name, weights]
        operands.append("" if integers.bias is None else self.constant(integers.bias, b))
        given = {key: value for key, value in node.attributes.items() if key != "epilogue"}
        given |= {"zero_point": meaning.zero_point}
        host = Sum(node, HOSTS[node.op], tuple(operands), given, acc, meaning)
        extras = {f"r{index}": value for index, value in enumerate(node.inputs[3:])}
        self.finish(host, node, parsed(str(node.attributes["epilogue"])), extras)

    def finish(self, host: Sum, node: Node, expression: Expression, extras: Mapping[str, str]) -> None:
        """Ends a sum in codes, or where its expression cannot be, in reals with the rest of the expression behind it.

        ``node`` is the one whose result the expression makes; ``extras`` names the old values of its leaves.
        """
        convert = IntegerExpressions(host.node.name, {ACCUMULATOR: host.meaning, **self.meanings(extras)})
        reason = "only floats read its result"
        inner = outermost_simulated(expression)
        rest = exchanged(expression, inner[0], Leaf(CODES)) if len(inner) == 1 else expression
        if inner and ACCUMULATOR not in leaves(rest):
            try:
                made, codes = convert.quantized(inner[0])
            except Inexpressible as problem:
                reason = str(problem)
            else:
                name = self.fresh(f"{node.output}.codes") if rest != Leaf(CODES) else self.codes_name(node.output)
                self.add_sum(host, node, made, convert, extras, name, codes)
                if rest == Leaf(CODES):
                    self.codes[node.output] = (name, codes)
                else:
                    self.chain_of_reals(node, rest, extras, {CODES: self.dequantize(name, codes, node.output)}, reason)
                return
        plain = without_simulation(expression)
        linear = convert.linear(plain)
        if not inner and linear is not None and tuple(linear.terms) == (Leaf(ACCUMULATOR),):
            self.add_reals(host, node, convert, linear, self.own(node.output))
            self.reals[node.output] = node.output
            return
        sums = self.fresh(f"{node.output}.sum")
        self.add_reals(host, node, convert, IN_FULL, sums)
        self.chain_of_reals(node, plain, extras, {ACCUMULATOR: sums}, reason)
        if is_simulated(expression):
            self.waiting[node.output] = Codes.of(dict(expression.attributes))

    def add_sum(
        self,
        host: Sum,
        node: Node,
        made: Expression,
        convert: IntegerExpressions,
        extras: Mapping[str, str],
        name: str,
        codes: Codes | None,
    ) -> None:
        """The node of a sum with its epilogue ``made``."""
        order, epilogue = as_epilogue(made)
        operands = (*host.inputs, *(self.operand(leaf, convert, extras, host.node) for leaf in order))
        self.add(host.op, operands, {**host.attributes, "epilogue": str(epilogue)}, node.name, name, codes)
        self.quantized |= {host.node.name: host.node.op, node.name: node.op}

    def add_reals(self, host: Sum, node: Node, convert: IntegerExpressions, linear: Linear, name: str) -> None:
        """The node of a sum that ends in floats, ``factor * acc + offset``: one multiply a channel."""
        scale = host.meaning.scale * linear.terms[Leaf(ACCUMULATOR)]
        total, _ = convert.part(Leaf(ACCUMULATOR))
        if linear.offset.any():
            total = convert.sum(total, convert.whole(np.rint(linear.offset / scale)))
        kind = self.graph.type(node.output)
        shape = np.broadcast_shapes(scale.shape, channel_shape(kind.shape[1], kind.rank))
        scales = convert.constant(np.broadcast_to(scale, shape).astype(np.float32), "scales")
        self.add_sum(host, node, apply("Reals", total.expression, scales), convert, {}, name, None)

    def chain_of_reals(
        self, node: Node, expression: Expression, extras: Mapping[str, str], known: Mapping[str, str], reason: str
    ) -> None:
        """What is left of an expression in floats; ``extras`` names old values, ``known`` new ones of its leaves."""
        values = {name: known[name] if name in known else self.real(extras[name]) for name in leaves(expression)}
        shape = self.graph.type(node.output).shape
        order, text = as_chain(expression, lambda name: self.builder.types[values[name]].shape == shape)
        name, rest = self.own(node.output), f"{node.name}.activation"
        self.add("Elementwise", [values[leaf] for leaf in order], {"expression": str(text)}, rest, name, None)
        self.reals[node.output] = name
        self.floats[rest] = reason

    # -- chains ---------------------------------------------------------------------------------------------------------------

    def chain(self, node: Node) -> None:
        """Elementwise: the epilogue of a pool that waits for it, or a chain over codes, or over reals."""
        expression = parsed(str(node.attributes["expression"]))
        names = dict(zip(operand_names(len(node.inputs)), node.inputs, strict=True))
        host = next((self.sums.pop(value) for value in node.inputs if value in self.sums), None)
        if host is not None:
            own = {name for name, value in names.items() if value == host.node.output}
            others = {f"operand {name}": value for name, value in names.items() if name not in own}
            over = {name: Leaf(ACCUMULATOR if name in own else f"operand {name}") for name in names}
            convert = IntegerExpressions(node.name, {ACCUMULATOR: host.meaning, **self.meanings(others)})
            try:
                simulated = substitute(expression, over)
                assert is_simulated(simulated)  # as when it was put off
                made, codes = convert.quantized(simulated)
            except Inexpressible:
                self.average_alone(host)
            else:
                name = self.codes_name(node.output)
                self.add_sum(host, node, made, convert, others, name, codes)
                self.codes[node.output] = (name, codes)
                return
        meanings = self.meanings(names)
        if not any(isinstance(meaning, Codes) for meaning in meanings.values()):
            raise Inexpressible("it reads no codes")
        if not is_simulated(expression):
            raise Inexpressible("only floats read its result")
        convert = IntegerExpressions(node.name, meanings)
        made, codes = convert.quantized(expression)
        if isinstance(made, Leaf):  # quantized so already
            self.codes[node.output] = self.codes[names[made.name]]
            return
        shape = self.graph.type(node.output).shape
        order, text = as_chain(made, lambda leaf: leaf in names and self.graph.type(names[leaf]).shape == shape)
        operands = [self.operand(leaf, convert, names, node) for leaf in order]
        name = self.codes_name(node.output)
        self.add("Elementwise", operands, {"expression": str(text)}, node.name, name, codes)
        self.codes[node.output] = (name, codes)
        self.quantized[node.name] = node.op

    # -- pools ----------------------------------------------------------------------------------------------------------------

    def average(self, node: Node) -> None:
        """AveragePool and GlobalAveragePool (3)."""
        check_pool(node, self.graph.type(node.inputs[0]))
        host = pool_sum(node, self.graph.type(node.inputs[0]).shape, *self.need_codes(node.inputs[0]))
        readers = self.graph.consumers[node.output]
        if len(readers) == 1 and self.graph.uses(node.output) == 1 and readers[0].op == "Elementwise":
            reader = readers[0]
            simulated = is_simulated(parsed(str(reader.attributes["expression"])))
            if simulated and self.graph.type(reader.output).shape == self.graph.type(node.output).shape:
                self.sums[node.output] = host
                return
        if self.only_given_out(node.output):
            convert = IntegerExpressions(node.name, {ACCUMULATOR: host.meaning})
            self.add_reals(host, node, convert, IN_FULL, self.own(node.output))
            self.reals[node.output] = node.output
            return
        self.average_alone(host)

    def only_given_out(self, value: str) -> bool:
        """Whether the caller alone reads a value, perhaps in another shape."""
        readers = self.graph.consumers[value]
        return all(node.op in SAME_ON_CODES and all(map(self.only_given_out, node.outputs)) for node in readers)

    def average_alone(self, host: Sum) -> None:
        """A mean of codes as codes of the same scale, where nobody says another."""
        convert = IntegerExpressions(host.node.name, {ACCUMULATOR: host.meaning})
        made, codes = convert.quantized(apply("FakeQuantize", Leaf(ACCUMULATOR), **host.codes.attributes))
        name = self.codes_name(host.node.output)
        self.add_sum(host, host.node, made, convert, {}, name, codes)
        self.codes[host.node.output] = (name, codes)

    # -- movement -------------------------------------------------------------------------------------------------------------

    def concat(self, node: Node) -> None:
        """Branches at one scale (3)."""
        branches = {name: self.need_codes(name) for name in node.inputs if name not in self.graph.constants}
        meanings = [codes for _, codes in branches.values()]
        wanted = self.joined.get(node.name) or common_codes(meanings)
        names, low, high = [], wanted.low, wanted.low
        for index, value in enumerate(node.inputs):
            if value in self.graph.constants:
                array = wanted.quantize(self.graph.constants[value]).astype(wanted.dtype)
                names.append(self.constant(array, value, wanted))
                low, high = min(low, int(array.min())), max(high, int(array.max()))
                continue
            name, codes = branches[value]
            if not codes.means_the_same_as(wanted):
                convert = IntegerExpressions(node.name, {ACCUMULATOR: codes})
                made, codes = convert.quantized(apply("FakeQuantize", Leaf(ACCUMULATOR), **wanted.attributes))
                order, text = as_chain(made, lambda leaf: leaf == ACCUMULATOR)
                rescaled = self.fresh(f"{value}.rescaled")
                operands = [self.operand(leaf, convert, {ACCUMULATOR: value}, node) for leaf in order]
                self.add("Elementwise", operands, {"expression": str(text)}, f"{node.name}.rescale{index}", rescaled, codes)
                self.remarks.append(
                    f"{value!r} is rescaled to join the others in {node.name!r}: its scale is {branches[value][1].scale:.4g}, "
                    f"theirs {wanted.scale:.4g}."
                )
                name = rescaled
            low, high = min(low, codes.low), max(high, codes.high)
            names.append(name)
        joined = replace(wanted, low=min(low, high), high=high)
        name = self.codes_name(node.output)
        self.add("Concat", names, node.attributes, node.name, name, joined)
        self.codes[node.output] = (name, joined)
        self.quantized[node.name] = node.op

    def move(self, node: Node) -> None:
        """Operators that mean the same on codes (3)."""
        if node.op == "Resize" and node.attributes.get("mode", "nearest") != "nearest":
            raise Inexpressible("it interpolates")
        if node.op == "Resize" and node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
            raise Inexpressible("it fills in what lies outside of its region")
        if node.op in MAXIMA and self.graph.type(node.inputs[0]).rank != 4:
            raise Inexpressible("it is not over planes")
        name, codes = self.need_codes(node.inputs[0])
        operands = [name, *(self.static(value, codes, node, index) for index, value in enumerate(node.inputs[1:], 1))]
        if node.op == "Pad" and node.attributes.get("mode", "constant") == "constant" and not node.operand(2):
            zero = self.constant(np.asarray(codes.zero_point, codes.dtype), f"{node.name}.zero", codes)
            operands = [*operands[:2], zero, *operands[3:]]
        results = [self.codes_name(output) if output else "" for output in node.outputs]
        self.builder.add(node.op, operands, node.attributes, name=node.name, outputs=results)
        for output, result in zip(node.outputs, results, strict=True):
            if output:
                self.mean(result, codes)
                self.codes[output] = (result, codes)
        self.quantized[node.name] = node.op

    def static(self, value: str, codes: Codes, node: Node, index: int) -> str:
        """A further operand of something that moves codes; the number a Pad pads with becomes a code."""
        if not value:
            return ""
        if value not in self.graph.constants:
            raise Inexpressible("an operand is computed at run time")
        if node.op == "Pad" and index == 2:
            array = self.graph.constants[value]
            return self.constant(codes.quantize(array).astype(codes.dtype).reshape(array.shape), value, codes)
        return self.real(value)

    # -- floats ---------------------------------------------------------------------------------------------------------------

    def keep(self, node: Node, reason: str) -> None:
        """The node in floats (4)."""
        attributes = dict(node.attributes)
        for key in ("epilogue", "expression"):
            if key in attributes:
                expression = parsed(str(attributes[key]))
                if is_simulated(expression):
                    self.waiting[node.output] = Codes.of(dict(expression.attributes))
                attributes[key] = str(without_simulation(expression))
        if attributes.get("expression") == ACCUMULATOR:  # nothing but a quantization
            self.reals[node.output] = self.real(node.inputs[0])
            return
        self.floats[node.name] = reason
        operands = [self.real(name) if name else "" for name in node.inputs]
        names = [self.own(name) if name else "" for name in node.outputs]
        self.builder.add(node.op, operands, attributes, name=node.name, outputs=names)
        self.reals.update((old, new) for old, new in zip(node.outputs, names, strict=True) if old)

    # -- pieces ---------------------------------------------------------------------------------------------------------------

    def settle(self, value: str) -> None:
        """A pool that waited for an expression to be its epilogue stands alone."""
        if value in self.sums:
            self.average_alone(self.sums.pop(value))

    def meanings(self, values: Mapping[str, str]) -> dict[str, Meaning]:
        """What leaves stand for, given the values they read."""
        found: dict[str, Meaning] = {}
        for leaf, value in values.items():
            if value in self.graph.constants:
                found[leaf] = self.graph.constants[value]
            elif value in self.codes or value in self.waiting or value in self.sums:
                found[leaf] = self.need_codes(value)[1]
            else:
                found[leaf] = Real()
        return found

    def operand(self, leaf: str, convert: IntegerExpressions, values: Mapping[str, str], node: Node) -> str:
        """The new value a leaf of an integer expression reads."""
        if leaf in convert.constants:
            array, kind = convert.constants[leaf], leaf.split(".")[0]
            rank = self.graph.type(node.output).rank
            if kind != "table":
                array = array.reshape((1,) * (rank - array.ndim) + array.shape)
            return self.constant(array, f"{node.name}.{kind}")
        return self.need_codes(values[leaf])[0]
