"""Without data, only a model that says its own ranges can be quantized."""

from __future__ import annotations

from dataclasses import dataclass, field

from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.passes.bit_widths import BitWidths


@dataclass(frozen=True)
class RequireScales(Pass):
    """Stands where calibration has no data: raises InputError for a graph without a FakeQuantize.

    The widths of activations are not a choice then: raises TapdotError where ``widths`` has some.
    """

    widths: BitWidths = field(default_factory=BitWidths)

    tolerance = 0.0

    def run(self, graph: Graph, notes: Notes) -> Graph:
        if not any(node.op == "FakeQuantize" for node in graph.nodes):
            raise InputError(
                f"Integers need the ranges of activations, and {graph.name!r} does not say them: give samples of its inputs "
                "(--data DATA), or have some distilled from its batch norms (--zero-shot)."
            )
        self.widths.check_own_scales()
        return graph
