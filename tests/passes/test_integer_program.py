"""What surrounds HiGHS: that it prints nothing, ends in time, and says what it has proved."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading

import numpy as np
import pytest
from tests.bit_tables import random_table

from tapdot.passes import integer_program
from tapdot.passes.assign_bits import assign
from tapdot.passes.bit_budgets import Budget, BudgetError
from tapdot.passes.integer_program import Row, least_excess, solve


@pytest.mark.parametrize("guarded", [True, False])
def test_highs_prints_nothing(guarded: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints lines whatever it is told, and a C library keeps them until the process ends: after the command's last line."""
    if not guarded:
        monkeypatch.setattr(integer_program, "_without_chatter", contextlib.nullcontext)
    for seed in range(2):
        assign(random_table(40, seed, "correlated"), [Budget("size", share=0.5), Budget("latency", share=0.5)])
    ctypes.CDLL(None).fflush(None)
    out = capfd.readouterr().out
    if guarded:
        assert out == ""
    elif not out:
        pytest.skip("this release of HiGHS keeps quiet")


def test_what_others_print_meanwhile_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    with integer_program._without_chatter():
        os.write(1, b"a line of another thread\nHighsMipSolverData::something\nand one more\n")
    assert capfd.readouterr().out == "a line of another thread\nand one more\n"


def test_programs_in_several_threads(capfd: pytest.CaptureFixture[str]) -> None:
    found: dict[int, str] = {}

    def work(seed: int) -> None:
        found[seed] = assign(random_table(20, seed, "free"), [Budget("size", share=0.5)]).text

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("stdout is where it was", flush=True)
    assert capfd.readouterr().out == "stdout is where it was\n"
    assert found == {seed: assign(random_table(20, seed, "free"), [Budget("size", share=0.5)]).text for seed in range(4)}


STARTS = np.array([0, 2, 4])
LOSSES = np.array([0.6, 0.0, 0.4, 0.0])
COSTS = np.array([0.0, 0.5, 0.0, 0.5])


@pytest.mark.parametrize(("limit", "chosen"), [(1.0, [1, 3]), (0.7, [1, 2]), (0.0, [0, 2])])
def test_a_program_by_hand(limit: float, chosen: list[int]) -> None:
    found = solve(LOSSES, STARTS, [Row(COSTS, limit)])
    assert found is not None
    assert found.chosen.tolist() == chosen
    assert found.gap == 0


def test_limits_that_nothing_meets() -> None:
    other = Row(0.5 - COSTS, 0.2)
    assert solve(LOSSES, STARTS, [Row(COSTS, 0.2), other]) is None
    assert sorted(least_excess(STARTS, [Row(COSTS, 0.2), other]).tolist()) in ([0, 3], [1, 2])


def test_no_time_at_all() -> None:
    table = random_table(500, 0, "correlated")
    try:
        assert assign(table, [Budget("size", share=0.5)], time_limit=0.05).gap >= 0
    except BudgetError as error:
        assert str(error) == "No choice was found within 0.05 s; give the search more time."
