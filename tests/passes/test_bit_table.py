"""Tables of layers and candidates: both formats, and every way a file can be wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from tests.bit_tables import GOLDEN, random_table, small_tables

from tapdot.passes.assign_bits import assign
from tapdot.passes.bit_table import BitTable, Candidate, TableError, TableLayer
from tapdot.passes.bit_table_files import read_table, table_json, table_of, write_table

HAWQ = json.loads(GOLDEN.read_text())
OWN: dict[str, Any] = {
    "format": "tapdot bit table",
    "version": 1,
    "model": "net",
    "layers": [
        {
            "name": name,
            "candidates": [
                {"bits": 4, "sensitivity": 1.0, "size": 2, "latency": 0.5},
                {"bits": 8, "sensitivity": 0.5, "size": 4, "latency": 1},
            ],
        }
        for name in ("conv1", "conv2", "head")
    ],
    "ties": [["conv1", "conv2"]],
}


def test_the_published_table() -> None:
    table = read_table(GOLDEN)
    assert (table.model, table.kinds, len(table.layers)) == ("resnet18", ("size", "bops", "latency"), 19)
    assert [group for group in table.groups if len(group) > 1] == [(4, 6), (9, 11), (14, 16)]
    four, eight = table.layers[0].candidates
    assert (four.bits, eight.bits) == (4, 8)
    assert four.sensitivity == 0.06857826 * 6.743
    assert eight.costs == {"size": 36864.0, "bops": pytest.approx(115605504 * 64), "latency": pytest.approx(0.36189111e-3)}
    assert four.costs["size"] == 18432.0
    assert table.limits("size") == (sum(HAWQ["params_mib"]) * 2**19, sum(HAWQ["params_mib"]) * 2**20)
    assert table.notes == ()


def test_columns_of_other_layers_and_widths() -> None:
    """The same keys, other layers, a third width, ties by name, one kind of cost."""
    table = table_of(
        {
            "layers": ["a", "b", "c"],
            "tied": [["a", "c"]],
            "hutchinson_trace": [1, 2.5, 0],
            "delta_weights_2bit_sq": [16, 32, 48],
            "delta_weights_4bit_sq": [1, 2, 3],
            "delta_weights_8bit_sq": [0, 0.125, 0],
            "latency_int2_ms": [1, 1, 1],
            "latency_int4_ms": [2, 2, 2],
            "latency_int8_ms": [4, 4, 4],
        }
    )
    assert table.kinds == ("latency",)
    assert [one.label for one in table.layers[0].candidates] == ["2", "4", "8"]
    assert [one.sensitivity for one in table.layers[1].candidates] == [80.0, 5.0, 0.3125]
    assert table.groups == ((0, 2), (1,))


def test_other_words_for_the_formulation_are_brought_to_notice() -> None:
    document = HAWQ | {"formulation": HAWQ["formulation"] | {"size": "sum params_mib_i*(0.25 if 4 bit else 1.0)"}}
    assert table_of(document).notes == (
        "The file formulates size in other words than HAWQ-V3's ('sum params_mib_i*(0.25 if 4 bit else 1.0)'); it is read as "
        "params_mib * bits / 8 in MiB.",
    )
    del document["formulation"]
    assert table_of(document).notes == ()


def test_a_column_that_is_not_read_is_brought_to_notice() -> None:
    document = {("param_mib" if key == "params_mib" else key): value for key, value in HAWQ.items()}
    [note] = table_of(document).notes
    assert note.startswith('The file\'s column "param_mib" is not read; a table has bops, ') and "params_mib" in note


@settings(max_examples=40, deadline=None)
@given(small_tables())
def test_what_is_written_is_read(table: BitTable) -> None:
    assert table_of(json.loads(json.dumps(table_json(table)))) == table


def test_a_file_and_labels_that_are_no_bits(tmp_path: Path) -> None:
    forms = (Candidate("dense", 0.0, {"latency": 4.0}), Candidate("rate 4 share 2", 1.0, {"latency": 1.5}))
    table = BitTable((TableLayer("one", forms, fixed="dense"), TableLayer("two", forms)), (), "sparse", "measured")
    write_table(table, tmp_path / "table.json")
    assert read_table(tmp_path / "table.json") == table
    write_table(random_table(5, 0, "free", ties=1), tmp_path / "table.json")
    assert read_table(tmp_path / "table.json") == random_table(5, 0, "free", ties=1)


def test_ties_that_meet_are_one() -> None:
    table = random_table(6, 0, "free")
    tied = BitTable(table.layers, (("layer4", "layer2"), ("layer0", "layer5"), ("layer5", "layer4")))
    assert tied.groups == ((0, 2, 4, 5), (1,), (3,))


def without(*path: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        *way, last = path
        for key in way:
            document = document[key]
        del document[last]

    return change


def setting(value: Any, *path: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        *way, last = path
        for key in way:
            document = document[key]
        document[last] = value

    return change


FIRST = ("layers", 0, "candidates", 0)
WRONG_OWN = {
    "no sensitivity": (without(*FIRST, "sensitivity"), "There is no sensitivity for candidate 4 of layer 'conv1'."),
    "a cost that others have": (without(*FIRST, "size"), "Candidate 4 of layer 'conv1' has no size, which others have"),
    "null": (setting(None, *FIRST, "size"), "as the size of candidate 4 of layer 'conv1', found nothing"),
    "negative sensitivity": (
        setting(-0.5, *FIRST, "sensitivity"),
        "as the sensitivity of candidate 4 of layer 'conv1', found -0.5",
    ),
    "negative cost": (setting(-1, *FIRST, "latency"), "Expected a number from 0 on as the latency .* found -1"),
    "NaN": (setting(float("nan"), *FIRST, "size"), "as the size of candidate 4 of layer 'conv1', found NaN"),
    "infinite": (setting(float("inf"), *FIRST, "size"), "found Infinity"),
    "text": (setting("2", *FIRST, "size"), 'found "2"'),
    "true": (setting(True, *FIRST, "sensitivity"), "found true"),
    "enormous": (setting(10**400, *FIRST, "size"), "Expected a number from 0 on as the size"),
    "a kind nobody knows": (setting(1, *FIRST, "energy"), "of the kinds size, bops, latency, instructions .* found 'energy'"),
    "a layer twice": (setting("conv1", "layers", 1, "name"), "names layer 'conv1' twice"),
    "a layer without a name": (without("layers", 1, "name"), 'Expected an object with a "name" as layer 2'),
    "an empty name": (setting("", "layers", 1, "name"), "a layer without a name"),
    "no candidates": (setting([], "layers", 2, "candidates"), "Layer 'head' has no candidates"),
    "candidates missing": (without("layers", 2, "candidates"), "Expected a list as 'candidates', found nothing"),
    "a candidate twice": (setting(8, *FIRST, "bits"), "Layer 'conv1' has candidate '8' twice"),
    "bits and label": (setting("four", *FIRST, "label"), 'either "bits" or "label" at layer \'conv1\''),
    "half a bit": (setting(4.5, *FIRST, "bits"), "a whole number of bits at layer 'conv1', found 4.5"),
    "too many bits": (setting(64, "layers", 2, "candidates", 0, "bits"), "Expected 1 to 32 bits at layer 'head', found 64"),
    "an unknown tie": (setting(["conv1", "conv9"], "ties", 0), "A tie names layer 'conv9', which the table does not list"),
    "a tie of one": (setting(["conv1"], "ties", 0), "two or more names"),
    "a tie of other candidates": (
        without("layers", 1, "candidates", 0),
        "Layers 'conv1' and 'conv2' are tied, and their candidates differ: 4, 8 and 8",
    ),
    "fixed to what is none": (setting(2, "layers", 0, "fixed"), "Layer 'conv1' has no candidate '2'; it has 4, 8"),
    "fixed to a list": (setting([8], "layers", 0, "fixed"), "as what layer 'conv1' is fixed to"),
    "fixed to what it may not be": (
        lambda document: document["layers"][0].update(fixed=8, only=["4"]),
        "Layer 'conv1' is fixed to '8', and may only be one of 4",
    ),
    "only what is none": (setting(["2"], "layers", 0, "only"), "Layer 'conv1' has no candidate '2'"),
    "only nothing": (setting([], "layers", 0, "only"), "Expected labels as what layer 'conv1' may only be"),
    "ties that may be nothing": (
        lambda document: [document["layers"][place].update(only=[label]) for place, label in enumerate("48")],
        "Layers conv1, conv2 are tied, and no candidate may be used by all of them",
    ),
    "sums beyond floats": (
        setting(1.7e308, *FIRST, "size"),
        r"the size of candidate 4 .* found 1.7e\+308, which is beyond 1e\+200",
    ),
    "a name of two lines": (setting("conv\n1", "layers", 2, "name"), r"of printable characters, found 'conv\\n1'"),
    "half a character": (setting("\ud800", "layers", 2, "name"), r"of printable characters, found '\\ud800'"),
    "an unknown word": (setting(8, "layers", 0, "bits"), "found 'bits'"),
    "no layers": (setting([], "layers"), "The table has no layers"),
    "layers missing": (without("layers"), "Expected a list as 'layers', found nothing"),
    "another version": (setting(2, "version"), "Expected version 1 of a table, found 2"),
    "another format": (setting("bits", "format"), "found neither"),
}


@pytest.mark.parametrize("name", WRONG_OWN)
def test_a_wrong_table(name: str, tmp_path: Path) -> None:
    change, words = WRONG_OWN[name]
    document = copy.deepcopy(OWN)
    change(document)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(document))
    with pytest.raises(TableError, match=words) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}")


WRONG_HAWQ = {
    "a column missing": (without("hutchinson_trace"), 'no column "hutchinson_trace"; expected a list of 19 numbers'),
    "a width without latencies": (without("latency_int4_ms"), 'no column "latency_int4_ms"'),
    "no widths": (
        lambda document: [document.pop(f"delta_weights_{bits}bit_sq") for bits in (4, 8)],
        'Expected columns such as "delta_weights_4bit_sq"',
    ),
    "no costs": (
        lambda document: [document.pop(key) for key in ("params_mib", "bops", "latency_int4_ms", "latency_int8_ms")],
        "Expected a column of costs",
    ),
    "a short column": (without("bops", 3), 'Expected 19 numbers in "bops", one a layer, found 18'),
    "a product beyond floats": (
        lambda document: [document[key].__setitem__(0, 1e200) for key in ("hutchinson_trace", "delta_weights_4bit_sq")],
        "the sensitivity of candidate 4 .* found inf",
    ),
    "a hole": (setting(None, "params_mib", 2), "\"params_mib\" of layer 'stage1.unit2.quant_convbn1', found nothing"),
    "negative": (setting(-0.1, "latency_int8_ms", 0), "found -0.1"),
    "NaN": (setting(float("nan"), "hutchinson_trace", 0), "found NaN"),
    "a layer twice": (setting("stage1.unit1.quant_convbn1", "layers", 1), "names layer 'stage1.unit1.quant_convbn1' twice"),
    "layers that are no names": (setting([1, 2], "layers"), 'Expected a list of names as "layers"'),
    "an unknown tie": (setting([4, 19], "tied", 0), 'Expected names or indices from 0 to 18 in "tied", found 19'),
    "an unknown name": (setting([4, "x"], "tied", 0), "A tie names layer 'x'"),
    "ties that are none": (setting([4], "tied"), "lists of two or more layers"),
}


@pytest.mark.parametrize("name", WRONG_HAWQ)
def test_wrong_columns(name: str) -> None:
    change, words = WRONG_HAWQ[name]
    document = copy.deepcopy(HAWQ)
    change(document)
    with pytest.raises(TableError, match=words):
        table_of(document)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"layer,bits\n", "is no JSON: Expecting value at line 1, column 1"),
        (b'{"layers": [', "is no JSON"),
        (b"\xff\xfe", "expected JSON in UTF-8"),
        (b"", "is no JSON"),
        (b"[1, 2]", "found neither"),
        (b'{"layers": [], "layers": []}', "An object says 'layers' twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b"9" * 5000, "too many digits"),
    ],
)
def test_what_is_no_table(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(TableError, match=words):
        read_table(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"Could not read the table .*: No such file or directory"):
        read_table(tmp_path / "none.json")
    with pytest.raises(TableError, match="Is a directory"):
        read_table(tmp_path)


def test_some_candidates_may_not_be_used(tmp_path: Path) -> None:
    table = BitTable(
        tuple(
            replace(layer, only=("4", "2") if place == 1 else ()) for place, layer in enumerate(random_table(3, 1, "free").layers)
        ),
        (("layer1", "layer2"),),
    )
    found = assign(table)
    assert found.labels[0] == "8" and found.labels[1] == found.labels[2] == "4"
    assert table.limits("size") == random_table(3, 1, "free").limits("size")
    write_table(table, tmp_path / "table.json")
    assert read_table(tmp_path / "table.json") == table
    with pytest.raises(TableError, match="Layer 'layer1' may only be one of 4, 2; it cannot be fixed to '8'"):
        table.fix({"layer1": "8"})
    assert assign(table.fix({"layer1": "2"})).text == "822"


def test_fixing() -> None:
    table = table_of(OWN)
    assert [layer.fixed for layer in table.fix({"head": "8"}).layers] == [None, None, "8"]
    with pytest.raises(TableError, match="no layer 'tail' to fix; it has conv1, conv2, head"):
        table.fix({"tail": "8"})
    with pytest.raises(TableError, match="no candidate '2'"):
        table.fix({"head": "2"})
    with pytest.raises(TableError, match="tied and fixed to different candidates, 4 and 8"):
        table.fix({"conv1": "4", "conv2": "8"})
    assert assign(table.fix({"conv2": "4"})).text == "448"
