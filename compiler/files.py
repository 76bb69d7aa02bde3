"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tapdot.compiler.errors import TapdotError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name ``path`` at the end of the ``with``, and no name at all if the body does not get there.

    It grows under a temporary name beside ``path``, so that a rename puts it in place. Raises TapdotError where the disk refuses;
    whatever else ends the body, an interruption too, leaves what was at ``path`` before and nothing beside it.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    except OSError as error:
        raise TapdotError(f"Could not write {path}: {error.strerror or error}. Free space or choose another place.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file by these bytes, all at once; raises TapdotError where the disk refuses."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """The same for text, in UTF-8."""
    write_bytes(path, content.encode())


def make_folder(path: Path) -> None:
    """Makes a folder and those above it where missing; raises TapdotError where something else has the name."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TapdotError(f"Could not make the folder {path}: {error.strerror or error}. Choose another place.") from error


def _umask() -> int:
    """The permissions this process withholds. Asking sets them for a moment, which no thread that makes files may see."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _umask()  # read while modules load: kernels are built, and written, by several threads
