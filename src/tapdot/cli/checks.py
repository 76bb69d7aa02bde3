"""What is refused before anything slow is loaded: torch and TVM take seconds, which nobody should wait for to read of a typo."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer


def check_compilation(
    model: Path,
    target: str | None,
    recipe: str,
    data: Path | None,
    zero_shot: bool,
    settings: Sequence[str] | None,
    bits: bool = False,
) -> None:
    """All of what a compilation is told; ``bits`` says whether bits by layer are known or will be."""
    check_calibration(recipe, data, zero_shot, settings or (), bits)
    check_model(model)
    check_target(target)
    if data is not None:
        check_data(data)


def check_model(path: Path) -> None:
    """Raises ModelError for what is no model's file by its name, and where there is no file."""
    from tapdot.compiler.frontends.model_file import check_model_file

    check_model_file(path)


def check_target(name: str | None) -> None:
    """Raises UnknownTargetError for a name that is none; what this machine itself can do, TVM must say."""
    from tapdot.kernels.target import find_target

    if name is not None and name.partition(":")[0] != "host":
        find_target(name)


def check_calibration(recipe: str, data: Path | None, zero_shot: bool, settings: Sequence[str], bits: bool = False) -> None:
    """Raises TapdotError for a recipe that is none; choices that contradict each other are wrong usage."""
    from tapdot.passes import recipe_names

    try:
        recipe_names.check_calibration(recipe, data is not None, zero_shot, settings)
        recipe_names.check_bits(recipe, bits, settings)
    except recipe_names.ContradictionError as error:
        raise typer.BadParameter(str(error), param_hint="--zero-shot" if zero_shot else "--data") from error


def check_data(path: Path) -> None:
    """Raises InputError where there is no data by its name; what only the model can tell comes later."""
    from tapdot.compiler.data import open_data

    open_data(path)


def check_device(line: str) -> None:
    """Raises DeviceError for a line of no known form."""
    from tapdot.runtime.devices import find_kind

    find_kind(line)


def check_writable(path: Path) -> None:
    """Raises TapdotError for an output nobody can write."""
    from tapdot.compiler.errors import TapdotError

    if not path.parent.is_dir():
        raise TapdotError(f"There is no folder {path.parent} for the output {path.name}; create it or choose another place.")
    if path.is_dir():
        raise TapdotError(f"The output {path} is a folder; give the name of a file in it.")
    if not os.access(path.parent, os.W_OK):
        raise TapdotError(f"The folder {path.parent} cannot be written to; choose another place for {path.name}.")
