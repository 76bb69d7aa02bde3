"""Tables of bit widths for tests: the published one, random ones of many layers, and small ones solved by trying everything."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tapdot.passes.assign_bits import Assignment
from tapdot.passes.bit_budgets import TOLERANCE, Budget
from tapdot.passes.bit_choices import Choices
from tapdot.passes.bit_table import BitTable, Candidate, TableLayer

GOLDEN = Path(__file__).parent / "data" / "hawq_resnet18_ilp.json"
BITS = (2, 4, 8)


def random_table(layers: int, seed: int, form: str, ties: int = 0) -> BitTable:
    """A network of so many layers, each at 2, 4 or 8 bits.

    ``form``: ``free`` has sensitivities that know nothing of sizes; in ``correlated`` they follow the size within 5 % and bits
    within 10 %, as where one noise model stands for all layers; in ``stages`` sizes are of six kinds, as in a ResNet. Latencies
    follow sizes within 10 %.
    """
    random = np.random.default_rng(seed)
    sizes = np.exp(random.uniform(np.log(1e3), np.log(2.4e6), layers)).round()
    if form == "stages":
        sizes = random.choice([4096.0, 36864.0, 147456.0, 589824.0, 1048576.0, 2359296.0], layers)
    traces = np.exp(random.normal(0, 0.05, layers)) if form == "correlated" else np.exp(random.normal(0, 2, layers)) / sizes
    return BitTable(
        tuple(
            TableLayer(
                f"layer{place}",
                tuple(
                    Candidate.of_bits(
                        bits,
                        float(traces[place] * sizes[place] * 4.0 ** (2 - bits) * np.exp(random.normal(0, 0.1))),
                        {
                            "size": float(sizes[place] * bits / 8),
                            "latency": float(1e-9 * sizes[place] * (0.5 + bits / 16) * np.exp(random.normal(0, 0.1))),
                        },
                    )
                    for bits in BITS
                ),
            )
            for place in range(layers)
        ),
        tuple((f"layer{3 * number}", f"layer{3 * number + 2}") for number in range(ties)),
    )


@st.composite
def small_tables(draw: st.DrawFn) -> BitTable:
    """Up to six layers with small whole figures, so that many choices are equally good; ties and fixed layers."""
    count = draw(st.integers(1, 6))
    kinds = draw(st.sampled_from([("size",), ("size", "latency"), ("size", "bops", "latency")]))
    widths = draw(st.sampled_from([(4, 8), (2, 4, 8)]))
    figure = st.integers(0, 6).map(float)
    layers = []
    for place in range(count):
        candidates = tuple(Candidate.of_bits(bits, draw(figure), {kind: draw(figure) for kind in kinds}) for bits in widths)
        layers.append(TableLayer(f"layer{place}", candidates))
    ties: tuple[tuple[str, ...], ...] = ()
    if count > 2 and draw(st.booleans()):
        ties = (("layer0", "layer2"),)
    table = BitTable(tuple(layers), ties)
    if draw(st.booleans()):
        table = table.fix({"layer1" if count > 1 else "layer0": str(draw(st.sampled_from(widths)))})
    return table


@st.composite
def budgets_of(draw: st.DrawFn, table: BitTable) -> tuple[Budget, ...]:
    """Budgets of some of the kinds, by share or by amount; many cannot be met, many are met exactly."""
    kinds = draw(st.lists(st.sampled_from(table.kinds), unique=True, max_size=len(table.kinds)))
    found = []
    for kind in kinds:
        if draw(st.booleans()):
            found.append(Budget(kind, share=draw(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.7, 1.0]))))
        else:
            found.append(Budget(kind, amount=float(draw(st.integers(0, 36)))))
    return tuple(found)


def every_choice(table: BitTable) -> Iterator[Assignment]:
    """All there are, ties and fixed layers respected."""
    options = []
    for group in table.groups:
        layers = [table.layers[index] for index in group]
        labels = [candidate.label for candidate in layers[0].candidates]
        options.append([label for label in labels if all(label in {one.label for one in layer.allowed} for layer in layers)])
    for picked in itertools.product(*options):
        labels_by_layer = [""] * len(table.layers)
        for label, group in zip(picked, table.groups, strict=True):
            for index in group:
                labels_by_layer[index] = label
        yield Assignment(table, tuple(labels_by_layer))


def meets(assignment: Assignment, budgets: Sequence[Budget]) -> bool:
    """Whether costs are within the budgets, up to the tolerance that is granted."""
    table = assignment.table
    choices = Choices.of(table)
    for budget in budgets:
        granted = 2 * TOLERANCE * choices.span(choices.costs[budget.kind]) + 1e-12 * assignment.costs[budget.kind]
        if assignment.costs[budget.kind] > budget.limit(table) + granted:
            return False
    return True
