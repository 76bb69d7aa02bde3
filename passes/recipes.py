"""Recipes: the passes of a kind of compilation, in named phases, each recipe on one screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.options import FALSE, TRUE, configure, describe
from tapdot.compiler.pipeline import Pass, Phase, Recipe
from tapdot.kernels.target import Target
from tapdot.passes.adopt_quantization import AdoptQuantization
from tapdot.passes.adopt_sparsity import AdoptSparsity
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.canonicalize import Canonicalize
from tapdot.passes.common_subexpressions import CommonSubexpressions
from tapdot.passes.compress_weights import CompressWeights, Measure
from tapdot.passes.correct_bias import BiasCorrection
from tapdot.passes.dead_code import DeadCode
from tapdot.passes.distill_samples import DistillSamples
from tapdot.passes.equalize import CrossLayerEqualization
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.fold_constants import FoldConstants
from tapdot.passes.fuse import Fuse
from tapdot.passes.pad_into_conv import PadIntoConv
from tapdot.passes.quantize_early import QuantizeEarly
from tapdot.passes.recipe_names import CALIBRATED_RECIPES, MIXED_RECIPES, SPARSE_RECIPES, check_recipe
from tapdot.passes.remove_identity import RemoveIdentity
from tapdot.passes.reorder_filters import ReorderFilters
from tapdot.passes.requantize import Requantize
from tapdot.passes.require_scales import RequireScales
from tapdot.passes.resolve_windows import ResolveWindows
from tapdot.passes.train_quantized import TrainQuantized


@dataclass(frozen=True)
class Calibration:
    """Where the ranges of activations come from, for recipes that quantize.

    ``data`` is anything that ``passes.samples`` reads; ``zero_shot`` distils inputs from the batch norms instead. A model that
    was quantized elsewhere says its own ranges and needs neither.
    """

    data: object = None
    zero_shot: bool = False
    train: object = None
    """Samples with labels to train weights on together with their codes; nothing is trained without, unless an option asks."""


def clean_up() -> Phase:
    """What every recipe begins with: one form for each thing, and nothing that is not needed."""
    return Phase(
        "clean up",
        (
            FoldConstants(),
            RemoveIdentity(),
            ResolveWindows(),
            Canonicalize(),
            PadIntoConv(),
            CommonSubexpressions(),
            DeadCode(),
        ),
        until_stable=True,
    )


def float_recipe(calibration: Calibration | None = None) -> Recipe:
    """The network as it was trained, in float32; one that was quantized elsewhere simulates its codes in floats."""
    return (
        Phase("adopt", (AdoptQuantization(),)),
        clean_up(),
        Phase("fold", (FoldBatchNorm(), FoldConstants(), QuantizeEarly())),
        Phase("fuse", (Fuse(), CommonSubexpressions(), DeadCode())),
    )


def sparsify(target: Target | None, measure: Measure | None = None) -> Phase:
    """What is pruned is found, stored as FKW arrays where sparse kernels are worth it, and put into the order of visits."""
    return Phase("sparsify", (AdoptSparsity(), CompressWeights(target, measure=measure), ReorderFilters()))


def pattern_recipe(
    calibration: Calibration | None = None, target: Target | None = None, measure: Measure | None = None
) -> Recipe:
    """A network pruned by patterns, kernels or quads, in float32, with sparse kernels where they are faster."""
    return (*float_recipe(), sparsify(target, measure))


@dataclass(frozen=True)
class Int8Options:
    """Options of the recipes themselves, set by lines such as ``int8.bias_correction=true``."""

    cross_layer_equalization: bool = False
    bias_correction: bool = False
    quantization_aware_training: bool = False
    """On the samples of the calibration, which then need labels, or on those given to train on."""


def int8_recipe(calibration: Calibration | None = None, options: Int8Options | None = None) -> Recipe:
    """Integers between the first quantize and the last dequantize, 8 bits wide."""
    return _integers(calibration, options, BitWidths())


def mixed_recipe(
    calibration: Calibration | None = None, options: Int8Options | None = None, bits: BitWidths | None = None
) -> Recipe:
    """Integers of 8, 4 or 2 bits, as bit widths say layer by layer (--bits FILE)."""
    return _integers(calibration, options, bits or BitWidths())


def _integers(calibration: Calibration | None, options: Int8Options | None, bits: BitWidths) -> Recipe:
    calibration, options = calibration or Calibration(), options or Int8Options()
    distilled: list[Mapping[str, np.ndarray]] = []
    samples = distilled if calibration.zero_shot else calibration.data
    labelled = calibration.data if calibration.train is None else calibration.train
    train = options.quantization_aware_training or calibration.train is not None
    calibrate = RequireScales(bits) if samples is None else Calibrate(samples, widths=bits)
    return (
        Phase("adopt", (AdoptQuantization(),)),
        clean_up(),
        *([Phase("distil", (DistillSamples(distilled),))] if calibration.zero_shot else []),
        Phase("fold", (FoldBatchNorm(), FoldConstants(), QuantizeEarly())),
        *([Phase("equalize", (CrossLayerEqualization(),))] if options.cross_layer_equalization else []),
        Phase("calibrate", (calibrate,)),
        *([Phase("correct", (BiasCorrection(samples),))] if options.bias_correction else []),
        *([Phase("train", (TrainQuantized(labelled),))] if train else []),
        Phase("fuse", (Fuse(), CommonSubexpressions(), DeadCode())),
        Phase("requantize", (Requantize(widths=bits), CommonSubexpressions(), DeadCode())),
    )


def pattern_int8_recipe(
    calibration: Calibration | None = None,
    options: Int8Options | None = None,
    target: Target | None = None,
    measure: Measure | None = None,
) -> Recipe:
    """A network pruned by patterns, kernels or quads, on integers, with sparse kernels where they are faster."""
    return (*int8_recipe(calibration, options), sparsify(target, measure))


RECIPES: dict[str, Callable[..., Recipe]] = {
    "float": float_recipe,
    "int8": int8_recipe,
    "pattern": pattern_recipe,
    "pattern-int8": pattern_int8_recipe,
    "mixed": mixed_recipe,
}
"""Every recipe by the name that ``--recipe`` takes; ``recipe_names`` lists the names for those who only ask which there are."""


def recipe(
    name: str,
    settings: Sequence[str] = (),
    calibration: Calibration | None = None,
    *,
    target: Target | None = None,
    measure: Measure | None = None,
    bits: BitWidths | None = None,
    then: Sequence[Phase] = (),
) -> Recipe:
    """The recipe of that name, and the phases ``then``, with options set from lines such as ``fuse.max_operators=8``.

    Without a ``target``, recipes that choose among kernels take a sparse one wherever a layer is pruned. ``measure`` is asked
    where the choice is to be by measured times. ``bits`` are those of the recipe ``mixed``, which the line ``mixed.bits=FILE``
    gives too.

    Raises TapdotError, with the nearest name there is, for an unknown recipe, pass or option.
    """
    check_recipe(name)
    own: list[str] = []
    arguments: dict[str, Any] = {"calibration": calibration}
    if name in CALIBRATED_RECIPES:
        own = [line for line in settings if line.strip().startswith("int8.")]
        arguments["options"] = _int8_options(own)
    if name in SPARSE_RECIPES:
        arguments |= {"target": target, "measure": measure}
    if name in MIXED_RECIPES:
        files = [line for line in settings if line.strip().startswith("mixed.")]
        arguments["bits"] = _bit_widths(files) if files else bits
        own += files
    phases = RECIPES[name](**arguments)
    return _foreseen(configure((*phases, *then), [line for line in settings if line not in own]))


def _foreseen(phases: Recipe) -> Recipe:
    """Passes know those whose options they share: biases are corrected and weights trained for the codes that the weights will
    have, and what is compressed is the structure that was found."""
    steps = {type(step): step for phase in phases for step in phase.passes}

    def foresees(step: Pass) -> Pass:
        if isinstance(step, BiasCorrection):
            return replace(step, fuse=steps[Fuse], requantize=steps[Requantize])  # type: ignore[arg-type]
        if isinstance(step, TrainQuantized):
            return replace(step, requantize=steps[Requantize])  # type: ignore[arg-type]
        if isinstance(step, CompressWeights):
            return replace(step, adopt=steps[AdoptSparsity])  # type: ignore[arg-type]
        return step

    return tuple(replace(phase, passes=tuple(map(foresees, phase.passes))) for phase in phases)


def options(name: str) -> list[str]:
    """Every option of a recipe as the line that sets it to what it is, those of passes that only a choice brings included."""
    if name not in CALIBRATED_RECIPES:
        return describe(RECIPES[name](None))
    own = [f"int8.{field.name}={str(field.default).lower()}" for field in fields(Int8Options)]
    own += ["mixed.bits=none"] * (name in MIXED_RECIPES)
    return own + describe(RECIPES[name](Calibration(zero_shot=True), Int8Options(True, True, True)))


def _bit_widths(settings: Sequence[str]) -> BitWidths:
    """Bit widths from the file that the last line names."""
    for line in settings:
        option, _, value = (part.strip() for part in line.partition("="))
        if option != "mixed.bits" or not value:
            raise TapdotError(f"Expected an option of the recipe such as mixed.bits=FILE, found {line!r}.")
    return BitWidths.read(Path(value))


def _int8_options(settings: Sequence[str]) -> Int8Options:
    """The recipe's own options from their lines."""
    chosen: dict[str, bool] = {}
    known = [field.name for field in fields(Int8Options)]
    for line in settings:
        option, _, value = line.strip().removeprefix("int8.").partition("=")
        if option not in known or value.strip().lower() not in TRUE + FALSE:
            choices = ", ".join(f"int8.{name}=true" for name in known)
            raise TapdotError(f"Expected an option of the recipe such as {choices}, found {line!r}.")
        chosen[option] = value.strip().lower() in TRUE
    return Int8Options(**chosen)
