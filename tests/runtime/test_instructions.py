"""Counting instructions: repeatable, proportional to the work, and only for answers that hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.runtime.conftest import link_source

import tapdot
from tapdot.compiler.errors import DeviceError, InputError
from tapdot.runtime.bundle import build_bundle
from tapdot.runtime.devices.agent_process import AgentProcess
from tapdot.runtime.devices.base import DeviceInformation
from tapdot.runtime.devices.emulated import emulator_command
from tapdot.runtime.devices.remote import RemoteDevice
from tapdot.runtime.echo import ELEMENTS, SYMBOL, echo_library
from tapdot.runtime.instructions import Argument, count_call, count_instructions, counting_cpu

pytestmark = pytest.mark.emulated

# Loops of a known length. An argument cell is 16 bytes, the second word a pointer to a tensor object: a header of 24 bytes, then
# a DLTensor, which begins with the pointer to its data.
COUNTED_SOURCE = """
typedef struct { int kind, padding; struct { char header[24]; void *data; } *tensor; } Argument;
#define DATA(i) (((Argument *)arguments)[i].tensor->data)
int __tvm_ffi_short(void *self, void *arguments, int count, void *result) {
    for (int i = 0; i < 1000; ++i) __asm__ volatile("nop\\nnop\\nnop\\nnop");
    return 0;
}
int __tvm_ffi_long(void *self, void *arguments, int count, void *result) {
    for (int i = 0; i < 100000; ++i) __asm__ volatile("nop\\nnop\\nnop\\nnop");
    return 0;
}
int __tvm_ffi_remembers(void *self, void *arguments, int count, void *result) {
    ++*(volatile int *)DATA(0);
    return 0;
}
int __tvm_ffi_main(void *self, void *arguments, int count, void *result) {
    char *weights = DATA(0), *arena = DATA(1), *input = DATA(2), *output = DATA(3);
    for (int i = 0; i < 64; ++i) arena[i] = weights[i] + input[i];
    for (int i = 0; i < 64; ++i) output[i] = arena[i];
    return 0;
}
int __tvm_ffi_crash(void *self, void *arguments, int count, void *result) { *(volatile int *)0 = 1; return 0; }
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_source(COUNTED_SOURCE, "aarch64", tmp_path_factory.mktemp("counted library") / "counted.so")


def test_a_kernel_is_counted_alone_and_repeatably(tmp_path: Path) -> None:
    values = np.arange(ELEMENTS, dtype=np.float32)
    library = echo_library("aarch64", tmp_path / "echo.so")
    arguments = [Argument.read(values), Argument.write(values.shape, values.dtype)]
    first, second = (count_call(library, SYMBOL, arguments) for _ in range(2))
    assert abs(first.per_run - second.per_run) <= 0.001 * first.per_run
    assert 0 < first.per_run < 100 * ELEMENTS
    assert np.array_equal(first.outputs[0], 2 * values)


def test_the_count_is_the_works(counted: Path) -> None:
    short, long = (count_call(counted, name, []).per_run for name in ("short", "long"))
    # Four no-ops, an addition or comparison or two, and a branch a turn.
    assert 99_000 * 6 <= long - short <= 99_000 * 8


def phone(cpu: str) -> DeviceInformation:
    return DeviceInformation("aarch64", cpu, (), 1, 1.0, 1.0, 1.0, True, "Linux")


def test_the_cpu_that_is_counted_on() -> None:
    assert counting_cpu("emulated") == "cortex-a76" and counting_cpu("emulated:a64fx") == "a64fx"
    assert counting_cpu("emulated:neoverse-n1", phone("cortex-a53")) == "neoverse-n1"
    assert counting_cpu("rpc://127.0.0.1:1", phone("cortex-a53")) == "cortex-a53"
    # A phone of Android's own emulator may have any CPU, one too new for QEMU or without a name too.
    assert (
        counting_cpu("adb", phone("cortex-x9")) == counting_cpu("tracker://h:1/k", phone("implementer 0x00 part 0x051")) == "max"
    )


def test_a_package_is_counted_on_the_devices_own_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent on another emulated CPU than the usual one, where a package was counted on a Cortex-A76 all the same."""
    package = tapdot.compile(torch.nn.Conv2d(3, 8, 3).eval(), (torch.zeros(1, 3, 8, 8),), target="generic-aarch64")
    asked: list[str] = []

    def note(cpu: str) -> list[str]:
        asked.append(cpu)
        return emulator_command(cpu)

    monkeypatch.setattr("tapdot.runtime.instructions.emulator_command", note)
    agent = AgentProcess(build_bundle("aarch64"), emulator_command("cortex-a53"), tmp_path / "weights", ("--emulated",))
    try:
        found = RemoteDevice("127.0.0.1", agent.port, agent.key).measure(package)
    finally:
        agent.stop()
    assert found.instructions and set(asked) == {"cortex-a53"}


def test_a_program_is_counted_with_its_weights(counted: Path, tmp_path: Path) -> None:
    weights = np.arange(200, dtype=np.uint8)
    (tmp_path / "a package").write_bytes(weights.tobytes())
    values = np.arange(64, dtype=np.uint8)
    found = count_instructions(
        counted, tmp_path / "a package", 64, [values], [((8, 8), np.uint8)], weights_offset=128, weights_size=64
    )
    assert np.array_equal(found.outputs[0].ravel(), weights[128:192] + values)


def test_an_answer_that_depends_on_earlier_calls_is_an_error(counted: Path) -> None:
    with pytest.raises(DeviceError, match="wrote other values to result 0 after 4 calls than after 2"):
        count_call(counted, "remembers", [Argument.update(np.zeros(4, np.int32))])


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("nowhere", [], "the library has no function 'nowhere'"),
        ("crash", [], "crash crashed on the emulated cortex-a76"),
    ],
)
def test_a_failure_is_a_sentence(counted: Path, function: str, arguments: list[Argument], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        count_call(counted, function, arguments)


def test_what_cannot_be_passed_is_refused(counted: Path) -> None:
    with pytest.raises(InputError, match="Tensor 0 of short is complex64"):
        count_call(counted, "short", [Argument.read(np.zeros(2, np.complex64))])


def test_time_is_limited(counted: Path) -> None:
    with pytest.raises(DeviceError, match=r"took longer than 0\.01 s"):
        count_call(counted, "short", [], time_limit=0.01)
