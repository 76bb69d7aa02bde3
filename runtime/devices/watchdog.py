"""Cutting a call short that waits in C: when its time is over, and when the user presses Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def watchdog(seconds: float, cut: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Calls ``cut`` if the body takes longer than ``seconds``, from another thread, or when Ctrl-C is pressed during it.

    Yields a function that says whether time ran out. At Ctrl-C, TVM stops waiting and lets Python handle the signal; but then the
    exception frees what the call held on the device, for which TVM asks the device and waits again, this time with Python's
    lock in its hand. So the connection is cut by the signal's own handler, before any exception.
    """
    timed_out = threading.Event()

    def give_up() -> None:
        timed_out.set()
        cut()

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        with _before_interrupt(cut):
            yield timed_out.is_set
    finally:
        timer.cancel()


@contextmanager
def _before_interrupt(action: Callable[[], None]) -> Iterator[None]:
    """Calls ``action`` at SIGINT, ahead of whatever handles it now. Does nothing outside the main thread, which never sees it."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        action()
        previous(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
