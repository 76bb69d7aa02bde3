"""Options of passes from text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.options import configure, describe
from tapdot.compiler.pipeline import Notes, Pass, Phase, Recipe


@dataclass(frozen=True)
class Tile(Pass):
    """One option of every kind."""

    count: int = 4
    share: float = 0.5
    loud: bool = False
    label: str = "x"
    sizes: tuple[int, ...] = (1, 2)
    limit: int | None = None
    order: Literal["rows", "columns"] = "rows"

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return graph


@dataclass(frozen=True)
class Plain(Pass):
    """No options."""

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return graph


RECIPE: Recipe = (Phase("one", (Plain(), Tile())), Phase("two", (Tile(),), until_stable=True))


@pytest.mark.parametrize(
    ("setting", "option", "value"),
    [
        ("tile.count=12", "count", 12),
        ("tile.share=1e-3", "share", 0.001),
        ("tile.loud=true", "loud", True),
        ("tile.loud=off", "loud", False),
        ("tile.label=a=b", "label", "a=b"),
        ("tile.sizes=3, 5,7", "sizes", (3, 5, 7)),
        ("tile.sizes=", "sizes", ()),
        ("tile.limit=9", "limit", 9),
        ("tile.limit=none", "limit", None),
        ("tile.order=columns", "order", "columns"),
    ],
)
def test_values_by_the_type_of_the_field(setting: str, option: str, value: Any) -> None:
    first, second = configure(RECIPE, [setting])
    assert getattr(first.passes[1], option) == value == getattr(second.passes[0], option)
    assert second.until_stable and RECIPE[0].passes[1] == Tile()


def test_later_settings_win() -> None:
    assert configure(RECIPE, ["tile.count=1", "tile.count=2"])[1].passes == (Tile(count=2),)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tiel.count=3", "The recipe has no pass 'tiel'. Did you mean 'tile'?"),
        ("tile.cuont=3", "The pass 'tile' has no option 'cuont'. Did you mean 'count'?"),
        ("zzz.count=3", "There are: plain, tile."),
        ("plain.count=3", "It has none."),
        ("tile.count=three", "Expected a whole number for tile.count, found 'three'."),
        ("tile.share=much", "Expected a number for tile.share, found 'much'."),
        ("tile.loud=maybe", "Expected true or false for tile.loud, found 'maybe'."),
        ("tile.order=up", "Expected one of rows, columns for tile.order, found 'up'."),
        ("tile.sizes=1,b", "Expected a whole number for tile.sizes, found 'b'."),
        ("tile.count", "Expected an option such as"),
        ("count=3", "Expected an option such as"),
    ],
)
def test_mistakes_are_said_in_words(setting: str, message: str) -> None:
    with pytest.raises(TapdotError) as found:
        configure(RECIPE, [setting])
    assert message in str(found.value)


def test_describe_lists_lines_that_can_be_set() -> None:
    lines = describe(RECIPE)
    assert "tile.sizes=1,2" in lines and "tile.limit=none" in lines
    assert configure(RECIPE, lines) == RECIPE
