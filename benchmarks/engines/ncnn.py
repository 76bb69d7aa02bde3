"""ncnn in full float32, converted from ONNX by pnnx."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ncnn
import numpy as np
from numpy.typing import NDArray

from benchmarks.engines.base import Engine, Model
from benchmarks.files import replace


class Ncnn(Engine):
    distribution = "ncnn"

    def prepare(self, model: Model, precision: str, threads: int) -> Callable[[], NDArray[np.float32]]:
        structure, weights = convert(model)
        network = ncnn.Net()
        network.opt.num_threads = threads
        network.opt.use_vulkan_compute = False
        network.opt.use_bf16_storage = False
        network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
        if network.load_param(str(structure)) != 0 or network.load_model(str(weights)) != 0:
            raise RuntimeError(f"ncnn cannot read '{structure}'.")
        image = ncnn.Mat(model.image[0])

        def run() -> NDArray[np.float32]:
            extractor = network.create_extractor()
            extractor.input(network.input_names()[0], image)
            _, output = extractor.extract(network.output_names()[0])
            return np.array(output)[np.newaxis]

        return run


def convert(model: Model) -> tuple[Path, Path]:
    """The network's .param and .bin. pnnx writes beside its input, hence the folder of its own."""
    structure, weights = model.file(".ncnn.param"), model.file(".ncnn.bin")
    if structure.is_file() and weights.is_file():
        return structure, weights
    source = model.onnx().resolve()
    shape = ",".join(str(size) for size in model.image.shape)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "network.onnx").symlink_to(source)
        pnnx = Path(sys.executable).with_name("pnnx")
        subprocess.run(
            [str(pnnx), "network.onnx", f"inputshape=[{shape}]", "fp16=0"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for made, kept in (("network.ncnn.bin", weights), ("network.ncnn.param", structure)):
            replace(kept, partial(shutil.copyfile, Path(folder) / made))
    return structure, weights
