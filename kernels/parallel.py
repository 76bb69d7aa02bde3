"""When a launch of threads pays, and how finely work is cut for them."""

from __future__ import annotations

LAUNCH_CYCLES = 8_000
"""Cycles that waking the other threads and waiting for them costs: a little over two microseconds at three gigahertz."""


def pays(cycles: float) -> bool:
    """Whether a kernel that takes that many cycles on one core should use threads: when a launch is a small part of it."""
    return cycles > 4 * LAUNCH_CYCLES


def row_splits(tasks: int, pieces: int, cores: int) -> int:
    """Into how many parts to cut the rows of every task so that each core has several.

    ``tasks`` exist without a cut; a task has ``pieces`` of rows that stay whole. The result is a power of two.
    """
    splits = 1
    while tasks * splits < 4 * cores and splits * 2 <= pieces:
        splits *= 2
    return splits
