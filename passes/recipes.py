"""Recipes: the passes of a kind of compilation, in named phases, each recipe on one screen."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.options import configure
from tapdot.compiler.pipeline import Phase, Recipe
from tapdot.passes.canonicalize import Canonicalize
from tapdot.passes.common_subexpressions import CommonSubexpressions
from tapdot.passes.dead_code import DeadCode
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.fold_constants import FoldConstants
from tapdot.passes.fuse import Fuse
from tapdot.passes.pad_into_conv import PadIntoConv
from tapdot.passes.remove_identity import RemoveIdentity
from tapdot.passes.resolve_windows import ResolveWindows


def clean_up() -> Phase:
    """What every recipe begins with: one form for each thing, and nothing that is not needed."""
    return Phase(
        "clean up",
        (
            FoldConstants(),
            RemoveIdentity(),
            ResolveWindows(),
            Canonicalize(),
            PadIntoConv(),
            CommonSubexpressions(),
            DeadCode(),
        ),
        until_stable=True,
    )


def float_recipe() -> Recipe:
    """The network as it was trained, in float32."""
    return (
        clean_up(),
        Phase("fold", (FoldBatchNorm(), FoldConstants())),
        Phase("fuse", (Fuse(), CommonSubexpressions(), DeadCode())),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "float": float_recipe,
}
"""Every recipe by the name that ``--recipe`` takes."""


def recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """The recipe of that name with options set from lines such as ``fuse.max_operators=8``.

    Raises TapdotError, with the nearest name there is, for an unknown recipe, pass or option.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1, 0.4)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(RECIPES)}."
        raise TapdotError(f"There is no recipe {name!r}. {hint}")
    return configure(RECIPES[name](), settings)
