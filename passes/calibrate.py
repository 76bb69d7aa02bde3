"""Ranges of activations, from data: every tensor that will be codes gets a FakeQuantize that says its scale.

Before::

    %c = Conv(%x, %w, %b)
    %s = Add(%c, %shortcut)
    %y = Relu(%s)

After::

    %x.codes = FakeQuantize(%x) {scale=0.02 low=-128 high=127 dtype="int8"}
    %c = Conv(%x.codes, %w, %b)
    %s = Add(%c, %shortcut)
    %y.float = Relu(%s)
    %y = FakeQuantize(%y.float) {scale=0.01 low=0 high=255 dtype="uint8"}

The float graph runs over the samples; each tensor that needs one keeps a statistic of bounded memory, from which ``method`` takes
a range (see ``passes.observers``). The same samples give the same scales, however they come in batches.

Codes are signed and symmetric (zero point 0, the choice of HAWQ-V3, section 3.1), unsigned where the operators make negative
values impossible; with ``asymmetric`` tensors that may be negative get a zero point. ``kernels.numerics`` says what codes mean.

Where FakeQuantize goes:
  1. behind every float tensor that a convolution or matrix product with constant weights, a pool, an element-wise node or a
     concatenation reads as codes, inputs of the graph included;
  2. not on what is still an accumulator: in a chain of sum (convolution, matrix product), Add, Sub, Relu, Clip, Max, Min, each
     read by the next alone, only the last gets one. Where two sums meet in an Add, the later one goes on, the other gets codes;
  3. before and after a function that is no straight line (Sigmoid, HardSwish, ``Mul(x, Sigmoid(x))`` ...), never inside: with
     codes it is one table;
  4. not behind what only moves codes (Reshape, Transpose, Slice, Pad with zeros, Resize to nearest, ...) or picks the largest
     (MaxPool): its operand's codes are its own;
  5. a Concat has one scale, and branches that nobody else reads are produced at it; others are requantized;
  6. what has no integer form (Softmax, normalizations, ConvTranspose, ...) gets one only where an integer node reads it;
  7. a range always holds zero, and never reaches beyond what an activation can give (ReLU6: ``[0, min(6, largest seen)]``);
  8. a sum that only the caller or a float node reads gets none: its accumulator, times a scale by channel, loses nothing. With
     ``codes_at_the_end`` it does.

Raises InputError for data that does not fit or is not finite, and TapdotError, naming the tensor, where a tensor is zero in all
samples, where values inside the network are not finite, and for a graph in which integers can compute nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph, Node, unique_name
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.pipeline import Notes, Pass, Property
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.code_places import Placement, never_negative
from tapdot.passes.codes import Codes
from tapdot.passes.fold_batch_norm import NO_BATCH_NORM
from tapdot.passes.observers import EmptyRangeError, Method, Observer, codes_of_range
from tapdot.passes.prediction_ranges import codes_by_prediction
from tapdot.passes.resolve_windows import EXPLICIT_WINDOWS
from tapdot.passes.samples import Feed, feeds


def _without_scales(graph: Graph) -> str | None:
    return None if any(node.op == "FakeQuantize" for node in graph.nodes) else "no tensor has one"


SCALES = Property("scales of activations", _without_scales)


@dataclass(frozen=True)
class Calibrate(Pass):
    """See the module."""

    data: object
    """Samples, in any form that :func:`tapdot.passes.samples.feeds` reads."""
    method: Method = "mse"
    percentile: float = 99.99
    """Of the values, for the method of that name."""
    bits: int = 8
    """Width of the codes, 2 to 8, where ``widths`` do not say."""
    asymmetric: bool = False
    """Zero points for tensors that may be negative."""
    samples: int | None = None
    """How many samples to use; all, if None."""
    codes_at_the_end: bool = False
    """Rule 8: whether results of the last sums, such as logits, are codes too."""
    widths: BitWidths = field(default_factory=BitWidths)
    """Of single tensors: codes of fewer bits have fewer values, and still lie one in a byte."""

    requires = (EXPLICIT_WINDOWS, NO_BATCH_NORM)
    ensures = (SCALES,)
    tolerance = None

    def run(self, graph: Graph, notes: Notes) -> Graph:
        self._check()
        self.widths.check_names(graph)
        if any(node.op == "FakeQuantize" for node in graph.nodes):
            self.widths.check_own_scales()
            notes.add("The model says its own scales (it was quantized before it came here), so it was not calibrated.")
            return graph
        placement = Placement(graph, sums_at_the_end=self.codes_at_the_end)
        if not any(placement.is_sum(node) for node in graph.nodes):
            raise TapdotError(
                f"There is nothing to quantize in graph {graph.name!r}: it has no convolution and no matrix product with "
                f"constant float32 weights ({_census(graph)}). Compile it with the recipe float."
            )
        scales = placement.places().scales
        bits = self.widths.of_activations(graph, scales, self.bits)
        observers = self.observe(graph, tuple(bits))
        codes = self._codes(graph, observers, bits)
        if self.method == "prediction":
            codes = codes_by_prediction(graph, self.data, self.samples, codes, observers, notes.progress)
        samples = max(observer.samples for observer in observers.values())
        notes.add(f"{len(scales)} tensors have scales from {samples} samples (method {self.method}){_census_of_bits(bits)}.")
        return with_codes(graph, {name: codes[source] for name, source in scales.items()})

    def _check(self) -> None:
        if not 2 <= self.bits <= 8:
            raise TapdotError(f"Expected calibrate.bits between 2 and 8, found {self.bits}.")
        if not 50 < self.percentile <= 100:
            raise TapdotError(f"Expected calibrate.percentile above 50 and at most 100, found {self.percentile:g}.")
        if self.samples is not None and self.samples < 1:
            raise TapdotError(f"Expected calibrate.samples to be at least 1, found {self.samples}.")

    def observe(self, graph: Graph, names: Sequence[str]) -> dict[str, Observer]:
        """The statistics of the named values over the samples."""
        observers = {name: Observer(self.method) for name in names}
        seen = 0
        for feed in feeds(graph, self.data, self.samples):
            observe_feed(graph, feed, observers, seen)
            seen += feed.count
        return observers

    def _codes(self, graph: Graph, observers: Mapping[str, Observer], bits: Mapping[str, int]) -> dict[str, Codes]:
        positive = [name for name in graph.inputs if name in observers and observers[name].low >= 0]
        unsigned = never_negative(graph, positive)
        found = {}
        for name, observer in observers.items():
            kind = {"signed": name not in unsigned, "asymmetric": self.asymmetric}
            try:
                ends = observer.range(bits[name], percentile=self.percentile, **kind)
                found[name] = codes_of_range(*ends, bits[name], **kind)
            except EmptyRangeError as error:
                whole = observer.low == observer.high == 0
                reason = "is zero everywhere" if whole else f"has too narrow a range ({error})"
                raise TapdotError(
                    f"The tensor {described(graph, name)} {reason} in all {observer.samples} samples, so it has no scale; "
                    "calibrate with other data, or look whether the model's weights are all there."
                ) from error
        return found


def observe_feed(graph: Graph, feed: Feed, observers: Mapping[str, Observer], seen: int) -> None:
    """Lets observers see one run of the graph; ``seen`` samples came before it."""

    def observe(name: str, value: Tensor) -> None:
        if name in observers:
            rows = feed.rows(value)
            if not bool(torch.isfinite(rows.sum())) and not bool(torch.isfinite(rows).all()):
                found = "NaN" if bool(rows.isnan().any()) else "an infinity"
                raise TapdotError(
                    f"The tensor {described(graph, name)} holds {found} for one of the samples {seen} to {seen + feed.count - 1} "
                    "although the inputs are finite; look at the model's weights, or leave these samples out."
                )
            observers[name].update(rows)

    with torch.inference_mode():
        interpret(graph, feed.inputs, observe=observe)


def described(graph: Graph, name: str) -> str:
    """A value for a message, with the node that makes it."""
    node = graph.producer(name)
    return f"{name!r}, an input of the model," if node is None else f"{name!r} of {node.op} node {node.name!r}"


def _census(graph: Graph) -> str:
    count = Counter(node.op for node in graph.nodes)
    return ", ".join(f"{number} {op}" for op, number in count.most_common(4)) or "no nodes at all"


def _census_of_bits(bits: Mapping[str, int]) -> str:
    """How many tensors have which width, where there are several."""
    count = Counter(bits.values())
    if len(count) < 2:
        return ""
    return ": " + ", ".join(f"{count[width]} of {width} bits" for width in sorted(count, reverse=True))


def with_codes(graph: Graph, codes: Mapping[str, Codes]) -> Graph:
    """The graph with a FakeQuantize behind each named value.

    The quantized value takes the name over, so that it can be compared with the float graph's by name; what it was made from is
    ``NAME.float``. An input keeps its name, and its codes are ``NAME.codes``.
    """
    types, taken = dict(graph.types), {node.name for node in graph.nodes}
    nodes: list[Node] = []
    renamed: dict[str, str] = {}

    def quantize(source: str, result: str, name: str, meaning: Codes) -> None:
        types[source] = types[result] = replace(graph.type(name), quant=None)
        label = unique_name(f"{name}.quantize", taken)
        taken.add(label)
        nodes.append(Node("FakeQuantize", (source,), (result,), meaning.attributes, label))

    for name in graph.inputs:
        if name in codes:
            renamed[name] = unique_name(f"{name}.codes", types)
            quantize(name, renamed[name], name, codes[name])
    for node in graph.nodes:
        sources = {name: unique_name(f"{name}.float", types) for name in node.outputs if name in codes}
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        nodes.append(replace(node, inputs=inputs, outputs=tuple(sources.get(name, name) for name in node.outputs)))
        for name, source in sources.items():
            quantize(source, name, name, codes[name])
    return graph.replace(nodes=tuple(nodes), types=types)
