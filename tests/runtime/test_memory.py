"""Memory a loaded package takes: its weights once, mapped from the file, its arena, and next to nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tapdot
from tapdot.compiler.graph import GraphBuilder
from tapdot.compiler.package import Package
from tapdot.compiler.types import TensorType

MEBI = 2**20
MARGIN = 30 * MEBI
COLUMNS, ROWS = 4096, 3200

PROBE = """
import json, sys
from pathlib import Path
import numpy as np
import tapdot
from tapdot.compiler.package import Package
from tapdot.runtime.program import LoadedProgram

def status(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024

with tapdot.connect("host").open() as session:
    session.array(session.tensor(np.zeros(1, np.float32)))
    bare = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    package = Package.load(sys.argv[1])
    loaded = LoadedProgram(session, package)
    peak_loading = status("VmHWM")
    inputs = {tensor.name: np.ones(tensor.shape, tensor.dtype) for tensor in package.program.inputs}
    loaded.run(inputs)
    print(json.dumps({"bare": bare, "loading": peak_loading - bare, "resident": status("VmRSS") - bare,
                      "peak": status("VmHWM") - bare, "weights": package.program.weights_bytes,
                      "arena": package.program.arena_bytes}))
"""


def probe(path: Path) -> dict[str, int]:
    """Bytes over the bare runtime, in a process of its own: at most while loading, and after a first inference."""
    result = subprocess.run([sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """100 MiB of weights in two fully connected layers, one after the other and back."""
    numbers = np.random.default_rng(0)
    builder = GraphBuilder("large")
    value = builder.input("x", TensorType((1, COLUMNS), "float32"))
    for columns, rows in ((COLUMNS, ROWS), (ROWS, COLUMNS)):
        weights = numbers.random((columns, rows), np.float32) / np.float32(columns)
        (value,) = builder.add("Gemm", (value, builder.constant(weights)), {})
        (value,) = builder.add("Relu", (value,), {})
    package = tapdot.compile(builder.build([value]))
    return Package.load(package.save(tmp_path_factory.mktemp("memory") / "large.tapdot"))


def test_weights_are_in_memory_once(large: Package) -> None:
    assert large.program.weights_bytes >= 2 * COLUMNS * ROWS * 4
    found = probe(large.path)
    needed = found["weights"] + found["arena"]
    assert found["resident"] <= 1.1 * needed + MARGIN, found
    assert found["loading"] <= 1.3 * found["weights"] + MARGIN, found
    assert found["peak"] <= 1.3 * needed + MARGIN, found
    # Not part of the promise, but what makes it hold: loading checks the file piece by piece and maps it.
    assert found["loading"] <= MARGIN, found
