"""Limit kernels compute what they claim to, limits are kept by device, and the roofline is the nearer of two."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tapdot
from tapdot.compiler.errors import DeviceError
from tapdot.kernels.target import Target, find_target
from tapdot.kernels.tvm_adapter import PrimFunc, assembly, build, tvm
from tapdot.runtime import clock, limit_kernels, limits
from tapdot.runtime.clock import ClockStability
from tapdot.runtime.devices.host import HostSession
from tapdot.runtime.limits import DeviceLimits, Rate, clock_stability, device_limits

HOST = find_target("host")
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def few_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_kernels, "ITERATIONS", 3)


def compiled(kernel: PrimFunc) -> Callable[..., None]:
    symbol = str(kernel.attrs["global_symbol"])
    return build({symbol: kernel}, HOST.llvm())[symbol]


# -- kernels --------------------------------------------------------------------------------------------------------------------


def test_multiply_add_accumulates(few_iterations: None) -> None:
    isa = HOST.isa
    starts, operands = limit_kernels.multiply_add_arrays(isa, 1)
    sums = tvm.runtime.tensor(starts)
    compiled(limit_kernels.multiply_add_kernel(isa, 1))(sums, tvm.runtime.tensor(operands))
    np.testing.assert_array_equal(sums.numpy(), starts + 3 * 0.25)
    assert limit_kernels.multiply_add_macs(isa, 1) == 3 * starts.size


def test_dot_accumulates_products_of_codes(few_iterations: None) -> None:
    instruction = limit_kernels.find_dot_instruction(HOST)
    if instruction is None or instruction.form != "accumulates":
        pytest.skip("this processor has no accumulating 8-bit dot product")
    starts, operands = limit_kernels.dot_arrays(instruction, HOST.isa, 1)
    codes = np.tile(np.array([1, 2, 3, 4], np.int8), operands.size)
    sums = tvm.runtime.tensor(starts)
    compiled(limit_kernels.dot_kernel(instruction, HOST.isa, 1))(sums, tvm.runtime.tensor(codes.view(np.int32)))
    np.testing.assert_array_equal(sums.numpy(), starts + 3 * (1 + 4 + 9 + 16))
    assert limit_kernels.dot_macs(instruction, HOST.isa, 1) == 3 * 4 * starts.size


@pytest.mark.parametrize(
    ("target", "instruction"),
    [("cortex-x2", "smmla"), ("cortex-a76", "sdot"), ("generic-aarch64", "smlal"), ("x86-64-v3", "vpmaddwd ymm")],
)
def test_the_best_dot_product_of_a_target_is_not_optimized_away(target: str, instruction: str) -> None:
    found = limit_kernels.find_dot_instruction(find_target(target))
    assert found is not None and found.name == instruction
    isa = find_target(target).isa
    text = assembly({limit_kernels.DOT: limit_kernels.dot_kernel(found, isa, 1)}, find_target(target).llvm())
    assert text.count(f"\t{instruction.split()[0]}\t") >= limit_kernels.chains_of(isa.registers)


def test_memory_kernels_go_over_as_much_as_they_are_told() -> None:
    isa = HOST.isa
    step = limit_kernels.step_elements(isa)
    kernels = limit_kernels.memory_kernels(isa, 5 * step, 1)
    told = tvm.runtime.tensor(np.array([3, 2], np.int32))  # three of five steps, twice
    source = np.random.default_rng(0).random(5 * step, dtype=np.float32)
    data, other, sums = (tvm.runtime.tensor(array) for array in (source, np.zeros_like(source), np.zeros(step, np.float32)))
    compiled(kernels["read"])(told, sums, data)
    np.testing.assert_allclose(sums.numpy().sum(), 2 * source[: 3 * step].sum(), rtol=1e-5)
    compiled(kernels["copy"])(told, data, other)
    np.testing.assert_array_equal(other.numpy(), np.concatenate([source[: 3 * step], np.zeros(2 * step, np.float32)]))
    compiled(kernels["write"])(told, tvm.runtime.tensor(np.full(step, 7, np.float32)), data)
    np.testing.assert_array_equal(data.numpy(), np.concatenate([np.full(3 * step, 7, np.float32), source[3 * step :]]))


def test_the_cycle_counter_does_every_operation() -> None:
    x, a, b = 1, 0x5A5A5A5A, 0x3C6EF372
    numbers = tvm.runtime.tensor(np.array([x, a, b], np.int32))
    compiled(limit_kernels.cycle_kernel())(numbers)
    for _ in range(limit_kernels.CYCLES // 2):
        x = (x ^ a) + b & 0xFFFFFFFF
    assert numbers.numpy().view(np.uint32)[0] == x


# -- measuring them --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Limits of a small set in an empty cache."""
    for name, value in {"WORKING_SETS": (1 << 14, 1 << 20), "MOVED": 1 << 20, "REPEATS": 2}.items():
        monkeypatch.setattr(limits, name, value)
    monkeypatch.setattr(limit_kernels, "ITERATIONS", 1 << 12)
    for module in (limits, clock):
        monkeypatch.setattr(module, "cache_directory", lambda: tmp_path)
    return tmp_path


def test_limits_are_measured_once_for_a_kind_of_device(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tapdot.connect("host").open() as session:
        found = device_limits(session, HOST)
        assert found.threads == 1 and found.target == "host" and found.working_sets == (1 << 14, 1 << 20)
        assert found.compute["float32 multiply-add"].per_second > 1e8
        assert set(found.memory) == {"read", "write", "copy"}
        assert all(min(rates) > 1e7 for rates in found.memory.values())
        assert DeviceLimits.from_json(found.json()) == found
        assert "GMAC/s" in str(found) and found.date in str(found)
        monkeypatch.setattr(limits, "_compute_rates", lambda *_: pytest.fail("measured again"))
        assert device_limits(session, HOST) == found
        information = session.information()
        elsewhere = dataclasses.replace(information, cpu="another")
        for other, arguments in (
            (information, (HOST, 2)),
            (information, (find_target("host:generic"), 1)),
            (elsewhere, (HOST, 1)),
        ):
            monkeypatch.setattr(HostSession, "information", lambda _, other=other: other)
            with pytest.raises(pytest.fail.Exception, match="measured again"):
                device_limits(session, *arguments)


def test_a_damaged_cache_is_measured_anew(quick: Path) -> None:
    with tapdot.connect("host").open() as session:
        device_limits(session, HOST)
        (kept,) = (quick / "limits").glob("*.json")
        kept.write_text('{"device": 1}')
        assert device_limits(session, HOST).threads == 1


def test_an_emulated_device_has_no_limits(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tapdot.connect("host").open() as session:
        emulated = dataclasses.replace(session.information(), emulated=True)
        monkeypatch.setattr(HostSession, "information", lambda _: emulated)
        for ask in (lambda: device_limits(session, HOST), lambda: clock_stability(session)):
            with pytest.raises(DeviceError, match=r"host is emulated: it has no clock of its own"):
                ask()


def test_clock_stability(quick: Path) -> None:
    with tapdot.connect("host").open() as session:
        found = clock_stability(session, runs=8)
    assert len(found.times) == 8 and 100 < found.megahertz < 10_000
    steady = ClockStability((1e-4,) * 8, 200_000)
    assert steady.steady and steady.spread == 0 and steady.megahertz == 2000
    assert str(steady) == "a fixed loop varies by 0.0% over 8 runs, at about 2000 MHz"
    assert not ClockStability((1e-4, 1.1e-4) * 4, 200_000).steady


# -- the roofline ----------------------------------------------------------------------------------------------------------------

MODEL = DeviceLimits(
    *("a phone", "cortex-a76", 1, "big", "2026-01-01"),
    {"float32 multiply-add": Rate(40e9, "neon fma"), "int8 dot": Rate(160e9, "sdot")},
    (16 * KIB, MIB, 64 * MIB),
    {"read": (64e9, 16e9, 4e9), "write": (32e9, 8e9, 4e9), "copy": (64e9, 16e9, 4e9)},
)


def test_bandwidth_lies_between_what_was_measured() -> None:
    assert MODEL.bandwidth("read", 1) == MODEL.bandwidth("read", 16 * KIB) == 64e9
    assert MODEL.bandwidth("read", 128 * KIB) == pytest.approx(32e9)  # half-way by logarithms
    assert MODEL.bandwidth("read", MIB) == pytest.approx(16e9)
    assert MODEL.bandwidth("read", 1 << 40) == 4e9


def test_the_least_time_of_bytes() -> None:
    assert MODEL.seconds_of_bytes(0, 0) == 0
    assert MODEL.seconds_of_bytes(MIB, 0) == pytest.approx(MIB / 16e9)
    assert MODEL.seconds_of_bytes(MIB // 2, MIB // 2) == pytest.approx(MIB / 16e9)
    assert MODEL.seconds_of_bytes(0, MIB) == pytest.approx(MIB / 8e9)
    assert MODEL.seconds_of_bytes(MIB * 3 // 4, MIB // 4) == pytest.approx(MIB / 2 / 16e9 + MIB / 2 / 16e9)


def test_the_least_time_of_products() -> None:
    assert MODEL.seconds_of_macs(10**9, integer=True) == pytest.approx(1 / 160)
    assert MODEL.seconds_of_macs(10**9, integer=False) == pytest.approx(1 / 40)
    unknown = dataclasses.replace(MODEL, compute={})
    assert unknown.seconds_of_macs(10**9, integer=True) == 0


def test_targets_for_which_nothing_is_known_have_float_limits_only() -> None:
    plain = Target("plain", "x86_64-linux-gnu", "x86-64", ())
    assert limit_kernels.find_dot_instruction(plain) is None
