"""``tapdot prune``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tapdot.cli.checks import check_data, check_model, check_writable
from tapdot.cli.options import (
    ImageDeviationOption,
    ImageMeanOption,
    ModelArgument,
    ShapeOption,
    parse_images,
    parse_shapes,
)
from tapdot.cli.output import table_console
from tapdot.cli.progress import Lines, progress

if TYPE_CHECKING:
    from tapdot.passes.prune import Pruned
    from tapdot.passes.prune_training import Step, Training

MOST_SKIPPED = 4
"""Layers that stay dense, named in the summary."""


def prune_command(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PRUNED.onnx", help="The pruned model to write.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DATA", help="To train on: an .npz file with x and y, or a folder of class folders of images."
        ),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", metavar="DATA", help="Samples kept apart, to say the accuracy of.")
    ] = None,
    image_mean: ImageMeanOption = None,
    image_deviation: ImageDeviationOption = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="R", help="Times fewer weights in 3x3 layers, 2.25 by patterns included [4]."),
    ] = None,
    quad_rate: Annotated[
        float | None, typer.Option("--quad-rate", metavar="Q", help="Times fewer weights in 1x1 and fully connected layers [1].")
    ] = None,
    share: Annotated[
        int | None, typer.Option("--share", metavar="S", help="1, 2, 4 or 8 filters agree: more is faster, less accurate [2].")
    ] = None,
    patterns: Annotated[
        int | None, typer.Option("--patterns", metavar="K", help="Size of the pattern set, 1 to 12; 6, 8 or 12 are usual [8].")
    ] = None,
    layer_rate: Annotated[
        list[str] | None, typer.Option("--layer-rate", metavar="LAYER=R", help="The rate of one layer; may be repeated.")
    ] = None,
    layer_share: Annotated[
        list[str] | None, typer.Option("--layer-share", metavar="LAYER=S", help="The share of one layer; may be repeated.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="LAYER", help="Leaves a layer dense; may be repeated.")
    ] = None,
    last_layer: Annotated[
        bool, typer.Option("--last-layer", help="Prunes the last fully connected layer, too (at the quad rate).")
    ] = False,
    allocation: Annotated[
        str | None, typer.Option("--allocation", metavar="NAME", help="How layers share a rate: energy or uniform [energy].")
    ] = None,
    size_exponent: Annotated[
        float | None,
        typer.Option("--size-exponent", metavar="A", help="For energy: 0 spares small layers, 1 treats all alike [0.5]."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", metavar="N", help="Of training under ADMM [8].")] = None,
    retrain_epochs: Annotated[
        int | None, typer.Option("--retrain-epochs", metavar="N", help="Of training with masks [16].")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", help="Samples a step [64].")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", metavar="LR", help="Under ADMM; retraining's is scaled with it.")
    ] = None,
    distillation: Annotated[
        float | None,
        typer.Option(
            "--distillation", metavar="SHARE", help="Of the loss, from the dense network's answers; 0: labels alone [0.7]."
        ),
    ] = None,
    shift: Annotated[int | None, typer.Option("--shift", metavar="PIXELS", help="Moves images while training [0].")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Mirrors images left to right while training.")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", min=0, max=2**31 - 1, help="Of the order of samples [0].")
    ] = None,
    one_shot: Annotated[
        bool, typer.Option("--one-shot", help="Removes weights at once, not by ADMM, then retrains; without --data that is all.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="DIR", help="Folder for log, checkpoint and plots [OUTPUT.pruning].")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="DIR", help="Goes on with the run in this folder, with the same options.")
    ] = None,
    restarts: Annotated[
        int | None, typer.Option("--restarts", metavar="N", help="Answers to a NaN loss by a smaller learning rate [0].")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="Of training [torch's choice].")] = None,
    shape: ShapeOption = None,
) -> None:
    """Prunes a trained classifier by patterns, connectivity and quads, and retrains it; writes ONNX."""
    shapes, images = parse_shapes(shape), parse_images(image_mean, image_deviation, data)
    chosen: dict[str, Any] = {
        "rate": rate,
        "quad_rate": quad_rate,
        "share": share,
        "patterns": patterns,
        "layer_rates": _by_layer(layer_rate, float, "--layer-rate"),
        "layer_shares": _by_layer(layer_share, int, "--layer-share"),
        "skip": tuple(skip or ()) or None,
        "last_layer": last_layer or None,
        "allocation": allocation,
        "size_exponent": size_exponent,
        "epochs": epochs,
        "retrain_epochs": retrain_epochs,
        "batch": batch,
        "distillation": distillation,
        "shift": shift,
        "flip": flip or None,
        "seed": seed,
        "restarts": restarts,
    }
    if one_shot and epochs:
        raise typer.BadParameter("with --one-shot none is under ADMM; give --retrain-epochs alone", param_hint="--epochs")
    _check(model, output, data, validation, one_shot, log, resume)
    with progress.status(f"Reading {model.name}"):
        import torch

        import tapdot
        from tapdot.compiler.data import open_data
        from tapdot.passes.prune_training import Training

        training = Training()
        if learning_rate is not None:
            scale = learning_rate / training.learning_rate
            chosen |= {"learning_rate": learning_rate, "retrain_learning_rate": training.retrain_learning_rate * scale}
        options = {name: value for name, value in chosen.items() if value is not None}
        graph = tapdot.trace(model, shapes=shapes)
    for note in graph.notes:
        progress.print(note, markup=False, soft_wrap=True)
    if threads is not None:
        torch.set_num_threads(threads)
    folder = (resume or log or output.with_name(f"{output.name}.pruning")) if data is not None else None
    with _resumable(folder), _Bar(training, options, one_shot) as bar:
        pruned = tapdot.prune(
            graph,
            data=None if data is None else open_data(data, images=images),
            validation=None if validation is None else open_data(validation, images=images if validation.is_dir() else None),
            one_shot=one_shot,
            log=folder,
            resume=resume is not None,
            progress=bar,
            **options,
        )
    pruned.save(output)
    _summarize(pruned, output, folder)


@contextmanager
def _resumable(folder: Path | None) -> Iterator[None]:
    """An interruption of what happens inside tells how to go on, if there is a checkpoint to go on from."""
    try:
        yield
    except KeyboardInterrupt as error:
        from tapdot.passes.prune_checkpoint import CHECKPOINT

        if folder is None or not (folder / CHECKPOINT).exists():
            raise
        raise KeyboardInterrupt(
            f"The state after the last epoch is kept in {folder}: go on from there with the same options and --resume {folder}."
        ) from error


def _check(
    model: Path, output: Path, data: Path | None, validation: Path | None, one_shot: bool, log: Path | None, resume: Path | None
) -> None:
    """What is refused before anything slow is loaded."""
    from tapdot.compiler.errors import TapdotError

    if log is not None and resume is not None:
        raise typer.BadParameter("a run that goes on keeps its log where it is; give --resume alone", param_hint="--log")
    if data is None and not one_shot:
        raise TapdotError(
            "Pruning by ADMM trains the network and needs samples with labels (--data DATA); --one-shot removes weights without "
            "any."
        )
    if data is None and (resume is not None or validation is not None):
        raise typer.BadParameter("without --data nothing is trained", param_hint="--resume" if resume else "--validation")
    if output.suffix.lower() != ".onnx":
        raise TapdotError(f"The pruned model is written as ONNX; give the output {output.name!r} a name that ends in .onnx.")
    if resume is not None and not resume.is_dir():
        raise TapdotError(f"There is no folder {resume} with a run to go on with.")
    check_writable(output)
    check_model(model)
    for path in (data, validation):
        if path is not None:
            check_data(path)


def _by_layer(lines: list[str] | None, kind: type, option: str) -> dict[str, Any] | None:
    """``["conv1=4"]`` as a mapping; wrong text is wrong usage."""
    found = {}
    for line in lines or ():
        name, equals, value = line.rpartition("=")
        try:
            found[name] = kind(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise typer.BadParameter(f"expected LAYER=NUMBER, found {line!r}", param_hint=option)
    return found or None


class _Bar:
    """Progress of training on stderr: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, training: Training, options: dict[str, Any], one_shot: bool) -> None:
        self.epochs = 0 if one_shot else options.get("epochs", training.epochs)
        self.total = self.epochs + options.get("retrain_epochs", training.retrain_epochs)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=progress, transient=True, disable=not progress.is_terminal)
        self.task: Any = None
        self.lines = Lines(lambda line: None)

    def __enter__(self) -> _Bar:
        self.bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.bar.stop()

    def __call__(self, step: Step) -> None:
        if self.task is None:
            self.task = self.bar.add_task("", total=self.total * step.steps)
        place = step.epoch + (self.epochs if step.phase == "retrain" else 0)
        self.bar.update(self.task, description=str(step).partition(", step")[0], completed=place * step.steps + step.step + 1)
        self.lines(str(step))


def _summarize(pruned: Pruned, output: Path, folder: Path | None) -> None:
    """On stderr: the layers, what stays dense, accuracies."""
    from tapdot.compiler.units import macs_text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("layer", "", "weights", "kept", "rate", "share"):
        table.add_column(heading, justify="left" if heading in ("layer", "") else "right", overflow="fold")
    for row in pruned.plan.rates:
        table.add_row(row.layer, row.kind, f"{row.weights:,}", f"{row.kept:,}", f"{row.rate:.2f}x", str(row.share))
    table_console(stderr=True).print(table)
    skipped = pruned.plan.skipped
    fewer = (
        f"{macs_text(pruned.macs)} of {macs_text(pruned.macs_before)} are left ({pruned.macs_before / pruned.macs:.2f}x fewer)"
    )
    lines = [f"Wrote {output}: {pruned.plan}", f"Multiply-accumulates: {fewer}."]
    if skipped:
        named = "; ".join(map(str, skipped[:MOST_SKIPPED]))
        lines.append(f"Dense: {named}{f'; and {len(skipped) - MOST_SKIPPED} more' if len(skipped) > MOST_SKIPPED else ''}.")
    if pruned.accuracy is not None and pruned.accuracy_before is not None:
        where = "validation samples" if pruned.validated else "the training samples"
        lines.append(f"Top-1 on {where}: {pruned.accuracy_before:.2%} dense, {pruned.accuracy:.2%} pruned.")
    lines += pruned.notes
    if folder is not None:
        lines.append(f"Log and plots are in {folder}.")
    for line in lines:
        progress.print(line, markup=False, soft_wrap=True)
