"""Compiling with records: winners are used, stale ones named and skipped, nothing wins inside the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tuning_fakes import FAMILY, PLACE, TARGET, problem, workload

from tapdot.runtime.tuning.configured import Recorded, choose
from tapdot.runtime.tuning.record import DONE, INSTRUCTIONS, WRONG, Record, config_text
from tapdot.runtime.tuning.records import Records

DEFAULT = {"a": 1, "b": 1, "c": 0}
BEST = {"a": 4, "b": 2, "c": 1}


def record(config: dict[str, int], value: float | None, gain: float | None = None, **changes: object) -> Record:
    found = Record(**problem().facts, config=config_text(config), state=DONE, value=value, runs=9, gain=gain, spread=0.01)
    return replace(found, **changes)  # type: ignore[arg-type]


def test_the_winner_measured_in_turns_is_chosen() -> None:
    assert choose([record(DEFAULT, 2.0), record(BEST, 1.0, 1.8), record({"a": 3, "b": 1, "c": 0}, 0.9, 1.5)], DEFAULT) == BEST


def test_the_default_stays_where_turns_showed_no_gain() -> None:
    assert choose([record(DEFAULT, 2.0), record(BEST, 1.0, 1.0)], DEFAULT) == DEFAULT


def test_without_turns_only_what_lies_outside_the_noise_counts() -> None:
    assert choose([record(DEFAULT, 2.0), record(BEST, 1.9)], DEFAULT) == BEST
    assert choose([record(DEFAULT, 2.0, spread=0.08), record(BEST, 1.9)], DEFAULT) == DEFAULT
    assert choose([record(BEST, 1.0)], DEFAULT) == DEFAULT  # nobody knows how the default fares
    counted = [record(DEFAULT, 2000.0, unit=INSTRUCTIONS, spread=0.0), record(BEST, 1990.0, unit=INSTRUCTIONS, spread=0.0)]
    assert choose(counted, DEFAULT) == BEST


def test_wrong_answers_never_win() -> None:
    assert choose([record(DEFAULT, 2.0), record(BEST, None, state=WRONG)], DEFAULT) == DEFAULT


def configured(place: Path, found: Sequence[Record]) -> tuple[object, tuple[str, ...]]:
    """The configuration chosen, and the notes."""
    with Records(place) as records:
        records.take(found, {"device 0123456789ab": "a made-up device", "device other": "another one"})
        configure = Recorded(records)
        return configure(FAMILY, workload(), TARGET), configure.notes()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


def test_records_of_the_very_kernel_are_used(place: Path) -> None:
    config, notes = configured(place, [record(DEFAULT, 2.0), record(BEST, 1.0, 1.9)])
    assert config == BEST
    assert notes == (f"Tuning records {place}: 1 kernels tuned, 0 where the default is best, 0 without a record.",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "2 of version 2 of the fake kernels, which are at 1"),
        ({"tvm": "0.26.0"}, f"2 of tvm 0.26.0, where {PLACE.tvm} generates the code"),
        ({"target": "another"}, None),
        ({"family": "other"}, None),
        ({"workload": "another"}, None),
    ],
)
def test_stale_records_are_named_and_skipped(place: Path, changes: dict[str, object], words: str | None) -> None:
    config, notes = configured(place, [record(DEFAULT, 2.0, **changes), record(BEST, 1.0, 1.9, **changes)])
    assert config == DEFAULT
    assert "1 without a record" in notes[0]
    assert notes[1:] == (() if words is None else (f"Tuning records skipped: {words}.",))


def test_a_configuration_that_is_none_any_more_is_not_built(place: Path) -> None:
    config, _ = configured(place, [record(DEFAULT, 2.0), record({"a": 2, "b": 1, "c": 0}, 1.0, 1.9)])
    assert config == DEFAULT


def test_of_several_devices_the_one_tuned_last_decides(place: Path) -> None:
    late = {"a": 3, "b": 1, "c": 1}
    found = [record(DEFAULT, 2.0, finished=1.0), record(BEST, 1.0, 1.9, finished=2.0)]
    found += [record(late, 3.0, 1.2, finished=3.0, device="other")]
    config, _ = configured(place, found)
    assert config == late


def test_an_empty_database_changes_nothing(place: Path) -> None:
    config, notes = configured(place, [])
    assert config == DEFAULT and "1 without a record" in notes[0]
