"""Whether a program with in-place operators may be read as it stands.

torch.export keeps ``relu_`` and its kind. Functionalizing and decomposing a program takes torch longer than everything else an
import does, and most networks do not need it: an importer that walks the nodes in order and lets an in-place result stand for its
operand, too, gives the same answer, as long as nothing else shares the operand's storage.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
_POOLS = {"max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"}
_NORMALIZATIONS = {"batch_norm", "group_norm", "layer_norm", "instance_norm"}
_ARITHMETIC = {"linear", "addmm", "mm", "bmm", "add", "sub", "mul", "div", "cat"}
FRESH = frozenset(_CONVOLUTIONS | _POOLS | _NORMALIZATIONS | _ARITHMETIC)
"""Operators whose result always has storage of its own (some others return their operand itself when there is nothing to do)."""


def mutated_operand(node: fx.Node) -> fx.Node | None:
    """The operand that a node changes in place and returns, or None."""
    if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
        return None
    operand = node.args[0] if node.args else None
    return operand if isinstance(operand, fx.Node) else None


def walks_in_order(graph: fx.Graph) -> bool:
    """Whether every in-place operator is harmless.

    1. It changes its first operand and nothing else, and returns it.
    2. That operand is the result of an operator in ``FRESH``, or of another in-place operator of which this holds.
    3. No operator that may return a view of that storage, or the storage itself, reads it before the last in-place one.
    """
    position = {node: index for index, node in enumerate(graph.nodes)}
    sharing: dict[fx.Node, list[fx.Node]] = {}
    root_of: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
            continue
        operand = mutated_operand(node)
        schema = node.target._schema
        written = [
            index for index, argument in enumerate(schema.arguments) if argument.alias_info and argument.alias_info.is_write
        ]
        if operand is None or written != [0] or len(schema.returns) != 1:  # (1)
            return False
        root = root_of.get(operand, operand)
        if _name(root.target) not in FRESH:  # (2)
            return False
        root_of[node] = root
        sharing.setdefault(root, [root]).append(node)
    for nodes in sharing.values():
        last = max(position[node] for node in nodes)
        readers = {reader for node in nodes for reader in node.users if reader not in nodes}
        if any(_name(reader.target) not in FRESH and position[reader] < last for reader in readers):  # (3)
            return False
    return True


def _name(target: Any) -> str:
    """``add`` for every ``aten.add.*``."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return ""
    return target._schema.name.removeprefix("aten::")
