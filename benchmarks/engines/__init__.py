"""The engines that are compared, each behind `Engine`. Their libraries are imported only when one is asked for."""

import importlib
from dataclasses import dataclass

from benchmarks.engines.base import Engine, Model, Pruned

__all__ = ["ENGINES", "Engine", "Entry", "Model", "Pruned", "load"]


@dataclass(frozen=True)
class Entry:
    """Where an engine's adapter is; `distributions` install all it needs."""

    title: str
    module: str
    adapter: str
    distributions: tuple[str, ...]

    @property
    def pip(self) -> str:
        """The line that installs it."""
        return f"pip install {' '.join(self.distributions)}"


ENGINES = {
    "tapdot": Entry("tapdot", "benchmarks.engines.tapdot", "Tapdot", ("tapdot",)),
    "onnxruntime": Entry("onnxruntime", "benchmarks.engines.onnxruntime", "OnnxRuntime", ("onnxruntime",)),
    "openvino": Entry("OpenVINO", "benchmarks.engines.openvino", "OpenVino", ("openvino",)),
    "ncnn": Entry("ncnn", "benchmarks.engines.ncnn", "Ncnn", ("ncnn", "pnnx")),
    "mnn": Entry("MNN", "benchmarks.engines.mnn", "Mnn", ("mnn",)),
    "litert": Entry("LiteRT (XNNPACK)", "benchmarks.engines.litert", "LiteRt", ("ai-edge-litert", "litert-torch")),
}


def load(name: str) -> type[Engine]:
    """The adapter of that name; ModuleNotFoundError where its library is not installed."""
    entry = ENGINES[name]
    adapter = getattr(importlib.import_module(entry.module), entry.adapter)
    assert issubclass(adapter, Engine)
    return adapter
