"""tapdot: a trained CNN in, tuned kernels out, measured on the phone.

>>> package = tapdot.compile(module, example_inputs)
>>> device = tapdot.connect("host")
>>> print(device.verify(package))
>>> print(device.measure(package))

Names are imported when first used, so that ``import tapdot`` and ``tapdot --help`` need not wait for torch and TVM.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapdot.api import compile, trace  # noqa: A004 always used as tapdot.compile
    from tapdot.compiler.errors import TapdotError
    from tapdot.compiler.graph import Graph
    from tapdot.compiler.package import Package, load
    from tapdot.mixed import bit_choices
    from tapdot.passes.admm import Pruner
    from tapdot.passes.bit_widths import BitWidths
    from tapdot.pruning import prune
    from tapdot.runtime.devices import connect
    from tapdot.sensitivities import sensitivity
    from tapdot.tuning import tune

_HOMES = {
    "compile": "tapdot.api",
    "load": "tapdot.compiler.package",
    "trace": "tapdot.api",
    "connect": "tapdot.runtime.devices",
    "prune": "tapdot.pruning",
    "sensitivity": "tapdot.sensitivities",
    "bit_choices": "tapdot.mixed",
    "tune": "tapdot.tuning",
    "Pruner": "tapdot.passes.admm",
    "BitWidths": "tapdot.passes.bit_widths",
    "Graph": "tapdot.compiler.graph",
    "Package": "tapdot.compiler.package",
    "TapdotError": "tapdot.compiler.errors",
}

__all__ = [
    "BitWidths",
    "Graph",
    "Package",
    "Pruner",
    "TapdotError",
    "__version__",
    "bit_choices",
    "compile",
    "connect",
    "load",
    "prune",
    "sensitivity",
    "trace",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tapdot")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tapdot' has no attribute {name!r}")
