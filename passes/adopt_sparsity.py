"""Patterns, kernels removed whole and shares, found in the zeros that a model's weights have, whoever put them there.

The graph stays as it is: its weights are dense arrays with zeros in them until ``passes.compress_weights`` stores them as FKW
arrays. This pass says in its notes what there is, layer by layer, and refuses a model in which nothing is pruned.

A convolution or matrix product is looked at where
  1. its weights are a constant,
  2. it is a product of matrices, or a convolution over planes of one group with kernels of 3x3, without dilation, or of 1x1,
     where dilation means nothing.

The share is found in what is stored: for the recipe ``pattern-int8`` in codes, where small kernels have been rounded to zero.
Where that costs a layer its share, a note says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapdot.compiler.errors import ModelError, TapdotError
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.kernels.fkw import Structure
from tapdot.kernels.patterns import MOST_PATTERNS, picture
from tapdot.passes.fuse import FUSED
from tapdot.passes.sparse_structure import REDUNDANCY, UNPRUNED, find_structure, share_nearly_had

SPARSE_FORMS = {"FusedConv": "SparseConv", "QConv": "QSparseConv", "FusedGemm": "SparseGemm", "QGemm": "QSparseGemm"}
"""Operators whose weights may be stored as FKW arrays, and the operators that read them so."""
PRODUCTS = ("FusedGemm", "QGemm")
Found = Mapping[str, Structure | str]
"""By the name of a node: its structure, or why it has none."""


def weight_by_filters(graph: Graph, node: Node) -> NDArray[Any]:
    """The constant weight of a node with its output channels first: ``[O, I, kH, kW]``, or ``[N, K]`` of a matrix product."""
    array = graph.constants[node.inputs[1]]
    return array.T if node.op in PRODUCTS else array


def structure_of(graph: Graph, node: Node, redundancy: float = REDUNDANCY, most_patterns: int = MOST_PATTERNS) -> Structure | str:
    """What is pruned of a node's weight, or why nothing can be used; see the module for the criteria."""
    if node.inputs[1] not in graph.constants:
        return "its weights are computed, not stored"  # (1)
    if node.op not in PRODUCTS:  # (2)
        attributes = lookup(node.op).defaults(node.attributes)
        channels = graph.type(node.inputs[0]).shape[1]
        if attributes["group"] > 1:
            kind = "depthwise" if attributes["group"] == channels else f"of {attributes['group']} groups"
            return f"the convolution is {kind}"
        if len(attributes["dilations"]) != 2:
            return f"the convolution has {len(attributes['dilations'])} spatial axes"
        if set(attributes["dilations"]) != {1} and graph.constants[node.inputs[1]].shape[2:] != (1, 1):
            return "the convolution is dilated"
    return find_structure(weight_by_filters(graph, node), redundancy, most_patterns)


@dataclass(frozen=True)
class AdoptSparsity(Pass):
    """See the module."""

    redundancy: float = REDUNDANCY
    """By how much more kernels or quads a share may make a layer store, as a share of those that filters alone would."""
    most_patterns: int = MOST_PATTERNS
    """Patterns a layer may use."""

    requires = (FUSED,)

    def run(self, graph: Graph, notes: Notes) -> Graph:
        found = self.find(graph)
        structures = {name: what for name, what in found.items() if isinstance(what, Structure)}
        if not structures and any(node.op in SPARSE_FORMS.values() for node in graph.nodes):
            return graph  # compressed already
        if not structures:
            raise ModelError(_nothing(graph, found))
        notes.add(_whole(graph, structures))
        notes.lines += [_line(graph, node, structures[node.name]) for node in graph.nodes if node.name in structures]
        notes.lines += self._lost(graph, structures)
        by_reason: dict[str, list[str]] = {}
        for name, what in found.items():
            if isinstance(what, str):
                by_reason.setdefault(what, []).append(repr(name))
        for reason, names in by_reason.items():
            stay = "stays" if len(names) == 1 else "stay"
            reason = reason.replace("in it", "in them") if len(names) > 1 and reason == UNPRUNED else reason
            notes.add(f"{', '.join(names)} {stay} dense: {reason}.")
        return graph

    def _lost(self, graph: Graph, structures: Mapping[str, Structure]) -> list[str]:
        """A sentence for each layer that nearly has a larger share."""
        lines = []
        for node in graph.nodes:
            if node.name not in structures:
                continue
            structure = structures[node.name]
            nearly = share_nearly_had(weight_by_filters(graph, node), structure, self.redundancy)
            if nearly is not None:
                share, in_vain = nearly
                unit = "quads" if structure.by_quads else "kernels"
                lines.append(
                    f"{node.name!r}: share lost: groups of {share} filters would store {in_vain:.1%} more {unit} than their "
                    f"filters have (small ones may be rounded to zero), and at most {self.redundancy:.1%} "
                    "more are allowed; to take this share, set "
                    f"adopt_sparsity.redundancy={np.ceil(in_vain * 100) / 100:.2g}."
                )
        return lines

    def find(self, graph: Graph) -> Found:
        """What every convolution and matrix product of a fused or integer graph has. Raises TapdotError for wrong options."""
        if not 1 <= self.most_patterns <= MOST_PATTERNS or not 0 <= self.redundancy < 1:
            raise TapdotError(
                f"Expected adopt_sparsity.most_patterns of 1 to {MOST_PATTERNS} and a redundancy of 0 to 1, found "
                f"{self.most_patterns} and {self.redundancy:g}."
            )
        return {
            node.name: structure_of(graph, node, self.redundancy, self.most_patterns)
            for node in graph.nodes
            if node.op in SPARSE_FORMS
        }


# -- notes -------------------------------------------------------------------------------------------------------------------


def _line(graph: Graph, node: Node, structure: Structure) -> str:
    weight = weight_by_filters(graph, node)
    kept, units = int(structure.counts.sum()), structure.kept.size
    stored = kept * structure.share * 4
    unit = "quads of inputs" if structure.by_quads else f"kernels in {len(structure.patterns)} patterns"
    share = f", shared by {structure.share} filters" if structure.share > 1 else ""
    line = f"{node.name!r}: {kept} of {units} {unit}{share}; {weight.size / stored:.3g}x fewer weights"
    in_vain = stored - int(np.count_nonzero(weight))
    return line + (f", {in_vain} of those stored are zero." if in_vain else ".")


def _whole(graph: Graph, structures: Mapping[str, Structure]) -> str:
    """The whole model in a sentence: the pattern set, if it is one, and the rate."""
    before = sum(weight_by_filters(graph, node).size for node in graph.nodes if node.op in SPARSE_FORMS)
    pruned = sum(weight_by_filters(graph, node).size for node in graph.nodes if node.name in structures)
    stored = sum(int(what.counts.sum()) * what.share * 4 for what in structures.values())
    used: Counter[str] = Counter()
    for what in structures.values():
        if not what.by_quads:
            counts = np.bincount(what.kept[what.kept >= 0], minlength=len(what.patterns))
            used.update({picture(row): int(count) for row, count in zip(what.patterns.tolist(), counts, strict=True)})
    patterns = f"; patterns: {', '.join(name for name, _ in used.most_common(MOST_PATTERNS))}" if used else ""
    further = f" and {len(used) - MOST_PATTERNS} more" if len(used) > MOST_PATTERNS else ""
    return (
        f"Pruned: {len(structures)} layers keep {stored} of {pruned} weights ({pruned / stored:.3g}x), the model "
        f"{before / (before - pruned + stored):.3g}x fewer{patterns}{further}."
    )


def _nothing(graph: Graph, found: Found) -> str:
    reasons = [f"{name!r}: {what}" for name, what in found.items() if what != UNPRUNED]
    why = f" ({'; '.join(reasons[:2])})" if reasons else ""
    return (
        f"Expected pruned 3x3 kernels (four taps) or pruned quads of inputs in {graph.name!r}, found none{why}. Prune the model "
        "first (tapdot prune MODEL -o PRUNED.onnx --data DATA), or compile it dense with the recipe float or int8."
    )
