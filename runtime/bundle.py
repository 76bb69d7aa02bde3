"""Bundles: a folder with everything the agent needs to run on a device.

An aarch64 bundle holds the agent and the runner, cross-compiled from their sources by zig; TVM's runtime and tvm-ffi from their
aarch64 wheels, at the versions of this installation; and glibc, its loader, libstdc++ and libgcc. It starts with
``ld-linux-aarch64.so.1 --library-path . tapdot-agent`` on a board, under QEMU, or from any folder of a phone.

A native bundle, for this machine, takes TVM's runtime from this installation and the system's own C library.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tapdot.compiler.cache import build_once, cache_directory, filling, lock_of, locked
from tapdot.compiler.errors import BundleError

AGENT_SOURCES = Path(__file__).resolve().parent / "agent"
AGENT_PROGRAMS = {
    "tapdot-agent": ("agent.cc", "options.cc", "handshake.cc", "information.cc", "session.cc"),
    "tapdot-run": ("runner.cc",),
}
# The glibc TVM's wheels ask for (manylinux_2_28); zig links against the same, so both run on any system this new.
GLIBC = "2.28"
RUNTIME_LIBRARIES = {
    "apache-tvm": ("tvm/lib/libtvm_runtime.so", "tvm/lib/libtvm_runtime_extra.so"),
    "apache-tvm-ffi": ("tvm_ffi/lib/libtvm_ffi.so",),
}
LOADER = "ld-linux-aarch64.so.1"
SYSTEM_LIBRARIES = (
    LOADER,
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
    "libgcc_s.so.1",
)
MANIFEST = "manifest.json"
CROSS_PACKAGES = ("libc6-arm64-cross", "libstdc++6-arm64-cross", "libgcc-s1-arm64-cross")
# Where an aarch64 system's libraries lie below its root, and below the root of Debian's cross packages.
LIBRARY_FOLDERS = (
    "lib/aarch64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/aarch64-linux-gnu/lib",
    "usr/lib64",
    "lib64",
    "usr/lib",
    "lib",
    ".",
)


@dataclass(frozen=True)
class Bundle:
    """A complete bundle on this machine.

    ``directory`` may be copied as a whole; ``architecture`` is ``aarch64``, or this machine's own for a native bundle.
    """

    directory: Path
    architecture: str

    @property
    def manifest(self) -> dict[str, object]:
        """Versions, and the SHA-256 of every file by name."""
        return json.loads((self.directory / MANIFEST).read_text())

    def command(self, program: str) -> list[str]:
        """The start of a command line that runs ``program`` of the bundle on the device's own CPU."""
        if (self.directory / LOADER).exists():
            directory = str(self.directory)
            return [f"{directory}/{LOADER}", "--library-path", directory, f"{directory}/{program}"]
        return [str(self.directory / program)]

    def digests(self) -> dict[str, str]:
        """The SHA-256 of every file by name, the manifest's own too, as they should be."""
        listed = self.manifest["sha256"]
        assert isinstance(listed, dict)
        return {**listed, MANIFEST: str(_sha256_or_none(self.directory / MANIFEST))}

    def damaged_files(self) -> list[str]:
        """Names of files that differ from the manifest or are missing."""
        return [name for name, digest in self.digests().items() if _sha256_or_none(self.directory / name) != digest]


def build_bundle(architecture: str = "aarch64") -> Bundle:
    """The bundle for ``architecture``, built and cached on first use.

    The first build downloads about 100 MB of wheels and lets zig build its C++ library, which takes a minute or two; later
    calls take milliseconds. Two processes may ask at once.

    Raises BundleError when something it needs is missing; the message says what and how to get it.
    """
    versions = _versions()
    native = architecture == platform.machine()
    system = None if native else _find_system_libraries()
    identity = hashlib.sha256(json.dumps(versions, sort_keys=True).encode())
    for source in sorted(AGENT_SOURCES.iterdir()):
        identity.update(source.read_bytes())
    if system is not None:
        identity.update(str(sorted((name, path.stat().st_size) for name, path in system.items())).encode())

    def build(directory: Path) -> None:
        print(f"First use of the agent for {architecture}: building it takes some minutes, once.", file=sys.stderr, flush=True)
        _collect_runtime(architecture, directory)
        for name, path in (_fetch_system_libraries() if system == {} else system or {}).items():
            shutil.copyfile(path, directory / name)
            (directory / name).chmod(0o755)
        for program, sources in AGENT_PROGRAMS.items():
            _compile_program(architecture, program, sources, directory)
        digests = {path.name: _sha256_or_none(path) for path in sorted(directory.iterdir())}
        manifest = {"architecture": architecture, "versions": versions, "sha256": digests}
        (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")

    directory = cache_directory() / "bundles" / f"{architecture}-{identity.hexdigest()[:16]}"
    return Bundle(build_once(directory, build), architecture)


def check_bundle(architecture: str) -> str:
    """Where the bundle lies, once every file of it is found to be as it was built. Raises BundleError where one is not."""
    bundle = build_bundle(architecture)
    if damaged := bundle.damaged_files():
        raise BundleError(
            f"{', '.join(damaged)} in {bundle.directory} differ from what was built. Delete that folder and try again."
        )
    return str(bundle.directory)


def zig(*arguments: str, purpose: str) -> None:
    """Runs the zig that is installed beside this Python. Raises BundleError with the compiler's first error."""
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        if "No module named ziglang" in done.stderr:
            raise BundleError(f"{purpose} needs the zig compiler, which is not installed. Run: pip install ziglang")
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["no output"]
        raise BundleError(f"{purpose} failed in zig: {lines[0].strip()}")


def _versions() -> dict[str, str]:
    names = (*RUNTIME_LIBRARIES, "ziglang")
    try:
        return {name: importlib.metadata.version(name) for name in names}
    except importlib.metadata.PackageNotFoundError as error:
        raise BundleError(f"A device bundle needs the Python package {error.name}. Run: pip install {error.name}") from error


def _compile_program(architecture: str, program: str, sources: tuple[str, ...], directory: Path) -> None:
    ffi = Path(_package_file("apache-tvm-ffi", "tvm_ffi/include/tvm/ffi/c_api.h")).parents[2]
    zig(
        "c++",
        "-target",
        f"{architecture}-linux-gnu.{GLIBC}",
        *("-std=c++17", "-O2", "-s", "-Wall", "-Wextra"),
        # Exporting tvm-ffi's exception type would make TVM's libraries use ours, from another C++ runtime, and crash.
        *("-fvisibility=hidden", "-DTVM_FFI_DLL="),
        *("-isystem", str(ffi), "-isystem", str(ffi.parent / "3rdparty" / "dlpack" / "include")),
        *(str(AGENT_SOURCES / source) for source in sources),
        *("-o", str(directory / program), f"-L{directory}", "-ltvm_ffi", "-ldl", "-Wl,-rpath,$ORIGIN"),
        purpose=f"Compiling {program} for {architecture}",
    )


def _package_file(package: str, name: str) -> Path:
    """A file of an installed Python package, found without importing it."""
    return Path(str(importlib.metadata.distribution(package).locate_file(name)))


def _collect_runtime(architecture: str, directory: Path) -> None:
    """TVM's runtime libraries: this installation's own for this machine, otherwise out of the device's wheels."""
    for package, members in RUNTIME_LIBRARIES.items():
        if architecture == platform.machine():
            for member in members:
                shutil.copy(_package_file(package, member), directory / Path(member).name)
        else:
            with zipfile.ZipFile(_download_wheel(package, architecture)) as wheel:
                for member in members:
                    target = directory / Path(member).name
                    target.write_bytes(wheel.read(member))
                    target.chmod(0o755)


def _download_wheel(package: str, architecture: str) -> Path:
    """The wheel of ``package`` for another architecture, at the version installed here, from pip's index."""
    version = importlib.metadata.version(package)
    folder = cache_directory() / "wheels"
    folder.mkdir(exist_ok=True)
    pattern = f"{package.replace('-', '_')}-{version}-*{architecture}.whl"
    with locked(lock_of(folder / package)):
        if not (found := sorted(folder.glob(pattern))):
            platforms = [f"manylinux_2_{minor}_{architecture}" for minor in range(28, 16, -1)]
            with filling(folder / package) as unfinished:
                done = subprocess.run(
                    [
                        *(
                            sys.executable,
                            "-m",
                            "pip",
                            "download",
                            "--quiet",
                            "--disable-pip-version-check",
                            "--no-deps",
                        ),
                        *("--only-binary=:all:", "--python-version", "3.11", "--dest", str(unfinished)),
                        *(option for tag in platforms for option in ("--platform", tag)),
                        f"{package}=={version}",
                    ],
                    capture_output=True,
                    text=True,
                    stdin=subprocess.DEVNULL,
                    check=False,
                )
                wheels = list(unfinished.glob(pattern))
                if done.returncode != 0 or not wheels:
                    reason = (done.stderr.strip().splitlines() or ["pip found no such wheel"])[-1]
                    raise BundleError(
                        f"pip could not download {package} {version} for {architecture} ({reason}). Check the network and pip's "
                        f"index, or put that wheel into {folder}."
                    )
                found = [wheels[0].rename(folder / wheels[0].name)]
    with zipfile.ZipFile(found[0]) as wheel:
        inside = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        stated = next(line for line in wheel.read(inside[0]).decode().splitlines() if line.startswith("Version: "))
    if stated != f"Version: {version}":
        raise BundleError(f"{found[0]} says '{stated}' inside; expected version {version}. Delete it and try again.")
    return found[0]


def _libraries_below(root: Path) -> dict[str, Path] | None:
    """Every system library below ``root`` by name, or None when one is missing."""
    libraries = {}
    for name in SYSTEM_LIBRARIES:
        places = (root / folder / name for folder in LIBRARY_FOLDERS)
        if (path := next((place for place in places if place.exists()), None)) is None:
            return None
        libraries[name] = path
    return libraries


def _find_system_libraries() -> dict[str, Path]:
    """The C library and its company, from ``TAPDOT_SYSROOT`` or installed packages; empty when they must be fetched."""
    if sysroot := os.environ.get("TAPDOT_SYSROOT"):
        if (libraries := _libraries_below(Path(sysroot))) is None:
            raise BundleError(
                f"TAPDOT_SYSROOT is {sysroot}, but one of {', '.join(SYSTEM_LIBRARIES)} is missing below it. Point it at the "
                f"root of an aarch64 Linux system, or unset it to use Debian's cross packages."
            )
        return libraries
    return _libraries_below(Path("/usr/aarch64-linux-gnu")) or {}


def _fetch_system_libraries() -> dict[str, Path]:
    """Debian's cross packages, downloaded by apt and unpacked without root into the cache."""
    remedy = (
        f"Install them (apt install {' '.join(CROSS_PACKAGES[:2])}) or set TAPDOT_SYSROOT to the root of an aarch64 Linux system."
    )
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise BundleError(f"The C library for aarch64 is not here and cannot be fetched without apt. {remedy}")

    def unpack(directory: Path) -> None:
        with tempfile.TemporaryDirectory() as downloads:
            done = subprocess.run(
                ["apt-get", "download", *CROSS_PACKAGES], cwd=downloads, capture_output=True, text=True, check=False
            )
            packages = sorted(Path(downloads).glob("*.deb"))
            if done.returncode != 0 or len(packages) != len(CROSS_PACKAGES):
                reason = (done.stderr.strip().splitlines() or ["no packages came"])[-1]
                raise BundleError(f"apt could not download the C library for aarch64 ({reason}). {remedy}")
            for package in packages:
                subprocess.run(["dpkg-deb", "-x", str(package), str(directory)], check=True, capture_output=True)

    root = build_once(cache_directory() / "sysroots" / "debian-aarch64", unpack)
    if (libraries := _libraries_below(root)) is None:
        raise BundleError(f"The packages fetched into {root} lack a library. Delete that folder, or: {remedy}")
    return libraries


def _sha256_or_none(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
