"""One model in four rows: dense float, dense int8, sparse float, sparse int8."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import tapdot
from tapdot.compiler.data import open_data
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.pipeline import Progress, silent
from tapdot.compiler.types import TensorType
from tapdot.runtime.program import LoadedProgram

if TYPE_CHECKING:
    from tapdot.compiler.package import Package
    from tapdot.runtime.devices.base import Device
    from tapdot.runtime.measure import Measurement

ROWS = (("dense float", "float"), ("dense int8", "int8"), ("sparse float", "pattern"), ("sparse int8", "pattern-int8"))
"""What each row is called, and the recipe that makes it."""
MOST_SAMPLES = 1000


@dataclass(frozen=True)
class FormRow:
    """A model compiled by one recipe. ``seconds`` or ``instructions`` are an inference's, as the device can tell."""

    form: str
    recipe: str
    weights_bytes: int
    macs: int
    seconds: float | None
    spread: float | None
    instructions: int | None
    accuracy: float | None
    """Top-1 over ``samples``; None where no labels were given."""
    samples: int
    remark: str = ""
    """Why the row is empty, where it is."""

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


def compare(
    model: Any,
    *,
    dense_model: Any = None,
    device: str = "host",
    target: str | None = None,
    data: object = None,
    zero_shot: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    runs: int = 50,
    most_samples: int = MOST_SAMPLES,
    progress: Progress = silent,
) -> tuple[FormRow, ...]:
    """Compiles a pruned model by the four recipes, checks every package on the device, and measures all there, in turns.

    ``dense_model`` is the network before pruning, for the dense rows; without it they are the pruned one's, computed dense.
    ``data`` or ``zero_shot`` choose ranges for the int8 rows; the labels in ``data`` give the accuracy of all rows over the first
    ``most_samples`` samples. A row whose recipe refuses the model says why and is empty.

    Raises TapdotError where no row can be made, or a package differs from its reference.
    """
    where = tapdot.connect(device)
    data = None if data is None else open_data(data)
    refused: dict[str, str] = {}
    packages: dict[str, Package] = {}
    for form, recipe in ROWS:
        integers = "int8" in recipe
        if integers and data is None and not zero_shot:
            refused[form] = "needs data or zero-shot calibration"
            continue
        progress(f"{form}: compiling")
        source = dense_model if dense_model is not None and "pattern" not in recipe else model
        try:
            packages[form] = tapdot.compile(
                source,
                target=target or where.default_target(),
                recipe=recipe,
                data=data if integers else None,
                zero_shot=zero_shot and integers,
                shapes=shapes,
            )
        except TapdotError as error:
            refused[form] = str(error)
            continue
        progress(f"{form}: verifying on {device}")
        verification = where.verify(packages[form])
        if not verification.passed:
            raise TapdotError(f"The {form} form of {packages[form].name!r} differs from its reference: {verification}")
    if not packages:
        raise TapdotError(next(iter(refused.values())))
    progress(f"measuring on {device}")
    measurements = _measurements(packages, where, runs)
    return tuple(
        _empty(form, recipe, refused[form])
        if form in refused
        else _row(form, packages[form], measurements[form], _top1(packages[form], where, data, most_samples))
        for form, recipe in ROWS
    )


def _empty(form: str, recipe: str, remark: str) -> FormRow:
    return FormRow(form, recipe, 0, 0, None, None, None, None, 0, remark)


def _measurements(packages: Mapping[str, Package], device: Device, runs: int) -> dict[str, Measurement]:
    """Times of all forms, taken in turns; on an emulated device each one's instructions."""
    with device.open() as session:
        emulated = session.information().emulated
    if emulated or len(packages) == 1:
        return {form: device.measure(package, runs=runs) for form, package in packages.items()}
    found = device.compare(list(packages.values()), labels=list(packages), runs=runs)
    return dict(zip(packages, found.measurements, strict=True))


def _row(form: str, package: Package, measurement: Measurement, judged: tuple[int, int]) -> FormRow:
    emulated = measurement.information.emulated
    right, samples = judged
    return FormRow(
        form,
        package.recipe,
        measurement.weights_bytes,
        measurement.macs,
        None if emulated else measurement.median,
        None if emulated else measurement.spread,
        measurement.instructions,
        right / samples if samples else None,
        samples,
    )


def _top1(package: Package, device: Device, data: object, most: int) -> tuple[int, int]:
    """How many of the labelled samples a package gets right, and of how many."""
    if data is None or len(package.program.inputs) != 1:
        return 0, 0
    given, answer = package.program.inputs[0], package.program.outputs[0]
    right = samples = 0
    with device.open() as session:
        loaded = LoadedProgram(session, package)
        for inputs, labels in _labelled(data, given.name, TensorType(given.shape, given.dtype), most):
            scores = loaded.run({given.name: inputs})[answer.name]
            best = scores.reshape(scores.shape[0], -1).argmax(axis=1)[: len(labels)]
            right += int((best == labels).sum())
            samples += len(labels)
    return right, samples


def _labelled(data: object, name: str, kind: TensorType, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for batch in open_data(data).for_input(name).batches(kind, most):
        if batch.labels is None:
            return
        yield batch.inputs, batch.labels[: batch.count]
