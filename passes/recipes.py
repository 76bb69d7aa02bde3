"""Recipes: the passes of a kind of compilation, in named phases, each recipe on one screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tapdot.compiler.options import configure
from tapdot.compiler.pipeline import Phase, Recipe
from tapdot.passes.canonicalize import Canonicalize
from tapdot.passes.common_subexpressions import CommonSubexpressions
from tapdot.passes.dead_code import DeadCode
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.fold_constants import FoldConstants
from tapdot.passes.fuse import Fuse
from tapdot.passes.pad_into_conv import PadIntoConv
from tapdot.passes.recipe_names import check_recipe
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
"""Every recipe by the name that ``--recipe`` takes; ``recipe_names`` lists the names for those who only ask which there are."""


def recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """The recipe of that name with options set from lines such as ``fuse.max_operators=8``.

    Raises TapdotError, with the nearest name there is, for an unknown recipe, pass or option.
    """
    return configure(RECIPES[check_recipe(name)](), settings)
