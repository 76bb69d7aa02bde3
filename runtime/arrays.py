"""Arrays from and to ``.npz`` files, never through pickles."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tapdot.compiler.errors import InputError
from tapdot.compiler.files import write_bytes
from tapdot.compiler.package import Package


def read_arrays(path: Path, package: Package) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by name; a file with one array fits a model with one input, whatever its name.

    Raises InputError where the file cannot be read; shapes are checked where the arrays are used.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {"": np.asarray(stored)} if isinstance(stored, np.ndarray) else {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}; write the inputs with numpy.savez(path, name=array).") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(
            f"{path} is not a readable .npz file of plain arrays; write it with numpy.savez(path, name=array)."
        ) from error
    expected = package.program.inputs
    if len(arrays) == len(expected) == 1:
        return {expected[0].name: next(iter(arrays.values()))}
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ``.npz`` file, whole or not at all; names are kept whatever they are (``numpy.savez`` reserves a few)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    write_bytes(path, buffer.getvalue())
