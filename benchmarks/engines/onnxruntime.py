"""onnxruntime's CPU provider, with its input bound in place."""

from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.engines.base import Engine, Model


class OnnxRuntime(Engine):
    distribution = "onnxruntime"
    precisions = frozenset({"float", "int8"})

    def prepare(self, model: Model, precision: str, threads: int) -> Callable[[], NDArray[np.float32]]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        path = model.onnx() if precision == "float" else model.quantized_onnx()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_cpu_input("input", model.image)
        binding.bind_output("output")

        def run() -> NDArray[np.float32]:
            session.run_with_iobinding(binding)
            return binding.get_outputs()[0].numpy()

        return run
