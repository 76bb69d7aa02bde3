"""``tapdot.bit_choices``: from a model to the table that its bits are chosen from, measured on the device they are chosen for."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapdot.compiler import pipeline
from tapdot.compiler.errors import InputError, TargetError
from tapdot.compiler.frontends import trace
from tapdot.compiler.graph import Graph
from tapdot.kernels.target import Target, UnknownTargetError, find_target
from tapdot.passes.bit_candidates import WIDE, BitChoices, model_layers, rows_of
from tapdot.passes.bit_widths import WIDTHS, BitWidths
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.recipe_names import CODE_METHODS, check_sensitivity
from tapdot.passes.recipes import Calibration, recipe
from tapdot.passes.sensitivity import measure_sensitivity

if TYPE_CHECKING:
    from tapdot.runtime.devices.base import Device

CALIBRATION_SAMPLES = 4
"""Of the networks that are only measured: their ranges matter to nobody."""


def bit_choices(
    model: Any,
    example_inputs: Sequence[Any] | None = None,
    *,
    data: object = None,
    zero_shot: bool = False,
    device: str | Device | None = "host",
    target: str | None = None,
    bits: Sequence[int] = (8, 4),
    activations: str = "fixed",
    method: str = "kl",
    fixed: Mapping[str, int] | None = None,
    samples: int | None = None,
    seed: int = 0,
    kinds: Collection[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    settings: Sequence[str] = (),
    progress: Callable[[str], object] = pipeline.silent,
) -> BitChoices:
    """What can be chosen for each layer of a model, and what each choice loses and costs.

    ``model``, ``data``, ``zero_shot``, ``shapes`` and ``settings`` are those of :func:`tapdot.compile`; ``method``, ``samples``
    and ``seed`` those of :func:`tapdot.sensitivity`. ``bits`` are the widths to choose from, ``activations`` what rows are
    (fixed, same or own; see ``passes.bit_candidates``), ``fixed`` the bits of layers that have no choice. Latencies are measured
    on ``device`` for ``target`` (by default the device's own); without a device there are sizes and BOPs only. ``kinds`` of cost
    that the table must have are refused at once where it will not have them; so are devices and targets that do not work.

    ``bit_choices(...).table`` goes to ``passes.assign_bits.assign``, whose answer ``.widths`` makes the ``bits`` of
    :func:`tapdot.compile`. Raises TapdotError for anything the user can act on.
    """
    if (data is None) is not zero_shot:
        raise InputError(
            "Bits are chosen on samples: expected data (--data DATA) or inputs distilled without any (--zero-shot), found "
            f"{'both' if zero_shot else 'neither'}."
        )
    widths = tuple(dict.fromkeys(bits))
    if not widths or any(width not in WIDTHS for width in widths):
        raise InputError(
            f"Expected widths among {', '.join(map(str, WIDTHS))} to choose from, found {', '.join(map(str, bits)) or 'none'}."
        )
    check_sensitivity(activations, method)
    where, code = _place(device, target, kinds)
    prepared = _prepared(model, example_inputs, data, zero_shot, shapes, settings, progress)
    graph, samples_of = prepared.graph, prepared.samples
    layers = model_layers(graph)
    rows = rows_of(layers, widths, activations, fixed)
    facts: dict[str, Any] = {"method": method, "samples": samples, "seed": seed, "source": "distilled" if zero_shot else "data"}
    weights = measure_sensitivity(graph, samples_of, candidates=widths, progress=progress, **facts)
    codes = None
    notes: tuple[str, ...] = ()
    if activations == "same" and method not in CODE_METHODS:
        notes = (f"Sensitivity by {method} is of weights alone: that codes of the same bits lose something, too, is left out.",)
    elif activations != "fixed":
        codes = measure_sensitivity(graph, samples_of, candidates=widths, of="activations", progress=progress, **facts)
    figures = None
    if where is not None and code is not None:
        from tapdot.runtime.bit_latencies import measure_layers

        graphs = {width: prepared.integers(width) for width in widths}
        names = [layer.name for layer in layers]
        figures = measure_layers(where, graphs, names, code, progress=progress)
    return BitChoices(rows, weights, codes, figures, notes)


def _place(device: str | Device | None, target: str | None, kinds: Collection[str]) -> tuple[Device, Target] | tuple[None, None]:
    """The device that layers are measured on and the target of their kernels, both tried; nothing without a device.

    Raises DeviceError for a device that cannot be reached and for a target that does not run there, TargetError for a name of
    none, InputError where layers have no costs of one of the ``kinds``.
    """
    known = ["size", "bops"]
    place: tuple[Device, Target] | tuple[None, None] = (None, None)
    where = ""
    if device is not None:
        from tapdot.runtime.bit_latencies import measured_kind
        from tapdot.runtime.devices import connect

        there = connect(device) if isinstance(device, str) else device
        try:
            place = (there, find_target(target or there.default_target()))
        except UnknownTargetError as error:
            raise TargetError(str(error)) from error
        known.append(measured_kind(*place))
        where = f" on the device {there.line}"
    for kind in kinds:
        if kind not in known:
            raise InputError(f"Expected kinds of cost that layers have{where} ({', '.join(known)}), found {kind!r}.")
    return place


@dataclass(frozen=True)
class _Prepared:
    """A model cleaned up and folded, the samples to calibrate on, and the phases of the recipe that follow."""

    graph: Graph
    samples: object
    later: pipeline.Recipe

    def integers(self, width: int) -> Graph:
        """The integer network whose weights all have this width."""
        bits = BitWidths(dict.fromkeys((layer.name for layer in model_layers(self.graph)), width), default=WIDE)
        return pipeline.run(self.graph, _with_widths(self.later, bits)).graph


def _prepared(
    model: Any,
    example_inputs: Sequence[Any] | None,
    data: object,
    zero_shot: bool,
    shapes: Mapping[str, Sequence[int]] | None,
    settings: Sequence[str],
    progress: Callable[[str], object],
) -> _Prepared:
    phases = recipe("mixed", settings, Calibration(data, zero_shot), bits=BitWidths(default=WIDE))
    before = tuple(itertools.takewhile(lambda phase: phase.name != "calibrate", phases))
    graph = trace(Path(model) if isinstance(model, os.PathLike) else model, example_inputs, shapes=shapes)
    outcome = pipeline.run(graph, before, progress=progress)
    calibrate = next(step for phase in phases for step in phase.passes if isinstance(step, Calibrate))
    later = tuple(phase for phase in phases[len(before) :] if phase.name in ("calibrate", "fuse", "requantize"))
    return _Prepared(outcome.graph, calibrate.data, later)


def _with_widths(phases: pipeline.Recipe, bits: BitWidths) -> pipeline.Recipe:
    """The same with other widths, calibrated on a few samples."""
    from dataclasses import replace

    from tapdot.passes.requantize import Requantize

    def change(step: pipeline.Pass) -> pipeline.Pass:
        if isinstance(step, Calibrate):
            return replace(step, widths=bits, samples=CALIBRATION_SAMPLES)
        return replace(step, widths=bits) if isinstance(step, Requantize) else step

    return tuple(replace(phase, passes=tuple(map(change, phase.passes))) for phase in phases)
