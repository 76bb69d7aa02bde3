"""Which recipes there are, apart from their passes, which take seconds to load: a misspelled one is refused at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tapdot.compiler.errors import TapdotError

RECIPE_NAMES = ("float", "int8", "pattern", "pattern-int8", "mixed")
"""Every name that ``--recipe`` takes: the keys of ``recipes.RECIPES``."""
CALIBRATED_RECIPES = ("int8", "pattern-int8", "mixed")
"""Those that take samples."""
SPARSE_RECIPES = ("pattern", "pattern-int8")
"""Those that look for what is pruned."""
MIXED_RECIPES = ("mixed",)
"""Those whose layers get bits one by one."""
SENSITIVITY_METHODS = ("kl", "prediction", "masked", "hessian")
"""Ways to measure what bits lose: the keys of ``sensitivity.METHODS``."""
CODE_METHODS = ("kl", "prediction")
"""Of these, those that measure activations too."""
CALIBRATING_PASSES = ("calibrate", "distill_samples")
"""Passes that are there only where samples are."""


class ContradictionError(TapdotError):
    """Two choices that cannot both be meant."""


def check_recipe(name: str) -> str:
    """The name itself; raises TapdotError, with the nearest name there is, for one that is not there."""
    if name not in RECIPE_NAMES:
        near = difflib.get_close_matches(name, RECIPE_NAMES, 1, 0.4)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(RECIPE_NAMES)}."
        raise TapdotError(f"There is no recipe {name!r}. {hint}")
    return name


def check_calibration(recipe: str, data: bool, zero_shot: bool, settings: Sequence[str] = ()) -> None:
    """Whether samples are given once, and to a recipe that takes some.

    Raises ContradictionError where they are given twice or to another recipe, and TapdotError for options of passes that nothing
    was given to.
    """
    given = "data (--data)" if data else "zero-shot calibration (--zero-shot)"
    if data and zero_shot:
        raise ContradictionError(
            "Expected samples (--data) or inputs distilled without any (--zero-shot), found both; choose one."
        )
    if check_recipe(recipe) not in CALIBRATED_RECIPES:
        if data or zero_shot:
            raise ContradictionError(f"The recipe {recipe!r} takes no {given}; quantize with --recipe {_quantizing(recipe)}.")
        return
    idle = [line for line in settings if line.strip().partition(".")[0] in CALIBRATING_PASSES]
    if idle and not (data or zero_shot):
        raise TapdotError(
            f"The option {idle[0]!r} needs samples to calibrate with: give some (--data DATA), or have them distilled from the "
            "model's batch norms (--zero-shot)."
        )


def check_bits(recipe: str, given: bool, settings: Sequence[str] = ()) -> None:
    """Raises TapdotError unless a choice of bits by layer is given once to a recipe that takes one, and to no other."""
    lines = [line for line in settings if line.strip().partition("=")[0].strip() == "mixed.bits"]
    if check_recipe(recipe) not in MIXED_RECIPES:
        if given or lines:
            raise TapdotError(f"The recipe {recipe!r} takes no bit widths by layer; choose them with --recipe mixed.")
    elif given and lines:
        raise TapdotError(f"Expected bit widths once, found some and the option {lines[0]!r}; leave one of them out.")
    elif not (given or lines):
        raise TapdotError(
            f"The recipe {recipe!r} needs to know how many bits each layer gets: name a JSON file of bit widths "
            "(--bits FILE), say what all may cost (--budget size=50%), or use the recipe int8."
        )


def check_sensitivity(activations: str, method: str) -> None:
    """Raises ContradictionError where activations have bits of their own, and the method measures weights only."""
    if activations == "own" and method in SENSITIVITY_METHODS and method not in CODE_METHODS:
        raise ContradictionError(
            f"What activations lose is measured by {' or '.join(CODE_METHODS)}, and adds up with what weights lose by the same; "
            f"found the sensitivity {method!r} with the activations {activations!r}."
        )


def _quantizing(recipe: str) -> str:
    """The recipe that quantizes as well."""
    return "pattern-int8" if recipe == "pattern" else "int8"
