"""Sizes and amounts of work as people read them: three or four digits and a unit, however small the network."""

from __future__ import annotations

KIBI, MEBI = 2**10, 2**20


def bytes_text(count: int) -> str:
    """``"640 bytes"``, ``"12.5 KiB"``, ``"44.9 MiB"``."""
    if count < KIBI:
        return f"{count} byte{'' if count == 1 else 's'}"
    return f"{count / KIBI:.1f} KiB" if round(count / KIBI, 1) < KIBI else f"{count / MEBI:.1f} MiB"


def macs_text(count: int) -> str:
    """Multiply-accumulates: ``"640 MAC"``, ``"12.5 kMAC"``, ``"10.25 MMAC"``, ``"1.814 GMAC"``."""
    for factor, prefix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= factor:
            return f"{count / factor:.4g} {prefix}MAC"
    return f"{count} MAC"
