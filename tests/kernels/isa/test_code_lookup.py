"""Table lookups of whole vectors against ``table[bytes]``, and tables in stored order."""

import numpy as np
import pytest
from tests.kernels.emulated_runner import target_or_skip

from tapdot.kernels.emit import argument, load, store
from tapdot.kernels.isa.code_lookup import ENTRIES, Permute, Shuffle, TableRegisters, as_stored, code_lookup, from_stored
from tapdot.kernels.layout import shifted
from tapdot.kernels.target import find_target
from tapdot.kernels.tvm_adapter import build, function, tvm


@pytest.mark.parametrize("target", ["host", "x86-64-v4", "host:avx2", "host:generic"])
def test_a_vector_of_bytes_is_looked_up(target: str) -> None:
    target = target_or_skip(target)
    lookup = code_lookup(target.isa, target.features)
    finished = []
    with function("kernel", finished):
        table, x, y = (argument(name, ENTRIES, "uint8") for name in ("table", "x", "y"))
        registers = lookup.load(table)
        for start in range(0, ENTRIES, lookup.lanes):
            store(y, start, lookup.emit(load(x, start, lookup.lanes), registers), lookup.lanes)
    generator = np.random.default_rng(0)
    values, codes = generator.integers(0, 256, ENTRIES).astype(np.uint8), generator.permutation(ENTRIES).astype(np.uint8)
    result = tvm.runtime.tensor(np.zeros(ENTRIES, np.uint8), tvm.cpu())
    module = build({"kernel": finished[0]}, target.llvm())
    module["kernel"](tvm.runtime.tensor(values, tvm.cpu()), tvm.runtime.tensor(codes, tvm.cpu()), result)
    assert np.array_equal(result.numpy(), values[codes])


def test_hardware_chooses_the_form() -> None:
    chosen = {name: code_lookup(find_target(name).isa, find_target(name).features) for name in ("x86-64-v3", "cortex-a76")}
    assert isinstance(chosen["x86-64-v3"], Shuffle) and isinstance(chosen["cortex-a76"], TableRegisters)
    server = find_target("x86-64-v4").isa
    assert isinstance(code_lookup(server, ("avx512vbmi",)), Permute) and isinstance(code_lookup(server, ()), Shuffle)


@pytest.mark.parametrize("source", ["int8", "uint8"])
@pytest.mark.parametrize("result", ["int8", "uint8"])
@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_tables_in_stored_order(source: str, result: str, shift: tuple[int, int]) -> None:
    other = {"int8": 128, "uint8": -128}
    before, after = shift[0] * other[source], shift[1] * other[result]
    limits = np.iinfo(result)
    table = np.random.default_rng(0).integers(limits.min, limits.max + 1, ENTRIES).astype(result)
    codes = np.arange(ENTRIES).astype(np.uint8).view(source)
    packed = as_stored(table, source, before, after)
    found = packed[shifted(codes, before).view(np.uint8)]
    wanted = shifted(table[codes.astype(np.int32) - np.iinfo(source).min], after).view(np.uint8)
    assert np.array_equal(found, wanted)
    assert np.array_equal(from_stored(packed, result, source, before, after), table)
