"""The profile: every kernel once, beside the right limit, with what is no arithmetic of the network's own marked."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console
from tests.runtime.test_device_limits import MODEL
from tests.small_networks import small_network

import tapdot
from tapdot.cli.profile_table import print_profile
from tapdot.compiler.coverage import Island
from tapdot.compiler.package import Package
from tapdot.compiler.program import KernelCall
from tapdot.runtime import layer_profile
from tapdot.runtime.layer_profile import Profile, held_against, moved_bytes
from tapdot.runtime.limits import Rate, today


@pytest.fixture(scope="module")
def package() -> Package:
    return tapdot.compile(small_network(), target="host:generic")


@pytest.fixture
def profile(package: Package) -> Profile:
    count = len(package.program.calls)
    return held_against(package, [1e-5 * (index + 1) for index in range(count)], MODEL, 2e-4)


def test_every_kernel_beside_the_nearer_limit(package: Package, profile: Profile) -> None:
    for kernel, call in zip(profile.kernels, package.program.calls, strict=True):
        read, written = moved_bytes(call)
        arithmetic, memory = call.macs / 40e9, MODEL.seconds_of_bytes(read, written)
        assert kernel.bound == ("arithmetic" if arithmetic > memory else "memory")
        assert kernel.share_of_limit == pytest.approx(max(arithmetic, memory) / kernel.seconds)
        assert kernel.bytes == read + written
    assert {kernel.bound for kernel in profile.kernels} == {"arithmetic", "memory"}
    assert sum(kernel.share for kernel in profile.kernels) == pytest.approx(1)


def test_bytes_are_those_of_weights_inputs_and_outputs(package: Package) -> None:
    call = next(call for call in package.program.calls if call.macs)
    read, written = moved_bytes(call)
    packed = sum(array.nbytes for array in package.packed(call))
    assert read - packed == sum(operand.elements * 4 for operand in call.workload.variable_inputs)
    assert written == call.workload.output.elements * 4


def test_copies_conversions_and_islands_are_marked(package: Package) -> None:
    calls = package.program.calls

    def remark(call: KernelCall, op: str, islands: set[str]) -> str:
        return layer_profile._remark(dataclasses.replace(call, workload=dataclasses.replace(call.workload, op=op)), islands)

    assert remark(calls[0], "Relayout", set()) == remark(calls[0], "Concat", {calls[0].node}) == "copy"
    assert remark(calls[0], "Quantize", set()) == "conversion"
    assert remark(calls[0], "Softmax", {calls[0].node}) == "float island"
    assert remark(calls[0], "Softmax", set()) == ""


def test_islands_come_from_the_packages_coverage(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    last = package.program.calls[-1].node
    assert package.coverage is not None
    islands = dataclasses.replace(package.coverage, islands=(Island((last,), "after the integers", "why"),))
    monkeypatch.setitem(package.__dict__, "coverage", islands)
    found = held_against(package, [1e-5] * len(package.program.calls), MODEL, 1e-4)
    assert [kernel.node for kernel in found.kernels if kernel.remark == "float island"] == [last]


def test_products_of_codes_have_the_limit_of_codes(package: Package) -> None:
    call = next(call for call in package.program.calls if call.macs)
    codes = dataclasses.replace(call.workload.inputs[0], dtype="int8")  # type: ignore[type-var]
    integer = dataclasses.replace(call, workload=dataclasses.replace(call.workload, inputs=(codes, *call.workload.inputs[1:])))
    assert layer_profile.multiplies_codes(integer) and not layer_profile.multiplies_codes(call)


def test_limits_that_a_kernel_beats_are_measured_again(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit taken while something else ran would make every later profile look better than it is."""
    slow_arithmetic = dataclasses.replace(MODEL, compute={"float32 multiply-add": Rate(1.0, "neon fma")})
    slow_memory = dataclasses.replace(MODEL, memory=dict.fromkeys(MODEL.memory, (1.0, 1.0, 1.0)))
    of_today = dataclasses.replace(slow_memory, date=today())
    for kept, again in ((slow_arithmetic, True), (slow_memory, True), (of_today, False)):
        asked: list[bool] = []

        def remembered(*_: object, fresh: bool = False, kept: object = kept, asked: list[bool] = asked) -> object:
            asked.append(fresh)
            return MODEL if fresh else kept

        monkeypatch.setattr(layer_profile, "device_limits", remembered)
        measured = tapdot.connect("host").measure(package, runs=2, per_layer=True)
        assert asked == [False, True][: 1 + again]
        assert measured.profile is not None and measured.profile.limits == (MODEL if again else kept)


def printed(profile: Profile, sort: str, top: int | None) -> list[str]:
    text = io.StringIO()
    print_profile(profile, Console(file=text, width=120), sort, top)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_the_table_is_sorted_cut_and_summed_up(profile: Profile) -> None:
    names = [kernel.node for kernel in profile.kernels]
    assert [line.split()[0] for line in printed(profile, "order", None)[1 : 1 + len(names)]] == names
    assert [line.split()[0] for line in printed(profile, "time", 2)[1:3]] == names[:-3:-1]
    furthest = min(profile.kernels, key=lambda kernel: kernel.share_of_limit)
    assert printed(profile, "limit", 1)[1].startswith(furthest.node)
    lines = printed(profile, "time", 2)
    assert lines[3].startswith(f"... and {len(names) - 2} more, ")
    assert lines[4].startswith(f"Sum of {len(names)} kernels alone: ") and lines[4].endswith("% of the whole's 0.200 ms.")
    assert "sdot" in lines[-1] and "a phone" in lines[-1]
