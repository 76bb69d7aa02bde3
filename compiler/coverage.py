"""Who computes in which precision, as reports and packages hold it: ``compiler.precision`` finds it out.

Reading it needs neither torch nor TVM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EDGES = frozenset({"Quantize", "Dequantize"})
COPIES = frozenset({"Relayout", "Concat"})
"""What a compiled network copies for, where it must; others that move elements are a network's own (``runtime.exactness``)."""
INTEGER, FLOAT = "integer", "float"
BEFORE, BETWEEN, AFTER = "before the integers", "between integers", "after the integers"


@dataclass(frozen=True)
class Island:
    """Float nodes of an integer graph that feed each other, in order."""

    nodes: tuple[str, ...]
    place: str
    """``between integers`` costs most: codes become floats and codes again."""
    reason: str

    def __str__(self) -> str:
        return f"{', '.join(self.nodes)} ({self.place}): {self.reason}"


@dataclass(frozen=True)
class Conversion:
    """A change between floats and codes, or a copy that changes nothing but where elements lie."""

    node: str
    op: str
    """``Quantize``, ``Dequantize``, ``Relayout`` or ``Concat``; another operator that ends in floats has it in its epilogue."""
    dtypes: tuple[str, str]
    """Element types before and after."""
    bytes: int
    """What it writes."""

    @property
    def costs_a_kernel(self) -> bool:
        """Whether memory is read and written for this alone."""
        return self.op in EDGES | COPIES

    def __str__(self) -> str:
        before, after = self.dtypes
        what = f"{before} to {after}" if before != after else before
        return f"{self.node} ({self.op}, {what})" if self.costs_a_kernel else f"in the epilogue of {self.node} ({what})"


@dataclass(frozen=True)
class Coverage:
    """What a report says of precision; names are those of nodes of the graph."""

    operators: Mapping[str, Mapping[str, int]]
    """Operators by precision ("integer", "float"), and how many of each."""
    islands: tuple[Island, ...]
    conversions: tuple[Conversion, ...]
    macs: Mapping[str, int]
    """Multiply-accumulates of one inference, by precision."""
    weight_bytes: Mapping[str, int]
    """Bytes of constants by element type."""
    activation_bytes: Mapping[str, int]
    """Bytes of everything computed, each value counted once, by element type."""

    @property
    def is_integer(self) -> bool:
        """Whether anything computes with codes."""
        return INTEGER in self.operators

    @property
    def integer_share(self) -> float:
        """The share of multiply-accumulates that are of integers."""
        total = sum(self.macs.values())
        return self.macs.get(INTEGER, 0) / total if total else 0.0

    def count(self, precision: str) -> int:
        """How many operators have this precision."""
        return sum(self.operators.get(precision, {}).values())

    def json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Coverage:
        """The inverse of :meth:`json`."""
        islands = tuple(Island(tuple(found["nodes"]), found["place"], found["reason"]) for found in data["islands"])
        conversions = tuple(Conversion(**{**found, "dtypes": tuple(found["dtypes"])}) for found in data["conversions"])
        return cls(**{**data, "islands": islands, "conversions": conversions})
