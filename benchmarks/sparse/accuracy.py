"""What pruning costs the miniature networks, to stand beside every speed at the same rate and share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEAR = 0.15
"""Rates this far apart, as a share, count as the same."""
HOW = "python -m benchmarks.miniatures sparsity --json > accuracy.json"


@dataclass(frozen=True)
class Accuracies:
    """Rows of ``benchmarks.miniatures sparsity``: differences from dense networks trained as long, as integers, in points."""

    rows: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path | None) -> Accuracies:
        """The rows of a file; none without one. Raises ValueError where the file is another."""
        if path is None:
            return cls(())
        try:
            rows = json.loads(path.read_text())
            wanted = [row for row in rows if row["way"] == "ADMM"]
            return cls([{**row, "points": row["from_dense"]["mean"]} for row in wanted])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not what `{HOW}` writes: {error}") from error

    def text(self, rate: float, share: int) -> str:
        """As in ``ResNet -0.8, VGG -0.3``; a dash where nobody measured that rate and share."""
        near = [row for row in self.rows if row["share"] == share and abs(row["rate"] / rate - 1) <= NEAR]
        return ", ".join(f"{row['network']} {row['points']:+.1f}" for row in near) or "-"

    def json(self, rate: float, share: int) -> dict[str, float]:
        """By network."""
        near = [row for row in self.rows if row["share"] == share and abs(row["rate"] / rate - 1) <= NEAR]
        return {str(row["network"]): float(row["points"]) for row in near}
