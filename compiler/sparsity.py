"""What is pruned and how it is stored, layer by layer, as reports and packages hold it: ``compiler.sparse_storage`` finds it out.

PatDNN (ASPLOS 2020, section 5.1) calls it the layerwise representation: what code generation and tuning need to know of a layer.
Reading it needs neither torch nor TVM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StoredArray:
    """One of the FKW arrays."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Storage:
    """Bytes of the weights of a layer, or of several, in four forms; biases and scales left out."""

    dense: int
    weights: int
    """The weights that are stored in sparse forms."""
    fkw_extra: int
    """What FKW stores beside them: order, offsets, indices, strides, patterns."""
    csr32_extra: int
    """What compressed sparse rows would, with 32-bit column indices."""
    csr16_extra: int
    """The same with 16-bit ones."""

    def __add__(self, other: Storage) -> Storage:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Storage(*(a + b for a, b in zip(mine, theirs, strict=True)))

    @classmethod
    def total(cls, parts: Iterable[Storage]) -> Storage:
        """Of several layers."""
        return sum(parts, cls(0, 0, 0, 0, 0))

    @property
    def below_csr32(self) -> float:
        """By what share FKW's extra bytes are below those of 32-bit CSR."""
        return 1 - self.fkw_extra / self.csr32_extra

    @property
    def below_csr16(self) -> float:
        """The same of 16-bit CSR."""
        return 1 - self.fkw_extra / self.csr16_extra


@dataclass(frozen=True)
class LayerStructure:
    """The layerwise representation of one layer that is computed sparse."""

    node: str
    op: str
    kind: str
    """``3x3``, ``1x1`` or ``fully connected``."""
    filters: int
    inputs: int
    strides: tuple[int, ...]
    share: int
    kept: int
    """Kernels (or quads) of share groups that are left."""
    units: int
    """Those there were before pruning."""
    patterns: tuple[str, ...]
    """The pattern set as pictures, ``.x.|xx.|x..``; empty where quads are pruned."""
    arrays: Mapping[str, StoredArray]
    """FKW arrays by the paper's names."""
    storage: Storage
    macs: int
    dense_macs: int
    family: str
    tuning: Mapping[str, int]
    """The configuration of the kernel."""

    @property
    def connectivity_rate(self) -> float:
        """Kernels (or quads) before, divided by those left."""
        return self.units / self.kept

    @property
    def rate(self) -> float:
        """Weights before, divided by weights stored."""
        return self.dense_macs / self.macs

    def json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerStructure:
        """The inverse of :meth:`json`."""
        arrays = {
            name: StoredArray(found["dtype"], tuple(found["shape"]), found["bytes"]) for name, found in data["arrays"].items()
        }
        own = {"strides": tuple(data["strides"]), "patterns": tuple(data["patterns"]), "arrays": arrays}
        return cls(**{**data, **own, "storage": Storage(**data["storage"])})
