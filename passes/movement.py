"""Operators by what they do to elements: the lists that passes on codes share."""

from __future__ import annotations

REARRANGEMENTS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "DepthToSpace", "SpaceToDepth")
"""Operators that give every element of their operand one place."""
MOVES = (*REARRANGEMENTS, "Identity", "Expand", "Tile", "Split", "Slice", "Gather")
"""Operators whose results hold elements of the first operand and nothing else."""
MAXIMA = ("MaxPool", "GlobalMaxPool")
"""Pools that choose among elements."""
POOLS = ("AveragePool", "GlobalAveragePool")
"""Pools that compute means."""
SAME_ON_CODES = frozenset({*MOVES, *MAXIMA, "Pad", "Resize"})
"""Operators that mean the same on codes: every element of the result is one of the operand's, or what a Pad pads with."""
