"""Which target a device gets by what it says of itself, and which packages it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.runtime.devices.test_information import PHONE
from tests.small_networks import INPUT_SHAPE, small_network

import tapdot
from tapdot.compiler.errors import DeviceError
from tapdot.kernels.target import find_target
from tapdot.runtime.devices import connect
from tapdot.runtime.devices.base import DeviceInformation
from tapdot.runtime.devices.cores import compiler_features, core_name
from tapdot.runtime.devices.targets import missing_features, target_for

ARMV8 = ("neon", "aes", "crc")
ARMV82 = (*ARMV8, "fullfp16", "dotprod", "lse")
ARMV86 = (*ARMV82, "i8mm", "bf16", "sve2")


def device(architecture: str, cpu: str, features: tuple[str, ...]) -> DeviceInformation:
    return dataclasses.replace(PHONE, architecture=architecture, cpu=cpu, features=features)


@pytest.mark.parametrize(
    ("architecture", "cpu", "features", "target"),
    [
        ("aarch64", "cortex-a55", ARMV82, "cortex-a55"),
        ("aarch64", "cortex-a76", ARMV82, "cortex-a76"),
        ("aarch64", "neoverse-n1", ARMV82, "neoverse-n1"),
        ("aarch64", "cortex-x2", ARMV86, "cortex-x2"),
        ("aarch64", "cortex-x2", ARMV82, "generic-aarch64-dotprod"),  # a kernel that hides i8mm
        ("aarch64", "cortex-a78", ARMV82, "generic-aarch64-dotprod"),
        ("aarch64", "cortex-x4", ARMV86, "generic-aarch64-i8mm"),
        ("aarch64", "implementer 0x51 part 0x001", ARMV86, "generic-aarch64-i8mm"),
        ("aarch64", "cortex-a53", ARMV8, "generic-aarch64"),
        ("x86_64", "Some Processor", ("sse2",), "generic-x86-64"),
        ("x86_64", "Some Processor", ("avx2", "fma"), "x86-64-v3"),
        ("x86_64", "Some Processor", ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"), "x86-64-v4"),
        ("x86_64", "Some Processor", find_target("x86-64-v4-vnni").features, "x86-64-v4-vnni"),
    ],
)
def test_a_device_gets_the_best_target_whose_features_it_has(
    architecture: str, cpu: str, features: tuple[str, ...], target: str
) -> None:
    found = device(architecture, cpu, features)
    assert target_for(found) == target
    assert not missing_features(find_target(target), found)


def test_another_architecture_is_refused_with_those_there_are() -> None:
    with pytest.raises(DeviceError, match="architecture riscv64; tapdot compiles for aarch64, x86_64"):
        target_for(device("riscv64", "riscv64", ()))


def test_this_machine_runs_what_is_compiled_for_it() -> None:
    with connect("host").open() as session:
        information = session.information()
    assert not missing_features(find_target("host"), information)
    assert target_for(information) == "host"


def test_systems_words_are_told_in_compilers_words() -> None:
    assert compiler_features(["fp", "asimd", "asimddp", "asimdhp", "i8mm", "atomics"], "aarch64") == (
        "fp",
        "neon",
        "dotprod",
        "fullfp16",
        "i8mm",
        "lse",
    )
    assert compiler_features(("avx2", "avx512_vnni", "avx512f"), "x86_64") == ("avx2", "avx512vnni", "avx512f")
    assert core_name(0x413FD0B1, "aarch64") == "cortex-a76"
    assert core_name(0x517F001F, "aarch64") == "implementer 0x51 part 0x001"
    assert core_name(0, "x86_64") == "x86_64"


@pytest.mark.emulated
def test_a_package_whose_instructions_the_phone_lacks_is_refused_before_anything_runs() -> None:
    package = tapdot.compile(small_network(), target="cortex-x2")
    sentence = r"The package is for cortex-x2, whose code needs bf16, i8mm, and the device emulated \(cortex-a76\) has no such"
    with pytest.raises(DeviceError, match=sentence + r" instructions\. .* --target cortex-a76"):
        connect("emulated").run(package, {"image": np.zeros(INPUT_SHAPE, np.float32)})


@pytest.mark.emulated
def test_the_emulated_phone_with_everything_gets_the_target_with_most() -> None:
    assert connect("emulated:max").default_target() == "generic-aarch64-i8mm"
    assert connect("emulated:neoverse-n1").default_target() == "neoverse-n1"  # known without starting it
