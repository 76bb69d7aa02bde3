"""Looking codes up in a table of 256 bytes, a vector at a time.

What is looked up is the byte as it is stored, and so is what is found: :func:`as_stored` puts a table into that order. In numpy,
``emit(bytes, table)`` is ``table[bytes]``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.kernels.isa.base import Isa
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

Value = Any
"""A TIR expression or a Python int."""

ENTRIES = 256


def as_stored(table: np.ndarray, source: str, source_offset: int, result_offset: int) -> np.ndarray:
    """uint8[256], indexed by the stored byte: a table of codes by code less the lowest of type ``source``, for stored codes."""
    stored = np.arange(ENTRIES) - source_offset
    indices = (stored - np.iinfo(source).min) % ENTRIES
    return ((table.reshape(-1).astype(np.int16) + result_offset) % ENTRIES).astype(np.uint8)[indices]


def from_stored(packed: np.ndarray, dtype: str, source: str, source_offset: int, result_offset: int) -> np.ndarray:
    """The inverse of :func:`as_stored`, of element type ``dtype``."""
    lowest = np.iinfo(source).min
    places = (np.arange(ENTRIES) + lowest + source_offset) % ENTRIES
    return (packed.astype(np.int16) - result_offset).astype(np.uint8).view(dtype)[places]


@dataclass(frozen=True)
class CodeLookup:
    """Lookups of ``lanes`` bytes at once; ``load`` fetches what stays in registers."""

    lanes: int
    registers: int
    """Registers that hold the table."""

    def load(self, table: Buffer) -> list[Value]:
        """The table, once for many lookups."""
        step = ENTRIES // self.registers
        return [T.Bind(table[T.ramp(part * step, 1, step)]) for part in range(self.registers)]

    def emit(self, codes: Value, table: list[Value]) -> Value:
        """``table[codes]`` of uint8 vectors."""
        raise NotImplementedError


class Permute(CodeLookup):
    """AVX-512 VBMI: ``vpermi2b`` looks up in 128 bytes, the topmost bit chooses between two of them."""

    def emit(self, codes: Value, table: list[Value]) -> Value:
        kind = f"uint8x{self.lanes}"
        name = T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpermi2var.qi.512")
        low, high = (T.Bind(T.call_llvm_pure_intrin(name, table[k], codes, table[k + 1], dtype=kind)) for k in (0, 2))
        return T.Bind(tirx.Select(codes < _splat(128, self.lanes), low, high))


class Shuffle(CodeLookup):
    """AVX2 and AVX-512: ``vpshufb`` looks up in 16 bytes and gives 0 for a byte whose topmost bit is set.

    A byte less ``16 k``, plus 112 with saturation, has that bit set unless it was in part ``k``; one part gives the byte.
    """

    def load(self, table: Buffer) -> list[Value]:
        rows = [T.Bind(table[T.ramp(16 * part, 1, 16)]) for part in range(16)]
        return [T.Bind(T.Shuffle([row] * (self.lanes // 16), list(range(self.lanes)))) for row in rows]

    def emit(self, codes: Value, table: list[Value]) -> Value:
        kind = f"uint8x{self.lanes}"
        shuffle = "llvm.x86.avx512.pshuf.b.512" if self.lanes == 64 else "llvm.x86.avx2.pshuf.b"
        name, saturated = T.llvm_lookup_intrinsic_id(shuffle), T.llvm_lookup_intrinsic_id("llvm.uadd.sat")
        found: Value = None
        for part, row in enumerate(table):
            moved = codes - _splat(16 * part, self.lanes) if part else codes
            index = T.call_llvm_pure_intrin(saturated, moved, _splat(112, self.lanes), dtype=kind)
            here = T.call_llvm_pure_intrin(name, row, index, dtype=kind)
            found = T.Bind(here if found is None else found | here)
        return found


class TableRegisters(CodeLookup):
    """AArch64: ``tbl`` looks up in 64 bytes and gives 0 for others, ``tbx`` leaves those as they were."""

    def emit(self, codes: Value, table: list[Value]) -> Value:
        first, further = (T.llvm_lookup_intrinsic_id(f"llvm.aarch64.neon.{name}.v16i8") for name in ("tbl4", "tbx4"))
        found = T.Bind(T.call_llvm_pure_intrin(first, *table[:4], codes, dtype="uint8x16"))
        for part in range(1, 4):
            moved = codes - _splat(64 * part, 16)
            found = T.Bind(T.call_llvm_pure_intrin(further, found, *table[4 * part : 4 * part + 4], moved, dtype="uint8x16"))
        return found


class OneByOne(CodeLookup):
    """Everywhere: a load a byte."""

    def load(self, table: Buffer) -> list[Value]:
        return [table]

    def emit(self, codes: Value, table: list[Value]) -> Value:
        (buffer,) = table
        return T.Bind(buffer[T.Cast(f"int32x{self.lanes}", codes)])


def code_lookup(isa: Isa, features: Collection[str]) -> CodeLookup:
    """The best of what an instruction table and a processor's features offer."""
    if "avx512bw" in isa.features:
        return Permute(64, 4) if "avx512vbmi" in features else Shuffle(64, 16)
    if "avx2" in isa.features:
        return Shuffle(32, 16)
    return TableRegisters(16, 16) if "neon" in isa.features else OneByOne(16, 1)


def _splat(value: int, lanes: int) -> Value:
    return T.broadcast(tirx.const(value, "uint8"), lanes)
