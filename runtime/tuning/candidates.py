"""A configuration as machine code: one library of one kernel, with the arrays packed for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapdot.compiler.cache import cache_directory
from tapdot.compiler.lower.library import build_kernel
from tapdot.kernels.family import Config
from tapdot.runtime.tuning.workloads import Subject

MOST_BYTES = 2**30
"""Of the libraries that are kept for the next time."""
IN_USE_SECONDS = 3600.0
"""A library that was asked for so recently may be waiting for its turn on a device, of this process or another."""


class CandidateError(Exception):
    """A configuration that is none: it cannot be built, or its code crashes, hangs, or fails. Not the user's fault."""


@dataclass(frozen=True)
class Candidate:
    """A built configuration of a subject."""

    subject: Subject
    config: Mapping[str, int]
    symbol: str
    library: Path
    packed: tuple[np.ndarray, ...]

    @property
    def arguments(self) -> list[np.ndarray]:
        """What the kernel reads, flat, in the order of its arguments; its results come behind."""
        return [*self.packed, *self.subject.inputs]


def build_candidate(subject: Subject, config: Config) -> Candidate:
    """Builds a configuration, or takes it from the cache. Raises CandidateError where the family or TVM refuses it."""
    family, workload, target = subject.family, subject.workload, subject.target
    try:
        symbol = family.symbol(workload, config, target)
        library = _used(lambda: build_kernel(symbol, lambda: family.build(workload, config, target, symbol), target))
        return Candidate(subject, dict(config), symbol, library, tuple(subject.packed(config)))
    except OSError:
        raise  # a full disk is no property of the configuration
    except Exception as error:  # whatever a family or TVM finds wrong with a point of the space
        reason = (str(error).strip().splitlines() or [""])[-1][:300] or type(error).__name__
        raise CandidateError(f"it cannot be built: {reason}") from error


def _used(build: Callable[[], Path]) -> Path:
    """What ``build`` gives, noted on the file that it is in use now; made again where another process has just removed it."""
    with suppress(FileNotFoundError):
        library = build()
        os.utime(library)
        return library
    return build()


def trim_candidates(most_bytes: int = MOST_BYTES) -> int:
    """Removes libraries of candidates from the cache until they take ``most_bytes`` or less, those longest unused first.

    None that is in use goes. Returns how many bytes went.
    """
    found = []
    for path in (cache_directory() / "candidates").glob("*/*.so"):
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    total = before = sum(size for _, size, _ in found)
    idle = time.time() - IN_USE_SECONDS
    for used, size, path in sorted(found):
        if total <= most_bytes or used > idle:
            break
        path.unlink(missing_ok=True)
        total -= size
    return before - total
