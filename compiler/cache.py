"""Where tapdot keeps what is slow to make again: device bundles, the instruction counter, weights of emulated devices."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tapdot.compiler.errors import TapdotError


def cache_directory() -> Path:
    """``TAPDOT_CACHE``, else ``tapdot`` in ``XDG_CACHE_HOME`` or ``~/.cache``. Created if missing.

    Raises TapdotError when it cannot be created.
    """
    if chosen := os.environ.get("TAPDOT_CACHE"):
        directory = Path(chosen)
    else:
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tapdot"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TapdotError(
            f"The cache folder {directory} cannot be created ({error.strerror}). Set TAPDOT_CACHE to a folder you may write."
        ) from error
    return directory.resolve()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file ``path``, across processes, for the body of the ``with``."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_once(directory: Path, build: Callable[[Path], None]) -> Path:
    """``directory``, built first if it does not exist.

    ``build`` fills a temporary folder beside it that is then renamed, so a directory that exists is complete. Of several
    processes that ask at once, one builds and the others wait for it.
    """
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory.with_name(directory.name + ".lock")):
        if not directory.is_dir():
            unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=directory.parent))
            try:
                build(unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(directory)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return directory
