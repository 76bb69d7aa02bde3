"""The versions of TVM that generated code is made for, apart from TVM itself, whose import takes seconds."""

from __future__ import annotations

import importlib.metadata

from packaging.version import Version

SUPPORTED_TVM = "0.27.0.post1"
SUPPORTED_FFI = ("0.1.14.post0", "0.1.15")


def check_versions() -> None:
    """Raises ImportError unless these are installed.

    The pins are hard: with a newer tvm-ffi this TVM crashes the process instead of raising.
    """
    tvm_version = importlib.metadata.version("apache-tvm")
    ffi_version = importlib.metadata.version("apache-tvm-ffi")
    low, high = SUPPORTED_FFI
    if tvm_version != SUPPORTED_TVM or not Version(low) <= Version(ffi_version) < Version(high):
        raise ImportError(
            f"tapdot needs apache-tvm=={SUPPORTED_TVM} with apache-tvm-ffi>={low},<{high}, found apache-tvm {tvm_version} with "
            f"apache-tvm-ffi {ffi_version}. Run: pip install 'apache-tvm=={SUPPORTED_TVM}' 'apache-tvm-ffi>={low},<{high}'"
        )
