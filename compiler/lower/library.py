"""Machine code: one relocatable object a kernel, cached by its symbol, linked into one shared library without any dependency.

Libraries link with ``-nostdlib``: what they may leave undefined is an allow-list, so that one file loads under glibc and bionic.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import tapdot.kernels
from tapdot.compiler.cache import cache_directory
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.files import write_bytes
from tapdot.compiler.lower.elf import undefined_symbols
from tapdot.compiler.lower.entry import aliases, entry_function
from tapdot.compiler.program import ENTRY, Program
from tapdot.kernels import sources
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import object_code
from tapdot.kernels.versions import SUPPORTED_TVM

ALLOWED_SYMBOLS = ("TVMFFI", "TVMBackend", "__TVM", "__tvm", "memcpy", "memset")
"""Prefixes of the symbols a library may leave to the process that loads it."""


def build_library(program: Program, builders: Mapping[str, Callable[[], object]], target: Target) -> Path:
    """The shared library of a program, built from cached parts where they are there; the path lies in the cache."""
    text = repr([(call.symbol, call.arguments) for call in program.calls]) + repr((program.inputs, program.outputs))
    text += repr((program.arena_bytes, program.weights_bytes, sorted(target.json().items(), key=str), SUPPORTED_TVM))
    text += sources.digest(Path(__file__).parent)
    text += generator_digest()
    path = cache_directory() / "libraries" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda symbol: object_file(symbol, builders[symbol], target), builders))
    with tempfile.TemporaryDirectory() as temporary:
        entry = Path(temporary) / "entry.o"
        entry.write_bytes(object_code({ENTRY: entry_function(program)}, target.llvm()))
        write_bytes(path, link([entry, *objects], target, aliases(program)))
    return path


def build_kernel(symbol: str, builder: Callable[[], object], target: Target) -> Path:
    """The shared library of one kernel alone, as tuning measures it; the path lies in the cache."""
    path = cache_directory() / "candidates" / generator_digest() / f"{symbol}.so"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, link([object_file(symbol, builder, target)], target))
    return path


def object_file(symbol: str, builder: Callable[[], object], target: Target) -> Path:
    """The machine code of one kernel, in the cache under its symbol; ``builder`` is asked only where it is not there yet."""
    path = cache_directory() / "objects" / generator_digest() / f"{symbol}.o"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, object_code({symbol: builder()}, target.llvm()))
    return path


@cache
def generator_digest() -> str:
    """A name for the code that generates code: cached objects of another state of it are never used."""
    folders = (Path(tapdot.kernels.__file__).parent, Path(__file__).parent)
    sources = sorted(source for folder in folders for source in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def link(objects: list[Path], target: Target, aliases: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one shared library made of some objects, with further names for some symbols.

    Raises TapdotError where the objects do not fit together, and where they need a symbol that not every device has.
    """
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "kernels.so"
        emulation = {"x86_64": "elf_x86_64", "aarch64": "aarch64linux"}[target.architecture]
        names = [f"--defsym={alias}={symbol}" for alias, symbol in (aliases or {}).items()]
        command = [sys.executable, "-m", "ziglang", "ld.lld", "-m", emulation, "-shared", "--gc-sections", "-s", "-o", str(out)]
        result = subprocess.run([*command, *names, *map(str, objects)], capture_output=True, text=True, check=False)
        if result.returncode:
            reason = ((result.stderr or result.stdout).strip().splitlines() or [f"the linker ended with {result.returncode}"])[0]
            raise TapdotError(f"Linking the kernels failed: {reason}")
        library = out.read_bytes()
    if foreign := [symbol for symbol in undefined_symbols(library) if not symbol.startswith(ALLOWED_SYMBOLS)]:
        raise TapdotError(
            f"The kernels for {target.name} need {', '.join(foreign)}, which a device may not have: a library may leave to its "
            f"loader only names that begin with {', '.join(ALLOWED_SYMBOLS)}. This is a defect of a kernel family."
        )
    return library
