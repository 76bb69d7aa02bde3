"""What every engine is asked to do, and the files of a network that engines read."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.files import replace

# An engine's process imports torch only to make a file that is not there yet: torch would bring its own threads along.
if TYPE_CHECKING:
    from torch import nn

    from benchmarks.zoo import Network
    from tapdot.passes.prune_rates import Allocation

IMAGE_SEED = 1234
CALIBRATION_SEED = 77
CALIBRATION_IMAGES = 16


@dataclass(frozen=True)
class Pruned:
    """Rates of a pruned network: of its 3x3 layers, of its 1x1 and fully connected ones, and the share of its filters.

    ``dense``: computed by dense kernels all the same.
    """

    rate: float
    quad_rate: float
    share: int
    dense: bool = False
    allocation: Allocation = "uniform"
    """How layers share a rate."""

    @property
    def suffix(self) -> str:
        """Of files, as in `.rate8.1-quads1-share2`."""
        allocation = "" if self.allocation == "uniform" else f"-{self.allocation}"
        return f".rate{self.rate:g}-quads{self.quad_rate:g}-share{self.share}{allocation}"


@dataclass(frozen=True)
class Model:
    """A zoo network with seeded weights, and the folder that keeps its files from one measurement to the next."""

    name: str
    folder: Path
    seed: int = 0
    pruned: Pruned | None = None

    @property
    def network(self) -> Network:
        from benchmarks import zoo

        return zoo.NETWORKS[self.name]

    @cached_property
    def module(self) -> nn.Module:
        from benchmarks import zoo

        return zoo.build(self.name, self.seed)

    @cached_property
    def image(self) -> NDArray[np.float32]:
        """The one input everything is run on: float32 [1, 3, H, W]."""
        path = self.file(".image.npy")
        if not path.is_file():
            from benchmarks import zoo

            pixels = zoo.seeded_images(1, self.network.input_size, IMAGE_SEED).numpy()
            replace(path, lambda temporary: np.save(temporary, pixels))
        image: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return image

    def calibration(self) -> list[NDArray[np.float32]]:
        """Other images, to choose ranges by: never the one that is measured."""
        from benchmarks import zoo

        images = zoo.seeded_images(CALIBRATION_IMAGES, self.network.input_size, CALIBRATION_SEED).numpy()
        return list(images[:, np.newaxis])

    def file(self, suffix: str) -> Path:
        """Where a file of this network and seed is kept, as in `resnet18-seed0.onnx`."""
        return self.folder / f"{self.name}-seed{self.seed}{suffix}"

    def onnx(self) -> Path:
        """The network as ONNX, batch norms folded; written on first use."""
        if self.pruned is not None:
            return self._pruned_onnx(self.pruned)
        path = self.file(".onnx")
        if path.is_file():
            return path
        from benchmarks.zoo.export import write_onnx

        return write_onnx(self.module, self.network.input_shape, path)

    def _pruned_onnx(self, pruned: Pruned) -> Path:
        """The same with kernels of least norm removed: for speed, as nobody has trained what is left."""
        path = self.file(f"{pruned.suffix}.onnx")
        if path.is_file():
            return path
        import tapdot
        from tapdot.compiler.exporters.onnx import save_onnx
        from tapdot.passes.sparsity_plan import Pruning, prune_by_projection

        dense = replace_fields(self, pruned=None).onnx()
        how = Pruning(pruned.rate, pruned.quad_rate, pruned.share, allocation=pruned.allocation)
        graph = prune_by_projection(tapdot.trace(dense), how)
        return replace(path, lambda temporary: save_onnx(graph, temporary))

    def quantized_onnx(self) -> Path:
        """The network as int8 ONNX in the QDQ form: per channel, symmetric weights, static ranges; written on first use."""
        path = self.file(".int8.onnx")
        if path.is_file():
            return path
        from onnxruntime import quantization

        images = iter(self.calibration())

        class Reader(quantization.CalibrationDataReader):
            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                image = next(images, None)
                return None if image is None else {"input": image}

        def write(temporary: Path) -> None:
            prepared = temporary.with_suffix(".prepared.onnx")
            try:
                quantization.shape_inference.quant_pre_process(str(self.onnx()), str(prepared), skip_symbolic_shape=True)
                quantization.quantize_static(
                    str(prepared),
                    str(temporary),
                    Reader(),
                    quant_format=quantization.QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=quantization.QuantType.QUInt8,
                    weight_type=quantization.QuantType.QInt8,
                )
            finally:
                prepared.unlink(missing_ok=True)

        return replace(path, write)


class Engine(ABC):
    """Another engine's Python API behind one call."""

    distribution: ClassVar[str]
    """The distribution on PyPI whose version is the engine's."""
    precisions: ClassVar[frozenset[str]] = frozenset({"float"})

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version(cls.distribution)

    @abstractmethod
    def prepare(self, model: Model, precision: str, threads: int) -> Callable[[], NDArray[np.float32]]:
        """Load the network; the callable runs it once on `model.image` and returns the logits, float32 [1, classes].

        What can be done once (reading the file, copying the input in where the API allows it) is done here. The
        model outlives the callable, so its image may be read in place.
        """
