"""Which recipes there are, apart from their passes, which take seconds to load: a misspelled one is refused at once."""

from __future__ import annotations

import difflib

from tapdot.compiler.errors import TapdotError

RECIPE_NAMES = ("float", "int8")
"""Every name that ``--recipe`` takes: the keys of ``recipes.RECIPES``."""


def check_recipe(name: str) -> str:
    """The name itself; raises TapdotError, with the nearest name there is, for one that is not there."""
    if name not in RECIPE_NAMES:
        near = difflib.get_close_matches(name, RECIPE_NAMES, 1, 0.4)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(RECIPE_NAMES)}."
        raise TapdotError(f"There is no recipe {name!r}. {hint}")
    return name
