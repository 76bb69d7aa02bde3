"""What all tests share: one thread for torch, and a plain word about emulated tests that cannot run here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

HOW_TO_EMULATE = "sudo apt-get install qemu-user libc6-arm64-cross libstdc++6-arm64-cross"
LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")


def emulator_missing() -> str | None:
    """What keeps emulated tests from running here, or None."""
    if shutil.which("qemu-aarch64") is None:
        return "qemu-aarch64 is not installed"
    if not (LIBRARIES / "libc.so.6").exists() and "TAPDOT_SYSROOT" not in os.environ and shutil.which("apt-get") is None:
        return "the aarch64 system libraries are not installed"
    return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long form of the soak tests")


def pytest_configure(config: pytest.Config) -> None:
    import torch

    torch.set_num_threads(1)


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


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where every tool is promised, a test skipped for a missing one is a failure."""
    if os.environ.get("TAPDOT_REQUIRE_TOOLS") and emulator_missing() is not None and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
