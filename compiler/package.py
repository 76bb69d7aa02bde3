"""The package: one zip file that a device runs.

============== ==========================================================================================================
entry          content
============== ==========================================================================================================
weights.bin    arrays packed for the kernels, each on a 64-byte boundary; stored uncompressed on a 64-byte boundary of the
               file, so that it is mapped in place (with weights of 4 or 2 bits: see ``compiler.narrow_weights``)
kernels.so     machine code only
graph.txt      the graph the kernels were made from, with layouts; its weights come back through each family's exact unpack
constants.npz  constants of that graph that are no kernel's weights (no pickles)
manifest.json  format and tool versions, target, the program, who computes in which precision and how far from the float
               network, every other entry's size and sha256
============== ==========================================================================================================
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tapdot.compiler.coverage import Coverage
from tapdot.compiler.errors import PackageError, TapdotError
from tapdot.compiler.files import replacing
from tapdot.compiler.graph import Graph
from tapdot.compiler.narrow_weights import NarrowArray, in_memory, stored_bytes
from tapdot.compiler.program import WEIGHTS, KernelCall, Program
from tapdot.compiler.sparsity import LayerStructure
from tapdot.compiler.text import parse_graph, print_graph
from tapdot.kernels.layout import ALIGNMENT
from tapdot.kernels.target import Target
from tapdot.kernels.versions import SUPPORTED_TVM

if TYPE_CHECKING:
    from tapdot.compiler.lower import Lowered

MOST_MANIFEST_BYTES = 64 << 20

FORMAT = 2
"""Raised when an older tapdot could not run a newer package."""
FORMAT_OF_BYTES = 1
"""Of packages without narrow weights, which older ones run too."""

WEIGHTS_ENTRY, LIBRARY_ENTRY, GRAPH_ENTRY, CONSTANTS_ENTRY, MANIFEST_ENTRY = (
    "weights.bin",
    "kernels.so",
    "graph.txt",
    "constants.npz",
    "manifest.json",
)
ENTRIES = (WEIGHTS_ENTRY, LIBRARY_ENTRY, GRAPH_ENTRY, CONSTANTS_ENTRY)
"""What the manifest vouches for."""

COPY_BYTES = 1 << 20
_PADDING_FIELD = 0x7464
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_SIGNS_OF_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)
"""What zipfile, json and the classes behind the manifest raise for bytes nobody wrote on purpose."""


@dataclass(frozen=True)
class FileRange:
    """Some bytes of a file."""

    path: Path
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class TensorGap:
    """An integer tensor against the float network's, measured on calibration samples at compile time."""

    value: str
    node: str
    """The node that makes it."""
    op: str
    decibels: float | None
    """Its ratio of signal to quantization noise; None where nothing differs."""


class Package:
    """A compiled model on disk. ``Package.load`` checks all of it; what it holds is read when asked for."""

    def __init__(
        self, path: Path, manifest: Mapping[str, Any], temporary: tempfile.TemporaryDirectory[str] | None = None
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.narrow = tuple(NarrowArray(*found) for found in manifest.get("narrow_weights", ()))
        """Arrays of weights.bin that the file holds in fewer bits than memory."""
        self._temporary = temporary

    # -- facts --------------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.manifest["name"])

    @cached_property
    def target(self) -> Target:
        """What the code was generated for."""
        return Target.from_json(self.manifest["target"])

    @cached_property
    def program(self) -> Program:
        """Kernel calls, inputs, outputs, sizes."""
        return Program.from_json(self.manifest["program"])

    @property
    def recipe(self) -> str:
        """The recipe the model was compiled by."""
        return str(self.manifest["recipe"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the import decided, and what the passes remarked."""
        return (*self.import_notes, *self.manifest["notes"])

    @property
    def import_notes(self) -> tuple[str, ...]:
        """What the import decided for the user: that an open batch dimension became 1, say."""
        return tuple(self.manifest.get("import_notes", ()))

    @cached_property
    def coverage(self) -> Coverage | None:
        """Who computes in which precision; None in a package of an older tapdot."""
        stored = self.manifest.get("coverage")
        return None if stored is None else Coverage.from_json(stored)

    @property
    def numeric_gap(self) -> tuple[TensorGap, ...]:
        """How far each integer tensor is from the float network's, worst first; empty where it was not measured."""
        return tuple(TensorGap(**found) for found in self.manifest.get("numeric_gap", ()))

    @cached_property
    def sparsity(self) -> tuple[LayerStructure, ...]:
        """What is pruned in the layers that are computed sparse, and how it is stored."""
        return tuple(LayerStructure.from_json(found) for found in self.manifest.get("sparsity", ()))

    @cached_property
    def weights(self) -> FileRange:
        """The block of weights as a program takes it: mapped from the package, or, where it holds narrow ones, from a file of
        their bytes that lives as long as this object. Raises TapdotError where the disk refuses that.
        """
        if not self.narrow:
            return self.stored_weights
        path, digest, size = self._folder / WEIGHTS_ENTRY, hashlib.sha256(), 0
        where = self.stored_weights
        stored = np.memmap(where.path, np.uint8, "r", where.offset, (where.size,))
        try:
            with path.open("wb") as file:
                for piece in in_memory(stored, self.narrow):
                    digest.update(piece)
                    size += file.write(piece)
        except OSError as error:
            raise TapdotError(
                f"Could not unpack the weights of {self.path} in {path.parent}: {error.strerror or error}. Free space there, or "
                "set TMPDIR to a folder that has more."
            ) from error
        return FileRange(path, 0, size, digest.hexdigest())

    @property
    def stored_weights(self) -> FileRange:
        """Where ``weights.bin`` lies in the file."""
        with zipfile.ZipFile(self.path) as archive:
            header = archive.getinfo(WEIGHTS_ENTRY).header_offset
        with self.path.open("rb") as file:
            file.seek(header + 26)
            name, extra = struct.unpack("<HH", file.read(4))
        entry = self.manifest["entries"][WEIGHTS_ENTRY]
        return FileRange(self.path, header + 30 + name + extra, entry["size"], entry["sha256"])

    @cached_property
    def library(self) -> Path:
        """The shared library as a file of its own, which lives as long as this object."""
        path = self._folder / LIBRARY_ENTRY
        path.write_bytes(self.read(LIBRARY_ENTRY))
        return path

    @property
    def _folder(self) -> Path:
        """For files of this object's own."""
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="tapdot-package-")
        return Path(self._temporary.name)

    def read(self, entry: str) -> bytes:
        """The bytes of one entry."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(entry)

    # -- the reference ------------------------------------------------------------------------------------------------------

    def packed(self, call: KernelCall) -> list[np.ndarray]:
        """The packed arrays of one call, mapped from the file."""
        block = self._mapped
        return [
            block[argument.offset : argument.offset + argument.elements * np.dtype(argument.dtype).itemsize].view(argument.dtype)
            for argument in call.arguments[: call.packed]
        ]

    @cached_property
    def graph(self) -> Graph:
        """The graph behind the kernels, its weights recovered exactly from their packed form."""
        from tapdot.kernels.registry import family_by_name  # brings TVM along, which reading a package must not wait for

        with np.load(io.BytesIO(self.read(CONSTANTS_ENTRY)), allow_pickle=False) as stored:
            names = json.loads(str(stored["names"]))
            constants = {name: stored[f"array_{index}"] for index, name in enumerate(names)}
        for call in self.program.calls:
            family = family_by_name(call.family)
            if family.version != call.version:
                raise PackageError(
                    f"{self.path} holds weights as version {call.version} of the {call.family} kernels packed them, and this "
                    f"tapdot has version {family.version}, so its reference cannot be rebuilt. It still runs; compile the model "
                    "again to verify it."
                )
            arrays = family.unpack(call.workload, call.config, self.target, self.packed(call))
            constants.update({name: arrays[index] for index, name in call.constants.items()})
        return parse_graph(self.read(GRAPH_ENTRY).decode(), constants)

    @cached_property
    def _mapped(self) -> np.ndarray:
        where = self.weights
        return np.memmap(where.path, np.uint8, "r", where.offset, (where.size,))

    # -- files --------------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Copies the package to a file, which appears whole or not at all. Raises TapdotError where the disk refuses."""
        path = Path(path)
        with self.path.open("rb") as content, replacing(path) as file:
            shutil.copyfileobj(content, file, COPY_BYTES)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Package:
        """Opens a package and checks every byte of it; raises PackageError, saying what is wrong, for anything damaged or newer.

        Its weights pass through memory piece by piece and are mapped from the file when they are needed.
        """
        path = Path(path)
        if path.suffix in (".onnx", ".pt2") and path.is_file():
            raise PackageError(f"{path} is a model; compile it first: tapdot compile {path} -o {path.with_suffix('.tapdot')}")
        try:
            with zipfile.ZipFile(path) as archive:
                package = cls(path, _read_manifest(path, archive))
                _check_entries(path, archive, package.manifest["entries"])
            if stored_bytes(package.program.weights_bytes, package.narrow) != package.stored_weights.size:
                raise ValueError("the program and the weights are not of one package")
            _ = package.target, package.coverage, package.numeric_gap, package.sparsity
            return package
        except FileNotFoundError as error:
            raise PackageError(f"There is no package at {path}. Make one with: tapdot compile MODEL -o {path}") from error
        except (PermissionError, IsADirectoryError) as error:
            raise PackageError(f"Cannot read the package {path}: {error.strerror}. Name a file you may read.") from error
        except _SIGNS_OF_DAMAGE as error:
            raise PackageError(
                f"{path} is not a tapdot package, or it is damaged or cut short. Copy the file again or compile the model again."
            ) from error

    @classmethod
    def create(
        cls,
        lowered: Lowered,
        target: Target,
        *,
        name: str,
        recipe: str,
        notes: Iterable[str] = (),
        import_notes: Iterable[str] = (),
        coverage: Coverage | None = None,
        numeric_gap: Iterable[TensorGap] = (),
        sparsity: Iterable[LayerStructure] = (),
    ) -> Package:
        """Writes a lowered model to a temporary file that lives as long as the package, or until ``save``."""
        temporary = tempfile.TemporaryDirectory(prefix="tapdot-package-")
        path = Path(temporary.name) / "model.tapdot"
        entries: dict[str, dict[str, Any]] = {}
        try:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                _write(archive, entries, _aligned(WEIGHTS_ENTRY), lowered.weights.chunks())
                _write(archive, entries, LIBRARY_ENTRY, [lowered.library.read_bytes()])
                _write(archive, entries, GRAPH_ENTRY, [print_graph(lowered.graph).encode()])
                _write(archive, entries, CONSTANTS_ENTRY, [_loose_constants(lowered)])
                manifest = {
                    "format": FORMAT if lowered.weights.narrow else FORMAT_OF_BYTES,
                    "tapdot": importlib.metadata.version("tapdot"),
                    "tvm": SUPPORTED_TVM,
                    "name": name,
                    "recipe": recipe,
                    "target": target.json(),
                    "import_notes": list(import_notes),
                    "notes": list(notes),
                    "coverage": None if coverage is None else coverage.json(),
                    "numeric_gap": [dataclasses.asdict(gap) for gap in numeric_gap],
                    "sparsity": [layer.json() for layer in sparsity],
                    "narrow_weights": [array.json() for array in lowered.weights.narrow],
                    "entries": entries,
                    "program": lowered.program.json(),
                }
                _write(archive, {}, MANIFEST_ENTRY, [json.dumps(manifest, indent=1).encode()])
        except OSError as error:
            raise TapdotError(
                f"Could not assemble the package in {temporary.name}: {error.strerror or error}. Free space there, or set TMPDIR "
                "to a folder that has more."
            ) from error
        return cls(path, manifest, temporary)


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """The manifest, if this version can read what it describes and it is of a size a compiler would write."""
    if archive.getinfo(MANIFEST_ENTRY).file_size > MOST_MANIFEST_BYTES:
        raise PackageError(f"{path} has a manifest of more than {MOST_MANIFEST_BYTES >> 20} MiB, which no compiler wrote.")
    manifest = json.loads(archive.read(MANIFEST_ENTRY))
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise PackageError(f"{path} has a manifest without a format number; compile the model again.")
    if manifest["format"] > FORMAT:
        raise PackageError(
            f"{path} was written by a newer tapdot ({manifest.get('tapdot', 'unknown')}, format {manifest['format']}), "
            f"and this one reads formats up to {FORMAT}. Upgrade tapdot, or compile the model again with this version."
        )
    return manifest


def _check_entries(path: Path, archive: zipfile.ZipFile, entries: Mapping[str, Any]) -> None:
    """Every entry is there and is what was packed."""
    if missing := [entry for entry in ENTRIES if entry not in entries]:
        raise PackageError(f"{path} lacks {', '.join(missing)}. Compile the model again.")
    for entry, facts in entries.items():
        digest = hashlib.sha256()
        with archive.open(entry) as stream:
            while chunk := stream.read(COPY_BYTES):
                digest.update(chunk)
        if digest.hexdigest() != facts["sha256"]:
            raise PackageError(
                f"{path} is damaged: {entry} is not what was packed. Copy the file again or compile the model again."
            )
    if archive.getinfo(WEIGHTS_ENTRY).compress_type != zipfile.ZIP_STORED:
        raise PackageError(f"{path} was packed anew by another tool, which compressed its weights. Compile the model again.")


def _aligned(name: str) -> zipfile.ZipInfo:
    """The first entry of an archive, padded so that its data starts on the boundary that arrays inside it keep."""
    info = zipfile.ZipInfo(name, _EARLIEST)
    zip64 = 20
    bare = 30 + len(name) + zip64 + 4
    padding = -bare % ALIGNMENT
    info.extra = struct.pack("<HH", _PADDING_FIELD, padding) + bytes(padding)
    return info


def _write(
    archive: zipfile.ZipFile,
    entries: dict[str, dict[str, Any]],
    entry: str | zipfile.ZipInfo,
    chunks: Iterable[bytes | memoryview],
) -> None:
    info = zipfile.ZipInfo(entry, _EARLIEST) if isinstance(entry, str) else entry
    digest, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=True) as stream:
        for chunk in chunks:
            stream.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    entries[info.filename] = {"size": size, "sha256": digest.hexdigest()}


def _loose_constants(lowered: Lowered) -> bytes:
    """Constants of the graph that no kernel packs, as an npz file without pickles."""
    packed = {name for call in lowered.program.calls for name in call.constants.values()}
    loose = {name: array for name, array in lowered.graph.constants.items() if name not in packed}
    buffer = io.BytesIO()
    arrays = {f"array_{index}": array for index, array in enumerate(loose.values())}
    np.savez(buffer, names=np.array(json.dumps(list(loose))), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load(path: str | os.PathLike[str]) -> Package:
    """Opens a package written by ``Package.save`` or ``tapdot compile``. Raises PackageError for anything damaged or newer."""
    return Package.load(path)


__all__ = ["FORMAT", "WEIGHTS", "FileRange", "Package", "TensorGap", "load"]
