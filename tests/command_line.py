"""Commands as a user runs them, in this process: what they leave, and how a failure must look."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tapdot.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit status, stdout and stderr, the latter with line breaks of the terminal undone."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one message on stderr."""
        return " ".join(self.err.split())

    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


Tapdot = Callable[..., Outcome]


def command_runner(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Tapdot:
    """Runs a command in this process; what libraries write past Python is seen too."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["tapdot", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "120")
        capfd.readouterr()
        status: object = 0
        with warnings.catch_warnings():
            try:
                main()
            except SystemExit as leaving:
                status = leaving.code
        captured = capfd.readouterr()
        return Outcome(int(status or 0), captured.out, captured.err)  # type: ignore[call-overload]

    return run


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def failed(outcome: Outcome, *words: str) -> None:
    """One or two sentences on stderr, nothing on stdout, status 1."""
    assert outcome.status == 1, outcome
    assert outcome.out == ""
    assert outcome.sentence.startswith("tapdot: ")
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.sentence, outcome.sentence
