"""Every function of kernels.vector_math against its meaning in float64, densely and at the edges."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tapdot.kernels.emit import argument, load, store
from tapdot.kernels.target import Target, find_target
from tapdot.kernels.tvm_adapter import PrimFunc, T, build, function, object_code, tvm
from tapdot.kernels.vector_math import FUNCTIONS, Function, double, statements

HOST_TABLES = ["host", "host:avx2", "host:generic", "generic-x86-64"]
LARGEST = 3.4028235e38
SUBNORMAL = 1e-45
EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, SUBNORMAL, -SUBNORMAL, 1.1754944e-38, LARGEST, -LARGEST]
THRESHOLDS = [0.0, 1.0, -1.0, 88.722839, -103.97208, 89.4]
"""Where a function overflows, underflows or changes its formula: the numbers beside them are tested."""


def operands(name: str) -> int:
    return 2 if name == "power" else 1


def primitive(
    symbol: str, emit: Callable[..., object], target: Target, count: int, arity: int, kind: str = "float32"
) -> PrimFunc:
    """A function that applies an emitter to ``count`` elements."""
    done: list[PrimFunc] = []
    lanes = target.isa.lanes
    with function(symbol, done):
        xs = [argument(f"x{index}", count, kind) for index in range(arity)]
        y = argument("y", count, kind)
        with T.serial(count // lanes) as i:
            values = [load(x, i * lanes, lanes) for x in xs]
            store(y, i * lanes, emit(statements(target.isa), *values), lanes)
    return done[0]


@cache
def library(target_name: str, count: int) -> object:
    """All functions for one target, compiled together."""
    target = find_target(target_name)
    functions = {name: primitive(name, entry.emit, target, count, operands(name)) for name, entry in FUNCTIONS.items()}
    return build(functions, target.llvm())


def run(name: str, target_name: str, *xs: np.ndarray) -> np.ndarray:
    y = tvm.runtime.tensor(np.full(xs[0].size, 7, np.float32))
    library(target_name, xs[0].size)[name](*(tvm.runtime.tensor(x) for x in xs), y)
    return y.numpy()


@cache
def samples() -> np.ndarray:
    """Every exponent and both signs, dense around zero, integers and halves, and the edges."""
    generator = np.random.default_rng(0)
    beside = [np.nextafter(np.float32(edge), np.float32(side)) for edge in THRESHOLDS for side in (-1e9, 1e9)]
    parts = [
        generator.integers(0, 2**32, 30000, dtype=np.uint32).view(np.float32),
        np.array([*EDGES, *beside], np.float32),
        *(generator.uniform(-scale, scale, 10000).astype(np.float32) for scale in (0.01, 1, 5, 100)),
        (np.arange(-1000, 1000) / 2).astype(np.float32),
    ]
    xs = np.concatenate(parts)
    return np.resize(xs, 73_728)


def units(true: np.ndarray) -> np.ndarray:
    """The unit in the last place of the float32 nearest to each value."""
    exponent = np.frexp(np.where(np.isfinite(true), true, 1))[1]
    return np.ldexp(1.0, np.clip(exponent - 24, -149, 104))


def check(entry: Function, got: np.ndarray, *xs: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        true = np.asarray(entry.meaning(*(x.astype(np.float64) for x in xs)))
        rounded = true.astype(np.float32)
    inside = ~np.isfinite(xs[0]) | ((xs[0] >= entry.domain[0]) & (xs[0] <= entry.domain[1]))
    true, rounded, got = true[inside], rounded[inside], got[inside]
    where = [x[inside] for x in xs]
    differ = np.flatnonzero(np.isnan(got) != np.isnan(rounded))
    assert not differ.size, [x[differ[:5]] for x in (*where, got)]
    # Beside the overflow threshold a result may be rounded to either side of it.
    at_edge = np.abs(np.nan_to_num(true, nan=0.0, posinf=np.inf)) >= LARGEST * (1 - 1e-6)
    infinite = ~np.isnan(rounded) & (np.isinf(rounded) | np.isinf(got))
    assert np.array_equal(got[infinite & ~at_edge], rounded[infinite & ~at_edge])
    assert (np.abs(got[infinite & at_edge]) >= LARGEST * (1 - 1e-6)).all()
    finite = np.isfinite(rounded) & np.isfinite(got)
    error, unit = np.abs(got[finite].astype(np.float64) - true[finite]), units(true[finite])
    allowed = np.maximum(entry.ulp * unit, entry.absolute)
    worst = int(np.argmax(error - allowed))
    assert (error <= allowed).all(), [float(x[finite][worst]) for x in (*where, got, true)] + [error[worst] / unit[worst]]


@pytest.mark.parametrize("target", HOST_TABLES)
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if operands(name) == 1])
def test_a_function_is_within_its_bound(name: str, target: str) -> None:
    check(FUNCTIONS[name], run(name, target, samples()), samples())


@pytest.mark.parametrize("target", HOST_TABLES)
def test_powers_are_within_their_bound_and_follow_c(target: str) -> None:
    generator = np.random.default_rng(0)
    xs = samples()
    for ys in (generator.permutation(xs), np.round(generator.uniform(-9, 9, xs.size)).astype(np.float32)):
        check(FUNCTIONS["power"], run("power", target, xs, ys), xs, ys)
    special = np.array([*EDGES, 2.0, -2.0, 3.0, -3.0, 2.5], np.float32)
    a, b = (part.reshape(-1) for part in np.meshgrid(special, special))
    a, b = np.resize(a, xs.size), np.resize(b, xs.size)
    check(FUNCTIONS["power"], run("power", target, a, b), a, b)


@pytest.mark.parametrize("name", ["sin", "tanh", "exp"])
def test_zero_keeps_its_sign(name: str) -> None:
    zeros = np.resize(np.array([0.0, -0.0], np.float32), samples().size)
    got = run(name, "host", zeros)
    assert np.array_equal(np.signbit(got), np.signbit(zeros) & (name != "exp"))


@pytest.mark.parametrize(("emit", "meaning"), [(double.exp, np.exp), (double.log, np.log)])
@pytest.mark.parametrize("target_name", ["host", "host:generic"])
def test_doubles_are_within_two_units(emit: Callable[..., object], meaning: Callable[..., np.ndarray], target_name: str) -> None:
    generator = np.random.default_rng(0)
    ranges = [generator.uniform(-750, 720, 20000), generator.uniform(0, 4, 20000), 10.0 ** generator.uniform(-320, 308, 20000)]
    xs = np.resize(np.concatenate([*ranges, [0.0, np.inf, -np.inf, np.nan, 5e-324]]), 60032)
    target = find_target(target_name)
    body = primitive("double", emit, target, xs.size, 1, "float64")
    y = tvm.runtime.tensor(np.zeros(xs.size))
    build({"double": body}, target.llvm())["double"](tvm.runtime.tensor(xs), y)
    with np.errstate(all="ignore"):
        expected = meaning(xs)
    got = y.numpy()
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    unit = np.spacing(np.abs(expected[finite]))
    assert (np.abs(got[finite] - expected[finite]) <= 2 * unit).all()


@pytest.mark.parametrize("target_name", [*HOST_TABLES, "generic-aarch64", "cortex-a76"])
def test_no_library_is_called(target_name: str, tmp_path: Path) -> None:
    target = find_target(target_name)
    functions = {name: primitive(name, entry.emit, target, 64, operands(name)) for name, entry in FUNCTIONS.items()}
    path = tmp_path / "functions.o"
    path.write_bytes(object_code(functions, target.llvm()))
    lines = subprocess.run(["nm", "-u", path], capture_output=True, text=True, check=True).stdout.splitlines()
    names = [line.split()[-1] for line in lines]
    assert all(name.startswith(("TVMFFI", "__TVMFFI", "TVMBackend", "__TVMBackend")) for name in names), names
