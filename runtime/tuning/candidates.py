"""A configuration as machine code: one library of one kernel, with the arrays packed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapdot.compiler.lower.library import build_kernel
from tapdot.kernels.family import Config
from tapdot.runtime.tuning.workloads import Subject


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
        library = build_kernel(symbol, lambda: family.build(workload, config, target, symbol), target)
        return Candidate(subject, dict(config), symbol, library, tuple(subject.packed(config)))
    except OSError:
        raise  # a full disk is no property of the configuration
    except Exception as error:  # whatever a family or TVM finds wrong with a point of the space
        reason = (str(error).strip().splitlines() or [""])[-1][:300] or type(error).__name__
        raise CandidateError(f"it cannot be built: {reason}") from error
