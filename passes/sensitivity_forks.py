"""Running a graph many times where each time one value on the way is another: only what lies behind that value runs again.

The graph runs once, in order. Where a value has alternatives, everything behind it is computed for each of them from the values
known so far; then the run goes on. So memory holds what a plain run holds at that place, and the work is about half of that of
whole runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cache

from torch import Tensor

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.interpreter import to_tensor
from tapdot.compiler.operators import lookup

Alternatives = Callable[[Node | None, Sequence[Tensor | None], Tensor], Iterator[tuple[Hashable, Tensor]]]
"""From a node, its operands and its result (of an input of the graph: None, nothing, the input) to keys and other results."""


class Forks:
    """A graph with its constants at hand, to be run over many batches; ``outputs`` are the values that are asked for."""

    def __init__(self, graph: Graph, outputs: Sequence[str]) -> None:
        self.graph, self.outputs = graph, tuple(outputs)
        self.constants = {name: to_tensor(array) for name, array in graph.constants.items()}
        self._last_readers = {operand: place for place, node in enumerate(graph.nodes) for operand in node.inputs}
        self._behind = cache(self._find_behind)

    def run(self, inputs: Mapping[str, Tensor], at: Mapping[str, Alternatives]) -> Iterator[tuple[Hashable, list[Tensor]]]:
        """The outputs of the graph as it is, with the key None, and then those for each alternative of each value in ``at``.

        Alternatives are asked for when the run comes by their value. Call it inside ``torch.inference_mode()``.
        """
        # First a plain run: whoever compares needs the answers before the first alternative.
        yield None, self._outputs(self._run(dict(inputs), range(len(self.graph.nodes)), self._last_readers))
        values = dict(inputs)
        for name in self.graph.inputs:
            if name in at:
                yield from self._alternatives(values, name, -1, at[name](None, (), values[name]))
        left = {name for name in at if name not in self.graph.inputs}
        for place, node in enumerate(self.graph.nodes):
            if not left:
                return
            operands = self._operands(node, values)
            values.update(self._results(node, operands))
            for name in left.intersection(node.outputs):
                yield from self._alternatives(values, name, place, at[name](node, operands, values[name]))
            left.difference_update(node.outputs)
            del operands
            self._free(values, node, place, self._last_readers)

    def _alternatives(
        self, values: Mapping[str, Tensor], name: str, place: int, found: Iterator[tuple[Hashable, Tensor]]
    ) -> Iterator[tuple[Hashable, list[Tensor]]]:
        behind, beside, last_readers = self._behind(name, place)
        # What does not depend on the value, but is read together with what does, is computed once for all alternatives.
        known = self._run(dict(values), beside, last_readers) if beside else dict(values)
        for key, other in found:
            yield key, self._outputs(self._run({**known, name: other}, behind, last_readers))

    def _find_behind(self, name: str, place: int) -> tuple[tuple[int, ...], tuple[int, ...], Mapping[str, int]]:
        """Places of the nodes behind a value, of those after it that these need but that do not depend on it, last readers."""
        after = range(place + 1, len(self.graph.nodes))
        reached = {name}
        behind = []
        for place in after:
            node = self.graph.nodes[place]
            if any(operand in reached for operand in node.inputs):
                behind.append(place)
                reached.update(node.outputs)
        needed = {operand for place in behind for operand in self.graph.nodes[place].inputs} | set(self.outputs)
        beside = []
        for place in reversed(after):
            node = self.graph.nodes[place]
            if not reached.intersection(node.outputs) and needed.intersection(node.outputs):
                beside.append(place)
                needed.update(node.inputs)
        last = {operand: place for place in (*reversed(beside), *behind) for operand in self.graph.nodes[place].inputs}
        return tuple(behind), tuple(reversed(beside)), last

    def _run(self, values: dict[str, Tensor], places: Sequence[int], last_readers: Mapping[str, int]) -> dict[str, Tensor]:
        for place in places:
            node = self.graph.nodes[place]
            values.update(self._results(node, self._operands(node, values)))
            self._free(values, node, place, last_readers)
        return values

    def _operands(self, node: Node, values: Mapping[str, Tensor]) -> list[Tensor | None]:
        entry = lookup(node.op)
        return [
            None if not name or entry.is_static(index) else values[name] if name in values else self.constants[name]
            for index, name in enumerate(node.inputs)
        ]

    def _results(self, node: Node, operands: Sequence[Tensor | None]) -> dict[str, Tensor]:
        results = lookup(node.op).apply(node, operands, self.graph.constants)
        return {name: result for name, result in zip(node.outputs, results, strict=False) if name}

    def _free(self, values: dict[str, Tensor], node: Node, place: int, last_readers: Mapping[str, int]) -> None:
        for name in (*node.inputs, *node.outputs):
            if name not in self.outputs and last_readers.get(name, place) == place:
                values.pop(name, None)

    def _outputs(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        return [values[name] if name in values else self.constants[name] for name in self.outputs]
