"""Sizes and amounts of work as text."""

from __future__ import annotations

import pytest

from tapdot.compiler.units import bytes_text, macs_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (3 * 2**19, "1.5 MiB"),
        (553 * 2**20, "553.0 MiB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 MAC"), (999, "999 MAC"), (12_500, "12.5 kMAC"), (10_250_000, "10.25 MMAC"), (1_814_073_344, "1.814 GMAC")],
)
def test_macs(count: int, text: str) -> None:
    assert macs_text(count) == text
