"""Targets: what code is generated for. A name from the data files in ``targets/``, ``host``, or fields given by hand."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tapdot.kernels.isa import ISAS, Isa

_FOLDER = Path(__file__).parent / "targets"
_TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}


@dataclass(frozen=True)
class Target:
    """A processor as the code generator sees it.

    ``features`` are LLVM's names. ``cores`` is a hint for how finely kernels split their work; the number of threads is chosen
    when a package runs. ``isa_name`` forces an instruction table; empty means the best the features allow.
    """

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    cores: int = 1
    isa_name: str = ""

    @property
    def architecture(self) -> str:
        """``x86_64`` or ``aarch64``."""
        return self.triple.split("-", 1)[0]

    @cached_property
    def isa(self) -> Isa:
        """The vector instruction table kernels are written over."""
        if self.isa_name:
            return ISAS[self.isa_name]
        features = set(self.features)
        return next(isa for isa in ISAS.values() if isa.features <= features)

    def llvm(self) -> dict[str, Any]:
        """TVM's description of the same target."""
        features = [f"+{feature}" for feature in self.features]
        return {"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu, **({"mattr": features} if features else {})}

    def json(self) -> dict[str, Any]:
        """Plain data for manifests and cache keys."""
        return {
            "name": self.name,
            "triple": self.triple,
            "cpu": self.cpu,
            "features": sorted(self.features),
            "cores": self.cores,
            "isa": self.isa.name,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Target:
        """The inverse of :meth:`json`."""
        return cls(data["name"], data["triple"], data["cpu"], tuple(data["features"]), data["cores"], data["isa"])


class UnknownTargetError(ValueError):
    """No target of that name; the message lists what there is."""


def target_names() -> list[str]:
    """Every name :func:`find_target` knows."""
    return ["host", *sorted(path.stem for path in _FOLDER.glob("*.toml"))]


def find_target(name: str | Target) -> Target:
    """The target of that name; ``host`` is this machine.

    A name may carry an instruction table to force, as in ``host:avx2`` or ``cortex-a76:generic``, to build and test other paths.
    """
    if isinstance(name, Target):
        return name
    base, _, isa_name = name.partition(":")
    if isa_name and isa_name not in ISAS:
        raise UnknownTargetError(f"Unknown instruction table {isa_name!r} in target {name!r}; expected one of {', '.join(ISAS)}.")
    if base == "host":
        target = _host()
    elif (path := _FOLDER / f"{base}.toml").is_file() and path.parent == _FOLDER:
        data = tomllib.loads(path.read_text())
        target = Target(data["name"], data["triple"], data["cpu"], tuple(data["features"]), data["cores"])
    else:
        near = difflib.get_close_matches(base, target_names(), 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UnknownTargetError(f"Unknown target {base!r}; expected one of {', '.join(target_names())}.{hint}")
    if not isa_name:
        return target
    missing = ISAS[isa_name].features - set(target.features)
    if missing:
        raise UnknownTargetError(f"Target {base!r} lacks {', '.join(sorted(missing))}, which {isa_name} code needs.")
    return Target(name, target.triple, target.cpu, target.features, target.cores, isa_name)


@cache
def _host() -> Target:
    """This machine, as LLVM sees it."""
    import os
    import platform

    from tapdot.kernels.tvm_adapter import codegen, tvm

    machine = platform.machine()
    if machine not in _TRIPLES:
        raise UnknownTargetError(f"Expected an x86_64 or aarch64 processor here, found {machine!r}; give --target by name.")
    cpu = str(codegen.llvm_get_system_cpu())
    known = tvm.target.Target({"kind": "llvm", "mtriple": _TRIPLES[machine], "mcpu": cpu})
    further = {"avx512vnni", "avx512vbmi", "dotprod", "i8mm", "fullfp16"}
    wanted = sorted(further.union(*(isa.features for isa in ISAS.values())))
    with known:
        features = tuple(feature for feature in wanted if codegen.llvm_cpu_has_features(feature))
    return Target("host", _TRIPLES[machine], cpu, features, os.cpu_count() or 1)
