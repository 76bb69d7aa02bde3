"""What happens to a value between accumulator and memory joins the node that computes it.

Before::

    %c = Conv(%x, %w, %b) {...}
    %s = Add(%c, %shortcut)
    %y = Relu(%s)

After::

    %y = FusedConv(%x, %w, %b, %shortcut) {... epilogue="Relu(Add(acc, r0))"}

Afterwards every convolution with constant weights is a ``FusedConv``, every matrix product with a constant matrix a
``FusedGemm``, and what is left of float element-wise work is in ``Elementwise`` chains, so that lowering sees one form. A
chain may read the accumulator several times (``Mul(acc, Sigmoid(acc))``), and equal parts are computed once.

An element-wise node E joins the producer P of one of its operands where
  1. P is a FusedConv, a FusedGemm or an Elementwise, and E computes in float32,
  2. nobody but E reads P's result, and it is no output of the graph,
  3. P's result has the shape of E's result, so that nothing is computed twice,
  4. into a FusedConv or FusedGemm: every other operand has the shape of the result, or is a constant with one number a channel,
  5. the expression has at most ``max_operators`` operators over at most ``max_operands`` operands.

Constants of one element become numbers in the expression. Where several producers could take E, as in a residual add of two
convolutions, the one computed last does: the other result is there by then. An Add of a constant vector of channels that comes
first goes into the bias.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup, registered
from tapdot.compiler.operators.fused import parsed
from tapdot.compiler.pipeline import Notes, Pass, Property
from tapdot.compiler.rewrite import Application, Editor, Rule, Value, constant, op, optional, rest, rewrite, rule, values
from tapdot.kernels.expression import ACCUMULATOR, Apply, Expression, Leaf, Number, leaves, substitute
from tapdot.passes.constants import as_channels, channel_shape
from tapdot.passes.fold_batch_norm import NO_BATCH_NORM
from tapdot.passes.resolve_windows import EXPLICIT_WINDOWS

HOSTS = ("FusedConv", "FusedGemm")
NOT_EXPRESSIONS = frozenset({"Identity", "Elementwise", "Mod"})
"""Element-wise operators that stay nodes; a remainder is too long to be worth computing between accumulator and memory."""
ELEMENTWISE = tuple(name for name, entry in registered().items() if entry.elementwise and name not in NOT_EXPRESSIONS)


def _unfused(graph: Graph) -> str | None:
    for node in graph.nodes:
        is_known = all(name in graph.constants for name in node.inputs[1:] if name)
        if node.op == "Conv" and is_known and graph.type(node.output).dtype == "float32":
            return f"convolution {node.name!r} is not fused"
    return None


FUSED = Property("a graph in the fused dialect", _unfused)


@dataclass(frozen=True)
class Fuse(Pass):
    """See the module."""

    max_operators: int = 24
    """Distinct operators in one expression."""
    max_operands: int = 8
    """Tensors one expression reads, the accumulator included."""

    requires = (EXPLICIT_WINDOWS, NO_BATCH_NORM)
    ensures = (FUSED,)

    def run(self, graph: Graph, notes: Notes) -> Graph:
        fused = rewrite(graph, self.rules())
        for node in fused.nodes:
            if node.op == "Elementwise":
                for name in node.inputs:
                    producer = fused.producer(name)
                    if producer is not None and producer.op in HOSTS:
                        notes.add(f"{node.name!r} was not fused into {producer.name!r}: {_obstacle(fused, node, producer)}.")
        return fused

    def rules(self) -> tuple[Rule, ...]:
        """In the order they are tried at a node."""
        x, w, b = values("x"), constant("w"), optional(constant("b"))
        host = op[HOSTS](x, w, b, epilogue=ACCUMULATOR).named("host")
        return (
            rule(op.Conv(x, w, b), fused_conv),
            rule(op.Gemm(x, w, optional(values("c"))), fused_gemm),
            rule(op.Add(host, constant("shift")), shift_into_bias),
            rule(op[ELEMENTWISE](rest("operands")), to_elementwise),
            rule(op.Elementwise(rest("operands")), self.join_elementwise),
            rule(op.Elementwise(rest("operands")), self.join_host),
        )

    def join_elementwise(self, new: Editor, operands: tuple[Value, ...], root: Application) -> Value | None:
        """Chains become one chain."""
        if not _in_float(root):  # (1)
            return None
        for operand in operands:
            inner = new.producer(operand)
            if inner is None or inner.op != "Elementwise" or not _in_float(inner):  # (1)
                continue
            if not new.only_reader_is(operand, root) or operand.shape != root.result.shape:  # (2), (3)
                continue
            whole = substitute(over_values(root), {leaf(operand).name: over_values(inner)})
            reads = by_leaf(*operands, *inner.operands)
            if self.fits(whole, len(leaves(whole))):  # (5)
                return elementwise(new, whole, reads, root.result.shape)
        return None

    def join_host(self, new: Editor, operands: tuple[Value, ...], root: Application) -> Value | None:
        """A chain becomes the epilogue of the last computed producer that can take it."""
        if not _in_float(root):  # (1)
            return None
        producers = [producer for value in operands if (producer := new.producer(value)) and producer.op in HOSTS]  # (1)
        for host in sorted(producers, key=lambda producer: producer.position, reverse=True):
            result = host.result
            if not new.only_reader_is(result, root) or result.shape != root.result.shape:  # (2), (3)
                continue
            if not all(may_be_extra(value, result.shape) for value in operands if value != result):  # (4)
                continue
            expression = substitute(over_values(root), {leaf(result).name: over_values(host)})
            names = [name for name in leaves(expression) if name != ACCUMULATOR]
            if not self.fits(expression, 1 + len(names)):  # (5)
                continue
            reads = by_leaf(*operands, *host.operands[3:])
            extras = [as_extra(new, reads[name], result.shape) for name in names]
            epilogue = substitute(expression, {name: Leaf(f"r{index}") for index, name in enumerate(names)})
            inputs = (*host.operands, None, None)[:3]
            given = {**host.given, "epilogue": str(epilogue)}
            return new.add(host.op, (*inputs, *extras), given, name=host.name)
        return None

    def fits(self, expression: Expression, operands: int) -> bool:
        """Criterion 5."""
        return operands <= self.max_operands and len(_applications(expression)) <= self.max_operators


# -- into the fused dialect --------------------------------------------------------------------------------------------------


def fused_conv(new: Editor, x: Value, w: Value, b: Value | None, root: Application) -> Value | None:
    """Conv with constant weights and bias."""
    if w.dtype != "float32":
        return None
    return new.FusedConv(
        x, w, b, strides=root.strides, pads=root.pads, dilations=root.dilations, group=root.group, epilogue=ACCUMULATOR
    )


def fused_gemm(new: Editor, x: Value, w: Value, c: Value | None, root: Application) -> Value | None:
    """Gemm in canonical form with a constant matrix; what is no bias vector is added afterwards."""
    if w.dtype != "float32" or (root.alpha, root.beta, root.transA, root.transB) != (1, 1, 0, 0):
        return None
    if c is None:
        return new.FusedGemm(x, w, epilogue=ACCUMULATOR)
    bias = as_channels(c.array, root.result.shape) if c.array is not None else None
    if bias is None:
        return new.Add(new.FusedGemm(x, w, epilogue=ACCUMULATOR), c)
    return new.FusedGemm(x, w, new.constant(bias, c.name), epilogue=ACCUMULATOR)


def shift_into_bias(
    new: Editor, host: Application, x: Value, w: Value, b: Value | None, shift: Value, root: Application
) -> Value | None:
    """Add(FusedConv, constant vector of channels)."""
    assert shift.array is not None
    vector = as_channels(shift.array, host.result.shape)
    if vector is None or root.result.shape != host.result.shape:
        return None
    bias = vector if b is None or b.array is None else b.array + vector
    return new.add(host.op, (x, w, new.constant(bias, shift.name)), host.given, name=host.name)


def to_elementwise(new: Editor, operands: tuple[Value | None, ...], root: Application) -> Value | None:
    """A float element-wise node becomes an expression over its operands."""
    entry = lookup(root.op)
    given = {name: value for name, value in root.given.items() if isinstance(value, int | float | str)}
    if len(root.results) > 1 or root.result.dtype != "float32" or len(given) < len(root.given):  # (1)
        return None
    arguments: list[Expression] = []
    tensors: list[Value] = []
    for index, operand in enumerate(operands):
        if entry.is_static(index):
            if operand is not None and operand.array is not None and np.isfinite(operand.array).all():
                given[entry.operands[index].name] = float(operand.array.item())
        elif operand is None:
            return None
        elif (number := _number(operand)) is not None:
            arguments.append(number)
        else:
            tensors.append(operand)
            arguments.append(leaf(operand))
    if not tensors or any(value.dtype != "float32" for value in tensors):  # (1)
        return None
    if np.broadcast_shapes(*(value.shape for value in tensors)) != root.result.shape:
        return None
    expression = Apply(root.op, tuple(arguments), tuple(sorted(given.items())))
    return elementwise(new, expression, by_leaf(*tensors), root.result.shape)


def _in_float(chain: Application) -> bool:
    """Whether a chain computes in float32 and not with integer codes, which are another dialect."""
    return all(value is None or value.dtype == "float32" for value in (*chain.operands, chain.result))


def _number(value: Value) -> Number | None:
    if value.array is None or value.array.size != 1 or value.dtype == "bool" or not math.isfinite(value.array.item()):
        return None
    return Number(float(value.array.item()))


# -- expressions over values -------------------------------------------------------------------------------------------------
# While nodes are joined, leaves stand for values by name; the accumulator of a host stays ``acc``.


def leaf(value: Value) -> Leaf:
    """The leaf that stands for a value; the sign keeps it apart from ``acc`` and ``r0``."""
    return Leaf(f"%{value.name}")


def by_leaf(*operands: Value | None) -> dict[str, Value]:
    """The values that leaves stand for."""
    return {leaf(value).name: value for value in operands if value is not None}


def over_values(node: Application) -> Expression:
    """The expression of a fused node with its leaves replaced by those of the values they stand for."""
    if node.op == "Elementwise":
        text, operands = node.expression, dict(zip(operand_names(), node.operands, strict=False))
    else:
        text, operands = node.epilogue, {f"r{index}": value for index, value in enumerate(node.operands[3:])}
    return substitute(parsed(text), {name: leaf(value) for name, value in operands.items() if value is not None})


def operand_names() -> Iterator[str]:
    """What an expression calls the operands of an Elementwise: ``acc``, ``r0``, ``r1``, ..."""
    yield ACCUMULATOR
    for index in itertools.count():
        yield f"r{index}"


def elementwise(new: Editor, expression: Expression, reads: Mapping[str, Value], shape: tuple[int, ...]) -> Value:
    """An Elementwise, given an expression over values; operands of the full shape come first."""
    names = sorted(leaves(expression), key=lambda name: reads[name].shape != shape)
    numbered = {name: Leaf(place) for name, place in zip(names, operand_names(), strict=False)}
    operands = [of_rank(new, reads[name], len(shape)) for name in names]
    return new.Elementwise(*operands, expression=str(substitute(expression, numbered)))


def of_rank(new: Editor, value: Value, rank: int) -> Value:
    """A constant with leading axes of size 1 up to ``rank``; other values as they are."""
    if value.array is None or value.rank == rank:
        return value
    return new.constant(value.array.reshape((1,) * (rank - value.rank) + value.shape), value.name)


def may_be_extra(value: Value, shape: tuple[int, ...]) -> bool:
    """Criterion 4: whether an epilogue may read a value beside a result of ``shape``."""
    return value.shape == shape or (value.array is not None and as_channels(value.array, shape) is not None)


def as_extra(new: Editor, value: Value, shape: tuple[int, ...]) -> Value:
    """The value as an epilogue reads it: constants of channels are ``[1, C, 1, 1]``."""
    wanted = channel_shape(shape[1], len(shape))
    if value.shape in (shape, wanted):
        return value
    assert value.array is not None
    channels = as_channels(value.array, shape)
    assert channels is not None
    return new.constant(channels.reshape(wanted), value.name)


def _applications(expression: Expression) -> set[Apply]:
    """Distinct operators applied: equal parts are computed once."""
    found: set[Apply] = set()

    def visit(part: Expression) -> None:
        if isinstance(part, Apply) and part not in found:
            found.add(part)
            for argument in part.arguments:
                visit(argument)

    visit(expression)
    return found


def _obstacle(graph: Graph, node: Node, producer: Node) -> str:
    """Why an Elementwise stayed apart from a producer, for reports."""
    acc = producer.output
    kind, result = graph.type(acc), graph.type(node.output)
    if acc in graph.outputs:
        return f"{acc!r} is an output of the model"
    if any(reader.name != node.name for reader in graph.consumers[acc]):
        return f"others read {acc!r} too"
    if kind.shape != result.shape:
        return f"the shape {list(kind.shape)} is broadcast to {list(result.shape)}"
    for name in node.inputs:
        value = Value(name, graph.type(name), graph.constants.get(name))
        if name != acc and not may_be_extra(value, result.shape):
            return f"operand {name!r} has the shape {list(value.shape)}"
    return "the expression would have too many operators or operands"
