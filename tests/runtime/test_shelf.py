"""Serving several devices side by side, and leaving."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tapdot.runtime.devices import connect
from tapdot.runtime.shelf import Place, ServedDevice, serve_all


class SlowToLeave(ServedDevice):
    """A device that takes so many seconds to put away, as one in a session does."""

    def __init__(self, seconds: float) -> None:
        super().__init__(connect("host"), Place("127.0.0.1", 1, "key"), lambda text: None)
        self.seconds, self.left = seconds, False

    def serve(self) -> None:
        self._stopping.wait()
        time.sleep(self.seconds)
        self.left = True


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers are the test's own."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_serve_waits_until_every_device_is_put_away(signals: None, number: signal.Signals) -> None:
    """An interrupt inside ``Thread.join`` makes Python take a thread that runs for one that has ended: the process left while its
    first device was being put away, and agents and forwarded ports stayed behind.
    """
    devices = [SlowToLeave(seconds) for seconds in (1.0, 0.0, 0.0)]
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    serve_all(devices)
    assert [device.left for device in devices] == [True] * 3
