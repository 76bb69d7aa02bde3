"""What a command leaves: its one JSON document, or a sentence and exit status 1."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from tapdot.cli.progress import progress


def print_json(document: Any) -> None:
    """The one JSON document of a command."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The same plain data with null for what JSON has no number for: an infinite difference, say."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fail(sentence: str) -> NoReturn:
    """Ends the command."""
    progress.print(f"tapdot: {sentence}", markup=False, soft_wrap=True)
    raise SystemExit(1)
