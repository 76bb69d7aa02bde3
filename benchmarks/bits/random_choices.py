"""Choices of bits at random: of one size, to hold a good one against, and of all sizes, to hold predictions against."""

from __future__ import annotations

import numpy as np

from tapdot.passes.bit_table import BitTable

NEAR = 0.02
"""Sizes that differ by less, as a share, count as the same."""
DRAWS_AT_ONCE, MOST_DRAWS = 10_000, 200_000

Choice = tuple[str, ...]
"""A candidate's label for every layer of a table."""


def of_the_same_size(
    table: BitTable, chosen: Choice, limit: float, count: int, seed: int, kind: str = "size"
) -> tuple[Choice, ...]:
    """At most ``count`` different choices, other than ``chosen``, that cost as much up to :data:`NEAR`, and at most ``limit``.

    Every layer's candidate is drawn evenly, and choices of another size are left out: all that remain are equally likely.
    Fewer are returned where 200,000 draws find no more.
    """
    costs = [np.array([candidate.costs[kind] for candidate in layer.candidates]) for layer in table.layers]
    basis = sum(layer.candidate(label).costs[kind] for layer, label in zip(table.layers, chosen, strict=True))
    generator = np.random.default_rng(seed)
    found: dict[Choice, None] = {}
    for _ in range(MOST_DRAWS // DRAWS_AT_ONCE):
        draws = np.stack([generator.integers(len(layer), size=DRAWS_AT_ONCE) for layer in costs], axis=1)
        sizes = np.stack([layer[draws[:, place]] for place, layer in enumerate(costs)]).sum(0)
        fits = (abs(sizes - basis) <= NEAR * basis) & (sizes <= limit * (1 + 1e-9))
        for draw in draws[fits]:
            labels = tuple(layer.candidates[index].label for layer, index in zip(table.layers, draw, strict=True))
            if labels != chosen:
                found.setdefault(labels)
            if len(found) == count:
                return tuple(found)
    return tuple(found)


def of_all_sizes(layers: int, widths: tuple[int, ...], count: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Different bits for each of ``layers``: how many are narrow differs from choice to choice, or all would cost the same.

    ``widths`` are two or more; the shares that each has are drawn first. Fewer than ``count`` where there are no more.
    """
    generator = np.random.default_rng(seed)
    most = min(count, len(widths) ** layers)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < most:
        shares = generator.dirichlet(np.ones(len(widths)))
        found.setdefault(tuple(int(width) for width in generator.choice(widths, size=layers, p=shares)))
    return tuple(found)
