"""Physical types for every tensor, and a stand-alone copy only where two kernels cannot agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import networkx

from tapdot.compiler.graph import Graph, Node, unique_name
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.types import TensorType
from tapdot.compiler.workloads import VIEWS
from tapdot.kernels.family import ROW_MAJOR, Port, Ports
from tapdot.kernels.layout import CODES, Halo, Layout
from tapdot.kernels.target import Target
from tapdot.passes.sides import PLANES, choose_sides, ports_of


@dataclass(frozen=True)
class AssignLayouts(Pass):
    """Chooses a physical type for every tensor between two kernels.

    Before::

        %a: float32[1,64,56,56] = FusedConv(%x, ...) {pads=[1,1,1,1]}
        %b: float32[1,64,56,56] = FusedConv(%a, ...) {pads=[1,1,1,1]}

    After (AVX-512: the consumer's border is part of the producer's buffer)::

        %a: float32[1,64,56,56] <block=16 halo=1,1,1,1> = FusedConv(%x.relayout, ...) {pads=[1,1,1,1]}
        %b: float32[1,64,56,56] <block=16> = FusedConv(%a, ...) {pads=[1,1,1,1]}

    The channel block is the one most readers accept among those the producer writes, the producer's first choice on a tie; the
    halo is the union of what those readers need. A reader that accepts neither gets a ``Relayout``, one for all that want it.

    8-bit codes (on a core whose dot products take unsigned activations)::

        %a: int8[1,64,56,56] !quant(...) <block=16 halo=1,1,1,1 zero=128 offset=128> = QConv(%x, ...)

    1. What the caller gives and takes is row-major.
    2. Branches of a channel concatenation share one layout with its result where every branch but the last fills whole channel
       blocks and there is one image, so that the memory planner can place them in the result's buffer.
    3. A view (``Reshape`` and its kin) reads and makes row-major tensors.
    4. A buffer that holds the row-major tensor byte for byte counts as row-major.
    5. Codes in channel blocks that some kernel reads as such, and codes in planar rows for a kernel that reads nothing else, are
       stored with the sign the target's dot products want; what is row-major is stored as it is.
    6. The halo of codes holds the code of a real zero, as the readers of that halo say it (their ``zero_point``).
    7. A kernel that takes channel blocks or planar rows, but all operands alike, is on the side where least is copied
       (``passes.sides``).
    8. A kernel that reads behind the end of an operand is never given the caller's tensor, behind which there may be nothing.
    """

    target: Target

    def run(self, graph: Graph, notes: Notes) -> Graph:
        chooser = _Chooser(graph, self.target)
        layouts = chooser.choose()
        return _insert_copies(graph, chooser, layouts, notes)


class _Chooser:
    """Ports of every node, and the layout of every value that follows from them."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph = graph
        self.target = target
        self.ports: dict[str, Ports] = {}
        self.joined = networkx.utils.UnionFind(graph.types)
        self.aligned: set[str] = set()
        for node in graph.nodes:
            self.ports[node.name] = self._ports(node)
        self._settle()
        self.callers = frozenset((*graph.inputs, *graph.outputs))

    def _ports(self, node: Node) -> Ports:
        """What a node reads and writes; a concatenation by slices (2) in blocks or in planes."""
        ports = ports_of(self.graph, node, self.target)
        if is_channel_concat(self.graph, node) and (blocks := self._shared_blocks(node, ports)):
            self.aligned.add(node.name)
            port = Port(blocks)
            return Ports(tuple(port for _ in node.inputs), (port,), uniform=len(blocks) > 1)
        return ports

    def _settle(self) -> None:
        """Nodes that could be on either side get one (7); branches of concatenations on the same side are joined (2)."""
        if any(ports.uniform for ports in self.ports.values()):
            sides = choose_sides(self.graph, self.ports, lambda kind: float(kind.bytes))
            for name, ports in self.ports.items():
                if ports.uniform:
                    self.ports[name] = ports.in_block(1 if sides[name] == PLANES else _block_of(ports))
        for node in self.graph.nodes:
            if node.name not in self.aligned:
                continue
            (block,) = self.ports[node.name].outputs[0].blocks[:1]
            if all(block in self._offer(name).blocks for name in node.inputs):
                self.joined.union(*node.inputs, node.output)
            else:
                self.aligned.discard(node.name)
                own = ports_of(self.graph, node, self.target)
                self.ports[node.name] = own.in_block(block) if own.uniform else own

    def _shared_blocks(self, node: Node, ports: Ports) -> tuple[int, ...]:
        """The channel blocks in which all branches of a concatenation can lie side by side (2).

        They are such as the kernel copies in as well, for branches that turn out to be no slices: given twice, or read by two.
        """
        channels = [self.graph.type(name).shape[1] for name in node.inputs[:-1]]
        offers = [self._offer(name).blocks for name in node.inputs]
        offers.append(ports.outputs[0].blocks)
        return tuple(
            block
            for block in offers[0]
            if all(block in blocks for blocks in offers) and all(count % block == 0 for count in channels)
        )

    def choose(self) -> Mapping[str, Layout | None]:
        """The layout of every value; None is row-major."""
        groups: dict[str, list[str]] = {}
        for value in self.graph.types:
            groups.setdefault(self.joined[value], []).append(value)
        chosen: dict[str, Layout | None] = {}
        for values in groups.values():
            layout = self._choose_group(values)
            for value in values:
                chosen[value] = layout if value not in self.graph.constants else None
        return chosen

    def _choose_group(self, values: list[str]) -> Layout | None:
        """One layout for values that share a buffer (mostly a single value)."""
        if any(self.graph.type(value).rank != 4 for value in values):
            return None
        offers = [self._offer(value) for value in values]
        readers = [reader for value in values for reader in self.readers(value)]
        if any(not offer.blocks for offer in offers):
            return None  # (1) and (3): somebody writes row-major only
        candidates = [block for block in offers[0].blocks if all(block in offer.blocks for offer in offers)]
        if not candidates:
            return None
        votes = Counter({block: sum(reader.takes(block) for reader in readers) for block in candidates})
        block = max(candidates, key=lambda candidate: (votes[candidate], -candidates.index(candidate)))
        takers = [reader for reader in readers if block in reader.port.blocks]
        wanted = Counter(reader.border for reader in takers if reader.port.halo)
        border = wanted.most_common(1)[0][0] if wanted else self._code_of_zero(values[0])  # (6)
        halo = Halo()
        if all(offer.grows for offer in offers):
            for reader in takers:
                if reader.border == border or not reader.port.halo:
                    halo = halo.union(reader.port.halo)
        is_shifted = bool(takers) if block > 1 else any(reader.offset is not None for reader in takers)  # (5)
        return self.physical(values[0], block, halo, border, is_shifted)

    def physical(self, value: str, block: int, halo: Halo, border: int, is_shifted: bool) -> Layout | None:
        """The layout of a value; ``border`` is the code of its halo. None where that is row-major."""
        kind = self.graph.type(value)
        offset = offset_to(kind.dtype, self.target.isa.stores_signed) if kind.dtype in CODES and is_shifted else 0
        if kind.dtype not in CODES or (block == 1 and not halo):
            border = 0
        layout = Layout(block, halo, border + offset, offset)
        return None if layout == Layout() else layout

    def wanted(self, value: str, layout: Layout | None, reader: Reader) -> Layout | None:
        """The layout of a copy for a reader that cannot take a value as it lies: one that serves all such readers, if it can."""
        if not reader.port.blocks:
            return None
        block, kind = reader.port.blocks[0], self.graph.type(value)
        others = [
            other
            for other in self.readers(value)
            if other.takes(block) and not other.accepts(layout, kind, self.is_callers(value))
        ]
        borders = [other.border for other in (reader, *others) if other.port.halo]
        border = reader.border if reader.port.halo or not borders else Counter(borders).most_common(1)[0][0]
        halo = reader.port.halo
        for other in others:
            if other.border == border or not other.port.halo:
                halo = halo.union(other.port.halo)
        is_shifted = block > 1 or any(other.offset is not None for other in (reader, *others))
        return self.physical(value, block, halo, border, is_shifted)

    def is_callers(self, value: str) -> bool:
        """Whether a value, or one that is a view of it or that it is a view of, is a tensor of the caller."""
        return bool(self.callers.intersection(self._views_of(value)))

    def _views_of(self, value: str) -> set[str]:
        """The values that may share the buffer of one: those that views connect with it."""
        found, open_ = {value}, [value]
        while open_:
            name = open_.pop()
            producer = self.graph.producer(name)
            near = [reader.output for reader in self.graph.consumers[name] if reader.op in VIEWS and reader.inputs[0] == name]
            near += [producer.inputs[0]] if producer is not None and producer.op in VIEWS else []
            open_ += [other for other in near if other not in found]
            found.update(near)
        return found

    def _code_of_zero(self, value: str) -> int:
        quant = self.graph.type(value).quant
        return quant.zero_point[0] if quant is not None else 0

    def _offer(self, value: str) -> Port:
        node = self.graph.producer(value)
        if node is None:
            return ROW_MAJOR
        return self.ports[node.name].outputs[node.outputs.index(value)]

    def readers(self, value: str) -> list[Reader]:
        """All readers of a value, the caller (1) among them."""
        found = [reader for node in self.graph.consumers[value] for reader in self.reading(node, value)]
        return found + [Reader(ROW_MAJOR)] * self.graph.outputs.count(value)

    def reading(self, node: Node, value: str) -> list[Reader]:
        """The operands of a node that a value fills."""
        ports = self.ports[node.name].inputs
        return [self.reader(node, index) for index, name in enumerate(node.inputs) if name == value and index < len(ports)]

    def reader(self, node: Node, index: int) -> Reader:
        """One operand of a node."""
        port, kind = self.ports[node.name].inputs[index] or ROW_MAJOR, self.graph.type(node.inputs[index])
        only_planes = port.blocks[:1] == (1,) and not self.ports[node.name].uniform
        offset = offset_to(kind.dtype, self.target.isa.stores_signed) if only_planes and kind.dtype in CODES else None
        return Reader(port, border_code(node), offset)


@dataclass(frozen=True)
class Reader:
    """An operand of a kernel; ``border`` is what must stand in the halo it reads."""

    port: Port
    border: int = 0
    offset: int | None = None
    """The offset with which it wants codes in planar rows; None: it takes any."""

    def takes(self, block: int) -> bool:
        """Whether it reads that channel block; in planar rows without a halo, row-major tensors are found too."""
        return block in self.port.blocks

    def accepts(self, layout: Layout | None, kind: TensorType, callers: bool = False) -> bool:
        """Whether an operand that lies so can be read as it is; ``callers``: it is a tensor of the caller."""
        if callers and self.port.behind:
            return False  # (8)
        if self.offset is not None and (layout or Layout()).code_offset != self.offset:
            return False  # (5)
        if layout is None:
            return not self.port.blocks or (1 in self.port.blocks and not self.port.halo)
        if not self.port.blocks:
            return layout.is_dense_order(kind.shape)  # (4)
        if layout.channel_block not in self.port.blocks or not layout.halo.covers(self.port.halo):
            return False
        return not self.port.halo or layout.zero == self.border + layout.code_offset  # (6)


def _block_of(ports: Ports) -> int:
    """The channel block of a node that takes blocks or planes."""
    return next(block for port in (*ports.outputs, *ports.inputs) if port is not None for block in port.blocks if block > 1)


def border_code(node: Node) -> int:
    """The code of a real zero in the operands of a node; zero itself for floats."""
    return int(node.attributes.get("zero_point", 0))  # type: ignore[arg-type]


def offset_to(dtype: str, signed: bool) -> int:
    """What is added to codes so that they are stored signed, or unsigned."""
    if signed == (dtype == "int8"):
        return 0
    return -128 if signed else 128


def is_channel_concat(graph: Graph, node: Node) -> bool:
    """Whether a node joins single images along channels (2)."""
    return (
        node.op == "Concat"
        and graph.type(node.output).rank == 4
        and graph.type(node.output).shape[0] == 1
        and graph.type(node.output).dtype in ("float32", *CODES)
        and int(node.attributes["axis"]) % 4 == 1  # type: ignore[arg-type]
        and not any(name in graph.constants for name in node.inputs)
    )


def _insert_copies(graph: Graph, chooser: _Chooser, layouts: Mapping[str, Layout | None], notes: Notes) -> Graph:
    types = {name: kind.with_layout(layouts[name]) for name, kind in graph.types.items()}
    copies: dict[tuple[str, Layout | None], str] = {}
    nodes: list[Node] = []
    taken = {node.name for node in graph.nodes}

    def copy(value: str, layout: Layout | None, reader: str) -> str:
        key = (value, layout)
        if key not in copies:
            name = f"{value}.relayout{len(copies)}"
            while name in types or name in taken:
                name += "_"
            taken.add(name)
            types[name] = graph.type(value).with_layout(layout)
            nodes.append(Node("Relayout", (value,), (name,), {}, name))
            copies[key] = name
            before, after = layouts[value] or "row-major", layout or "row-major"
            notes.add(f"{name}: {value!r} is copied from {before} to {after} for {reader!r}.")
        return copies[key]

    for node in graph.nodes:
        ports = chooser.ports[node.name].inputs
        inputs = list(node.inputs)
        for index, value in enumerate(node.inputs):
            port = ports[index] if index < len(ports) else None
            if not value or value in graph.constants or port is None:
                continue
            if node.name in chooser.aligned:
                continue  # (2): branches share the result's layout by construction
            reader = chooser.reader(node, index)
            if not reader.accepts(layouts[value], graph.type(value), chooser.is_callers(value)):
                inputs[index] = copy(value, chooser.wanted(value, layouts[value], reader), node.name)
        nodes.append(Node(node.op, tuple(inputs), node.outputs, node.attributes, node.name))

    outputs: list[str] = []
    for value in graph.outputs:
        layout = layouts[value]
        if layout is not None and not layout.is_dense_order(graph.type(value).shape):
            value = copy(value, None, "the caller")
        if value in graph.inputs or value in graph.constants or value in outputs:
            name = unique_name(f"{value}.copy", taken.union(types))
            taken.add(name)
            types[name] = types[value]
            nodes.append(Node("Identity", (value,), (name,), {}, name))  # each output is a buffer of the caller's own
            value = name
        outputs.append(value)
    return graph.replace(nodes=tuple(nodes), types=types, outputs=tuple(outputs))
