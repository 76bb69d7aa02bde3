"""The record database: claims, heartbeats, what survives a death, and bad files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy
from tuning_fakes import problem

from tapdot.cli.tuning_table import summaries
from tapdot.runtime.tuning.database import RECORDS, RecordsError, default_path, title_of, url_of
from tapdot.runtime.tuning.owner import has_ended, owner
from tapdot.runtime.tuning.record import CLAIMED, DONE, FAILED, WRONG, Finding
from tapdot.runtime.tuning.records import Records, best

CONFIG = {"a": 1, "b": 1, "c": 0}
OTHER = {"a": 2, "b": 0, "c": 1}
FOUND = Finding(DONE, 2e-6, 0.01, 9)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


def test_a_claim_is_ours_until_it_is_finished(place: Path) -> None:
    with Records(place) as records, Records(place) as others:
        assert records.claim(problem(), CONFIG) is None
        refused = others.claim(problem(), CONFIG)
        assert refused is not None and refused.state == CLAIMED
        assert records.of(problem()) == []
        assert records.finish(problem(), CONFIG, FOUND)
        known = others.claim(problem(), CONFIG)
        assert known is not None and (known.state, known.value, known.runs) == (DONE, 2e-6, 9)
        assert known.configuration == CONFIG


def test_configurations_of_other_problems_are_others(place: Path) -> None:
    with Records(place) as records:
        assert records.claim(problem(16), CONFIG) is None
        assert records.claim(problem(32), CONFIG) is None
        assert records.claim(problem(16), OTHER) is None


def test_the_order_of_a_configurations_fields_does_not_matter(place: Path) -> None:
    with Records(place) as records:
        records.claim(problem(), {"a": 1, "b": 2})
        assert records.claim(problem(), {"b": 2, "a": 1}) is not None


def test_a_released_claim_is_anybodys(place: Path) -> None:
    with Records(place) as records, Records(place) as others:
        records.claim(problem(), CONFIG)
        records.release(problem(), CONFIG)
        assert others.claim(problem(), CONFIG) is None


def test_claims_go_back_when_the_database_is_closed(place: Path) -> None:
    with Records(place) as records:
        records.claim(problem(), CONFIG)
    with Records(place) as records:
        assert records.claim(problem(), CONFIG) is None


def test_a_claim_without_heartbeat_expires(place: Path) -> None:
    with Records(place) as records, Records(place, expiry_seconds=5) as others:
        records.claim(problem(), CONFIG)
        with records.engine.begin() as connection:
            connection.execute(RECORDS.update().values(heartbeat=time.time() - 6, claimed_by="elsewhere|1|2|3"))
        assert others.abandoned(problem()) == [CONFIG]
        assert others.under_way(problem()) == set()
        assert others.claim(problem(), CONFIG) is None
        assert not records.finish(problem(), CONFIG, FOUND)  # whoever was slow may not overwrite what is under way
        assert others.finish(problem(), CONFIG, FOUND)


def test_a_heart_that_beats_keeps_a_claim(place: Path) -> None:
    with Records(place, expiry_seconds=0.6) as records, Records(place, expiry_seconds=0.6) as others:
        records.claim(problem(), CONFIG)
        time.sleep(1.0)
        known = others.claim(problem(), CONFIG)
        assert known is not None and known.state == CLAIMED


def test_the_claims_of_a_killed_process_are_free_at_once(place: Path) -> None:
    script = (
        "import sys, time; sys.path.insert(0, 'tests/runtime/tuning')\n"
        "from tuning_fakes import problem\n"
        "from tapdot.runtime.tuning.records import Records\n"
        f"Records({str(place)!r}).claim(problem(), {CONFIG!r}); print('claimed', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "claimed\n"
        with Records(place) as records:
            known = records.claim(problem(), CONFIG)
            assert known is not None and known.state == CLAIMED
            process.kill()
            process.wait()
            assert records.abandoned(problem()) == [CONFIG]
            assert records.claim(problem(), CONFIG) is None


def test_owners_are_told_apart() -> None:
    assert owner() != owner()
    assert not has_ended(owner())
    machine = owner().split("|")[0]
    assert has_ended(f"{machine}|{os.getpid()}|1|abc")  # a number that was given to another process since
    assert has_ended(f"{machine}|4194304|1|abc")
    assert not has_ended("another machine|1|1|abc")


def test_many_threads_share_a_database(place: Path) -> None:
    taken: list[int] = []

    def work(records: Records) -> None:
        for number in range(12):
            if records.claim(problem(), {"a": number}) is None:
                records.finish(problem(), {"a": number}, FOUND)
                taken.append(number)

    with Records(place) as one, Records(place) as two:
        threads = [threading.Thread(target=work, args=(records,)) for records in (one, two, one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == list(range(12))
        assert len(one.of(problem())) == 12


def test_what_is_wrong_or_failed_is_never_the_best(place: Path) -> None:
    with Records(place) as records:
        for config, finding in (
            ({"a": 0}, Finding(WRONG, detail="3 of 16 elements differ")),
            ({"a": 1}, Finding(FAILED, detail="it crashed (signal 11)")),
            ({"a": 2}, FOUND),
            ({"a": 3}, Finding(DONE, 3e-6, 0.0, 9)),
        ):
            records.claim(problem(), config)
            records.finish(problem(), config, finding)
        found = records.of(problem())
        assert len(found) == 4
        winner = best(found)
        assert winner is not None and winner.configuration == {"a": 2}


def test_a_record_says_what_it_is_of(place: Path) -> None:
    with Records(place) as records:
        records.claim(problem(), CONFIG)
        facts = problem().facts
        assert records.workload(facts["workload"]) == problem().workload
        assert records.fact(f"device {facts['device']}") == "a made-up device"
        assert '"name": "test"' in (records.fact(f"target {facts['target']}") or "")


@pytest.mark.parametrize(
    "text", ["garbage", "{}", "7", "[]", "[" * 100_000, '{"inputs": 1, "outputs": [], "op": 1, "attributes": []}']
)
def test_a_fact_that_cannot_be_read_is_none(place: Path, text: str) -> None:
    key = problem().workload.key
    with Records(place) as records:
        records.take([], {f"workload {key}": text, f"target {problem().place.target_digest}": text})
        assert records.workload(key) is None
        records.claim(problem(), CONFIG)
        records.finish(problem(), CONFIG, FOUND)
        (row,) = summaries(records)
        assert (row.operation, row.target, row.trials) == (key, problem().place.target_digest, 1)


def test_a_file_is_in_wal_mode(place: Path) -> None:
    with Records(place), sqlite3.connect(place) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# -- bad input --------------------------------------------------------------------------------------------------------------


def sentence(error: pytest.ExceptionInfo[RecordsError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text and "sqlalche" not in text.lower()
    for word in words:
        assert word in text, text


def test_a_locked_database(place: Path) -> None:
    with Records(place, busy_seconds=0.5) as records:
        holder = sqlite3.connect(place, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with pytest.raises(RecordsError) as error:
            records.claim(problem(), CONFIG)
        assert time.monotonic() < started + 2.0  # once that long, not at every attempt: 2.5 s, or with the default minutes
        sentence(error, str(place), "locked by another program", "nothing was lost")
        with pytest.raises(RecordsError) as error:
            holder.execute("PRAGMA locking_mode=EXCLUSIVE")
            Records(place, busy_seconds=0.05).claim(problem(), CONFIG)
        holder.close()
        assert records.claim(problem(), CONFIG) is None


def test_a_full_disk(place: Path) -> None:
    with Records(place) as records:
        records.claim(problem(), CONFIG)
        records.finish(problem(), CONFIG, FOUND)

        @sqlalchemy.event.listens_for(records.engine, "connect")
        def no_room(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA max_page_count=1")

        records.engine.dispose()
        with pytest.raises(RecordsError) as error:
            for number in range(500):
                records.claim(problem(), {"a": number, "b": 10**30})
        sentence(error, "disk is full", "what was recorded is kept")
    with Records(place) as records:
        assert records.of(problem())[0].value == FOUND.value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"certainly no database, but long enough to be one" * 50, "not a record database"),
        (b"SQLite format 3\0" + b"\xff" * 5000, "damaged"),
        (b'{"format": 1}\n', "tapdot records import"),
    ],
)
def test_a_damaged_file(place: Path, content: bytes, words: str) -> None:
    place.write_bytes(content)
    with pytest.raises(RecordsError) as error:
        Records(place)
    sentence(error, str(place), words)
    assert place.read_bytes() == content


def test_a_file_damaged_in_the_middle(place: Path) -> None:
    with Records(place) as records:
        for number in range(200):
            records.claim(problem(), {"a": number})
            records.finish(problem(), {"a": number}, FOUND)
    whole = place.read_bytes()
    place.write_bytes(whole[:8192] + b"\xa5" * (len(whole) - 8192))
    with pytest.raises(RecordsError) as error, Records(place) as records:
        records.find()
    sentence(error, "damaged")


def test_a_newer_format(place: Path) -> None:
    with Records(place), sqlite3.connect(place) as connection:
        connection.execute("UPDATE tapdot_facts SET text='2' WHERE name='format'")
    with pytest.raises(RecordsError) as error:
        Records(place)
    sentence(error, "newer tapdot", "Upgrade")


def test_no_file_where_one_is_read(place: Path) -> None:
    with pytest.raises(RecordsError) as error:
        Records(place, create=False)
    sentence(error, "There are no records", "tapdot tune")
    assert not place.exists()


def test_a_database_of_something_else(place: Path) -> None:
    with sqlite3.connect(place) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(RecordsError) as error:
        Records(place, create=False)
    sentence(error, "without tuning records")


def test_a_folder_and_an_unknown_kind_of_database(tmp_path: Path) -> None:
    with pytest.raises(RecordsError) as error:
        Records(tmp_path)
    sentence(error, "folder")
    with pytest.raises(RecordsError) as error:
        Records("cabinet://user:secret@shelf/drawer")
    sentence(error, "cannot be used")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite://", ":memory:"])
def test_a_database_in_memory(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecordsError) as error:
        Records(url)
    sentence(error, "in the memory of one process", "a file's name")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+psycopg://shelf/drawer", ("the Python module psycopg,", 'pip install "psycopg[binary]"')),
        ("postgresql+psycopg2://me:secret@shelf/drawer", ("needs the Python module psycopg2", "pip install psycopg2-binary")),
        ("mysql+pymysql://shelf/drawer", ("needs the Python module pymysql", "pip install pymysql")),
        ("postgresql://me:secret@shelf:port/drawer", ("no URL of a database", "postgresql://")),
    ],
)
def test_a_database_server_that_cannot_be_asked(url: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for driver in ("psycopg", "psycopg2", "pymysql"):
        monkeypatch.setitem(sys.modules, driver, None)  # as if it were not installed
    with pytest.raises(RecordsError) as error:
        Records(url)
    sentence(error, *words)
    assert "secret" not in str(error.value)


def test_names_of_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert url_of(tmp_path / "a.db") == f"sqlite:///{tmp_path.resolve() / 'a.db'}"
    assert url_of("postgresql://shelf/tapdot") == "postgresql://shelf/tapdot"
    assert title_of("postgresql://me:secret@shelf/tapdot") == "postgresql://me:***@shelf/tapdot"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path() == tmp_path / "tapdot" / "records.db"
