"""Every function of kernels.vector_math against its meaning in float64, densely and at the edges."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tapdot.kernels import vector_math
from tapdot.kernels.emit import argument, load, store
from tapdot.kernels.target import find_target
from tapdot.kernels.tvm_adapter import T, function, object_code, tvm
from tapdot.kernels.vector_math import FUNCTIONS, Function

HOST_TABLES = ["host", "host:avx2", "host:generic", "generic-x86-64"]
ALLOWED = ("TVMFFI", "__TVMFFI", "TVMBackend", "memcpy", "memset")


def build(name: str, target_name: str, count: int, operands: int):
    """A function that applies one entry of the table to ``count`` elements."""
    target = find_target(target_name)
    lanes, done = target.isa.lanes, []
    with function(name, done):
        xs = [argument(f"x{index}", count, "float32") for index in range(operands)]
        y = argument("y", count, "float32")
        with T.serial(count // lanes) as i:
            values = [load(x, i * lanes, lanes) for x in xs]
            store(y, i * lanes, FUNCTIONS[name].emit(vector_math.statements(target.isa), *values), lanes)
    return done[0], target


def run(name: str, target_name: str, *xs: np.ndarray) -> np.ndarray:
    primitive, target = build(name, target_name, xs[0].size, len(xs))
    library = tvm.tirx.build(primitive, target=tvm.target.Target(target.llvm()))
    y = tvm.runtime.tensor(np.full(xs[0].size, 7, np.float32))
    library[name](*(tvm.runtime.tensor(x) for x in xs), y)
    return y.numpy()


def samples() -> np.ndarray:
    """Every exponent and both signs, dense around zero, integers and halves, and the edges."""
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**32, 60000, dtype=np.uint32).view(np.float32)
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38], np.float32)
    near = np.array([np.nextafter(np.float32(e), np.float32(d)) for e in (0, 1, -1, 88.722839, -103.97208, 89.4) for d in (-1e9, 1e9)], np.float32)
    dense = [generator.uniform(-s, s, 20000).astype(np.float32) for s in (0.01, 1, 5, 100)]
    whole = (np.arange(-1000, 1000) / 2).astype(np.float32)
    xs = np.concatenate([bits, edges, near, *dense, whole])
    return np.resize(xs, -(-xs.size // 64) * 64)


def check(entry: Function, got: np.ndarray, *xs: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        true = entry.meaning(*(x.astype(np.float64) for x in xs))
        rounded = true.astype(np.float32)
        exponent = np.frexp(np.where(np.isfinite(rounded), rounded, 1).astype(np.float64))[1]
        spacing = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    inside = np.isnan(xs[0]) | np.isinf(xs[0]) | ((xs[0] >= entry.domain[0]) & (xs[0] <= entry.domain[1]))
    nan = np.isnan(rounded)
    assert np.array_equal(np.isnan(got)[inside], nan[inside]), [
        (x[inside][np.isnan(got)[inside] != nan[inside]][:5]) for x in (*xs, got)
    ]
    finite = np.isfinite(rounded) & np.isfinite(got) & inside
    # Next to the overflow threshold a rounded result may be infinite on one side only.
    infinite = (np.isinf(rounded) | np.isinf(got)) & inside & ~nan
    edge = np.abs(np.clip(true, -1e39, 1e39)) >= 3.4028233e38
    assert np.array_equal(got[infinite & ~edge], rounded[infinite & ~edge])
    assert (np.abs(got[infinite & edge]) >= 3.4028233e38).all()
    error = np.abs(got[finite].astype(np.float64) - true[finite])
    # Rounding the true result to float32 is half a unit by itself.
    allowed = np.maximum((entry.ulp + 0.5 if entry.ulp else 0) * spacing[finite], entry.absolute)
    worst = np.argmax(error - allowed)
    units = error / spacing[finite]
    units = units[error > entry.absolute]
    print(f"{entry.name}: worst {units.max() if units.size else 0:.2f} ulp")
    assert (error <= allowed).all(), (
        [x[finite][worst] for x in xs], got[finite][worst], true[finite][worst], float(error[worst] / spacing[finite][worst])
    )


@pytest.mark.parametrize("target", HOST_TABLES)
@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"power"}))
def test_unary_functions_are_within_their_bounds(name: str, target: str) -> None:
    xs = samples()
    check(FUNCTIONS[name], run(name, target, xs), xs)
