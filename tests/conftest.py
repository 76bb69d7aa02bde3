"""What all tests share: one thread for torch, and a plain word about emulated tests that cannot run here."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.command_line import Tapdot

HOW_TO_EMULATE = "sudo apt-get install qemu-user libc6-arm64-cross libstdc++6-arm64-cross"
SIGNS_OF_A_MISSING_TOOL = ("emulated: ", "could not import", "is not installed")
LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")

HEARS_CONTROL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""First line of a script that a test sends SIGINT to: a shell's background jobs ignore it, and so would what they start."""


@pytest.fixture
def tapdot(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Tapdot:
    """Runs a command in this process."""
    from tests.command_line import command_runner

    return command_runner(monkeypatch, capfd)


def emulator_missing() -> str | None:
    """What keeps emulated tests from running here, or None."""
    if shutil.which("qemu-aarch64") is None:
        return "qemu-aarch64 is not installed"
    if not (LIBRARIES / "libc.so.6").exists() and "TAPDOT_SYSROOT" not in os.environ:
        return "the aarch64 system libraries are not installed"
    return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long form of the soak tests")


def pytest_configure(config: pytest.Config) -> None:
    import torch

    torch.set_num_threads(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported and collected stays: half a second of every full garbage collection to come goes by without it."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reason = emulator_missing()
    if reason is None:
        return
    for item in items:
        if item.get_closest_marker("emulated"):
            item.add_marker(pytest.mark.skip(reason=f"emulated: {reason}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    emulated = [report for report in skipped if "emulated: " in str(report.longrepr)]
    if emulated:
        terminalreporter.write_line(f"{len(emulated)} emulated tests were not run. To run them: {HOW_TO_EMULATE}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where every tool is promised, a test skipped for a missing one is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("TAPDOT_REQUIRE_TOOLS") or reporter is None:
        return
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    missing = [reason for reason in reasons if any(sign in reason for sign in SIGNS_OF_A_MISSING_TOOL)]
    if missing:
        reporter.write_line(f"Every tool is promised, yet {len(missing)} tests were skipped for want of one, first: {missing[0]}")
        if exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
