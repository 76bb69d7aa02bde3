"""OpenVINO's CPU plugin, one latency stream."""

from collections.abc import Callable

import numpy as np
import openvino
from numpy.typing import NDArray

from benchmarks.engines.base import Engine, Model


class OpenVino(Engine):
    distribution = "openvino"
    precisions = frozenset({"float", "int8"})

    def prepare(self, model: Model, precision: str, threads: int) -> Callable[[], NDArray[np.float32]]:
        path = model.onnx() if precision == "float" else model.quantized_onnx()
        compiled = openvino.Core().compile_model(
            str(path),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
                "ENABLE_CPU_PINNING": False,
            },
        )
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(model.image, shared_memory=True))

        def run() -> NDArray[np.float32]:
            request.infer()
            return request.get_output_tensor().data

        return run
