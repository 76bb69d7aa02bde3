"""What a command leaves: its one JSON document, or a sentence and exit status 1."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from rich.console import Console

from tapdot.cli.progress import progress

WIDE = 400
"""Columns that a table may take where no terminal says how many there are."""


def table_console(stderr: bool = False) -> Console:
    """For tables: as wide as a terminal; in a file or a pipe nothing is folded."""
    console = Console(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


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
