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

UNFINISHED = ".unfinished-"
"""How the names of folders begin that are being filled."""


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
    processes that ask at once, one builds and the others wait for it. What processes that were killed left beside it is removed.
    """
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock_of(directory)):
        if not directory.is_dir():
            with filling(directory) as unfinished:
                build(unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(directory)
    return directory


def lock_of(path: Path) -> Path:
    """The file whose lock a process holds for as long as it makes ``path``."""
    return path.with_name(path.name + ".lock")


@contextmanager
def filling(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, whose lock is held, gone after the ``with``.

    What processes that were killed while they made something in the same place left behind goes too.
    """
    for abandoned in list(path.parent.glob(f"{UNFINISHED}*")):
        name = abandoned.name.removeprefix(UNFINISHED).rpartition("-")[0]  # what mkdtemp appends has no hyphen
        if name in ("", path.name) or _is_free(lock_of(path.with_name(name))):
            shutil.rmtree(abandoned, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{path.name}-", dir=path.parent))
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_free(lock: Path) -> bool:
    """Whether nobody holds a lock."""
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
