"""Folders that are built once, whoever asks and whoever is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapdot.compiler.cache import build_once, lock_of, locked


def fill(directory: Path) -> None:
    (directory / "file").write_text("whole")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    assert (build_once(tmp_path / "thing", fill) / "file").read_text() == "whole"
    build_once(tmp_path / "thing", lambda directory: pytest.fail("built again"))
    assert names(tmp_path) == ["thing", "thing.lock"]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        fill(directory)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        build_once(tmp_path / "thing", fail)
    assert names(tmp_path) == ["thing.lock"]


def test_what_a_killed_build_left_is_swept_by_the_next(tmp_path: Path) -> None:
    """Whether it was building the same thing, another, or is of a version that named its folders otherwise; a live one stays."""
    for name in ("thing-0a_b", "other-c1d2", "busy-x86-e3f4", "g5h6i7"):
        (tmp_path / f".unfinished-{name}").mkdir()
        fill(tmp_path / f".unfinished-{name}")
    with locked(lock_of(tmp_path / "busy-x86")):
        build_once(tmp_path / "thing", fill)
    assert names(tmp_path) == [".unfinished-busy-x86-e3f4", "busy-x86.lock", "thing", "thing.lock"]
