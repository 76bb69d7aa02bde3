"""Who holds a claim, and whether that process still lives."""

from __future__ import annotations

import os
import secrets
import socket
from functools import cache
from pathlib import Path

SEPARATOR = "|"


def owner() -> str:
    """A name for a holder of claims in this process: machine, process, when it started, and a number drawn for the holder."""
    return SEPARATOR.join((_machine(), str(os.getpid()), _started(os.getpid()), secrets.token_hex(4)))


def has_ended(name: str) -> bool:
    """Whether the owner is known to be gone: a process of this machine that is no more. Of other machines nothing is known."""
    machine, *rest = name.split(SEPARATOR)
    if machine != _machine() or len(rest) != 3:
        return False
    process, started, _ = rest
    return not process.isdigit() or _started(int(process)) != started


@cache
def _machine() -> str:
    """This machine since it was started; numbers of processes are its own, or its container's."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot = processes = ""
    return f"{socket.gethostname()[:40]} {boot} {processes}"


def _started(process: int) -> str:
    """When a process started, in ticks since the machine did; empty where there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
