"""The code that makes code, as part of every name under which its results are kept."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def digest(folder: Path) -> str:
    """A digest of the Python files in a folder and below.

    What was built by other sources is something else: neither an upgrade nor an edit may find stale machine code in a cache.
    """
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder)} {len(content)} ".encode() + content)
    return found.hexdigest()
