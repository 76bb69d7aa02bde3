"""tapdot itself: compiled and run through the interfaces its users have."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import tapdot
from benchmarks.engines.base import Engine, Model
from tapdot.compiler.program import ENTRY
from tapdot.runtime.program import LoadedProgram

SPARSE_RECIPES = {"float": "pattern", "int8": "pattern-int8"}
"""By the precision that is asked for."""


class Tapdot(Engine):
    distribution = "tapdot"
    precisions = frozenset({"float", "int8"})

    def prepare(self, model: Model, precision: str, threads: int) -> Callable[[], NDArray[np.float32]]:
        data = np.concatenate(model.calibration()) if precision == "int8" else None
        recipe, settings = precision, []
        if model.pruned is not None:
            recipe = SPARSE_RECIPES[precision]
            settings = ["compress_weights.choice=dense"] if model.pruned.dense else []
        package = tapdot.compile(model.onnx(), target="host", recipe=recipe, data=data, settings=settings)
        session = tapdot.connect("host").open()
        session.set_threads(threads)
        program = LoadedProgram(session, package)
        arguments = program.arguments({"input": model.image})

        def run() -> NDArray[np.float32]:
            session.call(program.module, ENTRY, arguments)
            return session.array(program.outputs[0])

        return run
