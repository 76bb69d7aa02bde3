"""The interface of a kernel family: everything the compiler asks about kernels, and nothing else picks kernels."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from tapdot.kernels import estimates, sources
from tapdot.kernels.layout import Halo
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc
from tapdot.kernels.versions import SUPPORTED_TVM
from tapdot.kernels.workload import Workload

Config = Mapping[str, int]
"""A point of a family's tuning space."""


@dataclass(frozen=True)
class Port:
    """Where an operand may lie.

    ``blocks``: channel blocks the kernel handles, preferred first; empty means row-major of any rank. ``halo``: the border of
    zeros the kernel reads. ``grows``: a larger halo than that is fine too. ``behind``: the kernel may read up to ``READ_SLACK``
    bytes behind the end of the buffer, which the caller's own tensors do not have.
    """

    blocks: tuple[int, ...] = ()
    halo: Halo = field(default_factory=Halo)
    grows: bool = True
    behind: bool = False


ROW_MAJOR = Port()


@dataclass(frozen=True)
class Ports:
    """Ports of every operand of a workload; constants have port None.

    ``uniform``: all operands that lie in blocks must lie in the same one, whichever of the blocks they offer it is.
    """

    inputs: tuple[Port | None, ...]
    outputs: tuple[Port, ...]
    uniform: bool = False

    def in_block(self, block: int) -> Ports:
        """The ports of a uniform node that works in that block; operands that lie elsewhere in any case keep theirs."""

        def port(offered: Port | None) -> Port | None:
            return replace(offered, blocks=(block,)) if offered is not None and block in offered.blocks else offered

        return Ports(tuple(port(x) for x in self.inputs), tuple(replace(y, blocks=(block,)) for y in self.outputs), True)


class Family(ABC):
    """One way to compute some workloads.

    The built function takes the packed arrays, then the workload's variable inputs, then its outputs, all as flat buffers.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Part of the key of tuning records: raise it when what was measured no longer holds. Caches follow the sources."""
    fast: ClassVar[bool] = True
    """False for families that only make things run; reports list their nodes."""

    @abstractmethod
    def serves(self, workload: Workload, target: Target) -> bool:
        """Whether this family can compute the workload on the target; layouts are not looked at."""

    @abstractmethod
    def ports(self, workload: Workload, target: Target) -> Ports:
        """Where the operands may lie."""

    @abstractmethod
    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        """The kernel."""

    def default_config(self, workload: Workload, target: Target) -> Config:
        """A good configuration without measuring anything."""
        return {}

    def cost(self, workload: Workload, target: Target) -> float:
        """Estimated cycles of one core, to choose among ways to compute one thing where none was measured."""
        return estimates.cycles(workload, target)

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        """Values each configuration field may take."""
        return {}

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        """The configuration that a point of the space stands for: points of the same code settle on one.

        None for a point not worth building: what belongs into registers does not fit there, or its code is endless.
        """
        return config

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        """The kernel's own arrays, from the constant operands by index."""
        return [constants[index] for index in sorted(constants)]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        """The constant operands back, exactly, from the packed arrays."""
        indices = [index for index, operand in enumerate(workload.inputs) if operand is not None and operand.constant]
        return {
            index: np.asarray(array).reshape(workload.inputs[index].shape)  # type: ignore[union-attr]
            for index, array in zip(indices, packed, strict=True)
        }

    def symbol(self, workload: Workload, config: Config, target: Target) -> str:
        """A name that says what the kernel is and differs whenever its code may differ."""
        code = sources.digest(Path(__file__).parent)
        text = json.dumps([self.name, code, workload.key, sorted(config.items()), target.json(), SUPPORTED_TVM], sort_keys=True)
        return f"{self.name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
