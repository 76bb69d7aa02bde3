"""How many bits each layer's weights and each tensor of activations get: a choice that users and optimisers make by name.

A *layer* is a convolution or matrix product with constant weights (Conv, Gemm or MatMul after clean-up, by the names that
``tapdot inspect`` shows). In ``weights`` a name is a layer's. In ``activations`` it is

  1. a layer's: the codes that it reads, perhaps moved on their way (HAWQ-V3's choice: a W4A4 layer reads 4-bit codes);
  2. ``NAME:output`` of a node: the codes that it makes, for nodes whose name is a layer's or not a value's;
  3. an input's or another value's: its own codes.

Names that mean one tensor must agree: what two layers read has one width, and what a Concat joins has one scale and so one width.
The two sides of an Add are independent: each is scaled to the sum in 32 bits. What is not named gets ``default``, or, without
one, what the options of ``calibrate`` and ``requantize`` say.

As JSON::

    {"weights": {"conv1": 8, "layer1.0.conv1": 4}, "activations": {"layer1.0.conv1": 4}, "default": 8}
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapdot.compiler.errors import InputError, TapdotError
from tapdot.compiler.graph import Graph, Node
from tapdot.passes.movement import MAXIMA, SAME_ON_CODES

WIDTHS = (2, 4, 8)
"""Bits that codes may have."""
LAYERS = ("Conv", "Gemm", "MatMul", "FusedConv", "FusedGemm")
"""Operators that are layers where their second operand is a constant."""
OUTPUT = ":output"
KINDS = ("weights", "activations")


@dataclass(frozen=True)
class BitWidths:
    """See the module. Raises TapdotError for a width that is none."""

    weights: Mapping[str, int] = field(default_factory=dict)
    activations: Mapping[str, int] = field(default_factory=dict)
    default: int | None = None

    def __post_init__(self) -> None:
        for kind in KINDS:
            given = dict(getattr(self, kind))
            for name, bits in given.items():
                _check_width(bits, f"the {kind} of {name!r}")
            object.__setattr__(self, kind, given)
        if self.default is not None:
            _check_width(self.default, "the default")

    def __bool__(self) -> bool:
        """Whether they say anything."""
        return bool(self.weights or self.activations or self.default is not None)

    def of_weights(self, layer: str, otherwise: int) -> int:
        """Bits of a layer's weights, where the options of passes say ``otherwise``."""
        return self.weights.get(layer, otherwise if self.default is None else self.default)

    # -- names ----------------------------------------------------------------------------------------------------------------

    def check_names(self, graph: Graph) -> None:
        """Raises TapdotError, with the nearest there is, for a name that the graph does not have or that is no layer's."""
        known = layers(graph)
        nodes = {node.name: node for node in graph.nodes}
        for name in self.weights:
            if name in nodes and name not in known:
                raise TapdotError(f"Expected a layer with weights, found {name!r}, a {nodes[name].op} node, which has none.")
            _check_known(name, known, "a layer of the graph", "weights")
        for name in self.activations:
            if name.removesuffix(OUTPUT) not in nodes and name not in graph.types:
                _check_known(name, (*nodes, *graph.inputs), "a layer or a value", "activations")

    def check_own_scales(self) -> None:
        """Of a model that says the scales of its activations: raises TapdotError where this says their widths too."""
        if self.activations:
            raise TapdotError(
                "Expected a model in floats to choose bits of activations for, found one that says its own scales (it was "
                "quantized before it came here); leave the activations out of the bit widths."
            )

    def of_activations(self, graph: Graph, places: Mapping[str, str], otherwise: int) -> dict[str, int]:
        """Bits of every tensor whose range decides a scale, given the places of codes (``code_places.Places.scales``).

        Raises TapdotError for a name without codes, and where two names ask for different widths of one tensor.
        """
        otherwise = otherwise if self.default is None else self.default
        found = dict.fromkeys(places.values(), otherwise)
        said: dict[str, str] = {}
        for name, bits in self.activations.items():
            tensor = places[self._place(graph, places, name)]
            if tensor in said and found[tensor] != bits:
                raise TapdotError(
                    f"Expected one width for the codes of {tensor!r}, found {found[tensor]} bits by {said[tensor]!r} and {bits} "
                    f"by {name!r}; both mean that tensor, so give both the same."
                )
            found[tensor], said[tensor] = bits, name
        return found

    def _place(self, graph: Graph, places: Mapping[str, str], name: str) -> str:
        """The value that gets the codes which ``name`` means."""
        nodes = {node.name: node for node in graph.nodes}
        layer = layers(graph).get(name)
        if layer is not None:  # (1)
            value = layer.inputs[0]
        elif name.endswith(OUTPUT) and name.removesuffix(OUTPUT) in nodes:  # (2)
            value = nodes[name.removesuffix(OUTPUT)].outputs[0]
        else:  # (3)
            value = name if name in graph.types else nodes[name].outputs[0]
        source = codes_read(graph, places, value)
        if source is None:
            later = _next(graph, places, value)
            hint = f"but only what is made of it, {later!r}" if later else "because no integer node reads it"
            raise TapdotError(f"Expected a tensor that becomes codes for {name!r}, found that {value!r} does not, {hint}.")
        return source

    # -- JSON -----------------------------------------------------------------------------------------------------------------

    def json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` is the inverse."""
        told: dict[str, Any] = {kind: dict(getattr(self, kind)) for kind in KINDS}
        return told if self.default is None else {**told, "default": self.default}

    @classmethod
    def from_json(cls, data: Any) -> BitWidths:
        """Raises InputError for anything but the object that the module shows."""
        if not isinstance(data, Mapping):
            raise InputError(f"Expected bit widths as an object with weights and activations, found {_shown(data)}.")
        for key in data:
            if key not in (*KINDS, "default"):
                raise InputError(f"Expected weights, activations and default in bit widths, found {key!r}.")
        for kind in KINDS:
            if not isinstance(data.get(kind, {}), Mapping):
                raise InputError(f"Expected an object of names and bits for {kind}, found {_shown(data[kind])}.")
        return cls(data.get("weights", {}), data.get("activations", {}), data.get("default"))

    @classmethod
    def read(cls, path: Path) -> BitWidths:
        """From a JSON file. Raises InputError where it cannot be read, and for a name that is given twice."""
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"Cannot read the bit widths {path}: {getattr(error, 'strerror', None) or error}.") from error
        try:
            return cls.from_json(json.loads(text, object_pairs_hook=_once))
        except json.JSONDecodeError as error:
            raise InputError(f"Expected JSON in {path}, but {error.msg} (line {error.lineno}).") from error
        except InputError as error:
            raise InputError(f"{str(error).removesuffix('.')}, in {path}.") from error


def layers(graph: Graph) -> dict[str, Node]:
    """The layers of a graph by name, in order."""
    return {node.name: node for node in graph.nodes if node.op in LAYERS and node.operand(1) in graph.constants}


def codes_read(graph: Graph, places: Mapping[str, str], value: str) -> str | None:
    """The value that gets the codes which whoever reads ``value`` computes with, perhaps moved on their way; None for floats."""
    while value not in places:
        producer = graph.producer(value)
        if producer is None or producer.op not in (*SAME_ON_CODES, *MAXIMA):
            return None
        value = producer.inputs[0]
    return value


def _check_width(bits: object, what: str) -> None:
    if isinstance(bits, bool) or bits not in WIDTHS:
        raise InputError(f"Expected 2, 4 or 8 bits for {what}, found {_shown(bits)}.")


def _check_known(name: str, known: Iterable[str], what: str, where: str) -> None:
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f" Did you mean {near[0]!r}?" if near else " `tapdot inspect MODEL` lists them."
    raise TapdotError(f"Expected {what} in the bit widths of {where}, found {name!r}.{hint}")


def _next(graph: Graph, places: Mapping[str, str], value: str) -> str | None:
    """The first value behind another one that gets codes, along what reads it alone."""
    while len(readers := graph.consumers.get(value, ())) == 1 and readers[0].outputs:
        value = readers[0].outputs[0]
        if value in places:
            return value
    return None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose every name stands once."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InputError(f"Expected every name once, found {name!r} twice.")
        found[name] = value
    return found


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
