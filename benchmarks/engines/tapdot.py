"""tapdot itself, through its public API: everything else here may be wrong about it, this file must not be."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.engines.base import Engine, Model


class Tapdot(Engine):
    distribution = "tapdot"

    def prepare(self, model: Model, precision: str, threads: int) -> Callable[[], NDArray[np.float32]]:
        import tapdot

        package = tapdot.compile(str(model.onnx()), target="host", recipe=precision)
        program = tapdot.connect("host").open(package, threads=threads)
        program.set_inputs({"input": model.image})

        def run() -> NDArray[np.float32]:
            program.invoke()
            return next(iter(program.outputs().values()))

        return run
