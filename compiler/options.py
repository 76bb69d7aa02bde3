"""Options of passes from text: ``--set fuse.max_operators=8``."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.pipeline import Pass, Phase, Recipe

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def configure(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with options set by lines of the form ``pass_name.option=value``; later lines win.

    Raises TapdotError, with the nearest name there is, for a pass or option that is not there and for a value of the wrong kind.
    """
    for setting in settings:
        recipe = _set(recipe, setting)
    return recipe


def describe(recipe: Recipe) -> list[str]:
    """Every option of a recipe as the line that would set it to what it is."""
    lines = [
        f"{step.name}.{option.name}={_show(getattr(step, option.name))}"
        for phase in recipe
        for step in phase.passes
        for option in _settable(step)
    ]
    return list(dict.fromkeys(lines))


def _set(recipe: Recipe, setting: str) -> Recipe:
    place, equals, value = setting.partition("=")
    pass_name, dot, option = place.strip().partition(".")
    if not equals or not dot:
        raise TapdotError(f"Expected an option such as fuse.max_operators=8, found {setting!r}.")
    steps = {step.name: step for phase in recipe for step in phase.passes}
    if pass_name not in steps:
        raise TapdotError(f"The recipe has no pass {pass_name!r}.{_nearest(pass_name, steps)}")
    step = steps[pass_name]
    options = typing.get_type_hints(type(step))
    known = [entry.name for entry in _settable(step)]
    if option not in known:
        raise TapdotError(f"The pass {pass_name!r} has no option {option!r}.{_nearest(option, known)}")
    parsed = _parse(value.strip(), options[option], f"{pass_name}.{option}")

    def changed(candidate: Pass) -> Pass:
        return dataclasses.replace(candidate, **{option: parsed}) if candidate.name == pass_name else candidate

    return tuple(
        Phase(phase.name, tuple(changed(candidate) for candidate in phase.passes), phase.until_stable) for phase in recipe
    )


def _settable(step: Pass) -> list[dataclasses.Field[Any]]:
    """The fields of a pass that are options: those with a default. What has none, such as a target, is not the user's choice."""
    return [entry for entry in dataclasses.fields(step) if entry.default is not dataclasses.MISSING]


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, 0.5)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" There are: {', '.join(known)}." if known else " It has none."


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_show(item) for item in value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _parse(text: str, kind: Any, place: str) -> Any:
    """The value a text stands for, by the type of the field it is for."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        return _parse(text, next(argument for argument in arguments if argument is not type(None)), place)
    if origin is tuple:
        return tuple(_parse(part.strip(), arguments[0], place) for part in text.split(",") if part.strip())
    if origin is typing.Literal:
        if text not in arguments:
            raise TapdotError(f"Expected one of {', '.join(arguments)} for {place}, found {text!r}.")
        return text
    if kind is bool:
        if text.lower() not in TRUE + FALSE:
            raise TapdotError(f"Expected true or false for {place}, found {text!r}.")
        return text.lower() in TRUE
    try:
        return kind(text)
    except ValueError:
        wanted = {int: "a whole number", float: "a number"}.get(kind, f"a {getattr(kind, '__name__', kind)}")
        raise TapdotError(f"Expected {wanted} for {place}, found {text!r}.") from None
