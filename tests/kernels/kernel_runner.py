"""Runs one kernel on this machine, or an emulated one, the way a package would, and checks what every kernel owes.

Packed constants unpack exactly, every byte of the result is written, the halo of the result is the layout's zero, and lanes that
are no channels may hold anything in the operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from tests.kernels.emulated_runner import call, is_emulated

from tapdot.kernels.family import Config, Family
from tapdot.kernels.layout import READ_SLACK, Layout
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import build, tvm
from tapdot.kernels.workload import Operand, Workload

DIRTY, OTHER_DIRT = 0xA5, 0x5A
"""What results hold before a kernel runs, the first time and the second: what still holds both was not written."""
TARGETS = ("host", "host:avx2", "host:generic")


def attributes(**values: object) -> tuple[tuple[str, object], ...]:
    """Attributes of a workload, sorted."""
    return tuple(sorted(values.items()))


def place(array: np.ndarray, operand: Operand, halo: float | None = None) -> np.ndarray:
    """The flat buffer of an operand: NaN or garbage in padded lanes, ``halo`` or the layout's zero around the planes.

    Codes are stored with the sign the layout says; arrays are logical.
    """
    if operand.layout is None:
        return np.ascontiguousarray(array).reshape(-1)
    missing = -array.shape[1] % operand.layout.channel_block
    garbage = np.nan if array.dtype.kind == "f" else DIRTY if array.dtype == np.uint8 else 77
    padded = np.pad(array, ((0, 0), (0, missing), (0, 0), (0, 0)), constant_values=garbage)
    return operand.layout.store(padded, fill=halo)


def read(flat: np.ndarray, operand: Operand) -> np.ndarray:
    """The tensor in a result's buffer, after checking that the halo is right."""
    layout = operand.layout
    if layout is None:
        return flat.reshape(operand.shape)
    padded_shape = (operand.shape[0], layout.blocks(operand.shape[1]) * layout.channel_block, *operand.shape[2:])
    inside = replace(layout, code_offset=0).store(np.ones(padded_shape, np.int8), fill=0).astype(bool)
    assert (flat[~inside] == layout.zero).all(), "the halo is not what the layout says"
    return layout.load(flat, operand.shape)


def _bytes(flat: np.ndarray) -> np.ndarray:
    """The bytes of every element."""
    return flat.view(np.uint8).reshape(flat.size, -1)


def run(
    family: Family,
    workload: Workload,
    target: Target,
    inputs: Sequence[np.ndarray | None],
    config: Config | None = None,
    halo: float | None = None,
) -> np.ndarray:
    """The first result of the workload for logical operand values, constants among them."""
    assert family.serves(workload, target), f"{family.name} should serve {workload}"
    ports = family.ports(workload, target)
    assert len(ports.inputs) == len(workload.inputs) and len(ports.outputs) == len(workload.outputs)
    config = dict(family.default_config(workload, target) if config is None else config)
    space = family.space(workload, target)
    assert all(field in config for field in space)
    constants = {i: x for i, (x, operand) in enumerate(zip(inputs, workload.inputs, strict=True)) if operand and operand.constant}
    packed = family.pack(workload, config, target, constants)
    check_unpack(family.unpack(workload, config, target, packed), constants)
    variables = [
        place(x, operand, halo)
        for x, operand in zip(inputs, workload.inputs, strict=True)
        if operand is not None and not operand.constant and x is not None
    ]
    kernel = family.build(workload, config, target, "kernel")
    memory = [
        [
            np.full(operand.elements * np.dtype(operand.stored_dtype).itemsize, dirt, np.uint8).view(operand.stored_dtype)
            for operand in workload.outputs
        ]
        for dirt in (DIRTY, OTHER_DIRT)
    ]
    if is_emulated(target):
        found = [left[0] for left in call(kernel, target, [*packed, *variables], *memory)]
    else:
        module = build({"kernel": kernel}, target.llvm())
        found = []
        for results in memory:
            tensors = [tvm.runtime.tensor(array, tvm.cpu()) for array in packed]
            tensors += [with_slack(array) for array in variables]
            tensors += [tvm.runtime.tensor(array, tvm.cpu()) for array in results]
            module["kernel"](*tensors)
            found.append(tensors[-len(results)].numpy())
    left = (_bytes(found[0]) == DIRTY).all(axis=1) & (_bytes(found[1]) == OTHER_DIRT).all(axis=1)
    assert not left.any(), f"{np.count_nonzero(left)} elements were not written, the first at {np.argmax(left)}"
    return read(found[0], workload.output)


def with_slack(flat: np.ndarray) -> tvm.runtime.Tensor:
    """An operand as the memory planner leaves it: behind its end some bytes may be read, and hold anything."""
    garbage = np.full(READ_SLACK, DIRTY, np.uint8).view(flat.dtype)
    return tvm.runtime.tensor(np.concatenate([flat, garbage]), tvm.cpu())._create_view((flat.size,))


def check_unpack(found: Mapping[int, np.ndarray], constants: Mapping[int, np.ndarray | None]) -> None:
    """Constants come back bit for bit."""
    assert set(found) == set(constants)
    for index, array in constants.items():
        assert array is not None and found[index].shape == array.shape and np.array_equal(found[index], array)


def undefined_symbols(family: Family, workload: Workload, target: Target) -> set[str]:
    """Symbols a kernel's object file wants from outside."""
    from tapdot.kernels.tvm_adapter import object_code

    function = family.build(workload, family.default_config(workload, target), target, "kernel")
    return elf_undefined(object_code({"kernel": function}, target.llvm()))


def elf_undefined(data: bytes) -> set[str]:
    """Undefined names in the symbol table of a 64-bit little-endian ELF object."""
    import struct

    sections_at, entry_size, count = struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + index * entry_size) for index in range(count)]
    names = set()
    for kind, offset, size, link in ((s[1], s[4], s[5], s[6]) for s in sections):
        if kind == 2:
            strings = sections[link][4]
            for at in range(offset, offset + size, 24):
                name, _, _, section = struct.unpack_from("<IBBH", data, at)
                if section == 0 and name:
                    end = data.index(b"\0", strings + name)
                    names.add(data[strings + name : end].decode())
    return names


def assert_links_alone(family: Family, workload: Workload, target: Target) -> None:
    """Kernels link with nothing but TVM's runtime and the two memory functions."""
    strange = {
        name
        for name in undefined_symbols(family, workload, target)
        if not name.startswith(("TVMFFI", "TVMBackend", "__TVM")) and name not in ("memcpy", "memset")
    }
    assert not strange, f"undefined symbols {sorted(strange)}"


def vectors(target: Target, **halo: int) -> Layout:
    """Channel vectors of the target, with a halo."""
    from tapdot.kernels.layout import Halo

    return Layout(target.isa.lanes, Halo(**halo))
