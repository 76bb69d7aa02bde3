"""Samples in the graph's own batch size, from every form of data, and what bad ones are told."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.passes.before_and_after import graph

from tapdot.compiler.data import open_data
from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph
from tapdot.passes.samples import Feed, feeds

ONE = graph("input %x: float32[2,3]\n %y: float32[2,3] = Relu(%x)\n return %y")
TWO = graph("input %x: float32[2,3]\n input %i: int64[2]\n %y: float32[2,3] = Relu(%x)\n return %y, %i")
MIXED = graph("input %x: float32[2,3]\n input %z: float32[1,3]\n %y: float32[2,3] = Add(%x, %z)\n return %y")
X = np.arange(15, dtype=np.float32).reshape(5, 3)


def rows(found: list[Feed]) -> np.ndarray:
    return np.concatenate([feed.rows(feed.inputs["x"]).numpy() for feed in found])


@pytest.mark.parametrize("data", [X, [X[:1], X[1:]], [{"x": X[:4]}, {"x": X[4:]}], [{"x": X}]])
def test_samples_come_in_batches_of_the_graph(data: object) -> None:
    found = list(feeds(ONE, data))
    assert [feed.count for feed in found] == [2, 2, 1]
    assert all(feed.inputs["x"].shape == (2, 3) for feed in found)
    np.testing.assert_array_equal(rows(found), X)


def test_a_limit() -> None:
    np.testing.assert_array_equal(rows(list(feeds(ONE, X, 3))), X[:3])
    np.testing.assert_array_equal(rows(list(feeds(ONE, [{"x": X}], 3))), X[:3])


def test_several_inputs_keep_their_types() -> None:
    found = list(feeds(TWO, [{"x": X, "i": np.arange(5)}]))
    assert [feed.inputs["i"].tolist() for feed in found] == [[0, 1], [2, 3], [4, 4]]
    assert found[0].inputs["i"].dtype == torch.int64


def test_mappings_may_come_from_a_generator_and_be_read_again() -> None:
    batches = ({"x": X[start : start + 2], "i": np.arange(start, min(start + 2, 5))} for start in (0, 2, 4))
    data = open_data(batches)
    for _ in range(2):
        assert [feed.inputs["i"].tolist() for feed in feeds(TWO, data)] == [[0, 1], [2, 3], [4, 4]]
    np.testing.assert_array_equal(rows(list(feeds(ONE, ({"x": part} for part in (X[:1], X[1:]))))), X)
    np.testing.assert_array_equal(rows(list(feeds(ONE, (part for part in (X[:1], X[1:]))))), X)


@pytest.mark.parametrize("extra", [{}, {"note": np.zeros(2)}])
def test_arrays_by_the_names_of_the_inputs(tmp_path: Path, extra: dict[str, np.ndarray]) -> None:
    arrays = {"x": X, "i": np.arange(5), **extra}
    np.savez(tmp_path / "d.npz", **arrays)
    for data in (arrays, tmp_path / "d.npz", open_data(str(tmp_path / "d.npz"))):
        found = list(feeds(TWO, data))
        assert [feed.inputs["i"].tolist() for feed in found] == [[0, 1], [2, 3], [4, 4]]
        np.testing.assert_array_equal(rows(found), X)


def test_the_only_input_may_have_its_own_name_and_inputs_may_be_called_x_and_y(tmp_path: Path) -> None:
    image = graph("input %image: float32[2,3]\n %r: float32[2,3] = Relu(%image)\n return %r")
    np.savez(tmp_path / "d.npz", image=X, y=np.arange(5))
    np.testing.assert_array_equal(
        np.concatenate([feed.rows(feed.inputs["image"]) for feed in feeds(image, tmp_path / "d.npz")]), X
    )
    both = graph("input %x: float32[2,3]\n input %y: float32[2,3]\n %s: float32[2,3] = Add(%x, %y)\n return %s")
    assert [feed.inputs["y"][0, 0].item() for feed in feeds(both, {"x": X, "y": X + 0.5})] == [0.5, 6.5, 12.5]


@pytest.mark.parametrize(
    ("text", "arrays", "message"),
    [
        (TWO, {"x": X}, "for every input of the model in d.npz, x, i, but i is missing; it holds x. Write the arrays by the"),
        (
            TWO,
            {"image": X, "y": X},
            "but x, i are missing; it holds image, y. Write the arrays by the model's names: numpy.savez(",
        ),
        (TWO, {"x": X, "i": np.arange(4)}, "Expected as many samples for every input in d.npz, found {'x': 5, 'i': 4}"),
        (
            TWO,
            {"x": X[:, :2], "i": np.arange(5)},
            "Expected d.npz to hold samples of [3] for input 'x', found an array of [5, 2]",
        ),
        (ONE, {"image": X, "y": np.arange(5)}, "Expected an array x of inputs in d.npz, found image, y"),
        (ONE, {}, "Expected an array x of inputs in d.npz, found no array"),
    ],
)
def test_names_that_do_not_fit(
    text: Graph, arrays: dict[str, np.ndarray], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", **arrays)
    with pytest.raises(InputError, match=re.escape(message)):
        list(feeds(text, "d.npz"))


def test_a_value_without_samples_along_axis_0_is_one_row() -> None:
    assert Feed({}, 1, 2).rows(torch.zeros(4, 3)).shape == (1, 12)


BROKEN = X.copy()
BROKEN[3, 1] = np.nan


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"x": np.zeros((2, 4))}], "Expected batch 0 of the data to hold samples of [3] for input 'x', found an array"),
        ([{"x": X}, X], "Expected batch 1 of the data to be a mapping as those before it, found ndarray"),
        ([{"y": X}], "Expected an array for input 'x' in batch 0 of the data, found y"),
        ([{"x": BROKEN}], "Sample 3 of the data holds NaN in input 'x'"),
        ([{"x": X[:0]}], "holds no samples"),
        (X[:0], "holds no samples"),
        ([], "holds no samples"),
        (np.full((1, 3), np.inf, np.float32), "holds an infinity"),
        (np.zeros((2, 4), np.float32), "Expected samples of [3]"),
    ],
)
def test_bad_data_is_told_where(data: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        list(feeds(ONE, data))


def test_inputs_must_agree_on_samples() -> None:
    with pytest.raises(InputError, match="as many samples for every input in batch 0"):
        list(feeds(TWO, [{"x": X, "i": np.arange(4)}]))
    with pytest.raises(InputError, match="count samples along axis 0"):
        list(feeds(MIXED, [{"x": X, "z": X}]))
    with pytest.raises(InputError, match="one input"):
        list(feeds(TWO, X))
