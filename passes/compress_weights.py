"""Pruned weights become FKW arrays (PatDNN, ASPLOS 2020, section 5.3), where a sparse kernel is worth it.

Before::

    %y = FusedConv(%x, %w, %b, %r) {strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1, epilogue="..."}

After::

    %y = SparseConv(%x, @w.reorder, @w.offset, @w.index, @w.stride, @w.weight, @w.patterns, %b, %r)
         {kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], epilogue="..."}

FusedConv becomes SparseConv, QConv QSparseConv, FusedGemm SparseGemm and QGemm QSparseGemm where
  1. the zeros of the weight have a structure (``passes.adopt_sparsity`` holds those criteria: constant weights, one group,
     kernels of 3x3 without dilation or of 1x1, a share that divides the filters),
  2. at least one kernel is kept,
  3. a sparse kernel serves it on the target,
  4. it costs less than the dense kernel, the copies between planar rows and channel blocks counted (``passes.sparse_choice``).

``choice=sparse`` leaves out (4) and takes kernels that are not tuned for (3); ``choice=dense`` compresses nothing. The filters
are in their own order, which ``passes.reorder_filters`` then changes. :func:`decompressed` is the inverse, exact but for
the dilation of a 1x1 convolution, which means nothing and comes back as 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.rewrite import Application, Editor, Value, op, optional, rest, rewrite, rule, values
from tapdot.compiler.workloads import workload_of
from tapdot.kernels.fkw import FKW, Structure
from tapdot.kernels.registry import NoFamilyError, select
from tapdot.kernels.target import Target
from tapdot.passes.adopt_sparsity import PRODUCTS, SPARSE_FORMS, AdoptSparsity, weight_by_filters
from tapdot.passes.sparse_choice import Costs, Estimated, Figures, cheapest, figures

ARRAYS = ("reorder", "offset", "index", "stride", "weight", "patterns")
DENSE_FORMS = {sparse: dense for dense, sparse in SPARSE_FORMS.items()}
Measure = Callable[[Graph, Graph, frozenset[str], Target], tuple[Mapping[str, Figures], Costs]]


@dataclass(frozen=True)
class CompressWeights(Pass):
    """See the module."""

    target: Target | None
    """None: no kernels are asked, (3) and (4) hold everywhere."""
    choice: Literal["auto", "measured", "sparse", "dense"] = "auto"
    """By estimated cost, by kernels measured on this machine, always, never."""
    measure: Measure | None = field(default_factory=lambda: None)
    """Measures the layers of some names in a dense and in a sparse graph."""
    adopt: AdoptSparsity = field(default_factory=AdoptSparsity)
    """What is found, and by which options."""

    def run(self, graph: Graph, notes: Notes) -> Graph:
        if self.choice == "dense":
            notes.add("Every layer stays dense (compress_weights.choice=dense).")
            return graph
        found = {name: what for name, what in self.adopt.find(graph).items() if isinstance(what, Structure)}  # (1)
        if not found:
            return graph
        stored = {
            node.name: FKW.compress(np.ascontiguousarray(weight_by_filters(graph, node)), found[node.name])
            for node in graph.nodes
            if node.name in found and found[node.name].counts.any()  # (2)
        }
        whole = compressed(graph, stored)
        if self.target is None:
            return whole
        served = self._served(whole, self.target, notes)  # (3)
        if self.choice == "sparse":
            return whole if len(served) == len(stored) else compressed(graph, {name: stored[name] for name in served})
        layers, costs = self._figures(graph, whole, served, self.target)
        chosen = cheapest(graph, layers, self.target, costs)  # (4)
        _remark(layers, chosen, costs, notes)
        if not chosen:
            return graph
        return whole if len(chosen) == len(stored) else compressed(graph, {name: stored[name] for name in chosen})

    def _figures(self, graph: Graph, whole: Graph, names: frozenset[str], target: Target) -> tuple[Mapping[str, Figures], Costs]:
        """What the layers of those names cost. Raises TapdotError where that cannot be measured."""
        if self.choice != "measured":
            estimated = Estimated(target)
            return figures(graph, whole, names, target, estimated), estimated
        if self.measure is None:
            raise TapdotError("Expected something to measure layers with; compress_weights.choice=auto estimates.")
        return self.measure(graph, whole, names, target)

    def _served(self, graph: Graph, target: Target, notes: Notes) -> frozenset[str]:
        """The sparse nodes that a kernel serves."""
        served = set()
        unserved: dict[str, list[str]] = {}
        for node in graph.nodes:
            if node.op not in DENSE_FORMS:
                continue
            try:
                family = select(workload_of(graph, node, layouts=False), target)
            except NoFamilyError:
                unserved.setdefault("no sparse kernel serves", []).append(repr(node.name))
                continue
            if family.fast or self.choice == "sparse":
                served.add(node.name)
            else:
                unserved.setdefault("there is no tuned sparse kernel for", []).append(repr(node.name))
        for reason, names in unserved.items():
            one = len(names) == 1
            notes.add(
                f"{', '.join(names)} {'stays' if one else 'stay'} dense: {reason} {'it' if one else 'them'} on {target.name}."
            )
        return frozenset(served)


def _remark(layers: Mapping[str, Figures], chosen: frozenset[str], costs: Costs, notes: Notes) -> None:
    for name, layer in layers.items():
        kind = "sparse" if name in chosen else "dense"
        notes.add(f"{name!r} is computed {kind}: {layer.sparse:.4g} {costs.unit} sparse, {layer.dense:.4g} dense.")


# -- there and back ----------------------------------------------------------------------------------------------------------


def compressed(graph: Graph, stored: Mapping[str, FKW]) -> Graph:
    """The graph in which the nodes of those names read those arrays instead of their dense weights."""

    def compress(
        new: Editor, x: Value, w: Value, b: Value | None, extras: tuple[Value | None, ...], root: Application
    ) -> Value | None:
        if root.name not in stored:
            return None
        arrays = [
            new.constant(array, f"{w.name}.{name}", dtype=w.dtype if name == "weight" else None)
            for name, array in stored[root.name].arrays.items()
        ]
        given = {name: value for name, value in root.given.items() if name not in ("dilations", "group")}
        if root.op not in PRODUCTS:
            given["kernel_shape"] = w.shape[2:]
        return new.add(SPARSE_FORMS[root.op], (x, *arrays, b, *extras), given)  # type: ignore[no-any-return]

    x, w, b = values("x w b")
    return rewrite(graph, (rule(op[tuple(SPARSE_FORMS)](x, w, optional(b), rest("extras")), compress),))


def decompressed(graph: Graph) -> Graph:
    """The graph with every sparse node dense again, its weights exactly as they were."""

    def decompress(new: Editor, operands: tuple[Value | None, ...], root: Application) -> Value:
        x, *arrays = operands[: 1 + len(ARRAYS)]
        assert x is not None
        found = FKW(*(value.array for value in arrays if value is not None))  # type: ignore[arg-type]
        given = dict(root.given)
        kernel = given.pop("kernel_shape", ())
        dense = found.dense((found.filters, x.shape[1], *kernel))  # type: ignore[misc]
        form = DENSE_FORMS[root.op]
        if form in PRODUCTS:
            dense = np.ascontiguousarray(dense.T)
        else:
            given |= {"dilations": (1, 1), "group": 1}
        assert arrays[0] is not None
        kind = arrays[ARRAYS.index("weight")]
        assert kind is not None
        weight = new.constant(dense, arrays[0].name.removesuffix(f".{ARRAYS[0]}"), dtype=kind.dtype)
        return new.add(form, (x, weight, *operands[1 + len(ARRAYS) :]), given)  # type: ignore[no-any-return]

    return rewrite(graph, (rule(op[tuple(DENSE_FORMS)](rest("operands")), decompress),))


def sparse_nodes(graph: Graph) -> tuple[Node, ...]:
    """The nodes that read FKW arrays."""
    return tuple(node for node in graph.nodes if node.op in DENSE_FORMS)
