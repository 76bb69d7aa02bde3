"""What is known of one configuration of one kernel at one place, as plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tapdot.kernels.family import Config, Family
from tapdot.kernels.target import Target
from tapdot.kernels.versions import SUPPORTED_TVM
from tapdot.kernels.workload import Workload

SECONDS, INSTRUCTIONS = "seconds", "instructions"
"""Units of what was measured; on an emulated device instructions are counted, and never called a time."""

CLAIMED, DONE, WRONG, FAILED = "claimed", "done", "wrong", "failed"
"""Somebody is at it; it was measured; its answer was not the reference's; it could not be built, or crashed, or hung."""
STATES = (CLAIMED, DONE, WRONG, FAILED)

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a fact may raise that another version, or another program, wrote."""


@dataclass(frozen=True)
class Place:
    """Where kernels are measured: figures of one place may be compared.

    ``device`` is a device's fingerprint and ``title`` says it in words.
    """

    target: Target
    device: str
    title: str
    threads: int = 1
    unit: str = SECONDS
    tvm: str = SUPPORTED_TVM

    @property
    def target_digest(self) -> str:
        """A short name of the target's facts."""
        return digest_of_target(self.target)


def digest_of_target(target: Target) -> str:
    """The same for every target that code is generated alike for."""
    return _digest([target.json()])[:16]


@dataclass(frozen=True)
class Problem:
    """A workload that a family computes at a place: what one study is about."""

    workload: Workload
    family: str
    version: int
    place: Place

    @classmethod
    def of(cls, workload: Workload, family: Family, place: Place) -> Problem:
        return cls(workload, family.name, family.version, place)

    @property
    def facts(self) -> dict[str, Any]:
        """What records of the problem have in common."""
        place = self.place
        return {
            "workload": self.workload.key,
            "family": self.family,
            "version": self.version,
            "target": place.target_digest,
            "device": place.device,
            "threads": place.threads,
            "tvm": place.tvm,
        }

    @property
    def name(self) -> str:
        """A name for the study: the same wherever the problem is."""
        return f"{self.family} {_digest(sorted(self.facts.items()))[:24]}"

    def key(self, config: Config) -> str:
        """The unique key of a configuration's record."""
        return record_key({**self.facts, "config": config_text(config)})


def config_text(config: Config) -> str:
    """A configuration as text; equal configurations have equal text."""
    return json.dumps(dict(config), sort_keys=True)


KEY_FIELDS = ("workload", "family", "version", "target", "device", "threads", "tvm", "config")


def record_key(facts: Mapping[str, Any]) -> str:
    """The unique key of what :data:`KEY_FIELDS` say."""
    return _digest([facts[name] for name in KEY_FIELDS])


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Finding:
    """How a configuration fared. ``spread`` is half the distance between the quartiles of the ``runs``, as a share of the median
    ``value``; ``detail`` says why there is none.
    """

    state: str
    value: float | None = None
    spread: float = 0.0
    runs: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Record:
    """A finding with all that it holds for.

    ``workload``, ``target`` and ``device`` are short names (:attr:`Workload.key`, :func:`digest_of_target`, a fingerprint);
    ``finished`` is in seconds since 1970. ``gain`` is how many times faster than the family's default the configuration was when
    both were measured again in turns; None where that was not done.
    """

    workload: str
    family: str
    version: int
    target: str
    device: str
    threads: int
    tvm: str
    config: str
    state: str
    unit: str = SECONDS
    value: float | None = None
    spread: float = 0.0
    runs: int = 0
    detail: str = ""
    finished: float = 0.0
    gain: float | None = None

    @property
    def key(self) -> str:
        """The unique key under which it is kept."""
        return record_key(vars(self))

    @property
    def configuration(self) -> dict[str, int]:
        """The configuration itself."""
        return dict(json.loads(self.config))

    @property
    def order(self) -> tuple[Any, ...]:
        """Of two records with one key, the larger is kept: the one with more runs, then the newer; the rest settles ties."""
        return (self.state != CLAIMED, self.runs, self.finished, self.state, self.value or 0.0, self.gain or 0.0, self.spread)

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)
