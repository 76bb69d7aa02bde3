"""Names of processors and of what they can do, as compilers write them, from the numbers and words that systems use."""

from __future__ import annotations

from collections.abc import Iterable

ARM = 0x41
# Part numbers of ARM's own cores in MIDR_EL1, from their technical reference manuals.
ARM_PARTS = {
    0xD03: "cortex-a53",
    0xD04: "cortex-a35",
    0xD05: "cortex-a55",
    0xD07: "cortex-a57",
    0xD08: "cortex-a72",
    0xD09: "cortex-a73",
    0xD0A: "cortex-a75",
    0xD0B: "cortex-a76",
    0xD0C: "neoverse-n1",
    0xD0D: "cortex-a77",
    0xD40: "neoverse-v1",
    0xD41: "cortex-a78",
    0xD44: "cortex-x1",
    0xD46: "cortex-a510",
    0xD47: "cortex-a710",
    0xD48: "cortex-x2",
    0xD49: "neoverse-n2",
    0xD4D: "cortex-a715",
    0xD4E: "cortex-x3",
    0xD4F: "neoverse-v2",
    0xD80: "cortex-a520",
    0xD81: "cortex-a720",
    0xD82: "cortex-x4",
}
# Linux's words for what LLVM calls otherwise (arch/arm64/kernel/cpuinfo.c).
ARM_FEATURES = {
    "asimd": "neon",
    "asimddp": "dotprod",
    "asimdhp": "fullfp16",
    "asimdfhm": "fp16fml",
    "atomics": "lse",
    "crc32": "crc",
}


def core_name(main_id: int, architecture: str) -> str:
    """The name of a core by its MIDR_EL1, its numbers where the name is unknown, the architecture where there is no MIDR."""
    if main_id == 0:
        return architecture
    implementer, part = main_id >> 24 & 0xFF, main_id >> 4 & 0xFFF
    known = ARM_PARTS.get(part) if implementer == ARM else None
    return known or f"implementer 0x{implementer:02x} part 0x{part:03x}"


def compiler_features(words: Iterable[str], architecture: str) -> tuple[str, ...]:
    """LLVM's names of the features that ``/proc/cpuinfo`` lists; words that are LLVM's own already pass as they are."""
    if architecture == "x86_64":
        return tuple(word.replace("_", "") for word in words)  # avx512_vnni and its like
    return tuple(ARM_FEATURES.get(word, word) for word in words)
