"""Random integer networks, compiled, against the reference byte for byte: kernel by kernel, then the whole, twice on dirt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.random_graphs import random_graph
from tests.random_integer_graphs import random_integer_graph
from tests.test_differential import available_or_skip

import tapdot
from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import run
from tapdot.passes.bit_widths import BitWidths, layers
from tapdot.passes.recipes import clean_up
from tapdot.runtime.devices.base import Session
from tapdot.runtime.verify import verify

ON_HOST = {"host": 10, "host:avx512": 5, "host:avx2": 6, "host:generic": 5}
"""Networks for each instruction table of this machine."""

ON_PHONES = {"cortex-a76": 4, "cortex-a76:neon": 3, "cortex-x2": 4}
"""Networks for each instruction table of emulated phones."""

CONCATS_OF_QUADS = (43, 118, 123, 166)
"""Float networks that join values of at most four channels, whose quads a Concat once laid side by side as whole blocks."""

MIXED_BY_RECIPE = (1, 3, 4, 6)
"""Float networks that the recipe makes integers of random widths of."""

QUANTIZED = (*CONCATS_OF_QUADS, 1, 3, 4, 6)
"""Float networks that the recipe makes integers of."""

MIXED_ON_HOST = {"host": 7, "host:avx512": 3, "host:avx2": 4, "host:generic": 3}
MIXED_ON_PHONES = {"cortex-a76": 4, "cortex-a76:neon": 3, "cortex-x2": 4}
"""Networks of weights and codes of 8, 4 and 2 bits."""

SOAK = 500
"""Networks for each target in the long form."""
MIXED_SOAK = 200


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    with tapdot.connect("host").open() as session:
        yield session


def check(session: Session, package: tapdot.Package) -> None:
    """The report says which kernel differs first, in how many values and where."""
    report = verify(session, package)
    assert report.passed, f"{report}\n{package.graph}"
    assert report.integer
    assert report.bit_exact == (not report.islands)
    assert {*report.islands} <= {island.nodes[0] for island in package.coverage.islands}, "verify and inspect name them alike"


def networks(request: pytest.FixtureRequest, count: int, soak: int = SOAK) -> range:
    return range(soak if request.config.getoption("--soak") else count)


@pytest.mark.parametrize("target", ON_HOST)
def test_random_integer_networks(target: str, host: Session, request: pytest.FixtureRequest) -> None:
    available_or_skip(target)
    for seed in networks(request, ON_HOST[target]):
        check(host, tapdot.compile(random_integer_graph(seed), target=target))


@pytest.mark.parametrize("seed", QUANTIZED)
def test_random_networks_by_the_recipe(seed: int, host: Session) -> None:
    graph = random_graph(seed)
    _, *sample = graph.type(graph.inputs[0]).shape
    data = np.random.default_rng(seed).standard_normal((4, *sample)).astype(np.float32)
    check(host, tapdot.compile(graph, target="host", recipe="int8", data=data))


@pytest.mark.emulated
@pytest.mark.parametrize("target", ON_PHONES)
def test_random_integer_networks_on_phones(target: str, request: pytest.FixtureRequest) -> None:
    processor = "emulated:max" if target.startswith("cortex-x2") else "emulated"
    with tapdot.connect(processor).open() as phone:
        for seed in networks(request, ON_PHONES[target]):
            check(phone, tapdot.compile(random_integer_graph(1000 + seed), target=target))


@pytest.mark.parametrize("target", MIXED_ON_HOST)
def test_random_networks_of_mixed_widths(target: str, host: Session, request: pytest.FixtureRequest) -> None:
    available_or_skip(target)
    for seed in networks(request, MIXED_ON_HOST[target], MIXED_SOAK):
        check(host, tapdot.compile(random_integer_graph(2000 + seed, mixed=True), target=target))


@pytest.mark.emulated
@pytest.mark.parametrize("target", MIXED_ON_PHONES)
def test_random_networks_of_mixed_widths_on_phones(target: str, request: pytest.FixtureRequest) -> None:
    processor = "emulated:max" if target.startswith("cortex-x2") else "emulated"
    with tapdot.connect(processor).open() as phone:
        for seed in networks(request, MIXED_ON_PHONES[target], MIXED_SOAK):
            check(phone, tapdot.compile(random_integer_graph(3000 + seed, mixed=True), target=target))


@pytest.mark.parametrize("seed", MIXED_BY_RECIPE)
def test_random_networks_of_random_bit_widths_by_the_recipe(seed: int, host: Session) -> None:
    graph = random_graph(seed)
    _, *sample = graph.type(graph.inputs[0]).shape
    data = np.random.default_rng(seed).standard_normal((4, *sample)).astype(np.float32)
    package = tapdot.compile(graph, target="host", recipe="mixed", data=data, bits=random_widths(graph, seed))
    check(host, package)
    narrow = {kind.dtype for kind in package.graph.types.values()} & {"int4", "int2"}
    assert narrow


def random_widths(graph: Graph, seed: int) -> BitWidths:
    """A width for every layer's weights, and for what some of them read."""
    generator = np.random.default_rng(seed)
    names = list(layers(run(graph, (clean_up(),)).graph))
    weights = {name: int(generator.choice([8, 4, 2])) for name in names}
    weights[names[0]] = 4
    return BitWidths(weights, default=int(generator.choice([8, 4])))
