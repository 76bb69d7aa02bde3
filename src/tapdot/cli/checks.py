"""What is refused before anything slow is loaded: torch and TVM take seconds, which nobody should wait for to read of a typo."""

from __future__ import annotations

import os
from pathlib import Path


def check_compilation(model: Path, target: str | None, recipe: str) -> None:
    """All three of what a compilation is told."""
    check_model(model)
    check_target(target)
    check_recipe(recipe)


def check_model(path: Path) -> None:
    """Raises ModelError for what is no model's file by its name, and where there is no file."""
    from tapdot.compiler.frontends.model_file import check_model_file

    check_model_file(path)


def check_target(name: str | None) -> None:
    """Raises UnknownTargetError for a name that is none; what this machine itself can do, TVM must say."""
    from tapdot.kernels.target import find_target

    if name is not None and name.partition(":")[0] != "host":
        find_target(name)


def check_recipe(name: str) -> None:
    """Raises TapdotError for a recipe that is none."""
    from tapdot.passes import recipe_names

    recipe_names.check_recipe(name)


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
