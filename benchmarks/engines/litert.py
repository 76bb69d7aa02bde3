"""LiteRT with XNNPACK, converted from torch by litert-torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from benchmarks.engines.base import Engine, Model
from benchmarks.files import replace


class LiteRt(Engine):
    distribution = "ai-edge-litert"

    def prepare(self, model: Model, precision: str, threads: int) -> Callable[[], NDArray[np.float32]]:
        interpreter = Interpreter(model_path=str(convert(model)), num_threads=threads)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], model.image)
        output = interpreter.get_output_details()[0]["index"]

        def run() -> NDArray[np.float32]:
            interpreter.invoke()
            return interpreter.get_tensor(output)

        return run


def convert(model: Model) -> Path:
    """The network as .tflite; written on first use, which takes the converter and its many dependencies."""
    path = model.file(".tflite")
    if path.is_file():
        return path
    try:
        import litert_torch
        import torch
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"'{path}' does not exist yet and litert-torch, which writes it, is not installed: pip install litert-torch "
            "in an environment of its own (it asks for older packages than the others), then run there "
            f"python -m benchmarks.engines.litert {model.name} --folder {model.folder} --seed {model.seed}"
        ) from error
    converted = litert_torch.convert(model.module, (torch.zeros(model.network.input_shape),))
    return replace(path, lambda temporary: converted.export(str(temporary)))


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description="Convert zoo networks to .tflite, for the benchmark to find.")
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("build/zoo"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.networks:
        print(convert(Model(name, arguments.folder, arguments.seed)))


if __name__ == "__main__":
    main()
