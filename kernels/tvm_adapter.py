"""The one door to TVM. Its API moves every release; what tapdot needs from it is named here and nowhere else.

Kernels are written with TVM's builder of low-level functions, imported as ``T``: plain Python loops unroll, ``T.serial`` loops.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tapdot.kernels.versions import check_versions

check_versions()

# An idle thread of TVM's pool gives its turn away this often before it sleeps; on a busy machine its 300,000 held up the end of a
# process for minutes.
os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "3000")

import tvm  # noqa: E402
from tvm import rpc, tirx  # noqa: E402
from tvm.script.ir_builder import IRBuilder  # noqa: E402
from tvm.script.ir_builder import tirx as T  # noqa: E402
from tvm.target import codegen  # noqa: E402
from tvm.tirx import Buffer, PrimFunc  # noqa: E402

__all__ = [
    "ON_STACK",
    "Buffer",
    "IRBuilder",
    "PrimFunc",
    "T",
    "assembly",
    "build",
    "codegen",
    "function",
    "object_code",
    "rpc",
    "tirx",
    "tvm",
]


@contextmanager
def function(symbol: str, finished: list[PrimFunc]) -> Iterator[None]:
    """Builds one exported low-level function in the body of the ``with``; it is appended to ``finished``.

    Arguments never overlap: every kernel reads and writes distinct buffers.
    """
    builder = IRBuilder()
    with builder, T.prim_func(s_tir=True):
        T.func_name(symbol)
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        yield
    finished.append(builder.get())


ON_STACK = {"disable_lower_builtin": True}
"""Annotation of a small allocation that stays on the stack, where LLVM turns it into registers; else it is a call at run time."""


def build(functions: dict[str, PrimFunc], llvm_target: dict[str, object]) -> Any:
    """A TVM module with the machine code of some functions.

    TVM's own reuse of storage is off: it would drop :data:`ON_STACK`, and kernels hold nothing but registers.
    """
    module = tvm.IRModule(dict(functions))
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        return tvm.tirx.build(module, target=tvm.target.Target(llvm_target))


def object_code(functions: dict[str, PrimFunc], llvm_target: dict[str, object]) -> bytes:
    """Machine code of some functions as one relocatable object file."""
    built = build(functions, llvm_target)
    handle, path = tempfile.mkstemp(suffix=".o")
    os.close(handle)
    try:
        built.write_to_file(path, "o")
        return Path(path).read_bytes()
    finally:
        Path(path).unlink()


def assembly(functions: dict[str, PrimFunc], llvm_target: dict[str, object]) -> str:
    """Assembly text of some functions, to read and to feed to llvm-mca."""
    return str(build(functions, llvm_target).inspect_source("asm"))
