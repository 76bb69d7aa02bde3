"""Records as lines of JSON, to keep beside a model, to send, and to take over.

The first line names the format and the facts that keys stand for (workloads, targets, devices); every further line is a record.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tapdot.compiler.files import write_text
from tapdot.kernels.versions import SUPPORTED_TVM
from tapdot.runtime.tuning.database import FORMAT, RecordsError
from tapdot.runtime.tuning.record import CLAIMED, INSTRUCTIONS, SECONDS, STATES, Record
from tapdot.runtime.tuning.records import Records

NAME = "tapdot tuning records"
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "str": (str,), "float": (int, float)}

LARGEST = 2**63 - 1
"""Integer that a column holds."""


@dataclass(frozen=True)
class Taken:
    """What an import or a merge did. ``stale`` names records of versions that this tapdot does not use; they are kept too."""

    read: int
    new: int
    replaced: int
    stale: tuple[str, ...]

    def __str__(self) -> str:
        same = self.read - self.new - self.replaced
        text = f"Read {self.read} records: {self.new} new, {self.replaced} replaced an older one, {same} known already."
        return "\n".join([text, *self.stale])


def export(records: Records, path: Path) -> int:
    """Writes all finished records to a file, which appears whole or not at all; how many there are."""
    found = sorted(records.find(), key=lambda record: record.key)
    header = {"format": FORMAT, "what": NAME, "facts": records.facts()}
    write_text(path, "".join(json.dumps(line) + "\n" for line in (header, *(record.json() for record in found))))
    return len(found)


def read(path: Path) -> tuple[list[Record], dict[str, str]]:
    """The records of a file and the facts behind them. Raises RecordsError naming the line that is none."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError as error:
        raise RecordsError(f"There are no records at {path}. Write some with: tapdot records export {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecordsError(f"{path} cannot be read as records in lines of JSON ({error}).") from error
    header = _parsed(path, 1, lines[0]) if lines else {}
    if header.get("what") != NAME or not isinstance(header.get("facts"), dict) or not _is_format(header.get("format")):
        raise RecordsError(f"{path} holds no tuning records in lines of JSON. Write some with: tapdot records export FILE")
    if header["format"] > FORMAT:
        raise RecordsError(
            f"{path} holds records of a newer tapdot (format {header['format']}), and this one reads formats up to {FORMAT}. "
            "Upgrade tapdot."
        )
    facts = {str(name): str(text) for name, text in header["facts"].items() if name != "format"}
    if not all(_can_be_kept(word) for pair in facts.items() for word in pair):
        raise RecordsError(f"Line 1 of {path} holds text that cannot be stored; nothing was taken over.")
    records = [_record(path, number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    return records, facts


def take_file(records: Records, path: Path) -> Taken:
    """Takes over the records of a file: all or, where one is damaged, none."""
    found, facts = read(path)
    return _take(records, found, facts)


def merge(records: Records, other: str | os.PathLike[str]) -> Taken:
    """Takes over the records of another database, or of a file of lines of JSON."""
    if Path(other).suffix in (".jsonl", ".json"):
        return take_file(records, Path(other))
    with Records(other, create=False, busy_seconds=records.busy_seconds) as source:
        return _take(records, source.find(), source.facts())


def _take(records: Records, found: list[Record], facts: dict[str, str]) -> Taken:
    new, replaced = records.take(found, facts)
    return Taken(len({record.key for record in found}), new, replaced, stale_lines(found))


def stale_lines(found: list[Record]) -> tuple[str, ...]:
    """A line for each kind of record that this tapdot does not use: of another TVM, or of another version of its family."""
    from tapdot.kernels.registry import families

    versions = {family.name: family.version for family in families()}
    counts: dict[str, int] = {}
    for record in found:
        if record.tvm != SUPPORTED_TVM:
            kind = f"of tvm {record.tvm} (this tapdot has {SUPPORTED_TVM})"
        elif record.family not in versions:
            kind = f"of {record.family} kernels, which this tapdot does not have"
        elif record.version != versions[record.family]:
            kind = f"of version {record.version} of the {record.family} kernels (this tapdot has {versions[record.family]})"
        else:
            continue
        counts[kind] = counts.get(kind, 0) + 1
    return tuple(f"Not used here: {count} record{'s' * (count > 1)} {kind}." for kind, count in sorted(counts.items()))


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RecordsError(f"Line {number} of {path} is damaged or cut short; nothing was taken over.")
    return found


def _is_format(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found >= 1


def _can_be_kept(value: object) -> bool:
    """Whether a database's column takes it: integers of 64 bits, finite floats, text that UTF-8 can say."""
    if isinstance(value, int):
        return -LARGEST <= value <= LARGEST
    if isinstance(value, float):
        return math.isfinite(value)
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _record(path: Path, number: int, line: str) -> Record:
    found = _parsed(path, number, line)
    wrong = RecordsError(f"Line {number} of {path} is no tuning record; nothing was taken over.")
    for field in fields(Record):
        kind, _, optional = str(field.type).partition(" | ")
        if field.name not in found:
            raise wrong
        value = found[field.name]
        if not (optional and value is None) and (
            not isinstance(value, _TYPES[kind]) or isinstance(value, bool) or not _can_be_kept(value)
        ):
            raise wrong
    if set(found) != {field.name for field in fields(Record)} or found["state"] not in STATES or found["state"] == CLAIMED:
        raise wrong
    if found["unit"] not in (SECONDS, INSTRUCTIONS):
        raise wrong
    config = _parsed(path, number, found["config"])
    if not all(isinstance(value, int) for value in config.values()):
        raise wrong
    return Record(**found)
