"""MNN in high precision, converted from ONNX by its own converter."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import MNN
import numpy as np
from numpy.typing import NDArray

from benchmarks.engines.base import Engine, Model
from benchmarks.files import replace

# The converter's native entry point. The command `mnnconvert` around it would also install a logging package with pip
# and report the conversion to a server.
CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


class Mnn(Engine):
    distribution = "mnn"

    def prepare(self, model: Model, precision: str, threads: int) -> Callable[[], NDArray[np.float32]]:
        interpreter = MNN.Interpreter(str(convert(model)))
        session = interpreter.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})
        target = interpreter.getSessionInput(session)
        image = MNN.Tensor(model.image.shape, MNN.Halide_Type_Float, model.image, MNN.Tensor_DimensionType_Caffe)
        result = interpreter.getSessionOutput(session)
        logits = MNN.Tensor(
            result.getShape(),
            MNN.Halide_Type_Float,
            np.zeros(result.getShape(), np.float32),
            MNN.Tensor_DimensionType_Caffe,
        )

        def run() -> NDArray[np.float32]:
            target.copyFrom(image)
            interpreter.runSession(session)
            result.copyToHostTensor(logits)
            return np.asarray(logits.getNumpyData(), np.float32).reshape(1, -1)

        return run


def convert(model: Model) -> Path:
    """The network as .mnn; written on first use."""
    path = model.file(".mnn")
    if path.is_file():
        return path
    source = str(model.onnx())

    def write(temporary: Path) -> None:
        options = ["-f", "ONNX", "--modelFile", source, "--MNNModel", str(temporary)]
        subprocess.run([sys.executable, "-c", CONVERT, *options], check=True, stdout=subprocess.DEVNULL)

    return replace(path, write)
