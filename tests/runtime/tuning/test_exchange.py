"""Export, import and merge: nothing is lost, nothing counts twice, damaged lines are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tuning_fakes import problem

from tapdot.runtime.tuning.database import RecordsError
from tapdot.runtime.tuning.exchange import export, merge, read, take_file
from tapdot.runtime.tuning.record import DONE, Finding, Record
from tapdot.runtime.tuning.records import Records


def fill(place: Path, *figures: tuple[int, float, int]) -> None:
    """Records of the configuration ``{"a": number}`` with a figure of so many runs."""
    with Records(place) as records:
        for number, value, runs in figures:
            records.claim(problem(), {"a": number})
            records.finish(problem(), {"a": number}, Finding(DONE, value, 0.0, runs))


def content(place: Path) -> dict[str, Record]:
    with Records(place, create=False) as records:
        return {record.key: record for record in records.find()}


def test_exported_records_come_back(tmp_path: Path) -> None:
    fill(tmp_path / "a.db", (1, 1e-6, 9), (2, 2e-6, 3))
    with Records(tmp_path / "a.db") as records:
        records.confirm(problem(), {"a": 1}, Finding(DONE, 1e-6, 0.0, 15), 1.25)
        records.claim(problem(), {"a": 3})
        assert export(records, tmp_path / "a.jsonl") == 2  # what is under way is nobody else's
    with Records(tmp_path / "b.db") as records:
        taken = take_file(records, tmp_path / "a.jsonl")
        assert (taken.read, taken.new, taken.replaced) == (2, 2, 0)
        again = take_file(records, tmp_path / "a.jsonl")
        assert (again.read, again.new, again.replaced) == (2, 0, 0)
        assert records.workload(problem().workload.key) == problem().workload
    assert content(tmp_path / "a.db") == content(tmp_path / "b.db")


def test_of_two_records_the_one_of_more_runs_stays(tmp_path: Path) -> None:
    fill(tmp_path / "a.db", (1, 1e-6, 9), (2, 2e-6, 3), (3, 3e-6, 9))
    fill(tmp_path / "b.db", (1, 9e-6, 3), (2, 8e-6, 9), (4, 4e-6, 9))
    one, other = content(tmp_path / "a.db"), content(tmp_path / "b.db")
    for into, source in (("a.db", "b.db"), ("b.db", "a.db"), ("a.db", "b.db")):
        with Records(tmp_path / into) as records:
            merge(records, tmp_path / source)
    merged = content(tmp_path / "a.db")
    assert merged == content(tmp_path / "b.db")
    values = sorted(record.value for record in merged.values())
    assert values == [1e-6, 3e-6, 4e-6, 8e-6]
    assert set(merged) == set(one) | set(other)


def test_of_equal_runs_the_newer_stays(tmp_path: Path) -> None:
    fill(tmp_path / "a.db", (1, 1e-6, 9))
    fill(tmp_path / "b.db", (1, 2e-6, 9))
    with Records(tmp_path / "a.db") as records:
        assert merge(records, tmp_path / "b.db").replaced == 1
        assert [record.value for record in records.find()] == [2e-6]
    with Records(tmp_path / "b.db") as records:
        assert merge(records, tmp_path / "a.db").replaced == 0


def test_records_of_other_versions_are_named_and_kept(tmp_path: Path) -> None:
    fill(tmp_path / "a.db", (1, 1e-6, 9))
    (own,) = content(tmp_path / "a.db").values()
    strangers = [
        replace(own, tvm="0.26.0"),
        replace(own, family="convolution", version=99),
        replace(own, family="convolution", version=99, config='{"a": 2}'),
    ]
    with Records(tmp_path / "b.db") as records:
        records.take(strangers, {})
        export(records, tmp_path / "b.jsonl")
    with Records(tmp_path / "c.db") as records:
        text = str(take_file(records, tmp_path / "b.jsonl"))
        assert "3 new" in text
        assert "1 record of tvm 0.26.0" in text
        assert "2 records of version 99 of the convolution kernels" in text
        assert len(records.find()) == 3


def with_value(**values: object) -> Callable[[list[str]], list[str]]:
    """Spoils the first record of a file."""
    return lambda lines: [lines[0], json.dumps({**json.loads(lines[1]), **values}), lines[2]]


def with_head(**values: object) -> Callable[[list[str]], list[str]]:
    """Spoils the first line of a file."""
    return lambda lines: [json.dumps({**json.loads(lines[0]), **values}), *lines[1:]]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda lines: [*lines[:2], lines[2][: len(lines[2]) // 2]], ("Line 3", "cut short")),
        (with_value(value="fast"), ("Line 2", "no tuning record")),
        (lambda lines: [lines[0], json.dumps({**json.loads(lines[1]), "state": "claimed"})], ("Line 2",)),
        (lambda lines: [lines[0], json.dumps({**json.loads(lines[1]), "config": "[]"})], ("Line 2",)),
        (lambda lines: [lines[0], json.dumps({"workload": "x"})], ("Line 2",)),
        (with_head(format=7), ("newer", "format 7")),
        (with_value(version=10**30), ("Line 2", "no tuning record")),
        (with_value(value=10**400), ("Line 2", "no tuning record")),
        (with_value(detail="\ud800"), ("Line 2", "no tuning record")),
        (with_value(value=float("nan")), ("Line 2", "no tuning record")),
        (with_value(spread=float("nan")), ("Line 2", "no tuning record")),
        (with_value(finished=float("inf")), ("Line 2", "no tuning record")),
        (with_value(unit="parsec"), ("Line 2", "no tuning record")),
        (with_value(state=[]), ("Line 2", "no tuning record")),
        (lambda lines: [*lines, "[" * 100_000], ("Line 4", "damaged")),
        (with_head(format=-1), ("no tuning records",)),
        (with_head(format=True), ("no tuning records",)),
        (with_head(format=None), ("no tuning records",)),
        (with_head(facts={"device x": "\ud800"}), ("Line 1", "cannot be stored")),
        (lambda lines: lines[1:], ("no tuning records",)),
        (lambda lines: [], ("no tuning records",)),
        (lambda lines: ["\x00\x01 binary"], ("Line 1",)),
    ],
)
def test_a_damaged_file_changes_nothing(tmp_path: Path, spoil, words: tuple[str, ...]) -> None:
    fill(tmp_path / "a.db", (1, 1e-6, 9), (2, 2e-6, 9))
    with Records(tmp_path / "a.db") as records:
        export(records, tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    (tmp_path / "a.jsonl").write_text("\n".join(spoil(lines)))
    with Records(tmp_path / "b.db") as records:
        with pytest.raises(RecordsError) as error:
            take_file(records, tmp_path / "a.jsonl")
        assert records.find() == []
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="There are no records"):
        read(tmp_path / "none.jsonl")
