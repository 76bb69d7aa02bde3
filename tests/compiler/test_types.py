"""Types of values: text, sizes, quantization."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapdot.compiler.errors import GraphError
from tapdot.compiler.types import DTYPES, Quant, TensorType
from tapdot.kernels.layout import Halo, Layout

sides = st.integers(0, 3)
layouts = st.builds(Layout, st.sampled_from([1, 4, 8, 16]), st.builds(Halo, sides, sides, sides, sides), st.integers(-128, 255))
scales = st.floats(1e-30, 1e30)


@st.composite
def quants(draw: st.DrawFn) -> Quant:
    channels = draw(st.integers(1, 3))
    scale = tuple(draw(st.lists(scales, min_size=channels, max_size=channels)))
    zero_point = tuple(draw(st.lists(st.integers(-128, 255), min_size=channels, max_size=channels)))
    return Quant(draw(st.integers(2, 8)), scale, zero_point, draw(st.none() | st.integers(0, 3)))


@st.composite
def types(draw: st.DrawFn) -> TensorType:
    shape = tuple(draw(st.lists(st.integers(0, 50), max_size=5)))
    return TensorType(
        shape,
        draw(st.sampled_from(sorted(DTYPES))),
        draw(st.none() | quants()),
        draw(layouts) if len(shape) == 4 and draw(st.booleans()) else None,
    )


@given(types())
def test_text_round_trip(kind: TensorType) -> None:
    assert TensorType.parse(str(kind)) == kind


@pytest.mark.parametrize(
    "text",
    ["float32", "float31[1]", "float32[1,-3]", "float32[1] <block=1", "float32[1] <rows=1>", "float32[1] !quant(bits=8)"],
)
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match="Expected a type such as"):
        TensorType.parse(text)


@given(types())
def test_bytes_are_those_of_the_physical_buffer(kind: TensorType) -> None:
    assert kind.elements == math.prod(kind.shape)
    stored = np.zeros(kind.shape, DTYPES[kind.dtype])
    if kind.layout is not None:
        stored = kind.layout.store(stored, 0)
    assert kind.bytes == {"int4": math.ceil(stored.size / 2), "int2": math.ceil(stored.size / 4)}.get(kind.dtype, stored.nbytes)


@pytest.mark.parametrize(("dtype", "least", "most"), [("int4", -8, 7), ("int2", -2, 1), ("int8", -128, 127)])
def test_narrow_types_hold_what_fits_them(dtype: str, least: int, most: int) -> None:
    kind = TensorType((2,), dtype)
    assert kind.holds(np.array([least, most], np.int8))
    assert not kind.holds(np.array([least, most], np.int16)) and not kind.holds(np.zeros(3, np.int8))
    if dtype != "int8":
        assert not kind.holds(np.array([0, most + 1], np.int8)) and not kind.holds(np.array([least - 1, 0], np.int8))
    assert TensorType((0,), dtype).holds(np.zeros(0, np.int8))


def test_the_type_of_an_array() -> None:
    assert TensorType.of(np.zeros((2, 3), np.int8)) == TensorType((2, 3), "int8")
    assert str(TensorType.of(np.array(1.0))) == "float64[]"


def test_a_layout_changes_the_place_only() -> None:
    kind = TensorType((1, 3, 4, 4), "int8", Quant(8, (0.1,)))
    placed = kind.with_layout(Layout(4))
    assert placed.bytes == 4 * 4 * 4
    assert placed.with_layout(None) == kind
