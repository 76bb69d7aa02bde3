"""Random small networks, compiled, against the reference: kernel by kernel, then the whole, twice on differently dirty memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.random_graphs import graphs, random_graph

import tapdot
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.types import TensorType
from tapdot.runtime.devices.base import Session
from tapdot.runtime.program import LoadedProgram
from tapdot.runtime.verify import verify

ON_HOST = {"host": 28, "host:avx2": 10, "host:generic": 10}
"""Examples for each instruction table of this machine."""

ON_A_PHONE = range(12)
"""Seeds of the networks that are emulated."""


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    with tapdot.connect("host").open() as session:
        yield session


@pytest.fixture(scope="module")
def phone() -> Iterator[Session]:
    with tapdot.connect("emulated").open() as session:
        yield session


def check(session: Session, graph: Graph, target: str) -> None:
    """The report says which kernel differs first."""
    report = verify(session, tapdot.compile(graph, target=target))
    assert report.passed, f"{report}\n{graph}"


@pytest.mark.parametrize("target", ON_HOST)
def test_random_networks(target: str, host: Session, request: pytest.FixtureRequest) -> None:
    available_or_skip(target)
    examples = ON_HOST[target] * (20 if request.config.getoption("--soak") else 1)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[*HealthCheck],
        print_blob=False,
    )
    @given(graphs())
    def agrees(graph: Graph) -> None:
        check(host, graph, target)

    agrees()


@pytest.mark.emulated
def test_random_networks_on_a_phone(phone: Session) -> None:
    for seed in ON_A_PHONE:
        check(phone, random_graph(seed), "cortex-a76")


def available_or_skip(target: str) -> None:
    """Not every machine has every instruction table."""
    from tapdot.kernels.target import UnknownTargetError, find_target

    try:
        find_target(target)
    except UnknownTargetError as error:
        pytest.skip(str(error))


# -- what random networks found ----------------------------------------------------------------------------------------------


def network(*shape: int) -> GraphBuilder:
    """A builder with one input, ``input``."""
    builder = GraphBuilder("found")
    builder.input("input", TensorType(shape, "float32"))
    return builder


def test_a_network_without_weights(host: Session) -> None:
    """The block of weights is passed to every program, so it is never empty."""
    builder = network(1, 4, 5, 5)
    (y,) = builder.add("MaxPool", ["input"], {"kernel_shape": (2, 2)})
    package = tapdot.compile(builder.build([y]))
    assert package.weights.size == package.program.weights_bytes > 0
    assert verify(host, package).passed


def test_parts_of_an_output(host: Session) -> None:
    """Branches of a concatenation that is an output are written into the caller's buffer, at offsets."""
    builder = network(1, 4, 12, 4)
    parts = [builder.add(op, ["input"])[0] for op in ("Sigmoid", "Relu", "Tanh")]
    pooled = [builder.add("MaxPool", [part], {"kernel_shape": (1, 1)})[0] for part in parts]
    (y,) = builder.add("Concat", pooled, {"axis": 1})
    package = tapdot.compile(builder.build([y]))
    offsets = [argument.offset for call in package.program.calls for argument in call.arguments if argument.space == "output"]
    assert sorted(offsets) == [0, 4 * 12 * 4 * 4, 2 * 4 * 12 * 4 * 4]
    assert verify(host, package).passed


def test_padded_lanes_that_are_no_numbers(host: Session) -> None:
    """Five channels leave lanes of their block empty; what division makes of these must not reach a convolution's sums."""
    builder = network(1, 5, 6, 6)
    numbers = np.random.default_rng(0)
    (left,) = builder.add("MaxPool", ["input"], {"kernel_shape": (2, 2)})
    (right,) = builder.add("AveragePool", ["input"], {"kernel_shape": (2, 2)})
    (ratio,) = builder.add("Div", [left, right])
    weights = builder.constant(numbers.standard_normal((7, 5, 3, 3)).astype(np.float32), "weights")
    (y,) = builder.add("Conv", [ratio, weights], {"pads": (1, 1, 1, 1)})
    (pooled,) = builder.add("GlobalAveragePool", [ratio])
    check(host, builder.build([y, pooled]), "host")


@pytest.mark.parametrize("target", ["host", "host:avx2", "host:generic"])
def test_equal_classes_get_equal_logits(target: str, host: Session) -> None:
    """Sums run in one order for all columns, those of a narrower last panel too, so rounding prefers no class."""
    available_or_skip(target)
    builder = network(1, 300)
    numbers = np.random.default_rng(0)
    column = numbers.standard_normal((300, 1)).astype(np.float32)
    weights = builder.constant(np.repeat(column, 1000, axis=1), "weights")
    (y,) = builder.add("MatMul", ["input", weights])
    package = tapdot.compile(builder.build([y]), target=target)
    (logits,) = LoadedProgram(host, package).run({"input": numbers.standard_normal((1, 300)).astype(np.float32)}).values()
    assert np.unique(logits).size == 1
