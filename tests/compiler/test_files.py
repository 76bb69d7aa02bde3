"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.files import write_bytes, write_text


def test_content_replaces_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "graph.txt"
    write_text(target, "first")
    write_text(target, "zweites ü")
    assert target.read_text("utf-8") == "zweites ü"
    assert [path.name for path in tmp_path.iterdir()] == ["graph.txt"]


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "inside").write_text("")
    with pytest.raises(TapdotError, match=r"Could not write .*folder"):
        write_bytes(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_missing_folder_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(TapdotError, match="Could not write"):
        write_text(tmp_path / "missing" / "file", "")
