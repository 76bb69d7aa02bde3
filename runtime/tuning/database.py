"""The tables of a record database, how it is opened, and its failures as sentences."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, ProgrammingError, SQLAlchemyError

from tapdot.compiler.errors import TapdotError

FORMAT = 1
"""Of the tables; raised when an older tapdot could not read newer ones."""

BUSY_SECONDS = 30.0
"""How long to wait for others who write to a SQLite file."""

IN_MEMORY = ":memory:"
"""SQLite's name of a database without a file."""

PIP_NAMES = {"psycopg": '"psycopg[binary]"', "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""Of drivers whose module has another name."""

SQLITE_HEADER = b"SQLite format 3\0"

METADATA = MetaData()

FACTS = Table("tapdot_facts", METADATA, Column("name", String(64), primary_key=True), Column("text", Text, nullable=False))
"""What keys stand for: workloads, targets and devices in full, and the format of the tables."""

RECORDS = Table(
    "tapdot_records",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("workload", String(16), nullable=False, index=True),
    Column("family", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("target", String(16), nullable=False),
    Column("device", String(32), nullable=False),
    Column("threads", Integer, nullable=False),
    Column("tvm", String(32), nullable=False),
    Column("config", Text, nullable=False),
    Column("state", String(8), nullable=False, index=True),
    Column("unit", String(16), nullable=False),
    Column("value", Float(53)),
    Column("spread", Float(53), nullable=False),
    Column("runs", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("finished", Float(53), nullable=False),
    Column("gain", Float(53)),
    Column("claimed_by", String(160)),
    Column("heartbeat", Float(53)),
)


class RecordsError(TapdotError):
    """The record database cannot be opened, read or written."""


def default_path() -> Path:
    """``tapdot/records.db`` in ``XDG_DATA_HOME`` or ``~/.local/share``."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "tapdot" / "records.db"


def url_of(where: str | os.PathLike[str]) -> str:
    """A database URL as it is; of a file's name, that of a SQLite database in it."""
    text = os.fspath(where)
    return text if re.match(r"[a-z][a-z0-9+]*://", text) else f"sqlite:///{Path(text).expanduser().resolve()}"


def title_of(url: str) -> str:
    """How to name a database to its user: the file, or the URL without its password."""
    return url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else re.sub(r":[^:@/]+@", ":***@", url)


def connect(url: str, busy_seconds: float = BUSY_SECONDS, create: bool = True) -> Engine:
    """A database with the tables in it, made there unless ``create`` is False.

    Raises RecordsError where there is none, or something else.
    """
    _check_url(url)
    if url.startswith("sqlite:///"):
        _check_file(Path(url.removeprefix("sqlite:///")), create)
    with explained(url):
        engine = make_engine(url, busy_seconds)
        with engine.connect() as connection:
            there = set(sqlalchemy.inspect(connection).get_table_names())
        if RECORDS.name not in there and not create:
            raise RecordsError(f"{title_of(url)} is a database without tuning records; name one that `tapdot tune` wrote.")
        if not {FACTS.name, RECORDS.name} <= there:
            _make_tables(engine)
        _check_format(engine, url)
        return engine


def make_engine(url: str, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """An engine as every user of a record database needs it, Optuna's storage too.

    SQLite files are in WAL mode: readers and one writer do not block each other. A commit survives the death of any process; the
    last ones before a loss of power may be missing, and nothing is torn.
    """
    if not url.startswith("sqlite"):
        return sqlalchemy.create_engine(url, pool_pre_ping=True)
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": busy_seconds})
    set_up_sqlite(engine)
    return engine


SWITCHES = 10
"""Attempts to put a database into WAL mode, a second in all."""


def set_up_sqlite(engine: Engine) -> None:
    """WAL mode for every connection of an engine; nothing for other databases."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for attempt in range(1, SWITCHES + 1):  # SQLite waits for nobody here, though another process may switch just now
            try:
                cursor.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError:
                if attempt == SWITCHES:
                    raise
                time.sleep(0.02 * attempt)
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()


def _check_url(url: str) -> None:
    """Refuses what is no URL, and databases that no other connection sees: tuning opens several."""
    try:
        parts = sqlalchemy.make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise RecordsError(
            f"{title_of(url)} is no URL of a database. Give one such as postgresql://user@host:5432/name, or a file's name."
        ) from error
    if parts.get_backend_name() == "sqlite" and Path(parts.database or IN_MEMORY).name == IN_MEMORY:
        raise RecordsError(
            f"{title_of(url)} is a database in the memory of one process, where no record stays. Give a file's name."
        )


def _check_file(path: Path, create: bool) -> None:
    """Refuses what cannot be a database before SQLite says so in its own words."""
    if path.is_dir():
        raise RecordsError(f"{path} is a folder; give the name of a file in it for the records.")
    if not path.exists():
        if not create:
            raise RecordsError(f"There are no records at {path}. Make some with: tapdot tune MODEL --records {path}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordsError(f"The folder {path.parent} for records cannot be made ({error.strerror}).") from error
        return
    try:
        with path.open("rb") as file:
            start = file.read(len(SQLITE_HEADER))
    except OSError as error:
        raise RecordsError(f"The records {path} cannot be read ({error.strerror}).") from error
    if start and start != SQLITE_HEADER:
        hint = " Records in lines of JSON are read by: tapdot records import" if start.startswith(b"{") else ""
        raise RecordsError(f"{path} is not a record database, or it is damaged.{hint or ' Move it away to start a new one.'}")


def _make_tables(engine: Engine) -> None:
    """Makes the tables that are not there; another process may be doing the same."""
    for table in METADATA.sorted_tables:
        try:
            table.create(engine, checkfirst=True)
        except (OperationalError, ProgrammingError) as error:
            if "already exists" not in str(error).lower():
                raise


def _check_format(engine: Engine, url: str) -> None:
    with engine.connect() as connection:
        found = connection.execute(sqlalchemy.select(FACTS.c.text).where(FACTS.c.name == "format")).scalar()
    if found is None:
        insert_missing(engine, "format", str(FORMAT))
    elif not found.isdigit() or int(found) > FORMAT:
        raise RecordsError(
            f"{title_of(url)} holds records of a newer tapdot (format {found}), and this one reads formats up to {FORMAT}. "
            "Upgrade tapdot, or name another file."
        )


def insert_missing(engine: Engine, name: str, text: str) -> None:
    """Says what a name stands for, unless somebody has."""
    try:
        with engine.begin() as connection:
            connection.execute(FACTS.insert().values(name=name, text=text))
    except sqlalchemy.exc.IntegrityError:
        return


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns a database's failures in the body of the ``with`` into RecordsErrors."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise RecordsError(
            f"The database {title_of(url)} needs the Python module {error.name}, which is not installed here. Install it (pip "
            f"install {PIP_NAMES.get(str(error.name), error.name)}), or give a file's name."
        ) from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise RecordsError(
            f"The database {title_of(url)} cannot be used: it is of no known kind. Give the URL of a known one, or a file's name."
        ) from error
    except SQLAlchemyError as error:
        raise RecordsError(_sentence(url, error)) from error
    except Exception as error:  # Optuna wraps what its storage meets
        if type(error).__module__.startswith("optuna") and isinstance(error.__cause__, SQLAlchemyError):
            raise RecordsError(_sentence(url, error.__cause__)) from error
        raise


def _sentence(url: str, error: SQLAlchemyError) -> str:
    """What happened to a database, and what to do."""
    where, reason = title_of(url), _reason(error)
    found = reason.lower()
    if "locked" in found or "busy" in found:
        return f"The records {where} are locked by another program. Let it finish, or name another file; nothing was lost."
    if "full" in found:
        return f"The disk is full, so the records {where} cannot grow. Free some space; what was recorded is kept."
    if "malformed" in found or "not a database" in found or "corrupt" in found:
        return f"The records {where} are damaged ({reason}). Move the file away to start a new one, or bring back a copy of it."
    if "readonly" in found or "read-only" in found or "unable to open" in found or "permission" in found:
        return f"The records {where} cannot be written ({reason}). Name a file in a folder you may write to."
    return f"The records {where} cannot be used: {reason}."


def _reason(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split()).rstrip(".") or type(error).__name__
