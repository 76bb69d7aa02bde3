"""The command line: what each command prints where, its exit status, and sentences for what a user can get wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.command_line import Outcome, Tapdot, failed, names
from tests.conftest import HEARS_CONTROL_C
from tests.small_networks import INPUT_SHAPE, small_onnx

from tapdot.compiler.package import Package

COMMANDS = ("compile", "run", "verify", "measure", "bench", "inspect", "devices", "recipes", "doctor")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its package and an input for it."""
    import tapdot

    folder = tmp_path_factory.mktemp("cli")
    small_onnx(folder / "small.onnx")
    tapdot.compile(folder / "small.onnx", target="host:generic").save(folder / "small.tapdot")
    np.savez(folder / "x.npz", image=np.random.default_rng(0).standard_normal(INPUT_SHAPE).astype(np.float32))
    return folder


# -- what works ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help(tapdot: Tapdot, command: str) -> None:
    outcome = tapdot(command, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith(f"Usage: tapdot {command}")
    assert outcome.err == ""


def test_no_command_lists_the_commands(tapdot: Tapdot) -> None:
    outcome = tapdot()
    assert all(command in outcome.out + outcome.err for command in COMMANDS)
    assert outcome.status == 2


def test_version(tapdot: Tapdot) -> None:
    assert tapdot("--version").out.startswith("tapdot 0.")


def test_compile_writes_a_package_and_says_so_on_stderr(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.tapdot"
    outcome = tapdot(
        "compile", folder / "small.onnx", "-o", target, "--target", "host:generic", "--check", "--dump", tmp_path / "g"
    )
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.sentence.startswith(f"Wrote {target} (")
    assert re.search(r"\([0-9.]+ KiB\): small for host:generic, \d+ kernels, [0-9.]+ kMAC, arena [0-9.]+ KiB\.", outcome.sentence)
    assert Package.load(target).name == "small"
    assert list((tmp_path / "g").iterdir())


def test_run_writes_the_answer(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    outcome = tapdot("run", folder / "small.tapdot", "--input", folder / "x.npz", "-o", tmp_path / "y.npz")
    assert (outcome.status, outcome.out) == (0, "")
    with np.load(tmp_path / "y.npz", allow_pickle=False) as answers:
        assert answers.files == ["answer"]
        assert answers["answer"].shape == (1, 4, 1, 1)


def test_an_array_without_a_name_is_the_only_input(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    image = np.zeros(INPUT_SHAPE, np.float32)
    np.savez(tmp_path / "x.npz", image)
    np.save(tmp_path / "x.npy", image)
    for name in ("x.npz", "x.npy"):
        assert tapdot("run", folder / "small.tapdot", "--input", tmp_path / name, "-o", tmp_path / "y.npz").status == 0


def test_verify(tapdot: Tapdot, folder: Path) -> None:
    outcome = tapdot("verify", folder / "small.tapdot")
    assert outcome.status == 0
    assert outcome.out.startswith("verified on host: ")
    document = tapdot("verify", folder / "small.tapdot", "--json").json()
    assert document["passed"] is True
    assert document["kernels"]


def test_measure(tapdot: Tapdot, folder: Path) -> None:
    outcome = tapdot("measure", folder / "small.tapdot", "--runs", "3", "--per-layer")
    assert outcome.status == 0
    assert "ms median of 3 runs" in outcome.out
    lines = [line for line in outcome.out.splitlines() if not line.startswith("Warning: ")]  # of a busy machine
    assert "conv" in lines[2]
    document = tapdot("measure", folder / "small.tapdot", "--runs", "3", "--per-layer", "--json").json()
    assert document["median_seconds"] > 0
    assert len(document["kernels"]) > 1


def test_bench_verifies_and_measures(tapdot: Tapdot, folder: Path) -> None:
    arguments = ("bench", folder / "small.onnx", "--target", "host:generic", "--runs", "3")
    outcome = tapdot(*arguments)
    assert outcome.status == 0
    assert [line.split()[0] for line in outcome.out.splitlines()][:2] == ["verified", "small"]
    assert set(tapdot(*arguments, "--json").json()) == {"verification", "measurement"}


@pytest.mark.parametrize("name", ["small.onnx", "small.tapdot"])
def test_inspect(tapdot: Tapdot, folder: Path, name: str) -> None:
    outcome = tapdot("inspect", folder / name)
    assert outcome.status == 0
    assert "Conv(" in outcome.out
    assert "image: float32[1, 3, 8, 8]" in outcome.out
    assert "Conv(" not in tapdot("inspect", folder / name, "--no-graph").out
    assert outcome.out.index("image: float32[1, 3, 8, 8]") < outcome.out.index("Conv("), "facts first, where there is no screen"
    assert re.search(r"^weights +\d+[0-9.]* (bytes|KiB)$", outcome.out, re.MULTILINE)
    document = tapdot("inspect", folder / name, "--json").json()
    assert document["GMAC"] > 0
    assert document["weights_bytes"] > 0


def test_inspect_ends_with_the_facts_on_a_terminal(tapdot: Tapdot, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    outcome = tapdot("inspect", folder / "small.onnx")
    assert outcome.out.index("Conv(") < outcome.out.index("operators")


def test_recipes_lists_every_option(tapdot: Tapdot) -> None:
    outcome = tapdot("recipes")
    assert outcome.status == 0
    assert any(line.startswith("float: The network as it was trained, in float32") for line in outcome.out.splitlines())
    assert "  --set fuse.max_operators=24" in outcome.out.splitlines()
    (row,) = (row for row in tapdot("recipes", "--json").json() if row["recipe"] == "float")
    assert "fuse.max_operators=24" in row["options"]


def test_an_open_batch_is_told_of_and_remembered(tapdot: Tapdot, tmp_path: Path) -> None:
    model = onnx.load(small_onnx(tmp_path / "m.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(model, tmp_path / "m.onnx")
    told = "Input 'image' has an open batch dimension, which became 1"
    assert told in tapdot("inspect", tmp_path / "m.onnx").out
    outcome = tapdot("compile", tmp_path / "m.onnx", "-o", tmp_path / "m.tapdot", "--target", "host:generic")
    assert outcome.sentence.startswith(told), outcome
    assert told in tapdot("inspect", tmp_path / "m.tapdot").out
    assert Package.load(tmp_path / "m.tapdot").notes[0].startswith(told)


def test_devices_and_targets(tapdot: Tapdot) -> None:
    assert "host" in tapdot("devices").out
    assert {"host", "rpc://HOST:PORT"} <= {row["line"] for row in tapdot("devices", "--json").json()}
    assert "cortex-a76" in tapdot("devices", "--targets").out
    assert "host" in {row["target"] for row in tapdot("devices", "--targets", "--json").json()}


def test_doctor(tapdot: Tapdot, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = tapdot("doctor")
    assert outcome.status == 0
    assert all(line.startswith("ok") for line in outcome.out.splitlines())
    assert all(step["passed"] for step in tapdot("doctor", "--json").json())
    monkeypatch.setenv("TAPDOT_KEY", "secret")
    nobody = tapdot("doctor", "--device", "rpc://127.0.0.1:1")
    assert nobody.status == 1
    assert nobody.out.splitlines()[-1].startswith("FAILED")
    assert tapdot("doctor", "--device", "rpc://127.0.0.1:1", "--json").json()[-1]["passed"] is False


# -- wrong usage: status 2 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("compile",),
        ("compile", "m.onnx"),
        ("compile", "m.onnx", "-o", "x.tapdot", "--fast"),
        ("compile", "m.onnx", "-o", "x.tapdot", "--shape", "image"),
        ("compile", "m.onnx", "-o", "x.tapdot", "--shape", "image=1,0,2"),
        ("measure", "x.tapdot", "--runs", "0"),
        ("measure", "x.tapdot", "--threads", "two"),
        ("fly",),
    ],
)
def test_wrong_usage(tapdot: Tapdot, arguments: tuple[str, ...]) -> None:
    outcome = tapdot(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


# -- what a user can get wrong: status 1 -----------------------------------------------------------------------------------------


def test_models_that_cannot_be_read(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "x.tapdot"
    target.parent.mkdir()
    whole = (folder / "small.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "cut.pt2").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "weights.pth").write_bytes(b"")
    for name, word in (
        ("cut.onnx", "truncated"),
        ("text.onnx", "truncated or of another format"),
        ("empty.onnx", "empty file"),
        ("missing.onnx", "nothing there"),
        ("cut.pt2", "cut.pt2"),
        ("weights.pth", "pickle"),
    ):
        failed(tapdot("compile", tmp_path / name, "-o", target), word)
        failed(tapdot("inspect", tmp_path / name), word)
    assert not list(target.parent.iterdir())


def test_an_unknown_operator_is_named(tapdot: Tapdot, tmp_path: Path) -> None:
    model = small_onnx(tmp_path / "m.onnx", operator="Frobnicate", domain="com.example")
    failed(tapdot("compile", model, "-o", tmp_path / "x.tapdot"), "Frobnicate", "activation")
    assert names(tmp_path) == ["m.onnx"]


def test_a_dynamic_dimension_asks_for_its_size(tapdot: Tapdot, tmp_path: Path) -> None:
    model = small_onnx(tmp_path / "m.onnx", height="H")
    failed(tapdot("compile", model, "-o", tmp_path / "x.tapdot"), "image", "--shape")
    outcome = tapdot("compile", model, "-o", tmp_path / "x.tapdot", "--shape", "image=1,3,8,8", "--target", "host:generic")
    assert outcome.status == 0
    failed(tapdot("compile", model, "-o", tmp_path / "x.tapdot", "--shape", "picture=1,3,8,8"), "picture")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tapdot: Tapdot, tmp_path: Path, value: float) -> None:
    model = small_onnx(tmp_path / "m.onnx", weight=value)
    failed(tapdot("compile", model, "-o", tmp_path / "x.tapdot"), "kernel")
    assert names(tmp_path) == ["m.onnx"]


def test_unknown_choices(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    arguments = ("compile", folder / "small.onnx", "-o", tmp_path / "x.tapdot")
    failed(tapdot(*arguments, "--target", "cortex-a67"), "Unknown target 'cortex-a67'", "cortex-a76")
    failed(tapdot(*arguments, "--recipe", "flaot"), "Did you mean 'float'?")
    failed(tapdot(*arguments, "--set", "fuze.max_operators=8"), "Did you mean 'fuse'?")
    failed(tapdot(*arguments, "--set", "fuse.max_operators=many"), "a whole number")
    failed(tapdot("verify", folder / "small.tapdot", "--device", "hots"), "'hots' names no device", "rpc://HOST:PORT")
    assert not list(tmp_path.iterdir())


NOTHING_SLOW = """
import json, sys
from tapdot.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["tapdot", *arguments]
    try:
        main()
    except SystemExit as leaving:
        assert leaving.code == 1, arguments
    else:
        raise AssertionError(arguments)
    loaded = {"torch", "tvm", "onnx"} & sys.modules.keys()
    assert not loaded, (arguments, loaded)
"""


def test_simple_mistakes_are_told_before_torch_and_tvm_are_loaded(folder: Path, tmp_path: Path) -> None:
    model, package, out = str(folder / "small.onnx"), str(folder / "small.tapdot"), str(tmp_path / "x.tapdot")
    (tmp_path / "damaged.tapdot").write_bytes((folder / "small.tapdot").read_bytes()[:-100])
    mistakes = {
        "nothing there": ("compile", "missing.onnx", "-o", out),
        "which is usually a pickle": ("compile", "net.pth", "-o", out),
        "which is a package": ("bench", package),
        "Did you mean cortex-a76": ("compile", model, "-o", out, "--target", "cortex-a67"),
        "Did you mean 'float'": ("bench", model, "--recipe", "flaot"),
        "There is no folder": ("compile", model, "-o", str(tmp_path / "no" / "x.tapdot")),
        "'hots' names no device": ("measure", package, "--device", "hots"),
        "There is no package at": ("verify", "missing.tapdot"),
        "compile it first": ("measure", model),
        "damaged or cut short": ("inspect", str(tmp_path / "damaged.tapdot")),
        "There is no data at": ("compile", model, "-o", out, "--recipe", "int8", "--data", "missing.npz"),
        "needs samples to calibrate with": ("bench", model, "--recipe", "int8", "--set", "calibrate.bits=8"),
        "There is no file": ("run", package, "--input", "missing.npz", "-o", out),
    }
    command = [sys.executable, "-c", NOTHING_SLOW, json.dumps(list(mistakes.values()))]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    sentences = re.split(r"^tapdot: ", result.stderr, flags=re.MULTILINE)[1:]
    assert len(sentences) == len(mistakes), result.stderr
    for words, sentence in zip(mistakes, sentences, strict=True):
        assert words in " ".join(sentence.split())


def test_reading_a_package_loads_neither_torch_nor_tvm(folder: Path) -> None:
    script = "import sys; from tapdot.cli import main\ntry: main()\nfinally: assert not {'torch', 'tvm'} & sys.modules.keys()"
    command = [sys.executable, "-c", script, "inspect", str(folder / "small.tapdot")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("package")


def test_inputs_that_do_not_fit(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    def attempt(**arrays: np.ndarray) -> Outcome:
        np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
        return tapdot("run", folder / "small.tapdot", "--input", tmp_path / "x.npz", "-o", tmp_path / "y.npz")

    image = np.zeros(INPUT_SHAPE, np.float32)
    failed(attempt(image=image[:, :2]), "Expected float32[1, 3, 8, 8] for the input 'image', found float32[1, 2, 8, 8]")
    failed(attempt(image=image.astype(np.float64)), "found float64[1, 3, 8, 8]")
    for arrays, held in (
        ({"picture": image}, "'picture'"),
        ({"image": image, "other": image}, "'image', 'other'"),
        ({}, "no array"),
    ):
        failed(attempt(**arrays), f"holds {held}, and small takes 'image'", "numpy.savez(path, **{'image': array})")
    failed(attempt(image=np.array([None], object)), "not a readable .npz file")
    (tmp_path / "x.npz").write_text("text")
    arguments = ("run", folder / "small.tapdot", "-o", tmp_path / "y.npz", "--input")
    failed(tapdot(*arguments, tmp_path / "x.npz"), "not a readable .npz file")
    failed(tapdot(*arguments, tmp_path / "missing.npz"), "There is no file")
    assert names(tmp_path) == ["x.npz"]


def test_packages_that_are_none(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "small.tapdot").read_bytes()
    (tmp_path / "cut.tapdot").write_bytes(whole[:-100])
    (tmp_path / "damaged.tapdot").write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    for command in ("verify", "measure", "inspect"):
        failed(tapdot(command, tmp_path / "cut.tapdot"), "cut short")
        failed(tapdot(command, tmp_path / "damaged.tapdot"), "damaged")
        failed(tapdot(command, tmp_path / "missing.tapdot"), "There is no package at")


def test_outputs_nobody_can_write(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    compile_small = ("compile", folder / "small.onnx", "--target", "host:generic", "-o")
    failed(tapdot(*compile_small, tmp_path / "no" / "x.tapdot"), "There is no folder")
    failed(tapdot(*compile_small, tmp_path), "is a folder")
    (tmp_path / "file").write_text("")
    failed(tapdot(*compile_small, tmp_path / "x.tapdot", "--dump", tmp_path / "file"), "Could not make the folder")
    assert names(tmp_path) == ["file"]


def test_a_full_disk(tapdot: Tapdot, folder: Path, tmp_path: Path) -> None:
    """A file system of 64 KiB, in a name space of its own."""
    space = tmp_path / "space"
    space.mkdir()
    script = (
        f"mount -t tmpfs -o size=64k tmpfs {space} && head -c 60000 /dev/zero > {space}/ballast && "
        f"{sys.executable} -m tapdot.cli compile {folder / 'small.onnx'} --target host:generic -o {space}/x.tapdot; "
        f"echo status $?; ls -A {space}"
    )
    result = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    if "status" not in result.stdout or "mount" in result.stderr:
        pytest.skip(f"no file system can be mounted here: {result.stderr.strip()}")
    assert result.stdout.split() == ["status", "1", "ballast"]
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interruption_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """Ctrl-C while kernels are built."""
    output, cache = tmp_path / "out", tmp_path / "cache"
    output.mkdir()
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", HEARS_CONTROL_C + "from tapdot.cli import main; main()"),
            *("compile", str(folder / "small.onnx"), "-o", str(output / "x.tapdot")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TAPDOT_CACHE": str(cache)},
    )
    deadline = time.monotonic() + 60
    while not (cache / "objects").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert out == ""
    assert "Interrupted; nothing was left half-written." in err
    assert "Traceback" not in err
    assert not list(output.iterdir())
    assert all(path.suffix == ".o" for path in (cache / "objects").rglob("*") if path.is_file())


def test_a_reader_that_leaves_is_no_error_of_ours(folder: Path) -> None:
    command = f"{sys.executable} -m tapdot.cli inspect {folder / 'small.tapdot'} | head -n 1"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("package")
    assert "Traceback" not in result.stderr
