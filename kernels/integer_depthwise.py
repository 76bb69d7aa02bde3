"""Depthwise convolution on codes: one filter a channel, four taps a dot.

A dot product sums four products a lane, and nothing is summed over channels here: so a lane is a channel and its four products
are four taps of a row of the window (:mod:`kernels.integer_depthwise_plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Value, argument, load
from tapdot.kernels.family import Config, Family, Port, Ports
from tapdot.kernels.integer_depthwise_plan import BLOCK, DOT, Plan, Windows, default_config, settle, space
from tapdot.kernels.integer_epilogue import IntegerEpilogue
from tapdot.kernels.integer_windows import WindowSums
from tapdot.kernels.isa.tap_gather import TapGather
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import PrimFunc, function
from tapdot.kernels.workload import Workload


class IntegerDepthwise(Family):
    """``QConv`` with as many groups as input channels and as filters, constant weights, four dimensions.

    Configuration: ``rows`` and ``columns`` of the tile, ``vectors`` of int32 it holds of a block of channels, ``unrolled``
    (whether the rows of the window are written out), ``splits`` of the output rows among threads.
    """

    name = "integer_depthwise"

    def serves(self, workload: Workload, target: Target) -> bool:
        if workload.op != "QConv" or any(operand is None for operand in workload.inputs[:2]):
            return False
        x, w = workload.inputs[0], workload.inputs[1]
        assert x is not None and w is not None
        return (
            len(x.shape) == 4
            and x.dtype in ("int8", "uint8")
            and not x.constant
            and w.constant
            and workload["group"] == x.shape[1] == w.shape[0]
            and all(operand is None or operand.constant for operand in workload.inputs[2:3])
            and min(workload["pads"]) >= 0
            and IntegerEpilogue(workload, 3, target.isa).served()
        )

    def ports(self, workload: Workload, target: Target) -> Ports:
        inputs: list[Port | None] = [Port((BLOCK,), Windows(workload, target.isa).halo), None]
        if len(workload.inputs) > 2:
            inputs.append(None)
        return Ports((*inputs, *IntegerEpilogue(workload, 3, target.isa).ports()), (Port((BLOCK,)),))

    # -- configurations -----------------------------------------------------------------------------------------------------

    def space(self, workload: Workload, target: Target) -> Mapping[str, Sequence[int]]:
        return space(Windows(workload, target.isa))

    def default_config(self, workload: Workload, target: Target) -> Config:
        return default_config(workload, target)

    def settle(self, workload: Workload, config: Config, target: Target) -> Config | None:
        return settle(workload, config, target)

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack(self, workload: Workload, config: Config, target: Target, constants: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        plan, gather = Plan.of(workload, config, target), TapGather(target)
        height, _ = plan.geometry.kernel
        filters, lanes = plan.geometry.filters, gather.vectors.lanes
        packed = np.zeros((plan.blocks * BLOCK, height, len(plan.variants), DOT), np.int8)
        for variant, slots in enumerate(plan.variants):
            for slot, tap in enumerate(slots):
                if tap is not None:
                    packed[:filters, :, variant, slot] = constants[1][:, 0, :, tap]
        weights = packed.reshape(plan.blocks, BLOCK, height, -1, DOT).transpose(0, 2, 3, 1, 4)
        weights = weights.reshape(plan.blocks, height, len(plan.variants), BLOCK // lanes, lanes, DOT)
        bias = np.zeros(plan.blocks * BLOCK, np.int32)
        bias[:filters] = numerics.folded_bias(
            constants.get(2, np.zeros(filters, np.int32)), *_folding(workload, constants[1], gather)
        )
        extras = IntegerEpilogue(workload, 3, target.isa).pack(constants)
        return [*gather.tables, gather.vectors.pack_weights(weights).reshape(-1), bias, *extras]

    def unpack(
        self, workload: Workload, config: Config, target: Target, packed: Sequence[np.ndarray]
    ) -> Mapping[int, np.ndarray]:
        plan, gather = Plan.of(workload, config, target), TapGather(target)
        weights, stored_bias, *extras = packed[len(gather.tables) :]
        (height, width), lanes = plan.geometry.kernel, gather.vectors.lanes
        ordered = gather.vectors.unpack_weights(weights.reshape(-1, lanes * DOT))
        by_channel = ordered.reshape(plan.blocks, height, len(plan.variants), BLOCK, DOT).transpose(0, 3, 1, 2, 4)
        by_channel = by_channel.reshape(-1, height, len(plan.variants), DOT)[: plan.geometry.filters]
        weight = np.zeros((plan.geometry.filters, 1, height, width), np.int8)
        for variant, slots in enumerate(plan.variants):
            for slot, tap in enumerate(slots):
                if tap is not None:
                    weight[:, 0, :, tap] = by_channel[:, :, variant, slot]
        found = {1: weight}
        if len(workload.inputs) > 2 and workload.inputs[2] is not None:
            sums, zero, offset = _folding(workload, weight, gather)
            found[2] = numerics.folded_bias(stored_bias[: plan.geometry.filters], sums, -zero, -offset)
        return {**found, **IntegerEpilogue(workload, 3, target.isa).unpack(extras)}

    # -- code ---------------------------------------------------------------------------------------------------------------

    def build(self, workload: Workload, config: Config, target: Target, symbol: str) -> PrimFunc:
        finished: list[PrimFunc] = []
        with function(symbol, finished):
            _Depthwise(workload, config, target, 3).emit()
        return finished[0]


def _folding(workload: Workload, weight: np.ndarray, gather: TapGather) -> tuple[np.ndarray, int, int]:
    """Sums of the weights, the zero point, and the offset of what the dots multiply from the codes of the graph."""
    x = workload.inputs[0]
    assert x is not None
    offset = 0 if x.layout is None else x.layout.code_offset
    sums = weight.astype(np.int64).sum(axis=(1, 2, 3))
    return sums, int(workload["zero_point"]), offset + gather.vectors.operand_offset(x.stored_dtype)


class _Depthwise(WindowSums):
    """A depthwise convolution: a filter for every channel, and a bias."""

    def declare_weights(self) -> None:
        plan = self.plan
        size = plan.blocks * BLOCK * DOT * self.geometry.kernel[0] * len(plan.variants)
        self._weights = argument("weights", size, "int8")
        self._bias = argument("bias", plan.blocks * BLOCK, "int32")

    def weights(self, block: Value, tap_row: Value, variant: int, vector: int) -> Any:
        arrangement = (block * self.geometry.kernel[0] + tap_row) * len(self.plan.variants) + variant
        start = (arrangement * self.block_vectors + vector) * self.vectors.lanes * DOT
        return self.vectors.weights(self._weights, start)

    def first_sum(self, block: Value, vector: int) -> Value:
        lanes = self.vectors.lanes
        return load(self._bias, block * BLOCK + vector * lanes, lanes)
