"""Progress, which goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

progress = Console(stderr=True, highlight=False)
SECONDS_BETWEEN_LINES = 5.0
"""Where they go to a file."""


class Lines:
    """Shows what a long pass says: beside the spinner on a terminal, a line every few seconds elsewhere."""

    def __init__(self, show: Callable[[str], object]) -> None:
        self.show = show
        self.printed = time.monotonic()

    def __call__(self, line: str) -> None:
        if progress.is_terminal:
            self.show(line)
        elif time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = time.monotonic()
            progress.print(line, markup=False, soft_wrap=True)
