"""Random networks with pruned layers, compiled, against the reference: kernel by kernel, then the whole, twice on dirt.

Every layer whose zeros have a structure is computed by a sparse kernel here, whatever it costs, or by the compiler's own choice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.random_sparse_graphs import random_sparse_graph, random_sparse_integer_graph
from tests.test_differential import available_or_skip

import tapdot
from tapdot.compiler.graph import Graph
from tapdot.runtime.devices.base import Session
from tapdot.runtime.verify import verify

ON_HOST = {"host": 4, "host:avx512": 2, "host:avx2": 2, "host:generic": 2}
"""Networks of each kind for each instruction table of this machine."""

ON_PHONES = {"cortex-a76": 2, "cortex-a76:neon": 1, "cortex-x2": 2}
"""Networks of each kind for each instruction table of emulated phones."""

BY_CHOICE = range(4)
"""Seeds of networks in which the compiler chooses between dense and sparse kernels."""

BY_THE_RECIPE = range(6)
"""Seeds of float networks of which the recipe makes pruned integer ones."""

SOAK = 300
"""Networks of each kind for each target in the long form."""

SPARSE = ("SparseConv", "SparseGemm", "QSparseConv", "QSparseGemm")
ALWAYS = ["compress_weights.choice=sparse"]


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    with tapdot.connect("host").open() as session:
        yield session


def check(session: Session, package: tapdot.Package, exact: bool) -> None:
    """The report says which kernel differs first, in how many values and where."""
    report = verify(session, package)
    assert report.passed, f"{report}\n{package.graph}"
    if exact:
        assert report.integer and report.bit_exact == (not report.islands)


def compiled(graph: Graph, target: str, *settings: str) -> tapdot.Package:
    package = tapdot.compile(graph, target=target, recipe="pattern", settings=settings)
    if settings:
        assert any(node.op in SPARSE for node in package.graph.nodes), "the first layer is pruned"
    return package


def networks(request: pytest.FixtureRequest, count: int) -> range:
    return range(SOAK if request.config.getoption("--soak") else count)


@pytest.mark.parametrize("target", ON_HOST)
def test_random_sparse_networks(target: str, host: Session, request: pytest.FixtureRequest) -> None:
    available_or_skip(target)
    for seed in networks(request, ON_HOST[target]):
        check(host, compiled(random_sparse_graph(seed), target, *ALWAYS), exact=False)


@pytest.mark.parametrize("target", ON_HOST)
def test_random_sparse_integer_networks(target: str, host: Session, request: pytest.FixtureRequest) -> None:
    available_or_skip(target)
    for seed in networks(request, ON_HOST[target]):
        check(host, compiled(random_sparse_integer_graph(seed), target, *ALWAYS), exact=True)


@pytest.mark.parametrize("seed", BY_CHOICE)
def test_the_compiler_chooses(seed: int, host: Session) -> None:
    check(host, compiled(random_sparse_graph(100 + seed), "host"), exact=False)
    check(host, compiled(random_sparse_integer_graph(100 + seed), "host"), exact=True)


@pytest.mark.parametrize("seed", BY_THE_RECIPE)
def test_random_sparse_networks_by_the_recipe(seed: int, host: Session) -> None:
    graph = random_sparse_graph(200 + seed)
    _, *sample = graph.type(graph.inputs[0]).shape
    data = np.random.default_rng(seed).standard_normal((4, *sample)).astype(np.float32)
    check(host, tapdot.compile(graph, target="host", recipe="pattern-int8", settings=ALWAYS, data=data), exact=True)


@pytest.mark.parametrize("seed", BY_THE_RECIPE)
def test_random_sparse_networks_of_four_bits_by_the_recipe(seed: int, host: Session) -> None:
    graph = random_sparse_graph(200 + seed)
    _, *sample = graph.type(graph.inputs[0]).shape
    data = np.random.default_rng(seed).standard_normal((4, *sample)).astype(np.float32)
    narrow = (*ALWAYS, "requantize.weight_bits=4")
    package = tapdot.compile(graph, target="host", recipe="pattern-int8", settings=narrow, data=data)
    check(host, package, exact=True)
    assert any(
        operand is not None and operand.dtype == "int4" for call in package.program.calls for operand in call.workload.inputs
    )
    for layer in package.sparsity:
        weight = layer.arrays["weight"]
        assert layer.storage.weights == weight.bytes == -(-int(np.prod(weight.shape)) * (4 if weight.dtype == "int4" else 8) // 8)


@pytest.mark.emulated
@pytest.mark.parametrize("target", ON_PHONES)
def test_random_sparse_networks_on_phones(target: str, request: pytest.FixtureRequest) -> None:
    processor = "emulated:max" if target.startswith("cortex-x2") else "emulated"
    with tapdot.connect(processor).open() as phone:
        for seed in networks(request, ON_PHONES[target]):
            check(phone, compiled(random_sparse_graph(1000 + seed), target, *ALWAYS), exact=False)
            check(phone, compiled(random_sparse_integer_graph(1000 + seed), target, *ALWAYS), exact=True)
