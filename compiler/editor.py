"""The editor: a graph opened for local changes, closed into a new graph.

Rewriting replaces a node and what only it needed by new nodes, many times. The editor keeps readers, names, types and
outputs consistent through each replacement, and leaves ordering to the end, where the nodes are sorted topologically and
otherwise stay as they stood. The graph it was opened from is never touched.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Attribute, Graph, Node, unique_name
from tapdot.compiler.operators import infer, lookup
from tapdot.compiler.types import Quant, TensorType


@dataclass(frozen=True, eq=False)
class Value:
    """A value as rules see it: its type, and its array where it is a constant. Values are the same when their names are."""

    name: str
    type: TensorType
    array: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def rank(self) -> int:
        return self.type.rank

    @property
    def dtype(self) -> str:
        return self.type.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True, eq=False)
class Application:
    """A node as rules see it: operands are values (None where omitted), attributes read as fields."""

    op: str
    name: str
    operands: tuple[Value | None, ...]
    results: tuple[Value, ...]
    given: Mapping[str, Attribute]
    """Attributes as written, to be handed on."""
    position: tuple[int, int]
    """Where the node stands; of two nodes that do not depend on each other the larger is computed later."""

    @property
    def result(self) -> Value:
        """The only (or first) result."""
        return self.results[0]

    def __getattr__(self, name: str) -> Any:
        """Attributes read as fields, defaults filled in: ``conv.group``."""
        attributes = lookup(self.op).defaults(self.given) if not name.startswith("_") else {}
        if name not in attributes:
            raise AttributeError(f"{self.op} node {self.name!r} has no attribute {name!r}.")
        return attributes[name]


Operand = Value | np.ndarray | np.generic | None
Results = Value | tuple[Value, ...]


class Editor:
    """A graph opened for changes. ``editor.Conv(x, w, b, pads=(1, 1, 1, 1))`` adds a node and returns its result.

    Operands are values, numpy arrays (which become constants) or None (omitted); attributes that are None stay unset.
    ``name`` is the name the node would like, by default that of the node being replaced; it is made unique. Several results
    come as a tuple, ``results`` says how many where the operator table cannot know.

    Nodes are known by the order of their creation, their *serial number*, because names change hands.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.changed = False
        self.outputs = list(graph.outputs)
        self.types: dict[str, TensorType] = dict(graph.types)
        self.constants: dict[str, np.ndarray] = dict(graph.constants)
        self.nodes: dict[int, Node] = {}
        self._positions: dict[int, int] = {}
        self._producers: dict[str, int] = {}
        self._readers: dict[str, dict[int, None]] = {}
        self._node_names: set[str] = set()
        self._replaced: Node | None = None
        self._place = 0
        self._added: list[int] = []
        self._renamed: dict[str, str] = {}
        self._constant_wishes: dict[str, str] = {}
        self._serial = 0
        for position, node in enumerate(graph.nodes):
            self._place = position
            self._node_names.add(node.name)
            self._insert(node)

    # -- looking around ----------------------------------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """The value of that name."""
        return Value(name, self.types[name], self.constants.get(name))

    def producer(self, value: Value) -> Application | None:
        """The node that makes a value, or None for inputs and constants."""
        serial = self._producers.get(value.name)
        return None if serial is None else self.application(serial)

    def readers(self, value: Value) -> tuple[Application, ...]:
        """The nodes that read a value, each once."""
        return tuple(self.application(serial) for serial in self._readers.get(value.name, ()))

    def is_output(self, value: Value) -> bool:
        """Whether the value leaves the graph."""
        return value.name in self.outputs

    def only_reader_is(self, value: Value, node: Application) -> bool:
        """Whether nobody but ``node`` sees the value (which it may read several times)."""
        return not self.is_output(value) and all(reader.position == node.position for reader in self.readers(value))

    def application(self, serial: int) -> Application:
        """A node as rules see it."""
        node = self.nodes[serial]
        return Application(
            node.op,
            node.name,
            tuple(self.value(name) if name else None for name in node.inputs),
            tuple(self.value(name) for name in node.outputs if name),
            node.attributes,
            (self._positions[serial], serial),
        )

    def producer_serial(self, name: str) -> int | None:
        """The serial number of the node that makes a value."""
        return self._producers.get(name)

    def reader_serials(self, name: str) -> Iterable[int]:
        """The serial numbers of the nodes that read a value."""
        return self._readers.get(name, {}).keys()

    def position(self, serial: int) -> tuple[int, int]:
        """Where a node stands."""
        return self._positions[serial], serial

    # -- adding ------------------------------------------------------------------------------------------------------------

    def constant(self, array: np.ndarray, name: str = "constant", quant: Quant | None = None, dtype: str | None = None) -> Value:
        """A known array; it takes the name over from a constant that nobody reads any more, else the name is made unique.

        ``quant`` says what codes the array was made of, ``dtype`` its element type where the array's own is wider.
        """
        wish, name = name, unique_name(name, self.types)
        self._constant_wishes[name] = wish
        self.constants[name] = np.array(array, order="C", copy=None)
        kind = TensorType.of(self.constants[name])
        self.types[name] = replace(kind, quant=quant, dtype=dtype or kind.dtype)
        return self.value(name)

    def add(
        self,
        op: str,
        operands: Sequence[Operand],
        attributes: Mapping[str, Attribute | None],
        *,
        name: str | None = None,
        results: int | None = None,
    ) -> Any:
        """Adds a node and returns its result, or a tuple of several; the class describes the arguments."""
        name = name or (self._replaced.name if self._replaced else op.lower())
        values = [
            self.constant(np.asarray(value), f"{name}.constant") if isinstance(value, np.ndarray | np.generic) else value
            for value in operands
        ]
        while values and values[-1] is None:
            values.pop()
        known = {key: value for key, value in attributes.items() if value is not None}
        count = results or lookup(op).output_count(known)
        outputs = [unique_name(f"{name}.{index}" if index else name, self.types) for index in range(count)]
        node = Node(op, tuple(value.name if value else "" for value in values), tuple(outputs), known, name)
        kinds = infer(node, [value.type if value else None for value in values], self.constants)
        self.types.update(zip(outputs, kinds, strict=True))
        self._added.append(self._insert(node))
        made = tuple(self.value(output) for output in outputs)
        return made if count > 1 else made[0]

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if op.startswith("_"):
            raise AttributeError(op)

        def add(*operands: Operand, name: str | None = None, results: int | None = None, **attributes: Any) -> Any:
            return self.add(op, operands, attributes, name=name, results=results)

        return add

    # -- replacing ---------------------------------------------------------------------------------------------------------

    def replace(self, serial: int, build: Callable[[], Results | None]) -> tuple[int, ...] | None:
        """Replaces the results of a node by what ``build`` returns, and removes what nobody needs any more.

        Results at the end that nobody reads may be left out.

        Names stay: a new value takes the name of the one it stands for, and outputs of the graph keep theirs always. Returns
        the nodes to look at again, or None when ``build`` returned None or the graph cannot do without the node: an Identity
        that gives an input, a constant or another output its second name.

        Raises GraphError when the replacement has another type.
        """
        root = self.nodes[serial]
        self._replaced, self._place, self._added = root, self._positions[serial], []
        self._renamed, self._constant_wishes = {}, {}
        results = build()
        made = (results,) if isinstance(results, Value) else results
        if made is None or not self._may_replace(root, made):
            self._take_back()
            return None
        touched: list[str] = []
        for old, new in zip(root.outputs, made, strict=False):
            if old:
                self._redirect(root, old, new, touched)
        touched += self._remove_dead(serial)
        for added in self._added:
            if added in self.nodes and not self._is_alive(added):
                touched += self._remove_dead(added)
        self._settle_names()
        again = [added for added in self._added if added in self.nodes]
        for name in touched:
            again += self.reader_serials(name)
        self.changed = True
        return tuple(dict.fromkeys(again))

    def _take_back(self) -> None:
        """Drops what was added for a replacement that does not happen."""
        for serial in reversed(self._added):
            self._remove(serial)
        for name in self._constant_wishes:
            del self.constants[name], self.types[name]

    def _may_replace(self, root: Node, made: tuple[Value, ...]) -> bool:
        unmade = [name for name in root.outputs[len(made) :] if self._readers.get(name) or name in self.outputs]
        if unmade or len(made) > len(root.outputs):
            raise GraphError(
                f"Expected {len(root.outputs)} results in the place of {root.op} node {root.name!r}, found {len(made)}."
            )
        for old, new in zip(root.outputs, made, strict=False):
            if not old:
                continue
            if (new.shape, new.dtype) != (self.types[old].shape, self.types[old].dtype):
                raise GraphError(
                    f"Expected {self.types[old]} in the place of {root.op} node {root.name!r}, found {new.type} from "
                    f"{new.name!r}; the rewriting rule is wrong."
                )
        return not (root.op == "Identity" and root.output in self.outputs and not self._may_take_name(made[0]))

    def _may_take_name(self, value: Value) -> bool:
        """Whether a value can be renamed to the name of an output of the graph."""
        return value.name in self._producers and value.name not in self.outputs

    def _redirect(self, root: Node, old: str, new: Value, touched: list[str]) -> None:
        """Lets the readers of ``old`` read ``new``."""
        new = self.value(self._renamed.get(new.name, new.name))
        if old in self.outputs and not self._may_take_name(new):
            new = self.add("Identity", [new], {}, name=root.name)
        for reader in tuple(self.reader_serials(old)):
            self._change_inputs(reader, old, new.name)
        self.outputs = [new.name if name == old else name for name in self.outputs]
        is_new = self._producers.get(new.name) in self._added
        if is_new or old in self.graph.outputs:
            kind = self.types[old]
            self._rename(old, unique_name(f"{old}.replaced", self.types))  # the old node gives its name away before it goes
            self._rename(new.name, old)
            self._renamed[new.name] = old
            if new.type.quant is None and new.type.layout is None:
                self.types[old] = kind  # what passes decided about the value stays true
            touched.append(old)
        else:
            touched.append(new.name)

    def _rename(self, name: str, wish: str) -> None:
        """Gives a value that some node makes another name."""
        serial = self._producers.pop(name)
        self._producers[wish] = serial
        self.types[wish] = self.types.pop(name)
        node = self.nodes[serial]
        self.nodes[serial] = replace(node, outputs=tuple(wish if output == name else output for output in node.outputs))
        self._readers.setdefault(wish, {})
        for reader in tuple(self.reader_serials(name)):
            self._change_inputs(reader, name, wish)
        self._readers.pop(name, None)
        self.outputs = [wish if output == name else output for output in self.outputs]

    def _change_inputs(self, serial: int, old: str, new: str) -> None:
        node = self.nodes[serial]
        self.nodes[serial] = replace(node, inputs=tuple(new if name == old else name for name in node.inputs))
        self._readers[old].pop(serial, None)
        self._readers.setdefault(new, {})[serial] = None

    def _settle_names(self) -> None:
        """Gives new nodes and constants the names they wished for, now that the names of the removed ones are free."""
        for serial in reversed(self._added):
            if serial in self.nodes:
                node = self.nodes[serial]
                name = unique_name(node.name, self._node_names)
                self._node_names.add(name)
                self.nodes[serial] = replace(node, name=name)
        for name, wish in self._constant_wishes.items():
            if name != wish and wish in self.constants and not self._readers.get(wish) and wish not in self.outputs:
                self.constants[wish], self.types[wish] = self.constants.pop(name), self.types.pop(name)
                for reader in tuple(self.reader_serials(name)):
                    self._change_inputs(reader, name, wish)

    # -- inserting and removing --------------------------------------------------------------------------------------------

    def _insert(self, node: Node) -> int:
        serial, self._serial = self._serial, self._serial + 1
        self.nodes[serial] = node
        self._positions[serial] = self._place
        for output in node.outputs:
            if output:
                self._producers[output] = serial
        for name in node.inputs:
            if name:
                self._readers.setdefault(name, {})[serial] = None
        return serial

    def _remove(self, serial: int) -> Node:
        node = self.nodes.pop(serial)
        if serial not in self._added:
            self._node_names.discard(node.name)
        for output in node.outputs:
            self._producers.pop(output, None)
            self.types.pop(output, None)
        for name in node.inputs:
            if name:
                self._readers[name].pop(serial, None)
        return node

    def _is_alive(self, serial: int) -> bool:
        return any(name and (self._readers.get(name) or name in self.outputs) for name in self.nodes[serial].outputs)

    def _remove_dead(self, serial: int) -> list[str]:
        """Removes a node nobody reads, and what only it needed; returns the values that lost a reader."""
        lost: list[str] = []
        dead = [serial]
        while dead:
            serial = dead.pop()
            if serial not in self.nodes or self._is_alive(serial):
                continue
            for name in self._remove(serial).inputs:
                if name in self._producers:
                    dead.append(self._producers[name])
                lost.append(name)
        return [name for name in dict.fromkeys(lost) if name in self.types]

    def remove_dead_nodes(self) -> None:
        """Removes every node nobody reads."""
        self._added = []
        for serial in reversed(list(self.nodes)):
            if serial in self.nodes and not self._is_alive(serial):
                self._remove_dead(serial)
                self.changed = True

    # -- closing -----------------------------------------------------------------------------------------------------------

    def close(self) -> Graph:
        """The new graph; the old one itself where nothing was changed."""
        if not self.changed:
            return self.graph
        nodes = tuple(self.nodes[serial] for serial in self._in_order())
        return self.graph.replace(outputs=tuple(self.outputs), nodes=nodes, types=self.types, constants=self.constants).pruned()

    def _in_order(self) -> list[int]:
        """Topological order; among the nodes that could come next, the one that stood first."""
        waiting = {serial: len({name for name in node.inputs if name in self._producers}) for serial, node in self.nodes.items()}
        ready = [self.position(serial) for serial, count in waiting.items() if not count]
        heapq.heapify(ready)
        order: list[int] = []
        while ready:
            _, serial = heapq.heappop(ready)
            order.append(serial)
            for output in self.nodes[serial].outputs:
                for reader in self.reader_serials(output):
                    waiting[reader] -= 1
                    if not waiting[reader]:
                        heapq.heappush(ready, self.position(reader))
        if len(order) < len(self.nodes):
            stuck = next(node.name for serial, node in self.nodes.items() if serial not in set(order))
            raise GraphError(f"Expected an acyclic graph after rewriting, found a cycle through node {stuck!r}; a rule is wrong.")
        return order
