"""Quantization-aware training: weights learn to live with their codes.

Before, of a calibrated graph::

    %y = Conv(%x.codes, %w, %b)

After::

    %y = Conv(%x.codes, %w', %b')        %w': !quant(bits=4 scale=S[c] axis=0), and w' = S round(w' / S) exactly

The network is trained as it will compute: activations rounded by the FakeQuantize nodes that ``calibrate`` put in, weights and
biases by ``fake_quantize``, in both cases with the gradient passed straight through. Ranges of activations stay those of the
calibration, and batch norms are folded and thereby frozen, as HAWQ-V3 freezes them (ICML 2021, section 3.1). The float network
before calibration teaches (``distillation``). What comes out carries its scales, so ``requantize`` adopts the codes that were
trained.

Legal where
  1. the model is a classifier, and the samples have labels,
  2. layers that share weights share what their codes follow from,
  3. the graph's shapes allow batches, or the batch it has is trained on as it is.

Runs after ``calibrate`` and whatever else moves weights, before ``fuse``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.passes.calibrate import SCALES
from tapdot.passes.fake_quantize import FakeQuantizedModule, simulated_layers
from tapdot.passes.numeric_gap import in_plain_floats
from tapdot.passes.prune_checkpoint import Journal, data_digest, draw, model_digest
from tapdot.passes.prune_training import EpochRecord, Step, Trainer, Training
from tapdot.passes.requantize import Requantize
from tapdot.passes.training_data import evaluate, training_data
from tapdot.passes.training_runs import ForgottenError, begin, run, trainable

SUSPECT, FORGOTTEN = 0.9, 0.5
"""Of the training samples that were right before it all: an epoch with fewer on average is looked at, and one that ends with
fewer went astray."""


@dataclass(frozen=True)
class TrainQuantized(Pass):
    """See the module."""

    data: object
    """Samples with labels, in any form that :func:`tapdot.passes.training_data.training_data` reads."""
    epochs: int = 8
    batch: int = 64
    learning_rate: float = 0.001
    """At its highest, after a tenth of the steps; from there to zero along a cosine.

    Folded batch norms no longer damp a step that is too large: at 0.01 a miniature ResNet forgets everything in its first epoch
    with 4 bits; at 0.001 and at 0.003 two epochs win back nearly all that the codes lost.
    """
    distillation: float = 0.7
    """What share of the loss is the distance to the float network's answers, rather than to the labels."""
    temperature: float = 2.0
    shift: int = 0
    """Images move by up to so many pixels."""
    flip: bool = False
    """Images are mirrored left to right, half of the time."""
    seed: int = 0
    restarts: int = 3
    """How often a loss that turns NaN, or an epoch that forgets, is answered by going back an epoch with a third of the rate."""
    log: str | None = None
    """A folder for the log, plots, and a checkpoint after every epoch."""
    resume: bool = False
    """Go on with the run in that folder."""
    requantize: Requantize = field(default_factory=Requantize)
    """The pass that will follow, as it is set: it decides which weights become codes, and which codes."""

    requires = (SCALES,)
    tolerance = None

    @property
    def training(self) -> Training:
        """In the words of the trainer."""
        return Training(
            epochs=0,
            retrain_epochs=self.epochs,
            batch=self.batch,
            retrain_learning_rate=self.learning_rate,
            distillation=self.distillation,
            temperature=self.temperature,
            shift=self.shift,
            flip=self.flip,
            seed=self.seed,
            restarts=self.restarts,
        )

    def run(self, graph: Graph, notes: Notes) -> Graph:
        training = self.training
        training.check()
        self.requantize.check()
        if self.data is None:
            raise InputError("Training needs samples with labels: give some, or leave it away.")
        if self.resume and self.log is None:
            raise InputError("Expected the folder of the run to go on with (train_quantized.log=DIR), found none.")
        samples = training_data(graph, self.data)
        layers = simulated_layers(graph, self.requantize)
        if not layers:
            raise InputError(
                "There is nothing to train: no layer's weights are still to become codes (a model that was quantized elsewhere "
                "came with its own)."
            )
        plan = trainable(graph, min(self.batch, len(samples.labels)), lambda wider: FakeQuantizedModule(wider, layers))
        module = plan.module
        before = evaluate(module, samples, plan.size)
        teacher = in_plain_floats(module.graph)
        trainer = Trainer(module, None, samples, training, size=plan.size, progress=_told(notes.progress), teacher=teacher)
        journal = None
        if self.log is not None:
            settings = {**asdict(training), "requantize": repr(self.requantize)}
            journal = Journal(Path(self.log), model_digest(graph), settings, data_digest(samples))

        def check(record: EpochRecord) -> None:
            if record.accuracy >= SUSPECT * before or (now := evaluate(module, samples, plan.size)) >= FORGOTTEN * before:
                return
            raise ForgottenError(
                f"The training samples that are right fell from {100 * before:.1f} to {100 * now:.1f} % in epoch {record.epoch}, "
                f"at a learning rate of up to {trainer.scale * training.retrain_learning_rate:.3g}"
            )

        records = begin(trainer, journal, self.resume)
        records, more = run(trainer, journal, records, lambda: _with(graph, module), check)
        if journal is not None:
            if missing := draw(journal.folder, records):
                more = (*more, missing)
            journal.finish()
        after = evaluate(module, samples, plan.size)
        for line in (*plan.notes, *more):
            notes.add(line)
        notes.add(
            f"{len(module.layers)} layers were trained with their codes for {self.epochs} epochs: {100 * before:.2f} % of the "
            f"{len(samples.labels)} training samples right before, {100 * after:.2f} % after."
        )
        return _with(graph, module)


def _with(graph: Graph, module: FakeQuantizedModule) -> Graph:
    """The graph with what was trained; its shapes, which another batch size may have changed, stay."""
    trained = module.quantized_graph()
    constants = {name: array for name, array in trained.constants.items() if array.dtype.kind == "f"}
    quants = {name: replace(graph.types[name], quant=trained.types[name].quant) for name in constants if name in graph.types}
    return graph.replace(constants={**graph.constants, **constants}, types={**graph.types, **quants})


def _told(progress: Callable[[str], object]) -> Callable[[Step], None]:
    """Lines for a report of progress, one an epoch."""

    def tell(step: Step) -> None:
        if step.step + 1 == step.steps:
            progress(f"training with codes, epoch {step.epoch + 1} of {step.epochs}: loss {step.loss:.3f}")

    return tell
