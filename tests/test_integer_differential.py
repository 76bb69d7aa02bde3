"""Random integer networks, compiled, against the reference byte for byte: kernel by kernel, then the whole, twice on dirt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.random_graphs import random_graph
from tests.random_integer_graphs import random_integer_graph
from tests.test_differential import available_or_skip

import tapdot
from tapdot.runtime.devices.base import Session
from tapdot.runtime.verify import verify

ON_HOST = {"host": 16, "host:avx512": 6, "host:avx2": 8, "host:generic": 6}
"""Networks for each instruction table of this machine."""

ON_PHONES = {"cortex-a76": 4, "cortex-a76:neon": 3, "cortex-x2": 4}
"""Networks for each instruction table of emulated phones."""

CONCATS_OF_QUADS = (43, 118, 123, 166)
"""Float networks that join values of at most four channels, whose quads a Concat once laid side by side as whole blocks."""

QUANTIZED = (*CONCATS_OF_QUADS, 1, 3, 4, 6)
"""Float networks that the recipe makes integers of."""

SOAK = 500
"""Networks for each target in the long form."""


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


def networks(request: pytest.FixtureRequest, count: int) -> range:
    return range(SOAK if request.config.getoption("--soak") else count)


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
