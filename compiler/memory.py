"""Where the values of a program lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ARENA, INPUT, OUTPUT, CONSTANT = "arena", "input", "output", "constant"


@dataclass(frozen=True)
class Place:
    """Where a value lies: ``space`` is arena, input, output or constant; ``index`` which input or output; ``offset`` in bytes."""

    space: str
    index: int
    offset: int


@dataclass(frozen=True)
class MemoryPlan:
    """Places of all values, and which nodes vanish because their result is already where it should be."""

    places: Mapping[str, Place]
    arena_bytes: int
    lower_bound_bytes: int
    """The most bytes alive at one time: no plan can do with less."""
    vanished: frozenset[str]
