"""Pattern convolutions of codes on emulated ARM cores: gathered taps and products of windows, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from integer_cases import RESIDUAL
from sparse_cases import check, values
from test_integer_sparse import CASES, built

from tapdot.kernels import registry
from tapdot.kernels.integer_sparse_neon import NeonPatternConvolution
from tapdot.kernels.integer_sparse_neon_plan import GATHERED, WINDOWS, NeonPlan
from tapdot.kernels.layout import READ_SLACK
from tapdot.kernels.target import find_target

pytestmark = pytest.mark.emulated
GATHERS = (
    "share 1",
    "share 4 with a residual",
    "share 8, two images",
    "signs as the graph has them",
    "small plane",
    "stride 2",
    "asymmetric pads",
    "all patterns",
    "real results",
    "nothing left",
)
PLAIN = ("share 2, signed, zero points", "signs as the graph has them", "stride 2 without pads", "narrow plane")
WINDOW = ("share 2, signed, zero points", "share 4 with a residual", "14 x 14", "narrow plane", "wider halo, a table", "no pads")
ODD_WINDOWS = {"shape": (1, 9, 7, 10), "filters": 12, "share": 2, "dtype": "int8", "zero_point": 9, "offset": False, "rate": 2.0}


@pytest.mark.parametrize("name", GATHERS)
def test_gathered_taps_match_the_reference(name: str) -> None:
    target, fkw, workload = built(CASES[name], "cortex-a76")
    assert isinstance(registry.select(workload, target), NeonPatternConvolution)
    check(NeonPatternConvolution(), workload, fkw, target)


@pytest.mark.parametrize("name", PLAIN)
def test_without_dot_products(name: str) -> None:
    target, fkw, workload = built(CASES[name], "cortex-a76:neon")
    check(NeonPatternConvolution(), workload, fkw, target)


@pytest.mark.parametrize("name", WINDOW)
def test_products_of_windows_match_the_reference(name: str) -> None:
    target, fkw, workload = built(CASES[name], "cortex-x2")
    config = {**NeonPatternConvolution().default_config(workload, target), "form": WINDOWS}
    check(NeonPatternConvolution(), workload, fkw, target, config)


@pytest.mark.parametrize(
    ("target_name", "form", "rows", "columns", "splits"),
    [
        ("cortex-a76", GATHERED, 3, 5, 2),
        ("cortex-a76", GATHERED, 2, 10, 1),
        ("cortex-x2", WINDOWS, 3, 5, 4),
        ("cortex-x2", WINDOWS, 1, 1, 1),
        ("cortex-x2", WINDOWS, 4, 10, 1),
    ],
)
def test_every_tile_computes_the_same(target_name: str, form: int, rows: int, columns: int, splits: int) -> None:
    target, fkw, workload = built(ODD_WINDOWS, target_name)
    check(NeonPatternConvolution(), workload, fkw, target, {"form": form, "rows": rows, "columns": columns, "splits": splits})


@pytest.mark.parametrize(
    ("target_name", "form"), [("cortex-a76", GATHERED), ("cortex-a76:neon", GATHERED), ("cortex-x2", WINDOWS)]
)
def test_extreme_codes_and_weights(target_name: str, form: int) -> None:
    target, fkw, workload = built({"shape": (1, 32, 5, 8), "filters": 8, "share": 2, "rate": 0.5, "dtype": "int8"}, target_name)
    arrays = values(workload, fkw)
    random = np.random.default_rng(3)
    arrays[0] = random.choice([-128, 127], arrays[0].shape).astype(np.int8)
    arrays[5] = random.choice([-127, 127], arrays[5].shape).astype(np.int8)
    config = {**NeonPatternConvolution().default_config(workload, target), "form": form}
    check(NeonPatternConvolution(), workload, fkw, target, config, arrays)


@pytest.mark.parametrize(("target_name", "form"), [("cortex-a76", GATHERED), ("cortex-x2", WINDOWS)])
def test_scales_above_one_half_shift_before_they_multiply(target_name: str, form: int) -> None:
    target, fkw, workload = built({"shape": (1, 3, 5, 7), "filters": 8, "share": 2, "epilogue": RESIDUAL}, target_name)
    config = {**NeonPatternConvolution().default_config(workload, target), "form": form}
    check(NeonPatternConvolution(), workload, fkw, target, config, values(workload, fkw, small_shift=True))


def test_default_tiles_keep_their_sums_in_registers() -> None:
    for name in ("cortex-a76", "cortex-a76:neon", "cortex-x2"):
        for share in (1, 2, 4, 8):
            target, _, workload = built({"shape": (1, 16, 28, 28), "filters": 16, "share": share}, name)
            config = NeonPatternConvolution().default_config(workload, target)
            plan = NeonPlan.of(workload, config, find_target(name))
            assert plan.gather.fits and plan.rows * plan.columns > 4


@pytest.mark.parametrize("target_name", ["cortex-a76", "cortex-x2"])
@pytest.mark.parametrize(("strides", "pads"), [((1, 1), (1, 1, 1, 1)), ((1, 1), (0, 0, 0, 0)), ((2, 2), (1, 1, 1, 1))])
def test_no_tile_reads_beyond_the_slack(strides: tuple[int, int], pads: tuple[int, ...], target_name: str) -> None:
    """Windows of an odd number of tile rows read an input row too many: 126 bytes beyond the buffer at 112 x 112."""
    for size in (7, 15, 28, 57, 112):
        case = {"shape": (1, 8, size, size), "filters": 8, "share": 2, "strides": strides, "pads": pads}
        target, _, workload = built(case, target_name)
        space = NeonPatternConvolution().space(workload, target)
        windows = target_name == "cortex-x2" and strides == (1, 1)
        assert set(space["form"]) == ({GATHERED, WINDOWS} if windows else {GATHERED})
        for choice in itertools.product(*space.values()):
            config = dict(zip(space, choice, strict=True))
            assert NeonPlan.of(workload, config, target).reach <= READ_SLACK, (size, config)
