"""Packages: everything that goes in comes out, and anything that is not what was packed is refused in words."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tests.small_networks import INPUT_SHAPE, small_network

import tapdot
from tapdot.compiler.errors import PackageError, TapdotError
from tapdot.compiler.graph import GraphBuilder
from tapdot.compiler.package import ENTRIES, FORMAT, FORMAT_OF_BYTES, MANIFEST_ENTRY, WEIGHTS_ENTRY, Package
from tapdot.compiler.program import WEIGHTS
from tapdot.compiler.text import print_graph
from tapdot.compiler.types import TensorType
from tapdot.kernels.layout import ALIGNMENT
from tapdot.passes.bit_widths import BitWidths

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def compiled() -> Package:
    return tapdot.compile(small_network(), target="host:generic")


@pytest.fixture
def saved(compiled: Package, tmp_path: Path) -> Path:
    return compiled.save(tmp_path / "small.tapdot")


def repack(path: Path, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> None:
    """Writes the archive again with other content: a file nothing but tapdot could object to."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def change_manifest(**facts: object) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        entries[MANIFEST_ENTRY] = json.dumps({**json.loads(entries[MANIFEST_ENTRY]), **facts}).encode()

    return change


def test_precision_comes_back(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal(INPUT_SHAPE).astype(np.float32)
    compiled = tapdot.compile(small_network(), target="host:generic", recipe="int8", data=images)
    loaded = Package.load(compiled.save(tmp_path / "small.tapdot"))
    assert loaded.coverage == compiled.coverage and loaded.coverage is not None and loaded.coverage.is_integer
    assert loaded.numeric_gap == compiled.numeric_gap
    decibels = [gap.decibels for gap in loaded.numeric_gap if gap.decibels is not None]
    assert decibels == sorted(decibels) and decibels[0] > 15


def test_a_package_from_before_precision_was_reported(saved: Path) -> None:
    repack(saved, change_manifest(coverage=None))
    loaded = Package.load(saved)
    assert loaded.coverage is None and loaded.numeric_gap == ()
    repack(saved, change_manifest(coverage={"operators": {}}))
    with pytest.raises(PackageError, match="damaged"):
        Package.load(saved)


def test_everything_comes_back(compiled: Package, saved: Path) -> None:
    loaded = Package.load(saved)
    assert loaded.program == compiled.program
    assert loaded.target == compiled.target
    assert (loaded.name, loaded.recipe, loaded.notes) == ("small", "float", compiled.notes)
    assert loaded.library.read_bytes().startswith(b"\x7fELF")
    assert print_graph(loaded.graph) == print_graph(compiled.graph)


def test_weights_come_back_exactly_from_their_packed_form(saved: Path) -> None:
    # Compiling folds nothing here, so the constants are the model's own.
    model, graph = small_network(), Package.load(saved).graph
    for name, array in model.constants.items():
        found = graph.constants[name]
        assert np.array_equal(found if found.shape == array.shape else found.T, array), name


def test_weights_lie_on_a_boundary_of_the_file_and_are_mapped(saved: Path) -> None:
    package = Package.load(saved)
    where = package.weights
    assert where.offset % ALIGNMENT == 0
    assert where.size == package.program.weights_bytes
    with zipfile.ZipFile(saved) as archive:
        assert saved.read_bytes()[where.offset : where.offset + where.size] == archive.read(WEIGHTS_ENTRY)
    arrays = [array for call in package.program.calls for array in package.packed(call)]
    assert arrays
    assert all(array.ctypes.data % ALIGNMENT == 0 and not array.flags.owndata for array in arrays)


def test_equal_arrays_are_stored_once() -> None:
    builder = GraphBuilder("twins")
    kernel = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    value = builder.input("x", TensorType((1, 16, 6, 6), "float32"))
    for index in range(3):
        (value,) = builder.add("Conv", (value, builder.constant(kernel.copy(), f"w{index}")), {"pads": (1, 1, 1, 1)})
    package = tapdot.compile(builder.build([value]), target="host:generic")
    starts = [call.arguments[0].offset for call in package.program.calls if call.packed]
    assert len(starts) == 3
    assert len(set(starts)) == 1
    assert package.program.weights_bytes < 2 * kernel.nbytes


def test_saving_over_itself_and_over_another(compiled: Package, saved: Path) -> None:
    before = saved.read_bytes()
    assert Package.load(saved).save(saved).read_bytes() == before
    saved.write_text("something else")
    assert compiled.save(saved).read_bytes() == before


def test_a_disk_that_is_full_leaves_nothing(compiled: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tapdot.compiler.package.shutil.copyfileobj", refuse)
    with pytest.raises(TapdotError, match="No space left on device"):
        compiled.save(tmp_path / "full.tapdot")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_changed_entry_is_named(saved: Path, entry: str) -> None:
    def change(entries: dict[str, bytes]) -> None:
        content = bytearray(entries[entry])
        content[len(content) // 2] ^= 1
        entries[entry] = bytes(content)

    repack(saved, change)
    with pytest.raises(PackageError, match=f"{entry} is not what was packed"):
        Package.load(saved)


@pytest.mark.parametrize("entry", (*ENTRIES, MANIFEST_ENTRY))
def test_a_flipped_bit_in_any_entry_is_refused(saved: Path, entry: str) -> None:
    with zipfile.ZipFile(saved) as archive:
        info = archive.getinfo(entry)
    data = bytearray(saved.read_bytes())
    name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    data[info.header_offset + 30 + name + extra + info.file_size // 2] ^= 0x10
    saved.write_bytes(data)
    with pytest.raises(PackageError, match="damaged"):
        Package.load(saved)


def test_whatever_byte_is_damaged_the_answer_is_the_package_or_a_sentence(compiled: Package, saved: Path) -> None:
    """Bytes of the archive itself too: headers, directory. Some, such as dates, mean nothing."""
    whole = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        directory = archive.start_dir
    generator = random.Random(0)
    for place in (*generator.sample(range(len(whole)), 100), *range(directory, len(whole), 3)):
        data = bytearray(whole)
        data[place] ^= 1 << generator.randrange(8)
        saved.write_bytes(data)
        with suppress(PackageError):
            assert Package.load(saved).program == compiled.program


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_package_is_refused(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PackageError, match="cut short"):
        Package.load(saved)


def test_a_newer_format_says_who_wrote_it_and_what_to_do(saved: Path) -> None:
    repack(saved, change_manifest(format=FORMAT + 1, tapdot="9.9"))
    with pytest.raises(PackageError, match=rf"newer tapdot \(9\.9, format {FORMAT + 1}\).* Upgrade tapdot"):
        Package.load(saved)


@pytest.mark.parametrize(
    "facts", [{"format": "one"}, {"entries": {}}, {"entries": []}, {"program": {}}, {"target": None}, {"program": None}]
)
def test_a_manifest_that_makes_no_sense_is_refused(saved: Path, facts: dict[str, object]) -> None:
    repack(saved, change_manifest(**facts))
    with pytest.raises(PackageError):
        Package.load(saved)


def test_compressed_weights_cannot_be_mapped_and_are_refused(saved: Path) -> None:
    repack(saved, lambda entries: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(PackageError, match="compressed its weights"):
        Package.load(saved)


def test_files_that_are_no_packages(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="There is no package at"):
        Package.load(tmp_path / "missing.tapdot")
    with pytest.raises(PackageError, match="Cannot read the package"):
        Package.load(tmp_path)
    text = tmp_path / "text.tapdot"
    text.write_text("not a zip file")
    with pytest.raises(PackageError, match="is not a tapdot package"):
        Package.load(text)
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(PackageError, match="is not a tapdot package"):
        Package.load(text)


def test_the_manifest_names_only_weights_inside_the_weights(compiled: Package) -> None:
    program = compiled.program
    for call in program.calls:
        for argument in call.arguments[: call.packed]:
            assert argument.space == WEIGHTS
            assert argument.offset % ALIGNMENT == 0
            assert argument.offset + argument.elements * np.dtype(argument.dtype).itemsize <= program.weights_bytes


@pytest.fixture(scope="module")
def narrow() -> Package:
    """A package most of whose weights have 4 bits."""
    images = np.random.default_rng(0).standard_normal(INPUT_SHAPE).astype(np.float32)
    return tapdot.compile(small_network(), target="host:generic", recipe="mixed", data=images, bits=BitWidths(default=4))


def test_weights_of_four_bits_are_small_in_the_file_and_bytes_in_memory(narrow: Package, tmp_path: Path) -> None:
    loaded = Package.load(narrow.save(tmp_path / "narrow.tapdot"))
    assert loaded.manifest["format"] == FORMAT and loaded.narrow
    assert loaded.stored_weights.size < loaded.weights.size == loaded.program.weights_bytes
    saved = sum(array.elements - -(-array.elements // 2) for array in loaded.narrow)
    assert abs(loaded.weights.size - loaded.stored_weights.size - saved) < ALIGNMENT * len(loaded.narrow)
    assert print_graph(loaded.graph) == print_graph(narrow.graph)
    weights = [name for name, kind in loaded.graph.types.items() if kind.dtype == "int4"]
    assert weights and all(np.abs(loaded.graph.constants[name]).max() == 7 for name in weights)
    content = loaded.weights.path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == loaded.weights.sha256
    assert loaded.coverage is not None
    assert loaded.coverage.weight_bytes["int4"] == sum(loaded.graph.types[name].bytes for name in weights)


def test_narrow_weights_that_cannot_be_are_damage(narrow: Package, tmp_path: Path) -> None:
    path = narrow.save(tmp_path / "narrow.tapdot")
    for found in ([[0, 64, 3]], [[0, 1 << 40, 4]], [], "x", [[0]]):
        repack(path, change_manifest(narrow_weights=found))
        with pytest.raises(PackageError, match="damaged"):
            Package.load(path)


def test_packages_of_bytes_are_for_older_versions_too(compiled: Package) -> None:
    assert compiled.manifest["format"] == FORMAT_OF_BYTES < FORMAT
