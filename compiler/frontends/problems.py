"""Collecting what is wrong with a model, so that a user reads all of it at once."""

from __future__ import annotations

from collections.abc import Iterable

from tapdot.compiler.errors import ModelError

SHOWN = 20
"""Problems shown in full; of a longer list the rest is counted."""


class Problems:
    """Sentences about one model. ``raise_any`` turns them into one ModelError that starts with the model's name.

    ``notes`` are no problems: what the import decided for the user, who is to read it in reports.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.sentences: list[str] = []
        self.notes: list[str] = []

    def add(self, sentence: str) -> None:
        """Notes a problem; saying one twice changes nothing."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def __bool__(self) -> bool:
        return bool(self.sentences)

    def raise_any(self) -> None:
        """Raises ModelError when there is any problem."""
        if not self.sentences:
            return
        if len(self.sentences) == 1:
            raise ModelError(f"Cannot import {self.model}: {self.sentences[0]}")
        lines = [f"  {number}. {sentence}" for number, sentence in enumerate(self.sentences[:SHOWN], 1)]
        if len(self.sentences) > SHOWN:
            lines.append(f"  ... and {len(self.sentences) - SHOWN} more.")
        raise ModelError("\n".join([f"Cannot import {self.model}, which has {len(self.sentences)} problems:", *lines]))


def reason_of(error: Exception) -> str:
    """The first line an exception of someone else's says, without its full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def listed(names: Iterable[str], most: int = 4) -> str:
    """Quoted names, the first few of many: ``'a', 'b' and 7 more``."""
    quoted = [repr(name) for name in names] or ["none"]
    if len(quoted) > most:
        quoted[most:] = [f"{len(quoted) - most} more"]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
