"""Nodes that change nothing go, and neighbours that undo or repeat each other become one.

=================================================  ========================================================================
before                                              after
=================================================  ========================================================================
``Identity(x)``, ``Dropout(x)``                     ``x``
``Cast(x)`` to its own type                         ``x``
``Reshape``, ``Expand``, ``Tile`` to its own shape  ``x``
``Transpose(x) {perm=(0, 1, 2, 3)}``                ``x``
``Concat(x)``, ``Split(x)`` into one                ``x``
``Pad(x)`` by nothing, ``Slice(x)`` of everything   ``x``
``Add(x, 0)``, ``Mul(x, 1)``                        ``x``
``Reshape(Reshape(x))``                             ``Reshape(x)``
``Transpose(Transpose(x))``                         ``Transpose(x)``, permutations composed
``Concat(Concat(x, y), z)`` on one axis             ``Concat(x, y, z)``
``Relu(Relu(x))``                                   ``Relu(x)``
=================================================  ========================================================================

Legal where
  1. the result has the type and shape of ``x``, and for moves every element stays at its place,
  2. a mask that a Dropout makes is read by nobody,
  3. for chains: nobody but the second node reads the first's result.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.rewrite import Application, Editor, Value, constant, op, optional, rest, rewrite, rule, values
from tapdot.passes.canonicalize import reshape


@dataclass(frozen=True)
class RemoveIdentity(Pass):
    """See the module."""

    tolerance = 0.0

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return rewrite(graph, NOTHING + CHAINS)


def itself(x: Value) -> Value:
    """What changes nothing."""
    return x


def dropout(new: Editor, x: Value, root: Application) -> Value | None:
    """Dropout at inference."""
    return None if any(new.readers(mask) or new.is_output(mask) for mask in root.results[1:]) else x  # (2)


def same_type(x: Value, root: Application) -> Value | None:
    """Operators that change nothing if they keep type and shape."""
    return x if (x.shape, x.dtype) == (root.result.shape, root.result.dtype) else None  # (1)


def same_order(x: Value, root: Application) -> Value | None:
    """Transpose that moves only axes of size 1, and not past others."""
    if x.shape != root.result.shape:
        return None
    moved = [axis for axis in permutation(root) if x.shape[axis] != 1]
    return x if moved == sorted(moved) else None  # (1)


def only_part(parts: tuple[Value, ...]) -> Value | None:
    """Concat of one."""
    return parts[0] if len(parts) == 1 else None


def only_piece(x: Value, root: Application) -> Value | None:
    """Split into one."""
    return x if len(root.results) == 1 and root.result.shape == x.shape else None


def no_border(x: Value, pads: Value) -> Value | None:
    """Pad by nothing; equal shapes alone do not say so, a border may be cut off on the other side."""
    return x if pads.array is not None and not pads.array.any() else None  # (1)


def whole(x: Value, steps: Value | None, root: Application) -> Value | None:
    """Slice of everything, forwards."""
    forwards = steps is None or (steps.array is not None and bool((steps.array > 0).all()))
    return x if forwards and x.shape == root.result.shape else None  # (1)


def neutral(x: Value, c: Value, root: Application) -> Value | None:
    """Add of zeros, Mul by ones."""
    assert c.array is not None
    element = {"Add": 0, "Mul": 1}[root.op]
    return x if x.shape == root.result.shape and bool((c.array == element).all()) else None  # (1)


def permutation(node: Application) -> tuple[int, ...]:
    """The permutation of a Transpose, its default spelled out."""
    return tuple(node.perm) if node.perm is not None else tuple(reversed(range(node.result.rank)))


def one_reshape(new: Editor, x: Value, root: Application) -> Value:
    """A reshape of a reshape."""
    return reshape(new, x, root.result.shape)


def one_transpose(new: Editor, x: Value, first: Application, root: Application) -> Value:
    """``Transpose(Transpose(x))``."""
    inner = permutation(first)
    return new.Transpose(x, perm=tuple(inner[axis] for axis in permutation(root)))


def one_concat(new: Editor, parts: tuple[Value, ...], root: Application) -> Value | None:
    """A Concat among the operands of a Concat."""
    axis = root.axis % root.result.rank
    flat: list[Value] = []
    for part in parts:
        inner = new.producer(part)
        if (
            inner is not None
            and inner.op == "Concat"
            and inner.axis % part.rank == axis
            and new.only_reader_is(part, root)  # (3)
            and parts.count(part) == 1
        ):
            flat += [value for value in inner.operands if value is not None]
        else:
            flat.append(part)
    return new.Concat(*flat, axis=root.axis) if len(flat) > len(parts) else None


x = values("x")
RESHAPES = op["Reshape", "Flatten", "Squeeze", "Unsqueeze"]

NOTHING = (
    rule(op.Identity(x), itself),
    rule(op.Dropout(x, optional(values("ratio")), optional(values("training"))), dropout),
    rule(op.Cast(x), same_type),
    rule(RESHAPES(x, optional(values("shape"))), same_type),
    rule(op["Expand", "Tile"](x, values("shape")), same_type),
    rule(op.Transpose(x), same_order),
    rule(op.Concat(rest("parts")), only_part),
    rule(op.Split(x, optional(values("sizes"))), only_piece),
    rule(op.Pad(x, constant("pads"), optional(values("value")), optional(values("axes"))), no_border),
    rule(op.Slice(x, *values("starts ends"), optional(values("axes")), optional(values("steps"))), whole),
    rule(op["Add", "Mul"](x, constant("c")), neutral),
)

CHAINS = (
    rule(RESHAPES(RESHAPES(x, optional(values("shape"))), optional(values("to"))), one_reshape),
    rule(op.Transpose(op.Transpose(x).named("first")), one_transpose),
    rule(op.Concat(rest("parts")), one_concat),
    rule(op.Relu(op.Relu(x)), lambda new, x: new.Relu(x)),
)
