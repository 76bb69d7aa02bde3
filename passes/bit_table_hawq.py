"""Tables by columns, as HAWQ-V3's constants are published (Yao et al., ICML 2021, section 4, and the ILP notebook of their
repository).

=============================== ================================================================================================
column, a number a layer        gives
=============================== ================================================================================================
``hutchinson_trace``            and ``delta_weights_{b}bit_sq`` (``||W - Q(W)||^2``): ``sensitivity = trace * delta``, at b bits
``params_mib``                  parameters / 2^20: ``size = params * b / 8`` bytes
``bops``                        multiply-accumulates / 10^6: ``bops = macs * b * b`` (1024 times what the file counts)
``latency_int{b}_ms``           the latency at b bits
=============================== ================================================================================================

``layers`` names the layers, ``tied`` lists layers (by index from 0 or by name) that take the same bits. Which widths there are
follows from the columns. Costs are columns that may be missing, but one kind must be there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tapdot.passes.bit_table import MOST_BITS, BitTable, Candidate, TableError, TableLayer, number, short

TRACE, DELTA, LATENCY = "hutchinson_trace", "delta_weights_{}bit_sq", "latency_int{}_ms"
FORMULATION = {
    "size": "sum params_mib_i*(0.5 if 4 bit else 1.0)",
    "bops": "sum bops_i/64 at 4 bit, bops_i/16 at 8 bit",
    "latency": "sum latency_ms_i(bits)",
    "budget": "low + alpha*(high-low), low = every listed layer at 4 bit, high = every listed layer at 8 bit",
}
"""The published file's words for what the table above says; a file with other words is brought to the user's notice."""
MEANINGS = {
    "size": "params_mib * bits / 8 in MiB",
    "bops": "the product of both operands' bits, bops * bits^2",
    "latency": "latency_int{bits}_ms in ms",
    "budget": "low + share * (high - low), every listed layer at its fewest bits and at its most",
}


def is_hawq_table(document: Any) -> bool:
    """Whether JSON is of this kind, well formed or not."""
    return isinstance(document, Mapping) and "format" not in document and (TRACE in document or bool(_widths(document)))


def hawq_table(document: Mapping[str, Any]) -> BitTable:
    """The table; raises TableError for columns that are missing, of another length, or hold what is no number from 0 on."""
    names = document.get("layers")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TableError('Expected a list of names as "layers".')
    widths = _widths(document)
    if not widths:
        raise TableError(
            f'Expected columns such as "{DELTA.format(4)}" and "{DELTA.format(8)}", found none; which bits are there to choose?'
        )
    trace = _column(document, TRACE, names)
    deltas = {bits: _column(document, DELTA.format(bits), names) for bits in widths}
    costs: dict[int, dict[str, list[float]]] = {bits: {} for bits in widths}
    if "params_mib" in document:
        parameters = _column(document, "params_mib", names)
        for bits in widths:
            costs[bits]["size"] = [2.0**20 * value * bits / 8 for value in parameters]
    if "bops" in document:
        macs = _column(document, "bops", names)
        for bits in widths:
            costs[bits]["bops"] = [1e6 * value * bits * bits for value in macs]
    if any(re.fullmatch(LATENCY.format(r"\d+"), key) for key in document):
        for bits in widths:
            costs[bits]["latency"] = [1e-3 * value for value in _column(document, LATENCY.format(bits), names)]
    if not costs[widths[0]]:
        raise TableError(f'Expected a column of costs, "params_mib", "bops" or "{LATENCY.format(widths[0])}", found none.')
    layers = tuple(
        TableLayer(
            name,
            tuple(
                Candidate.of_bits(
                    bits, trace[row] * deltas[bits][row], {kind: column[row] for kind, column in costs[bits].items()}
                )
                for bits in widths
            ),
        )
        for row, name in enumerate(names)
    )
    return BitTable(
        layers,
        _ties(document, names),
        str(document.get("model", "model")),
        str(document.get("source", "")),
        _notes(document, widths),
    )


def _widths(document: Mapping[str, Any]) -> list[int]:
    found = (re.fullmatch(DELTA.format(r"(\d{1,2})"), key) for key in document)
    return sorted({bits for match in found if match and 1 <= (bits := int(match[1])) <= MOST_BITS})


def _column(document: Mapping[str, Any], key: str, names: list[str]) -> list[float]:
    column = document.get(key)
    if not isinstance(column, list):
        raise TableError(f'The table has no column "{key}"; expected a list of {len(names)} numbers, one a layer.')
    if len(column) != len(names):
        raise TableError(f'Expected {len(names)} numbers in "{key}", one a layer, found {len(column)}.')
    return [number(value, f'"{key}" of layer {name!r}') for name, value in zip(names, column, strict=True)]


def _ties(document: Mapping[str, Any], names: list[str]) -> tuple[tuple[str, ...], ...]:
    rows = document.get("tied", [])
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) > 1 for row in rows):
        raise TableError('Expected lists of two or more layers in "tied".')

    def name(layer: Any) -> str:
        if isinstance(layer, str):
            return layer
        if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < len(names):
            raise TableError(f'Expected names or indices from 0 to {len(names) - 1} in "tied", found {layer!r}.')
        return names[layer]

    return tuple(tuple(map(name, row)) for row in rows)


def _notes(document: Mapping[str, Any], widths: Sequence[int]) -> tuple[str, ...]:
    read = {"layers", "tied", TRACE, "params_mib", "bops", *(form.format(bits) for form in (DELTA, LATENCY) for bits in widths)}
    unread = tuple(
        f"The file's column {short(key)} is not read; a table has {', '.join(sorted(read))}."
        for key, value in document.items()
        if isinstance(value, list) and key not in read
    )
    said = document.get("formulation")
    if not isinstance(said, Mapping):
        return unread
    return unread + tuple(
        f"The file formulates {key} in other words than HAWQ-V3's ({said[key]!r}); it is read as {MEANINGS[key]}."
        for key, text in FORMULATION.items()
        if key in said and said[key] != text
    )
