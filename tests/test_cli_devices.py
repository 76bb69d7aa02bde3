"""``tapdot devices``, ``tracker`` and ``serve`` as a user runs them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.command_line import Tapdot
from tests.conftest import HEARS_CONTROL_C


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--device", "toaster", "--key", "k"], "'toaster' names no device"),
        (["--device", "host", "--key", "two words"], "names no device. A device is written as one of:"),
    ],
)
def test_what_names_no_device_is_refused(tapdot: Tapdot, arguments: list[str], sentence: str) -> None:
    outcome = tapdot("serve", *arguments)
    assert outcome.status == 1 and sentence in outcome.sentence


def test_a_trackers_address_is_host_and_port(tapdot: Tapdot) -> None:
    outcome = tapdot("serve", "--device", "host", "--key", "k", "--tracker", "nowhere")
    assert outcome.status == 2 and "expected HOST:PORT, found 'nowhere'" in outcome.sentence


def test_a_busy_port_is_a_sentence(tapdot: Tapdot, unused_listener: int) -> None:
    outcome = tapdot("tracker", "--port", unused_listener)
    assert outcome.status == 1
    assert outcome.sentence.startswith(f"tapdot: A tracker cannot listen on 127.0.0.1:{unused_listener} (")


@pytest.fixture
def unused_listener():  # type: ignore[no-untyped-def]
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def start(*arguments: str) -> subprocess.Popen[str]:
    script = HEARS_CONTROL_C + "from tapdot.cli import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )


def test_a_shelf_from_the_command_line(tapdot: Tapdot, tmp_path: Path) -> None:
    """A tracker, a device on its shelf, the doctor's walk to it, and both ended by Ctrl-C with nothing left."""
    tracker = start("tracker", "--port", "0")
    assert tracker.stdout is not None
    line = tracker.stdout.readline()
    found = re.match(r"tracker at 127\.0\.0\.1:(\d+); end it with Ctrl-C", line)
    assert found is not None, line
    server = start("serve", "--device", "host", "--key", "this-machine", "--tracker", f"127.0.0.1:{found[1]}")
    try:
        assert server.stdout is not None
        assert "host is on the shelf of the tracker at 127.0.0.1" in server.stdout.readline()
        outcome = tapdot("doctor", "--device", f"tracker://127.0.0.1:{found[1]}/this-machine", "--json")
        steps = {step["name"]: step["detail"] for step in outcome.json()}
        assert outcome.status == 0 and steps["devices"] == "1 under the key this-machine, 1 free, 0 clients waiting"
        assert steps["target"].startswith("host, whose code uses")
        family = psutil.Process(server.pid).children()
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0 and not psutil.wait_procs(family, timeout=10)[1]
    finally:
        server.kill()
        server.communicate()
        tracker.send_signal(signal.SIGINT)
        status = tracker.wait(20)
        tracker.communicate()
    assert status == 0
