"""Bundles, and what is said when a part of one is missing."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from tapdot.compiler.errors import BundleError
from tapdot.runtime import bundle as bundles
from tapdot.runtime.bundle import Bundle, build_bundle


def test_a_bundle_is_built_once_and_says_what_it_holds(native_bundle: Bundle) -> None:
    assert build_bundle(platform.machine()) == native_bundle
    names = {path.name for path in native_bundle.directory.iterdir()}
    assert {"tapdot-agent", "tapdot-run", "libtvm_runtime.so", "libtvm_ffi.so", "manifest.json"} <= names
    assert native_bundle.manifest["architecture"] == platform.machine()
    assert not native_bundle.damaged_files()


@pytest.mark.emulated
def test_a_bundle_for_a_phone_brings_its_own_system() -> None:
    bundle = build_bundle("aarch64")
    names = {path.name for path in bundle.directory.iterdir()}
    assert set(bundles.SYSTEM_LIBRARIES) <= names
    assert bundle.command("tapdot-agent")[0].endswith(bundles.LOADER)
    assert sum(path.stat().st_size for path in bundle.directory.iterdir()) < 16 * 2**20


def test_damage_is_found(native_bundle: Bundle, tmp_path: Path) -> None:
    copy = Bundle(Path(shutil.copytree(native_bundle.directory, tmp_path / "copy")), native_bundle.architecture)
    with open(copy.directory / "tapdot-run", "ab") as file:
        file.write(b"x")
    (copy.directory / "libtvm_ffi.so").unlink()
    assert sorted(copy.damaged_files()) == ["libtvm_ffi.so", "tapdot-run"]


def test_a_sysroot_without_libraries_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAPDOT_SYSROOT", str(tmp_path))
    with pytest.raises(BundleError, match=r"TAPDOT_SYSROOT is .* Point it at the root of an aarch64 Linux system"):
        bundles._find_system_libraries()


def test_a_sysroot_is_searched_in_the_usual_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number, name in enumerate(bundles.SYSTEM_LIBRARIES):
        folder = tmp_path / bundles.LIBRARY_FOLDERS[number % len(bundles.LIBRARY_FOLDERS)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setenv("TAPDOT_SYSROOT", str(tmp_path))
    assert set(bundles._find_system_libraries()) == set(bundles.SYSTEM_LIBRARIES)


def test_no_packages_and_no_apt_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BundleError, match=r"cannot be fetched without apt\. Install them \(apt install libc6-arm64-cross"):
        bundles._fetch_system_libraries()


def test_packages_apt_cannot_download_are_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'E: no network' >&2\nexit 100\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("TAPDOT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BundleError, match=r"apt could not download .* \(E: no network\)"):
        bundles._fetch_system_libraries()
    assert not list((tmp_path / "cache" / "sysroots").glob("[!.]*[!k]"))


def test_a_wheel_pip_cannot_download_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAPDOT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "empty index").as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    with pytest.raises(BundleError, match=r"pip could not download apache-tvm-ffi .* for aarch64"):
        bundles._download_wheel("apache-tvm-ffi", "aarch64")


def test_an_error_of_the_compiler_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "wrong.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(BundleError, match=r"Compiling a test failed in zig: .*undeclared identifier 'nothing'"):
        bundles.zig("cc", "-c", str(tmp_path / "wrong.c"), "-o", str(tmp_path / "wrong.o"), purpose="Compiling a test")
