"""Which target code for a device is generated for when nobody names one, and whether code for a target runs on a device."""

from __future__ import annotations

import re
from functools import cache

from tapdot.compiler.errors import DeviceError
from tapdot.kernels.isa import ISAS
from tapdot.kernels.target import Target, find_target, target_names
from tapdot.runtime.devices.base import DeviceInformation
from tapdot.runtime.devices.host import processor_name

# LLVM's names of processors that stand for any of an architecture: what is built for them needs the listed features only.
ANY_PROCESSOR = re.compile(r"generic|x86-64(-v\d)?")


@cache
def _table() -> tuple[Target, ...]:
    return tuple(find_target(name) for name in target_names() if name != "host")


def target_for(information: DeviceInformation) -> str:
    """The name of the target for a device, by what it says of itself.

    The processor of this machine gets ``host``. A core with an entry of its own in the table of targets gets that, unless the
    device lacks a feature of the entry (a kernel that hides it). Any other gets the entry for any processor whose features are
    all there: the one with the best instruction table, and of those the one with most features. Raises DeviceError for an
    architecture without entries.
    """
    if information.cpu == processor_name() and not missing_features(find_target("host"), information):
        return "host"  # an agent on this machine, or on its twin
    fitting = [target for target in _table() if not missing_features(target, information)]
    fitting = [target for target in fitting if target.architecture == information.architecture]
    if named := [target for target in fitting if target.cpu == information.cpu]:
        return named[0].name
    ranks = {name: rank for rank, name in enumerate(ISAS)}
    general = [target for target in fitting if ANY_PROCESSOR.fullmatch(target.cpu)]
    if not general:
        known = ", ".join(sorted({target.architecture for target in _table()}))
        raise DeviceError(
            f"No target serves a device of the architecture {information.architecture}; tapdot compiles for {known}. See: "
            f"tapdot devices --targets"
        )
    return min(general, key=lambda target: (ranks[target.isa.name], -len(target.features), target.name)).name


def missing_features(target: Target, information: DeviceInformation) -> tuple[str, ...]:
    """The target's features that the device does not have, sorted."""
    return tuple(sorted(set(target.features) - set(information.features)))


def check_fits(target: Target, information: DeviceInformation, line: str) -> None:
    """Raises DeviceError where code for a target does not run on a device: of another architecture, or without its features."""
    if information.architecture != target.architecture:
        reason = (
            f"The package is for {target.architecture} (target {target.name}), and the device {line} is "
            f"{information.architecture}."
        )
    elif missing := missing_features(target, information):
        reason = (
            f"The package is for {target.name}, whose code needs {', '.join(missing)}, and the device {line} "
            f"({information.cpu}) has no such instructions."
        )
    else:
        return
    raise DeviceError(
        f"{reason} Run it on another --device, or compile the model for this one with --target {target_for(information)}."
    )
