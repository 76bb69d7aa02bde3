"""Libraries: what was built once is not built again, and nothing is needed that a device may not have."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.runtime.conftest import link_source
from tests.small_networks import small_network

import tapdot
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.lower import library
from tapdot.compiler.lower.elf import undefined_symbols
from tapdot.compiler.lower.library import ALLOWED_SYMBOLS, link
from tapdot.kernels.target import find_target


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAPDOT_CACHE", str(tmp_path))
    return tmp_path


def files(folder: Path) -> dict[str, int]:
    """Every file under a folder and when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_same_model_builds_nothing_and_other_weights_link_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tapdot.compile(small_network(0), target="host:generic")
    objects, libraries = files(cache / "objects"), files(cache / "libraries")
    assert set(objects) == {f"{call.symbol}.o" for call in first.program.calls}
    assert len(libraries) == 1

    def refuse(*_: object, **__: object) -> bytes:
        raise AssertionError("nothing is left to build")

    monkeypatch.setattr(library, "object_code", refuse)
    monkeypatch.setattr(library, "link", refuse)
    again, other = (tapdot.compile(small_network(seed), target="host:generic") for seed in (0, 1))
    assert again.weights.sha256 == first.weights.sha256 != other.weights.sha256
    assert again.library.read_bytes() == other.library.read_bytes() == first.library.read_bytes()
    assert (files(cache / "objects"), files(cache / "libraries")) == (objects, libraries)


def test_another_target_is_another_library(cache: Path) -> None:
    tapdot.compile(small_network(), target="host:generic")
    tapdot.compile(small_network(), target="generic-aarch64:generic")
    assert len(files(cache / "libraries")) == 2


def test_an_interrupted_build_leaves_only_whole_objects(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, built = library.object_code, []

    def interrupt(*arguments: object) -> bytes:
        if len(built) == 2:
            raise KeyboardInterrupt
        built.append(arguments)
        return honest(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(library, "object_code", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tapdot.compile(small_network(), target="host:generic")
    assert 0 < len(files(cache / "objects")) <= 2
    assert all(name.endswith(".o") for name in files(cache / "objects"))
    assert not files(cache / "libraries")
    monkeypatch.undo()
    monkeypatch.setenv("TAPDOT_CACHE", str(cache))
    assert tapdot.connect("host").verify(tapdot.compile(small_network(), target="host:generic")).passed


@pytest.mark.parametrize("target", ["host", "cortex-a76"])
def test_a_library_leaves_open_only_what_every_device_has(target: str) -> None:
    package = tapdot.compile(small_network(), target=target)
    names = undefined_symbols(package.library.read_bytes())
    assert all(name.startswith(ALLOWED_SYMBOLS) for name in names), names


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_undefined_symbols_are_read_from_the_file(tmp_path: Path, architecture: str) -> None:
    source = "extern int elsewhere(int); int here(int x) { return elsewhere(x) + 1; }"
    path = link_source(source, architecture, tmp_path / "library.so")
    assert undefined_symbols(path.read_bytes()) == ["elsewhere"]


def test_a_kernel_that_needs_the_c_library_is_refused(tmp_path: Path) -> None:
    path = link_source("extern double sin(double); double twice(double x) { return 2 * sin(x); }", "x86_64", tmp_path / "sine.so")
    relocatable = tmp_path / "sine.o"
    _compile_object(path.with_suffix(".c"), relocatable)
    with pytest.raises(TapdotError, match=r"need sin, which a device may not have"):
        link([relocatable], find_target("generic-x86-64"))


def test_objects_that_are_none_are_refused_in_words(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.o"
    nonsense.write_text("nonsense")
    with pytest.raises(TapdotError, match="Linking the kernels failed: "):
        link([nonsense], find_target("generic-x86-64"))


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF\x02\x01", b"\x7fELF\x02\x01" + bytes(40)])
def test_what_is_no_library_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(ValueError, match="ELF file"):
        undefined_symbols(content)


def _compile_object(source: Path, target: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.28", "-fPIC", "-c", "-fno-sanitize=all"]
    subprocess.run([*command, str(source), "-o", str(target)], check=True, capture_output=True)
