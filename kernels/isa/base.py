"""Vector instruction sets as rows of data. A kernel is written once over an :class:`Isa`, never for a device's name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Isa:
    """What a kernel needs to know of a core's vectors.

    ``lanes``: float32 values in a vector. ``registers``: architectural vector registers. ``fma``: a fused multiply-add exists
    (without it the two roundings are written out, never a library call). ``multiply_by_lane``: an operand may be one lane of a
    register, so that one load of ``lanes`` consecutive scalars feeds ``lanes`` broadcasts. The rates are per cycle and feed the
    analytic cost model only.
    """

    name: str
    lanes: int
    registers: int
    fma: bool
    multiply_by_lane: bool
    features: frozenset[str]
    """LLVM target features that must be on."""
    fma_per_cycle: float = 2.0
    loads_per_cycle: float = 2.0
    fma_latency: float = 4.0
    dot: str = ""
    """The instruction that multiplies 8-bit codes and sums them in 32 bits, or the one that does so after widening to 16 bits;
    empty where products are written out. ``isa.integer`` holds the emitters."""
    stores_signed: bool = True
    """Whether codes between kernels are stored signed; ``vpdpbusd`` wants unsigned activations."""

    @property
    def vector(self) -> str:
        """TVM's name of the float vector type."""
        return f"float32x{self.lanes}"


_AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})

AVX512_VNNI = Isa(
    "avx512vnni", 16, 32, True, False, _AVX512 | {"avx512vnni"}, dot="vpdpbusd", stores_signed=False
)  # fmt: skip
AVX512 = Isa("avx512", 16, 32, True, False, _AVX512, dot="vpmaddwd", stores_signed=False)
AVX2 = Isa("avx2", 8, 16, True, False, frozenset({"avx2", "fma"}), dot="vpmaddwd", stores_signed=False)
I8MM = Isa("i8mm", 4, 32, True, True, frozenset({"neon", "dotprod", "i8mm"}), dot="smmla")
DOTPROD = Isa("dotprod", 4, 32, True, True, frozenset({"neon", "dotprod"}), dot="sdot")
NEON = Isa("neon", 4, 32, True, True, frozenset({"neon"}), dot="smlal")
GENERIC = Isa("generic", 4, 16, False, False, frozenset(), fma_per_cycle=1.0)

ISAS = {isa.name: isa for isa in (AVX512_VNNI, AVX512, AVX2, I8MM, DOTPROD, NEON, GENERIC)}
"""Best first: a target gets the first whose features it has."""
