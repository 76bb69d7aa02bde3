"""Arrays from and to ``.npz`` files, never through pickles."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tapdot.compiler.errors import InputError
from tapdot.compiler.files import write_bytes
from tapdot.compiler.package import Package

NAMELESS = ("", "arr_0")


def read_arrays(path: Path, package: Package) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by name.

    An array without a name (an ``.npy`` file, or what ``numpy.savez(path, array)`` calls ``arr_0``) is taken for a model's only
    input. Raises InputError where the file cannot be read and where names differ; shapes are checked where arrays are used.
    """
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            arrays = {"": stored}
        else:
            with stored:
                arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}; write the inputs with numpy.savez(path, name=array).") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(
            f"{path} is not a readable .npz file of plain arrays; write it with numpy.savez(path, name=array)."
        ) from error
    expected = [tensor.name for tensor in package.program.inputs]
    if len(expected) == 1 and len(arrays) == 1 and not arrays.keys().isdisjoint(NAMELESS):
        return {expected[0]: next(iter(arrays.values()))}
    if set(arrays) != set(expected):
        raise InputError(
            f"{path} holds {_listed(arrays)}, and {package.name} takes {_listed(expected)}. Write the arrays by the model's "
            f"names: numpy.savez(path, **{{{', '.join(f'{name!r}: array' for name in expected)}}})."
        )
    return arrays


def names_of_not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of float arrays that hold NaN or an infinity."""
    return [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) if name else "an array without a name" for name in names) or "no array"


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ``.npz`` file, whole or not at all; names are kept whatever they are (``numpy.savez`` reserves a few)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    write_bytes(path, buffer.getvalue())
