"""Ranges of activations by the prediction difference: for each tensor the scale that changes the network's answers least.

Ranges by squared error or information look at one tensor, and a value that is rare may still decide an answer. PD-Quant (CVPR
2023, section 3.2) takes the scaling factor whose codes least change the prediction of the float network. Here each tensor is
tried alone, the others in float: scales around the one of least squared error, by factors of :data:`FACTORS`, none beyond what
was seen. Only what lies behind a tensor runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tapdot.compiler.graph import Graph
from tapdot.passes.codes import Codes
from tapdot.passes.observers import Observer
from tapdot.passes.samples import feeds
from tapdot.passes.sensitivity_answers import with_scores
from tapdot.passes.sensitivity_comparison import TEMPERATURE, Comparison, coded
from tapdot.passes.sensitivity_samples import Samples

FACTORS = tuple(2.0 ** (power / 5) for power in (0, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5))
"""Of the scale; 1 comes first and wins a tie."""
LEAST_GAIN = 0.01
"""By what share the difference must become less for another scale to be taken: less is what few samples happen to say."""
MOST_SAMPLES = 32


def codes_by_prediction(
    graph: Graph,
    data: object,
    samples: int | None,
    codes: Mapping[str, Codes],
    observers: Mapping[str, Observer],
    progress: Callable[[str], object] = lambda line: None,
) -> dict[str, Codes]:
    """The codes of each tensor at the best scale; ``observers`` saw the tensors, ``data`` and ``samples`` are calibration's."""
    scored = with_scores(graph)
    found = list(feeds(graph, data, min(samples or MOST_SAMPLES, MOST_SAMPLES)))
    arrays = {name: np.concatenate([feed.inputs[name][: feed.count].numpy() for feed in found]) for name in graph.inputs}
    tried: dict[str, dict[int, Codes]] = {}
    for name, meaning in codes.items():
        if name in scored.types:  # what lies behind the scores changes no answer
            largest = max(meaning.scale, _whole_scale(meaning, observers[name]))
            scales = [meaning.scale * factor for factor in FACTORS]
            tried[name] = {
                place: replace(meaning, scale=float(np.float32(scale)))
                for place, scale in enumerate(scales)
                if scale <= largest * (1 + 1e-6)
            }
    compare = Comparison(scored, Samples(arrays), TEMPERATURE, progress)
    differences = compare({name: coded(name, meanings) for name, meanings in tried.items()}, len(tried))
    chosen = dict(codes)
    for name, meanings in tried.items():
        losses = {place: float(differences[name, place].mean()) for place in meanings}
        best = min(losses, key=lambda place: losses[place])
        if losses[best] < (1 - LEAST_GAIN) * losses[0]:
            chosen[name] = meanings[best]
    return chosen


def _whole_scale(codes: Codes, observer: Observer) -> float:
    """The smallest scale for which codes reach everything seen."""
    above, below = codes.high - codes.zero_point, codes.low - codes.zero_point
    return max(observer.high / above if above > 0 else 0.0, observer.low / below if below < 0 else 0.0)
