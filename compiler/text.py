"""Graphs as text, one line a node, and back::

    graph "tiny"
    input %x: float32[1,3,8,8]
    constant %w: float32[4,3,3,3] = sha256:8f0c53e1a9b5d2f7
    constant %b: float32[4] = [0.0, 0.5, -1.0, 2.0]
    %y: float32[1,4,8,8] = Conv(%x, %w, %b) {pads=[1, 1, 1, 1]}  # node "conv_1"
    return %y

A name of letters, digits and ``_ . / -`` stands bare after ``%``, any other as a JSON string; ``_`` is an omitted operand or
result. Attributes and small constants are JSON, in row-major order; a larger constant is named by the hash of its bytes and
comes from elsewhere when the text is parsed. The node's name is left out where it equals that of its first result.
"""

from __future__ import annotations

import hashlib
import json
import re
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Attribute, Graph, Node
from tapdot.compiler.types import DTYPES, TensorType, described

INLINE = 16
"""Constants of at most this many elements are printed in full."""
GLANCE = 4
"""Elements of a constant that a reader at a terminal is shown."""

# -- printing ---------------------------------------------------------------------------------------------------------------


def print_graph(graph: Graph) -> str:
    """The whole graph; ends with a line end."""
    lines = [f"graph {json.dumps(graph.name)}"]
    lines += [f"input {_typed(name, graph.types)}" for name in graph.inputs]
    lines += [f"constant {_typed(name, graph.types)} = {_constant(array)}" for name, array in graph.constants.items()]
    lines += [print_node(node, graph.types) for node in graph.nodes]
    lines.append("return " + ", ".join(print_name(name) for name in graph.outputs))
    return "\n".join(lines) + "\n"


def shortened(text: str) -> str:
    """The text for somebody who only reads it: no more than :data:`GLANCE` elements of a constant; it cannot be parsed."""
    return "".join(_shortened_line(line) for line in text.splitlines(keepends=True))


def _shortened_line(line: str) -> str:
    start, equals, elements = line.rstrip("]\n").rpartition(" = [")
    found = elements.split(", ")
    if not line.startswith("constant ") or not equals or len(found) <= GLANCE:
        return line
    return f"{start} = [{', '.join(found[: GLANCE - 1])}, ... {len(found) - GLANCE + 1} more]\n"


def print_node(node: Node, types: Mapping[str, TensorType]) -> str:
    """One node's line; a result without a type is shown without."""
    results = ", ".join(_typed(name, types) for name in node.outputs)
    line = f"{results} = {node.op}({', '.join(print_name(name) for name in node.inputs)})"
    if node.attributes:
        pairs = ", ".join(f"{name}={json.dumps(value, default=str)}" for name, value in node.attributes.items())
        line += f" {{{pairs}}}"
    if not node.outputs or node.name != node.outputs[0]:
        line += f"  # node {json.dumps(node.name)}"
    return line


def print_name(name: str) -> str:
    """A value's name as it stands in the text."""
    if not name:
        return "_"
    return f"%{name}" if _BARE.fullmatch(name) else f"%{json.dumps(name)}"


def fingerprint(array: np.ndarray) -> str:
    """The start of the SHA-256 of an array's row-major bytes, by which the text names it."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()[:16]


def _typed(name: str, types: Mapping[str, TensorType]) -> str:
    return f"{print_name(name)}: {types[name]}" if name in types else print_name(name)


def _constant(array: np.ndarray) -> str:
    if array.size > INLINE:
        return f"sha256:{_fingerprints.of(array)}"
    # str gives the shortest digits that read back as the same number of this element type
    return "[" + ", ".join(_SPECIAL.get(str(value), str(value)) for value in array.reshape(-1)) + "]"


class _Fingerprints:
    """Remembers fingerprints while their arrays live: graphs share constants, and a dump prints the same ones many times."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[np.ndarray], str]] = {}

    def of(self, array: np.ndarray) -> str:
        key = id(array)
        if key not in self._known:
            self._known[key] = weakref.ref(array, lambda _: self._known.pop(key, None)), fingerprint(array)
        return self._known[key][1]


_fingerprints = _Fingerprints()
_BARE = re.compile(r"[A-Za-z0-9_./-]+")
_SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "True": "true", "False": "false"}

# -- parsing ----------------------------------------------------------------------------------------------------------------


def parse_graph(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The graph that prints as ``text``; ``constants`` gives the arrays that the text names by hash only.

    Raises GraphError with the line's number and the line where the text cannot be read, and where a constant is missing or
    differs from its type or hash. The graph itself is not verified.
    """
    name: str | None = None
    inputs: list[str] = []
    outputs: tuple[str, ...] | None = None
    nodes: list[Node] = []
    types: dict[str, TensorType] = {}
    arrays: dict[str, np.ndarray] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        reader = _Line(line)
        try:
            if not reader.rest().strip() or reader.rest().lstrip().startswith("#"):
                continue
            if outputs is not None:
                reader.fail("nothing after the return line")
            if name is None:
                reader.take("graph ", 'a first line such as: graph "name"')
                name = reader.string()
            elif reader.skip("input "):
                inputs.append(reader.declare(types))
            elif reader.skip("constant "):
                value = reader.declare(types)
                reader.take(" = ", "= and the constant's elements")
                arrays[value] = reader.constant(value, types[value], constants or {})
            elif reader.skip("return "):
                outputs = tuple(reader.names(end=""))
            else:
                nodes.append(reader.node(types))
            reader.end()
        except GraphError as error:
            raise GraphError(f"Line {number}: {error} The line is: {line.strip()}") from error
    if name is None or outputs is None:
        raise GraphError(f"Expected a {'graph' if name is None else 'return'} line, found the end of the text.")
    return Graph(name, tuple(inputs), outputs, tuple(nodes), types, arrays)


class _Line:
    """A reader of one line; every method takes what it names from the front or raises GraphError."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text.rstrip(), 0

    def rest(self) -> str:
        return self.text[self.at :]

    def fail(self, expected: str) -> None:
        raise GraphError(f"Expected {expected}, found {self.rest()[:40] or 'the end of the line'!r}.")

    def skip(self, token: str) -> bool:
        """Takes the token if it comes next."""
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def take(self, token: str, expected: str) -> None:
        if not self.skip(token):
            self.fail(expected)

    def end(self) -> None:
        if self.rest().strip():
            self.fail("the end of the line")

    def match(self, pattern: re.Pattern[str], expected: str) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            self.fail(expected)
        assert found is not None
        self.at = found.end()
        return found.group()

    def json(self, expected: str) -> Any:
        try:
            value, self.at = _JSON.raw_decode(self.text, self.at)
        except ValueError:
            self.fail(expected)
        return value

    def string(self) -> str:
        value = self.json("a name in double quotes")
        if not isinstance(value, str):
            raise GraphError(f"Expected a name in double quotes, found {value!r}.")
        return value

    def value_name(self) -> str:
        """``%name``, ``%"odd name"`` or ``_``."""
        if self.skip("_"):
            return ""
        self.take("%", "a value such as %x")
        return self.string() if self.rest().startswith('"') else self.match(_BARE, "a name after %")

    def names(self, end: str) -> Iterator[str]:
        """Values between commas, up to and with ``end``; the empty string is the end of the line."""
        if end and self.skip(end):
            return
        while True:
            yield self.value_name()
            if self.skip(", "):
                continue
            if end:
                self.take(end, f"a comma or {end}")
            return

    def declare(self, types: dict[str, TensorType]) -> str:
        """``%name: type``; the type is noted and the name, new in the graph, returned."""
        name = self.value_name()
        if not name:
            return ""
        if name in types:
            raise GraphError(f"Expected every value to have its own name, found a second {print_name(name)}.")
        self.take(": ", f"a colon and the type of {print_name(name)}")
        types[name] = TensorType.parse(self.match(_TYPE, "a type such as float32[1,3,224,224]"))
        return name

    def constant(self, name: str, kind: TensorType, given: Mapping[str, np.ndarray]) -> np.ndarray:
        """``[elements]``, or ``sha256:...`` of an array in ``given``."""
        if self.skip("sha256:"):
            digest = self.match(_HEX, "hexadecimal digits")
            if name not in given:
                raise GraphError(f"Expected an array for constant {print_name(name)} beside the text, found none.")
            array = given[name]
            if not kind.holds(array) or fingerprint(array) != digest:
                raise GraphError(
                    f"Expected constant {print_name(name)} to be {kind} with hash {digest}, found "
                    f"{described(array)} with hash {fingerprint(array)}; text and arrays are not from one graph."
                )
            return array
        values = self.json("elements such as [1, 2] or sha256:...")
        if not isinstance(values, list) or len(values) != kind.elements:
            raise GraphError(f"Expected {kind.elements} elements for {print_name(name)}, found {values!r}.")
        try:
            if not np.issubdtype(DTYPES[kind.dtype], np.floating) and any(isinstance(value, float) for value in values):
                raise TypeError
            return np.array(values, DTYPES[kind.dtype]).reshape(kind.shape)
        except (ValueError, TypeError, OverflowError):
            raise GraphError(f"Expected elements of {kind.dtype} for {print_name(name)}, found {values!r}.") from None

    def node(self, types: dict[str, TensorType]) -> Node:
        """``%y: type = Op(%x) {attribute=value}  # node "name"``."""
        outputs = [self.declare(types)]
        while self.skip(", "):
            outputs.append(self.declare(types))
        self.take(" = ", "= after the results")
        op = self.match(_WORD, "an operator")
        self.take("(", f"( after {op}")
        inputs = tuple(self.names(end=")"))
        attributes: dict[str, Attribute] = {}
        if self.skip(" {"):
            while True:
                key = self.match(_WORD, "an attribute's name")
                self.take("=", f"= after {key}")
                value = self.json(f"the value of attribute {key} as JSON")
                attributes[key] = tuple(value) if isinstance(value, list) else value
                if self.skip("}"):
                    break
                self.take(", ", "a comma or }")
        name = outputs[0]
        if self.skip("  # node "):
            name = self.string()
        return Node(op, inputs, tuple(outputs), attributes, name)


_JSON = json.JSONDecoder()
_WORD = re.compile(r"\w+")
_HEX = re.compile(r"[0-9a-f]+")
# Inside a type there is no " = " and no ", %"; what lies between is TensorType's to read.
_TYPE = re.compile(r".+?(?=, [%_]| = |$)")
