"""Rewriting: rules are rows of a pattern and a function, and the driver applies them until none fits.

A pattern is written with the operators themselves. The function names the captures it wants and returns the replacement, or None
where it declines; it builds with ``new``, which takes the same operators::

    x, y = values("x y")
    w = constant("w")

    RULES = (
        rule(op.Identity(x), lambda x: x),
        rule(op.Relu(op.Relu(x)), lambda new, x: new.Relu(x)),
        rule(op.Transpose(op.Transpose(x).named("first")).named("second"), merge_transposes),
        rule(op.Add(op.Conv(x, w).named("conv"), constant("bias")), move_bias_into_convolution),
        rule(op.Div(op.Mul(x, op.Clip(op.Add(x, 3.0), 0.0, 6.0)), 6.0), lambda new, x: new.HardSwish(x)),
    )

    graph = rewrite(graph, RULES)

What a pattern says, and when it fits:

================================== ==========================================================================================
``values("x y")``                   any value; one capture in two places must be the same value
``constant("w")``                   a value whose array is known; the function reads it as ``w.array``
``3.0``                             a constant of one element with this value
``optional(p)``                     ``p``, or an omitted operand (its captures are then None)
``rest("xs")``                      all further operands, as a tuple
``op.Relu(p)``                      a node; operands the pattern does not list must be omitted; Add and Mul match in either order
``op["Add", "Sub"](p, q)``          a node of one of several operators
``op.Pad(x, mode="constant")``      a node with this attribute (defaults count)
``op.Conv(x, w).named("conv")``     captures the node itself, for its attributes; the outermost is always ``root``
``op.Conv(x, w).shared()``          an inner node whose result others may read too
================================== ==========================================================================================

Results of inner nodes are seen by nobody outside the match unless ``shared``, so that replacing the root frees them.
"""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tapdot.compiler.editor import Application, Editor, Results, Value
from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Graph
from tapdot.compiler.operators import lookup

__all__ = ["Application", "Editor", "Rule", "Value", "constant", "op", "optional", "rest", "rewrite", "rule", "values"]

COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal"})
"""Operators of two operands that mean the same with the operands exchanged."""


# -- patterns ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Capture:
    """Any value."""

    name: str


@dataclass(frozen=True, eq=False)
class ConstantCapture(Capture):
    """A value whose array is known."""


@dataclass(frozen=True, eq=False)
class Literal:
    """A constant of one element."""

    value: float


@dataclass(frozen=True, eq=False)
class Optional:
    """A pattern, or an omitted operand."""

    pattern: Pattern


@dataclass(frozen=True, eq=False)
class Rest:
    """All further operands."""

    name: str


@dataclass(frozen=True, eq=False)
class Apply:
    """A node of one of ``ops`` whose operands fit."""

    ops: tuple[str, ...]
    operands: tuple[Pattern, ...]
    attributes: Mapping[str, Any]
    name: str | None = None
    is_shared: bool = False

    def named(self, name: str) -> Apply:
        """The same pattern; the node is captured under ``name``."""
        return replace(self, name=name)

    def shared(self) -> Apply:
        """The same pattern; the node's result may have readers outside the match."""
        return replace(self, is_shared=True)


Pattern = Capture | Literal | Optional | Rest | Apply


class Operators:
    """Makes patterns: ``op.Relu(x)``, ``op["Relu", "Clip"](x)``."""

    def __getattr__(self, name: str) -> Callable[..., Apply]:
        return self[name]

    def __getitem__(self, names: str | tuple[str, ...]) -> Callable[..., Apply]:
        ops = (names,) if isinstance(names, str) else names

        def make(*operands: Pattern | float, **attributes: Any) -> Apply:
            patterns = tuple(Literal(float(item)) if isinstance(item, int | float) else item for item in operands)
            return Apply(ops, patterns, attributes)

        return make


op = Operators()


def values(names: str) -> Any:
    """Captures of any value: one for one name, else a tuple in the order of the names."""
    captures = tuple(Capture(name) for name in names.split())
    return captures if len(captures) > 1 else captures[0]


def constant(name: str) -> ConstantCapture:
    """A capture of a value whose array is known."""
    return ConstantCapture(name)


def optional(pattern: Pattern) -> Optional:
    """A pattern, or an omitted operand."""
    return Optional(pattern)


def rest(name: str) -> Rest:
    """All further operands, as a tuple."""
    return Rest(name)


# -- rules -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rule:
    """A row: where the pattern fits, the function says what stands there instead."""

    pattern: Apply
    function: Callable[..., Results | None]
    parameters: tuple[str, ...]
    depth: int

    def apply(self, editor: Editor, serial: int) -> tuple[int, ...] | None:
        """Tries the rule at a node; returns the nodes to look at again, or None where it does not fit or declines."""
        for match in _match_node(editor, self.pattern, serial, _Match()):
            if not match.frees_inner_nodes(editor, serial):
                continue
            captures = {"new": editor, "root": editor.application(serial), **match.captures}
            arguments = {name: captures.get(name) for name in self.parameters}
            again = editor.replace(serial, lambda arguments=arguments: self.function(**arguments))  # type: ignore[misc]
            if again is not None:
                return again
        return None


def rule(pattern: Apply, function: Callable[..., Results | None]) -> Rule:
    """A row of a rule table; the function's parameters are captures of the pattern, ``root``, or ``new`` for the editor."""
    known = {"new", "root", *_names(pattern)}
    parameters = tuple(inspect.signature(function).parameters)
    for name in parameters:
        if name not in known:
            captures = ", ".join(sorted(known))
            raise ValueError(f"Expected the captures {captures}, found parameter {name!r}; name it in the pattern.")
    return Rule(pattern, function, parameters, _depth(pattern))


def _names(pattern: Pattern) -> Iterator[str]:
    match pattern:
        case Capture(name) | Rest(name):
            yield name
        case Optional(inner):
            yield from _names(inner)
        case Apply():
            if pattern.name:
                yield pattern.name
            for operand in pattern.operands:
                yield from _names(operand)


def _depth(pattern: Pattern) -> int:
    match pattern:
        case Optional(inner):
            return _depth(inner)
        case Apply():
            return 1 + max((_depth(operand) for operand in pattern.operands), default=0)
    return 0


# -- matching ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Match:
    """What is known so far: captures by name, and the node each inner pattern stands for."""

    captures: Mapping[str, Any] = field(default_factory=dict)
    nodes: Mapping[Apply, int] = field(default_factory=dict)

    def bind(self, name: str, thing: Any) -> _Match | None:
        """With one more capture; None when the name already stands for something else."""
        if name in self.captures:
            return self if self.captures[name] == thing else None
        return replace(self, captures={**self.captures, name: thing})

    def frees_inner_nodes(self, editor: Editor, root: int) -> bool:
        """Whether the results of all inner nodes that are not shared are read inside the match only."""
        inside = set(self.nodes.values())
        for pattern, serial in self.nodes.items():
            if serial == root or pattern.is_shared:
                continue
            for name in editor.nodes[serial].outputs:
                if name in editor.outputs or not inside.issuperset(editor.reader_serials(name)):
                    return False
        return True


def _match_node(editor: Editor, pattern: Apply, serial: int, match: _Match) -> Iterator[_Match]:
    """Every way in which the pattern fits a node."""
    node = editor.nodes[serial]
    if node.op not in pattern.ops:
        return
    if pattern in match.nodes:
        if match.nodes[pattern] == serial:
            yield match
        return
    if pattern.attributes:
        attributes = lookup(node.op).defaults(node.attributes)
        if any(attributes.get(name) != value for name, value in pattern.attributes.items()):
            return
    match = replace(match, nodes={**match.nodes, pattern: serial})
    if pattern.name:
        named = match.bind(pattern.name, editor.application(serial))
        if named is None:
            return
        match = named
    yield from _match_operands(editor, pattern.operands, node.inputs, match)
    if node.op in COMMUTATIVE and len(node.inputs) == 2 and node.inputs[0] != node.inputs[1]:
        yield from _match_operands(editor, pattern.operands, node.inputs[::-1], match)


def _match_operands(editor: Editor, patterns: Sequence[Pattern], names: Sequence[str], match: _Match) -> Iterator[_Match]:
    """Every way in which a row of patterns fits a row of operands."""
    if not patterns:
        if not any(names):
            yield match
        return
    first = patterns[0]
    if isinstance(first, Rest):
        bound = match.bind(first.name, tuple(editor.value(name) if name else None for name in names))
        if bound is not None:
            yield bound
        return
    for found in _match_operand(editor, first, names[0] if names else "", match):
        yield from _match_operands(editor, patterns[1:], names[1:], found)


def _match_operand(editor: Editor, pattern: Pattern, name: str, match: _Match) -> Iterator[_Match]:
    """Every way in which a pattern fits one operand; the empty name is an omitted one."""
    if isinstance(pattern, Optional):
        if name:
            yield from _match_operand(editor, pattern.pattern, name, match)
        else:
            yield match
        return
    if not name:
        return
    match pattern:
        case Apply():
            serial = editor.producer_serial(name)
            if serial is not None and editor.nodes[serial].output == name:
                yield from _match_node(editor, pattern, serial, match)
        case Literal(value):
            array = editor.constants.get(name)
            if array is not None and array.size == 1 and array.item() == np.asarray(value, array.dtype).item():
                yield match
        case Capture(capture):
            if isinstance(pattern, ConstantCapture) and name not in editor.constants:
                return
            bound = match.bind(capture, editor.value(name))
            if bound is not None:
                yield bound


# -- the driver --------------------------------------------------------------------------------------------------------------

REWRITES_PER_NODE = 50
"""More rewrites than this for each node of the graph mean that rules undo each other."""


def rewrite(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """Applies the first rule that fits, in order of the nodes, until none fits; returns ``graph`` itself when none ever did.

    After a rewrite only the new nodes and those whose matches could have changed are looked at again, so the work grows with the
    number of rewrites and not with the size of the graph times that number.

    Raises GraphError when rules undo each other without end.
    """
    by_operator: dict[str, list[Rule]] = {}
    for row in rules:
        for name in row.pattern.ops:
            by_operator.setdefault(name, []).append(row)
    depth = max((row.depth for row in rules), default=0)
    editor = Editor(graph)
    editor.remove_dead_nodes()
    left = REWRITES_PER_NODE * (len(graph.nodes) + 10)
    waiting = [editor.position(serial) for serial in editor.nodes]
    queued = {serial for _, serial in waiting}
    heapq.heapify(waiting)
    while waiting:
        _, serial = heapq.heappop(waiting)
        queued.discard(serial)
        if serial not in editor.nodes:
            continue
        for row in by_operator.get(editor.nodes[serial].op, ()):
            name = editor.nodes[serial].name
            again = row.apply(editor, serial)
            if again is None:
                continue
            left -= 1
            if not left:
                raise GraphError(f"Expected rewriting to come to an end, but rules keep replacing node {name!r}.")
            for near in _downstream(editor, again, depth):
                if near not in queued:
                    queued.add(near)
                    heapq.heappush(waiting, editor.position(near))
            break
    return editor.close()


def _downstream(editor: Editor, serials: Sequence[int], depth: int) -> list[int]:
    """Nodes within ``depth`` steps after the given ones, these included: roots of matches that could have changed."""
    found = dict.fromkeys(serials)
    edge = list(serials)
    for _ in range(depth):
        edge = [
            reader
            for serial in edge
            for output in editor.nodes[serial].outputs
            for reader in editor.reader_serials(output)
            if reader not in found
        ]
        found.update(dict.fromkeys(edge))
    return list(found)
