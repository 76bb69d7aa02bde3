"""FakeQuantize goes before what only moves elements, to where they are computed.

Before::

    %p = GlobalAveragePool(%x)
    %f = Flatten(%p)
    %y = FakeQuantize(%f) {scale=0.02 ...}

After::

    %p.codes = FakeQuantize(%p) {scale=0.02 ...}
    %y = Flatten(%p.codes)

so that it fuses with the computation, which then ends in codes without a second rounding. Models quantized elsewhere put it last.

Legal where
  1. the operator gives every element of its operand a place, or the largest of some: quantization keeps order,
  2. nobody else reads the operand or the result in between,
  3. the operand is not quantized already, and no input of the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.rewrite import Application, Editor, Value, op, rest, rewrite, rule
from tapdot.passes.movement import MAXIMA, REARRANGEMENTS


@dataclass(frozen=True)
class QuantizeEarly(Pass):
    """See the module."""

    tolerance = 0.0

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return rewrite(graph, RULES)


def before_move(new: Editor, move: Application, root: Application) -> Value | None:
    """FakeQuantize(Reshape(x))."""
    x = move.operands[0]
    assert x is not None
    producer = new.producer(x)
    if producer is None or producer.op == "FakeQuantize" or len(move.results) > 1 or not new.only_reader_is(x, move):  # (2), (3)
        return None
    quantized = new.FakeQuantize(x, **root.given, name=f"{x.name}.codes")
    return new.add(move.op, (quantized, *move.operands[1:]), move.given, name=move.name)  # type: ignore[no-any-return]


# (1)
RULES = (rule(op.FakeQuantize(op[*REARRANGEMENTS, *MAXIMA](rest("operands")).named("move")), before_move),)
