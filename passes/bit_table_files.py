"""Tables of bit widths as files of JSON.

Two formats are read: tapdot's own, which says everything of every candidate (docs/bits.md), and the one of HAWQ-V3's published
constants, which says it by columns (:mod:`tapdot.passes.bit_table_hawq`). One is written, tapdot's own::

    {"format": "tapdot bit table", "version": 1, "model": "net", "source": "...",
     "layers": [{"name": "conv1", "fixed": "8",             or "only": ["8", "4"], where just some of them may be used
                 "candidates": [{"bits": 4, "sensitivity": 0.46, "size": 18432, "bops": 1.8e9, "latency": 0.00021},
                                {"bits": 8, "sensitivity": 0.0, "size": 36864, "bops": 7.4e9, "latency": 0.00036}]}],
     "ties": [["conv4", "conv6"]]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tapdot.compiler.files import write_text
from tapdot.passes.bit_table import KINDS, BitTable, Candidate, TableError, TableLayer, number, short
from tapdot.passes.bit_table_hawq import hawq_table, is_hawq_table

FORMAT, VERSION = "tapdot bit table", 1


def read_table(path: Path) -> BitTable:
    """The table in a file, of either format; raises TableError for a file that cannot be read or holds none."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise TableError(f"Could not read the table {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is no table: expected JSON in UTF-8, found other bytes at {error.start}.") from error
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise TableError(f"{path} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise TableError(f"{path} is no table: its JSON is nested too deeply.") from error
    except ValueError as error:
        raise TableError(f"{path} is no table: its JSON holds a number of too many digits.") from error
    except TableError as error:
        raise TableError(f"{path}: {error}") from error
    try:
        return table_of(document)
    except TableError as error:
        raise TableError(f"{path}: {error}") from error


def table_of(document: Any) -> BitTable:
    """The table that JSON says; raises TableError where it says none."""
    if is_hawq_table(document):
        return hawq_table(document)
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise TableError(
            f'Expected a table with "format": "{FORMAT}", or one with layers, hutchinson_trace and delta_weights_4bit_sq as '
            "HAWQ-V3's, "
            "found neither."
        )
    if document.get("version") != VERSION:
        raise TableError(
            f"Expected version {VERSION} of a table, found {short(document.get('version'))}; this tapdot has no other."
        )
    layers = tuple(_layer(row, place) for place, row in enumerate(_rows(document, "layers", required=True)))
    ties = tuple(_tie(row) for row in _rows(document, "ties"))
    return BitTable(layers, ties, str(document.get("model", "model")), str(document.get("source", "")))


def table_json(table: BitTable) -> dict[str, Any]:
    """The table as plain data of tapdot's own format."""
    layers = []
    for layer in table.layers:
        candidates = [
            {
                **({"bits": one.bits} if one.label == str(one.bits) else {"label": one.label}),
                "sensitivity": one.sensitivity,
                **{kind: one.costs[kind] for kind in table.kinds},
            }
            for one in layer.candidates
        ]
        layers.append(
            {"name": layer.name, "candidates": candidates}
            | ({} if layer.fixed is None else {"fixed": layer.fixed})
            | ({"only": list(layer.only)} if layer.only else {}),
        )
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION, "model": table.model}
    if table.source:
        document["source"] = table.source
    return document | {"layers": layers, "ties": [list(tie) for tie in table.ties]}


def write_table(table: BitTable, path: Path) -> None:
    """Writes the table; raises TapdotError where the disk refuses."""
    write_text(path, json.dumps(table_json(table), indent=1, allow_nan=False) + "\n")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON takes the last of two equal keys without a word."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise TableError(f"An object says {key!r} twice.")
        found[key] = value
    return found


def _rows(document: Mapping[str, Any], key: str, *, required: bool = False) -> list[Any]:
    rows = document.get(key, None if required else [])
    if not isinstance(rows, list):
        raise TableError(f"Expected a list as {key!r}, found {short(rows)}.")
    return rows


def _layer(row: Any, place: int) -> TableLayer:
    name = row.get("name") if isinstance(row, Mapping) else None
    if not isinstance(name, str):
        raise TableError(f'Expected an object with a "name" as layer {place + 1} of the list, found {short(row)}.')
    candidates = tuple(_candidate(one, name) for one in _rows(row, "candidates", required=True))
    fixed = row.get("fixed")
    if fixed is not None and (isinstance(fixed, bool) or not isinstance(fixed, int | str)):
        raise TableError(f"Expected bits or a label as what layer {name!r} is fixed to, found {short(fixed)}.")
    only = _rows(row, "only")
    if not all(isinstance(label, str) for label in only) or ("only" in row and not only):
        raise TableError(f"Expected labels as what layer {name!r} may only be, found {short(only)}.")
    if unknown := sorted(set(row) - {"name", "candidates", "fixed", "only"}):
        raise TableError(f"Expected name, candidates, fixed and only at layer {name!r}, found {unknown[0]!r}.")
    return TableLayer(name, candidates, None if fixed is None else str(fixed), tuple(only))


def _candidate(row: Any, layer: str) -> Candidate:
    if not isinstance(row, Mapping) or ("bits" in row) == ("label" in row):
        raise TableError(f'Expected candidates with either "bits" or "label" at layer {layer!r}, found {short(row)}.')
    if unknown := sorted(set(row) - {"bits", "label", "sensitivity", *KINDS}):
        raise TableError(
            f"Expected sensitivity and costs of the kinds {', '.join(KINDS)} at a candidate of layer {layer!r}, found "
            f"{unknown[0]!r}."
        )
    bits, label = row.get("bits"), row.get("label")
    if "bits" in row and (isinstance(bits, bool) or not isinstance(bits, int)):
        raise TableError(f"Expected a whole number of bits at layer {layer!r}, found {short(bits)}.")
    if "label" in row and not isinstance(label, str):
        raise TableError(f"Expected text as the label of a candidate of layer {layer!r}, found {short(label)}.")
    what = f"candidate {label if bits is None else bits} of layer {layer!r}"
    if "sensitivity" not in row:
        raise TableError(f"There is no sensitivity for {what}.")
    sensitivity = number(row["sensitivity"], f"the sensitivity of {what}")
    costs = {kind: number(row[kind], f"the {kind} of {what}") for kind in KINDS if kind in row}
    return Candidate(str(label), sensitivity, costs) if bits is None else Candidate.of_bits(bits, sensitivity, costs)


def _tie(row: Any) -> tuple[str, ...]:
    if not isinstance(row, list) or len(row) < 2 or not all(isinstance(name, str) for name in row):
        raise TableError(f"Expected a tie as a list of two or more names of layers, found {short(row)}.")
    return tuple(row)
