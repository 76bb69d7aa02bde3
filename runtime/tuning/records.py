"""The record database: every configuration is claimed under its key before it runs, and what was found stays.

A claim lasts as long as its owner's heart beats: a process that was killed leaves claims that others take over. SQLite in WAL
mode is the default; any database that SQLAlchemy can reach serves several machines at once (their clocks should agree within
seconds).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import and_, select
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError, OperationalError

from tapdot.kernels.family import Config
from tapdot.kernels.workload import Workload
from tapdot.runtime.tuning.database import (
    BUSY_SECONDS,
    FACTS,
    RECORDS,
    RecordsError,
    connect,
    explained,
    insert_missing,
    title_of,
    url_of,
)
from tapdot.runtime.tuning.owner import has_ended, owner
from tapdot.runtime.tuning.record import CLAIMED, DONE, KEY_FIELDS, UNREADABLE, Finding, Problem, Record, config_text

EXPIRY_SECONDS = 60.0
"""A claim whose owner was silent for that long is anybody's."""
BEATS_PER_EXPIRY = 6
TRIES = 5
"""Of a transaction that another writer was in the way of."""

Result = TypeVar("Result")


class Records:
    """A record database. Use it in a ``with``; claims that are still held at its end are given back.

    Every method raises RecordsError, with a sentence, where the database fails.
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        create: bool = True,
        expiry_seconds: float = EXPIRY_SECONDS,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self.url = url_of(where)
        self.title = title_of(self.url)
        self.owner = owner()
        self.expiry_seconds = expiry_seconds
        self.busy_seconds = busy_seconds
        self.engine = connect(self.url, busy_seconds, create)
        self._described: set[str] = set()
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives claims back and ends the heartbeat. May be called twice."""
        self._closed.set()
        if self._heart is not None:
            self._heart.join()
            self._heart = None
            with suppress(RecordsError):  # what is not given back expires
                self._write(lambda c: c.execute(RECORDS.delete().where(self._mine)))
        self.engine.dispose()

    # -- claims -------------------------------------------------------------------------------------------------------------

    def claim(self, problem: Problem, config: Config) -> Record | None:
        """Claims a configuration. None: it is ours now; else what is known of it, in state ``claimed`` that others are at it."""
        self._describe(problem)
        self._start_heart()
        key = problem.key(config)
        row = {**problem.facts, "key": key, "config": config_text(config), "state": CLAIMED, "unit": problem.place.unit}
        row |= {"spread": 0.0, "runs": 0, "detail": "", "finished": 0.0, **self._hold()}
        try:
            self._write(lambda c: c.execute(RECORDS.insert().values(**row)))
            return None
        except _Taken:
            pass
        found = self._read(lambda c: c.execute(select(RECORDS).where(RECORDS.c.key == key)).first())
        if found is None:  # given back in this moment
            return self.claim(problem, config)
        if found.state != CLAIMED or not self._abandoned(found):
            return _record(found)
        unchanged = and_(
            RECORDS.c.key == key,
            RECORDS.c.state == CLAIMED,
            RECORDS.c.claimed_by == found.claimed_by,
            RECORDS.c.heartbeat == found.heartbeat,
        )
        taken = self._write(lambda c: c.execute(RECORDS.update().where(unchanged).values(**self._hold())).rowcount)
        return None if taken else _record(found)

    def finish(self, problem: Problem, config: Config, finding: Finding) -> bool:
        """Stores what was found of a configuration claimed here; False where the claim had been lost to others meanwhile."""
        values = {
            "state": finding.state,
            "value": finding.value,
            "spread": finding.spread,
            "runs": finding.runs,
            "detail": finding.detail,
            "finished": time.time(),
            "claimed_by": None,
            "heartbeat": None,
        }
        where = and_(RECORDS.c.key == problem.key(config), self._mine)
        return bool(self._write(lambda c: c.execute(RECORDS.update().where(where).values(**values)).rowcount))

    def release(self, problem: Problem, config: Config) -> None:
        """Gives a claim back, so that the configuration may be tried again."""
        where = and_(RECORDS.c.key == problem.key(config), self._mine)
        self._write(lambda c: c.execute(RECORDS.delete().where(where)))

    def beat(self) -> None:
        """Tells others that the owner of these claims lives."""
        self._write(lambda c: c.execute(RECORDS.update().where(self._mine).values(heartbeat=time.time())))

    def abandoned(self, problem: Problem) -> list[dict[str, int]]:
        """Configurations that somebody claimed and died over."""
        where = and_(self._of(problem), RECORDS.c.state == CLAIMED)
        rows = self._read(lambda c: c.execute(select(RECORDS).where(where)).all())
        return [_record(row).configuration for row in rows if self._abandoned(row)]

    def under_way(self, problem: Problem) -> set[str]:
        """Texts of the configurations that somebody alive, here or elsewhere, has claimed."""
        where = and_(self._of(problem), RECORDS.c.state == CLAIMED)
        rows = self._read(lambda c: c.execute(select(RECORDS).where(where)).all())
        return {row.config for row in rows if not self._abandoned(row)}

    # -- what is known ------------------------------------------------------------------------------------------------------

    def of(self, problem: Problem) -> list[Record]:
        """All finished records of a problem."""
        where = and_(self._of(problem), RECORDS.c.state != CLAIMED)
        return [_record(row) for row in self._read(lambda c: c.execute(select(RECORDS).where(where)).all())]

    def find(self, **facts: Any) -> list[Record]:
        """Finished records whose columns are what is given, such as ``workload=...`` or ``family=...``."""
        where = and_(RECORDS.c.state != CLAIMED, *(RECORDS.c[name] == value for name, value in facts.items()))
        return [_record(row) for row in self._read(lambda c: c.execute(select(RECORDS).where(where)).all())]

    def confirm(self, problem: Problem, config: Config, finding: Finding, gain: float | None) -> None:
        """Replaces the figures of a configuration by those measured in turns with the default, by which it was ``gain`` times
        faster (None of the default itself)."""
        where = and_(RECORDS.c.key == problem.key(config), RECORDS.c.state == DONE)
        values = {"value": finding.value, "spread": finding.spread, "runs": finding.runs, "gain": gain}
        self._write(lambda c: c.execute(RECORDS.update().where(where).values(**values)))

    def workload(self, key: str) -> Workload | None:
        """The workload of that key; None where no fact says it, or none that this version can read."""
        text = self.fact(f"workload {key}")
        if text is None:
            return None
        try:
            found = Workload.from_json(json.loads(text))
            return found if found.key == key else None
        except UNREADABLE:
            return None

    def fact(self, name: str) -> str | None:
        """What a name stands for: ``workload KEY``, ``target DIGEST``, ``device FINGERPRINT``."""
        return self._read(lambda c: c.execute(select(FACTS.c.text).where(FACTS.c.name == name)).scalar())

    def facts(self) -> dict[str, str]:
        """All of them."""
        rows = self._read(lambda c: c.execute(select(FACTS.c.name, FACTS.c.text)).all())
        return {row.name: row.text for row in rows if row.name != "format"}

    # -- taking records over ------------------------------------------------------------------------------------------------

    def take(self, records: Iterable[Record], facts: Mapping[str, str]) -> tuple[int, int]:
        """Adds finished records of another database, all or none: how many are new, and how many replaced one of their key.

        Of two with one key the one of more runs stays, then the newer: taking the same ones twice changes nothing.
        """
        wanted: dict[str, Record] = {}
        for record in records:
            if record.state != CLAIMED and (record.key not in wanted or record.order > wanted[record.key].order):
                wanted[record.key] = record

        def write(connection: Connection) -> tuple[int, int]:
            new = replaced = 0
            known = {row.name for row in connection.execute(select(FACTS.c.name))}
            if missing := [{"name": name, "text": text} for name, text in facts.items() if name not in known]:
                connection.execute(FACTS.insert(), missing)
            for key, record in wanted.items():
                row = connection.execute(select(RECORDS).where(RECORDS.c.key == key)).first()
                values = {**record.json(), "key": key, "claimed_by": None, "heartbeat": None}
                if row is None:
                    connection.execute(RECORDS.insert().values(**values))
                    new += 1
                elif record.order > _record(row).order:
                    connection.execute(RECORDS.update().where(RECORDS.c.key == key).values(**values))
                    replaced += 1
            return new, replaced

        for _ in range(TRIES):
            with suppress(_Taken):  # somebody added one of them in this moment
                return self._write(write)
        raise RecordsError(f"The records {self.title} are being written by too many at once. Try again.")

    # -- transactions -------------------------------------------------------------------------------------------------------

    def _read(self, query: Callable[[Connection], Result]) -> Result:
        with explained(self.url), self.engine.connect() as connection:
            return query(connection)

    def _write(self, change: Callable[[Connection], Result]) -> Result:
        """One transaction, tried again where another writer was in the way."""
        started = time.monotonic()
        with explained(self.url):
            for attempt in range(1, TRIES + 1):
                try:
                    with self.engine.begin() as connection:
                        return change(connection)
                except IntegrityError as error:
                    raise _Taken from error
                except OperationalError as error:
                    waited = time.monotonic() > started + self.busy_seconds
                    if "locked" not in str(error.orig).lower() or waited or attempt == TRIES:
                        raise
                    time.sleep(0.02 * attempt)
        raise AssertionError

    def _describe(self, problem: Problem) -> None:
        """Stores in full what the keys of a problem's records stand for."""
        place = problem.place
        texts = {
            f"workload {problem.workload.key}": lambda: json.dumps(problem.workload.json()),
            f"target {place.target_digest}": lambda: json.dumps(place.target.json()),
            f"device {place.device}": lambda: place.title,
        }
        for name, text in texts.items():
            if name not in self._described:
                if self.fact(name) is None:
                    with explained(self.url):
                        insert_missing(self.engine, name, text())
                self._described.add(name)

    @property
    def _mine(self) -> Any:
        return and_(RECORDS.c.state == CLAIMED, RECORDS.c.claimed_by == self.owner)

    def _hold(self) -> dict[str, Any]:
        return {"claimed_by": self.owner, "heartbeat": time.time()}

    def _of(self, problem: Problem) -> Any:
        return and_(*(RECORDS.c[name] == value for name, value in problem.facts.items()))

    def _abandoned(self, row: Row[Any]) -> bool:
        return time.time() - row.heartbeat > self.expiry_seconds or has_ended(row.claimed_by)

    def _start_heart(self) -> None:
        if self._heart is None:
            self._heart = threading.Thread(target=self._keep_beating, name="tapdot-heartbeat", daemon=True)
            self._heart.start()

    def _keep_beating(self) -> None:
        while not self._closed.wait(self.expiry_seconds / BEATS_PER_EXPIRY):
            with suppress(RecordsError):  # whoever needs the database next says what is wrong with it
                self.beat()


class _Taken(Exception):
    """The key is there already."""


_COLUMNS: Sequence[str] = (*KEY_FIELDS, "state", "unit", "value", "spread", "runs", "detail", "finished", "gain")


def _record(row: Row[Any]) -> Record:
    return Record(**{name: getattr(row, name) for name in _COLUMNS})


def best(records: Iterable[Record]) -> Record | None:
    """The record of the lowest figure, among those that were measured."""
    done = [record for record in records if record.state == DONE and record.value is not None]
    return min(done, key=lambda record: record.value or 0.0, default=None)
