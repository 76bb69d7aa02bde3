"""How sensitive a network is to each layer's bits and sparsity: what a choice of bit widths is made of.

============== ===================================================================================== ==========================
method         a layer's sensitivity to a candidate                                                    runs of the network
============== ===================================================================================== ==========================
``hessian``    ``tr H / n * ||W - Q(W)||^2`` (HAWQ-V2, NeurIPS 2020, eq. 3; HAWQ-V3, eq. 7): H is the   samples x rounds of probes
               loss's Hessian in the layer's n weights; see ``passes.sensitivity_hessian``              forward and backward
``kl``         Kullback-Leibler divergence of the answers (ZeroQ, CVPR 2020, eq. 6)                     samples x layers x
                                                                                                       candidates, half each
``prediction`` the same at a temperature of 4 (PD-Quant, CVPR 2023)                                     as kl
``masked``     a layer's importance by random masks (OHQ, 2023), times ``||W - Q(W)||^2``               samples x layers x 4, half
============== ===================================================================================== ==========================

See ``passes.sensitivity_output`` for the last three. The graph has been cleaned up and its batch norms are folded. Weights become
what ``kernels.numerics`` makes of them; activations what ``calibrate`` does (``of="activations"``, where rows are tensors). All
estimates are of one layer alone, the others in float: those who add them up take the layers for independent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from tapdot.compiler.costs import graph_macs
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.passes.bit_table import BitTable, Candidate, TableLayer
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.codes import Codes
from tapdot.passes.sensitivity_answers import Answers, with_scores
from tapdot.passes.sensitivity_candidates import Replacements, WeightForm, WeightLayer, weight_layers, with_own_weights
from tapdot.passes.sensitivity_comparison import TEMPERATURE
from tapdot.passes.sensitivity_hessian import FEWEST_ROUNDS, TOLERANCE, hessian_traces
from tapdot.passes.sensitivity_output import (
    MASKS,
    Estimate,
    layer_sensitivities,
    masked_sensitivities,
    tensor_sensitivities,
)
from tapdot.passes.sensitivity_samples import Samples, take_samples

Method = Literal["hessian", "kl", "prediction", "masked"]
METHODS: tuple[str, ...] = get_args(Method)
Of = Literal["weights", "activations"]
FEWEST_SAMPLES, MOST_SAMPLES = 16, 256
"""How many samples are used where nothing else is said, by what they cost; all, where there are fewer."""
EFFORT = 1.5e13
"""What they may cost, in multiplies: some minutes on two cores of a server."""
FORMAT, VERSION = "tapdot sensitivity", 1
"""Of the JSON document."""


@dataclass(frozen=True)
class LayerSensitivity:
    """One row: a layer, or with ``of="activations"`` a tensor."""

    name: str
    kind: str
    """For people: ``3x3``, ``fully connected``; of a tensor the operator that makes it."""
    elements: int
    """Weights of the layer, or elements of the tensor for one sample."""
    values: Mapping[str, float]
    """By candidate; one that the layer cannot take is missing."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Standard errors, for those of ``values`` that have one."""
    trace: float | None = None
    """Of the Hessian's block, where that was estimated."""
    trace_error: float | None = None

    def json(self) -> dict[str, Any]:
        """Plain data."""
        candidates = []
        for label, value in self.values.items():
            form = {"bits": int(label)} if label.isdecimal() else {"label": label}
            error = {"standard_error": self.errors[label]} if label in self.errors else {}
            candidates.append({**form, "sensitivity": value, **error})
        document: dict[str, Any] = {"name": self.name, "kind": self.kind, "elements": self.elements, "candidates": candidates}
        return document if self.trace is None else {**document, "trace": self.trace, "trace_error": self.trace_error}


@dataclass(frozen=True)
class Sensitivity:
    """Layers by candidates, in the network's order, and how they were measured."""

    model: str
    method: str
    of: str
    measure: str
    """What the numbers are."""
    candidates: tuple[str, ...]
    layers: tuple[LayerSensitivity, ...]
    samples: int
    source: str
    """Where the samples are from: ``data`` or ``distilled``."""
    seed: int
    remarks: tuple[str, ...] = ()

    def row(self, name: str) -> LayerSensitivity:
        """A layer's; KeyError for another name."""
        return {layer.name: layer for layer in self.layers}[name]

    @property
    def worst(self) -> str:
        """The candidate that costs most, all layers together, among those that most layers can take."""
        columns = {label: [row.values[label] for row in self.layers if label in row.values] for label in self.candidates}
        return max(columns, key=lambda label: (len(columns[label]), math.fsum(columns[label])))

    def order(self, candidate: str) -> tuple[str, ...]:
        """Names of the layers that can take a candidate, the most sensitive first; equals in the network's order."""
        rows = [layer for layer in self.layers if candidate in layer.values]
        return tuple(layer.name for layer in sorted(rows, key=lambda layer: -layer.values[candidate]))

    def table(
        self, costs: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None, ties: Sequence[Sequence[str]] = ()
    ) -> BitTable:
        """What a choice is made from: these sensitivities with ``costs`` by layer, candidate and kind.

        Raises TableError where costs are missing for some.
        """
        layers = []
        for row in self.layers:
            told = {} if costs is None else costs.get(row.name, {})
            candidates = [
                Candidate(label, value, dict(told.get(label, {})), int(label) if label.isdecimal() else None)
                for label, value in row.values.items()
            ]
            layers.append(TableLayer(row.name, tuple(candidates)))
        source = f"sensitivity by {self.method} on {self.samples} samples ({self.source})"
        return BitTable(tuple(layers), tuple(map(tuple, ties)), self.model, source)

    def json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` reads it back."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "method": self.method,
            "of": self.of,
            "measure": self.measure,
            "samples": self.samples,
            "source": self.source,
            "seed": self.seed,
            "candidates": list(self.candidates),
            "layers": [layer.json() for layer in self.layers],
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_json(cls, document: Any, name: str = "the document") -> Sensitivity:
        """From what :meth:`json` gives, or its text. Raises TapdotError for what is none, and for negative or missing numbers."""
        if isinstance(document, str | bytes):
            try:
                document = json.loads(document)
            except ValueError as error:
                raise TapdotError(f"{name} is no JSON: {error}.") from error
        if not isinstance(document, Mapping) or document.get("format") != FORMAT:
            raise TapdotError(f"Expected {name} to be what `tapdot sensitivity --json` writes, found another document.")
        if document.get("version") != VERSION:
            raise TapdotError(f"Expected version {VERSION} of sensitivities in {name}, found {document.get('version')!r}.")
        try:
            rows = [_row(row, name) for row in document["layers"]]
            told = {key: document[key] for key in ("model", "method", "of", "measure", "samples", "source", "seed")}
            found = cls(**told, candidates=tuple(document["candidates"]), layers=tuple(rows), remarks=tuple(document["remarks"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise TapdotError(f"{name} lacks a part of what `tapdot sensitivity --json` writes: {error}.") from error
        names = [row.name for row in rows]
        if twice := {layer for layer in names if names.count(layer) > 1}:
            raise TapdotError(f"{name} holds the layer {min(twice)!r} more than once.")
        return found


def _row(row: Mapping[str, Any], name: str) -> LayerSensitivity:
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    for one in row["candidates"]:
        label = str(one["bits"] if "bits" in one else one["label"])
        value = one["sensitivity"]
        if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
            raise TapdotError(
                f"Expected sensitivities of 0 or more in {name}, found {value} for layer {row['name']!r}, candidate {label}."
            )
        if label in values:
            raise TapdotError(f"{name} holds the candidate {label} of layer {row['name']!r} more than once.")
        values[label] = float(value)
        if "standard_error" in one:
            errors[label] = float(one["standard_error"])
    return LayerSensitivity(
        row["name"], row["kind"], int(row["elements"]), values, errors, row.get("trace"), row.get("trace_error")
    )


def measure_sensitivity(
    graph: Graph,
    data: object,
    *,
    method: str = "kl",
    candidates: Sequence[str | int | WeightForm] = (8, 4),
    of: str = "weights",
    samples: int | None = None,
    seed: int = 0,
    source: str = "data",
    tolerance: float = TOLERANCE,
    rounds: int | None = None,
    progress: Callable[[str], object] = lambda line: None,
) -> Sensitivity:
    """The sensitivity of every layer to every candidate.

    ``graph`` is cleaned up and its batch norms are folded; ``data`` is what ``passes.samples`` reads, of which ``samples`` are
    used (by default 16 to 256, as :data:`EFFORT` allows), picked by ``seed``. ``tolerance`` and ``rounds`` say when the Hessian's
    probes end. ``source`` is what the result says of the data. The same arguments give the same result (on one machine and
    number of threads).

    Raises TapdotError for an unknown method, candidates out of range or given twice, data that does not fit or is not finite,
    labels that are no class of the model, and a network without layers or whose answers are not finite.
    """
    chosen = checked(method, candidates, of)
    if any(node.op == "FakeQuantize" for node in graph.nodes):
        raise TapdotError(
            f"Graph {graph.name!r} was quantized before it came here and says its own bits; give the model in floats."
        )
    graph = with_own_weights(with_scores(graph))
    layers = weight_layers(graph)
    replacements = Replacements(graph, layers, chosen)
    answers = Answers(graph)
    most = affordable_samples(graph, len(layers), len(chosen), method) if samples is None else samples
    picked = take_samples(graph, data, most, seed, answers.classes)
    remarks = _remarks(layers, replacements) if of == "weights" else []
    if of == "activations":
        rows = _activations(graph, chosen, picked, method, progress)
        measure = _described(answers, method)
    elif method == "hessian":
        traces = hessian_traces(graph, layers, picked, seed=seed, tolerance=tolerance, most_rounds=rounds, progress=progress)
        rows = [_by_trace(layer, replacements, traces.traces[layer.name], traces.errors[layer.name]) for layer in layers]
        labelled = picked.labels is not None and answers.classes is not None
        loss = "the cross entropy of the labels" if labelled else f"the {answers.description} from the model's own answers"
        remarks.append(f"The Hessian is that of {loss}; {traces.rounds} probes a sample.")
        if not traces.converged:
            worst, error = traces.worst
            remarks.append(
                f"After {traces.rounds} probes a sample the trace of layer {worst!r} still has a standard error of {error:.1%} "
                f"(asked for: {tolerance:.1%})."
            )
        measure = "trace of the Hessian per weight, times squared error of the weights"
    else:
        if method == "masked":
            found = masked_sensitivities(graph, layers, replacements, picked, seed=seed, progress=progress)
        else:
            temperature = TEMPERATURE if method == "prediction" else 1.0
            found = layer_sensitivities(graph, layers, replacements, picked, temperature=temperature, progress=progress)
        rows = [_of_layer(layer, replacements, found) for layer in layers]
        measure = _described(answers, method)
    return Sensitivity(
        graph.name, method, of, measure, tuple(candidate.label for candidate in chosen), tuple(rows), picked.count, source, seed,
        tuple(remarks),
    )  # fmt: skip


def affordable_samples(graph: Graph, layers: int, candidates: int, method: str) -> int:
    """How many samples :data:`EFFORT` allows."""
    size = graph.type(graph.inputs[0]).shape[0]
    runs = {"hessian": 3.0 * FEWEST_ROUNDS, "masked": MASKS * layers}.get(method, candidates * layers / 2)
    return int(np.clip(EFFORT * size / max(runs * graph_macs(graph), 1), FEWEST_SAMPLES, MOST_SAMPLES))


def checked(method: str, candidates: Sequence[str | int | WeightForm], of: str = "weights") -> tuple[WeightForm, ...]:
    """The candidates as such, in order; raises TapdotError for choices that cannot be meant."""
    if method not in METHODS:
        raise TapdotError(f"Expected a method among {', '.join(METHODS)}, found {method!r}.")
    if of not in get_args(Of):
        raise TapdotError(f"Expected sensitivities of weights or of activations, found {of!r}.")
    found = tuple(form if isinstance(form, WeightForm) else WeightForm.parse(str(form)) for form in candidates)
    if not found:
        raise TapdotError("Expected at least one candidate, such as 8 bits, found none.")
    if twice := next((candidate for candidate in found if found.count(candidate) > 1), None):
        raise TapdotError(f"The candidate {twice.label!r} is given twice.")
    if of == "activations" and method not in ("kl", "prediction"):
        raise TapdotError(f"The sensitivity of activations is measured by kl or prediction, not by {method!r}.")
    if of == "activations" and (sparse := next((candidate for candidate in found if candidate.rate is not None), None)):
        raise TapdotError(f"Activations have bits and no sparsity; leave the candidate {sparse.label!r} out.")
    return found


def _described(answers: Answers, method: str) -> str:
    """What differences of answers are, for reports."""
    return f"{answers.description} at temperature {TEMPERATURE:g}" if method == "prediction" else answers.description


def _remarks(layers: Sequence[WeightLayer], replacements: Replacements) -> list[str]:
    """Candidates that only some layers can take; TapdotError for one that none can."""
    lines = []
    for candidate in replacements.candidates:
        able = [layer for layer in layers if candidate in replacements.of(layer)]
        if not able:
            raise TapdotError(
                f"No layer can take the candidate {candidate.label!r}: 3x3 layers are pruned at rates above 2.25, 1x1 and fully "
                "connected ones at rates above 1, and others not at all."
            )
        if len(able) < len(layers):
            lines.append(f"{len(able)} of {len(layers)} layers can take {candidate.label}.")
    return lines


def _of_layer(
    layer: WeightLayer, replacements: Replacements, found: Mapping[tuple[str, WeightForm], Estimate]
) -> LayerSensitivity:
    estimates = {candidate.label: found[layer.name, candidate] for candidate in replacements.of(layer)}
    return LayerSensitivity(layer.name, layer.kind, layer.weights, *_split(estimates))


def _split(estimates: Mapping[str, Estimate]) -> tuple[dict[str, float], dict[str, float]]:
    values = {label: value for label, (value, _) in estimates.items()}
    return values, {label: error for label, (_, error) in estimates.items() if error is not None}


def _by_trace(layer: WeightLayer, replacements: Replacements, trace: float, error: float) -> LayerSensitivity:
    """Its absolute value, so that an estimate below zero cannot turn an order around."""
    squares = {candidate.label: replacements.square(layer, candidate) / layer.weights for candidate in replacements.of(layer)}
    values = {label: abs(trace) * square for label, square in squares.items()}
    errors = {label: error * square for label, square in squares.items()}
    return LayerSensitivity(layer.name, layer.kind, layer.weights, values, errors, trace, error)


def _activations(
    graph: Graph, candidates: Sequence[WeightForm], samples: Samples, method: str, progress: Callable[[str], object]
) -> list[LayerSensitivity]:
    """Rows of tensors: each with the codes that calibration gives it on the same samples."""
    labels = {candidate.bits: candidate.label for candidate in candidates if candidate.bits is not None}
    codes: dict[str, dict[int, Codes]] = {}
    for bits in labels:
        progress(f"ranges of activations at {bits} bits")
        for node in Calibrate([samples.inputs], bits=bits)(graph).nodes:
            if node.op == "FakeQuantize":
                name = node.inputs[0] if node.inputs[0] in graph.inputs else node.output
                codes.setdefault(name, {})[bits] = Codes.of(node.attributes)
    temperature = TEMPERATURE if method == "prediction" else 1.0
    found = tensor_sensitivities(graph, codes, samples, temperature=temperature, progress=progress)
    rows = []
    for name in codes:
        producer, kind = graph.producer(name), graph.type(name)
        values, errors = _split({label: found[name, bits] for bits, label in labels.items()})
        op = "input" if producer is None else producer.op
        rows.append(LayerSensitivity(name, op, kind.elements // max(kind.shape[0], 1), values, errors))
    return rows
