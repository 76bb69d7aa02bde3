"""Pruning inside a training loop, by the alternating direction method of multipliers: three calls, whoever's loop it is.

::

    pruner = tapdot.Pruner(module, rate=8, share=2)
    for epoch in range(epochs):
        for x, y in batches:
            loss = criterion(module(x), y) + pruner.penalty()
            ...                                                     # zero_grad, backward, step: as ever
        pruner.end_of_epoch()
    pruner.apply_masks()                                            # from here on what was removed stays zero
    ...                                                             # the same loop again: masked retraining

PatDNN (ASPLOS 2020, eq. 3 to 6) minimises the loss ``f(W)`` over weights whose kernels follow patterns (the set ``S``) and of
which only so many kernels are left (the set ``S'``), with two auxiliary variables a layer and their duals::

    minimize   f(W) + rho/2 ||W - Z + U||^2 + rho/2 ||W - Y + V||^2       by gradient descent over an epoch, then
    Z = projection of W + U onto S          U = U + W - Z
    Y = projection of W + V onto S'         V = V + W - Y

``rho`` grows by a factor an epoch, which draws the weights to the sets; scaled duals shrink with it, so that what they stand for
(``rho U``) does not change. Layers of quads have ``Y`` and ``V`` alone. The distances ``||W - Z|| / ||W||`` and
``||W - Y|| / ||W||`` say how far a layer still is from what it will be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.interpreter import GraphModule, to_array
from tapdot.kernels.patterns import DEFAULT_PATTERN_COUNT
from tapdot.passes.prune_rates import FLOOR, SIZE_EXPONENT, Allocation
from tapdot.passes.sparse_layers import SparseLayer, graph_layers, module_layers
from tapdot.passes.sparse_projection import connectivity_mask, nearest_patterns
from tapdot.passes.sparsity_plan import LayerRate, Plan, Pruning, make_plan

RHO, RHO_GROWTH, RHO_MOST = 1e-3, 2.0, 1.0


@dataclass(frozen=True)
class Distance:
    """How far a layer's weights are from its sets, as shares of their norm; patterns are None for layers of quads."""

    pattern: float | None
    connectivity: float

    @property
    def largest(self) -> float:
        """To the farther set."""
        return max(self.pattern or 0.0, self.connectivity)


class Pruner:
    """See the module. ``module`` is any torch module with ``Conv2d`` and ``Linear`` layers, or a graph's ``to_torch()``.

    The options are those of :class:`tapdot.passes.sparsity_plan.Pruning`; layers have the names of ``module.named_modules()``,
    for a graph those of its nodes. The module keeps its parameters and their names; masks act by a hook before each forward,
    which :meth:`remove` takes away; a new pruner on the same module takes the place of the one before.

    Raises TapdotError for rates that cannot be met, options out of range, and a module in which there is nothing to prune.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        rate: float = 4.0,
        quad_rate: float = 1.0,
        share: int = 2,
        patterns: int = DEFAULT_PATTERN_COUNT,
        layer_rates: Mapping[str, float] | None = None,
        layer_shares: Mapping[str, int] | None = None,
        allocation: Allocation = "energy",
        floor: float = FLOOR,
        size_exponent: float = SIZE_EXPONENT,
        skip: Collection[str] = (),
        last_layer: bool = False,
        rho: float = RHO,
        rho_growth: float = RHO_GROWTH,
        rho_most: float = RHO_MOST,
    ) -> None:
        pruning = Pruning(
            rate,
            quad_rate,
            share,
            patterns,
            layer_rates or {},
            layer_shares or {},
            allocation,
            floor,
            size_exponent,
            skip,
            last_layer,
        )
        if not (0 < rho <= rho_most and rho_growth >= 1):
            raise TapdotError(
                f"Expected 0 < rho <= rho_most and a growth of at least 1, found rho={rho:g}, rho_most={rho_most:g} and "
                f"rho_growth={rho_growth:g}."
            )
        self.module, self.rho, self.rho_growth, self.rho_most = module, rho, rho_growth, rho_most
        self._parameters = _parameters(module)
        if isinstance(module, GraphModule):
            found = graph_layers(module.graph, pruning.choice)
        else:
            found = module_layers(module, pruning.choice)
        weights = {layer.weight: self._weight(layer) for layer in found[0]}
        self.plan: Plan = make_plan(found, weights, pruning, f"The module {type(module).__name__}")
        self._variables: dict[str, NDArray[Any]] = {}
        """Z, U, Y and V by ``Z LAYER`` and so on."""
        self._targets: dict[str, Tensor] = {}
        self._constant = 0.0
        self._masks: dict[str, NDArray[np.bool_]] = {}
        self._kept: dict[str, Tensor] = {}
        self._clear_duals()
        self._project()
        self._clear_duals()
        self._aim()
        for hook in tuple(module._forward_pre_hooks.values()):
            if isinstance(before := getattr(hook, "__self__", None), Pruner):
                before.remove()
        self._hook = module.register_forward_pre_hook(self._before_forward)

    # -- what it works on -----------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[LayerRate, ...]:
        """The layers that are pruned and their rates."""
        return self.plan.rates

    @property
    def skipped(self) -> dict[str, str]:
        """Why the others are not, by name."""
        return {layer.name: layer.reason for layer in self.plan.skipped}

    @property
    def masked(self) -> bool:
        """Whether the masks are in force."""
        return bool(self._masks)

    def _weight(self, layer: SparseLayer) -> NDArray[np.float32]:
        return np.asarray(to_array(self._parameters[layer.weight]), np.float32)

    @staticmethod
    def _names(layer: SparseLayer) -> str:
        return "YV" if layer.by_quads else "ZUYV"

    # -- the three calls ------------------------------------------------------------------------------------------------------

    def penalty(self) -> Tensor:
        """``rho/2 ||W - Z + U||^2 + rho/2 ||W - Y + V||^2`` over all layers, to add to the loss; zero once masks are in force."""
        some = self._parameters[self.plan.layers[0].weight]
        if self.masked:
            return torch.zeros((), dtype=some.dtype, device=some.device)
        total = some.new_tensor(self.rho * self._constant)
        for layer in self.plan.layers:
            weight = self._parameters[layer.weight]
            target = self._targets[layer.name] = self._targets[layer.name].to(weight)
            # The sum of both squares is twice that to the point between the targets, and a constant.
            total = total + self.rho / (2 if layer.by_quads else 1) * (weight - target).square().sum()
        return total

    def end_of_epoch(self) -> dict[str, Distance]:
        """Projects, updates the duals and lets rho grow; returns every layer's distances. With masks, applies them."""
        if self.masked:
            self._enforce()
            return {}
        distances = self._project()
        before, self.rho = self.rho, min(self.rho * self.rho_growth, self.rho_most)
        for layer in self.plan.layers:
            for name in self._names(layer)[1::2]:
                self._variables[f"{name} {layer.name}"] *= before / self.rho
        self._aim()
        return distances

    def apply_masks(self) -> None:
        """Removes what the plan does not keep of the weights as they are now, for good.

        From here on it is zero in every forward pass, whatever an optimizer does. Call it again after the last step and before
        the weights are saved: what was chosen the first time stays chosen.
        """
        if not self.masked:
            self._set_masks({layer.name: self.plan.mask(layer, self._weight(layer)) for layer in self.plan.layers})
        self._enforce()

    def remove(self) -> None:
        """Takes the hook from the module, which then is as it was but for its weights; masks act no longer by themselves."""
        self._hook.remove()

    # -- inside ---------------------------------------------------------------------------------------------------------------

    def _clear_duals(self) -> None:
        for layer in self.plan.layers:
            for name in self._names(layer)[1::2]:
                self._variables[f"{name} {layer.name}"] = np.zeros_like(self._weight(layer))

    def _project(self) -> dict[str, Distance]:
        """The Z, Y, U and V updates from the weights as they are."""
        distances = {}
        for layer in self.plan.layers:
            weight, found = self._weight(layer), []
            for auxiliary, dual in zip(self._names(layer)[::2], self._names(layer)[1::2], strict=True):
                u = self._variables[f"{dual} {layer.name}"]
                moved = weight + u
                if auxiliary == "Z":
                    mask = layer.mask(nearest_patterns(layer, moved, self.plan.patterns))
                else:
                    mask = connectivity_mask(layer, moved, self.plan.counts[layer.name])
                nearest = np.where(mask, moved, np.float32(0))
                self._variables[f"{auxiliary} {layer.name}"] = nearest
                self._variables[f"{dual} {layer.name}"] = u + weight - nearest
                norm = max(float(np.linalg.norm(weight)), 1e-30)
                found.append(float(np.linalg.norm(weight - nearest)) / norm)
            distances[layer.name] = Distance(found[0] if len(found) > 1 else None, found[-1])
        self._aim()
        return distances

    def _aim(self) -> None:
        """Sets the point that the penalty draws each layer to."""
        self._constant = 0.0
        for layer in self.plan.layers:
            points = [
                self._variables[f"{auxiliary} {layer.name}"] - self._variables[f"{dual} {layer.name}"]
                for auxiliary, dual in zip(self._names(layer)[::2], self._names(layer)[1::2], strict=True)
            ]
            if len(points) > 1:
                self._constant += float(np.square(points[0] - points[1], dtype=np.float64).sum()) / 4
            self._targets[layer.name] = torch.from_numpy(sum(points) / np.float32(len(points)))

    def _set_masks(self, masks: Mapping[str, NDArray[np.bool_]]) -> None:
        self._masks = dict(masks)
        self._kept = {name: torch.from_numpy(np.ascontiguousarray(mask)) for name, mask in masks.items()}

    def _before_forward(self, module: nn.Module, inputs: object) -> None:
        if not torch.compiler.is_compiling():  # torch.export traces hooks, too, and masks are no part of the network
            self._enforce()

    def _enforce(self) -> None:
        for layer in self.plan.layers if self._masks else ():
            weight = self._parameters[layer.weight]
            kept = self._kept[layer.name] = self._kept[layer.name].to(weight.device)
            with torch.no_grad():
                weight.data.masked_fill_(~kept, 0.0)

    # -- stopping and going on ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything but the module's own weights, as plain arrays; :meth:`load_state` takes it back."""
        plan = {f"count {name}": np.asarray(count) for name, count in self.plan.counts.items()}
        masks = {f"mask {name}": mask for name, mask in self._masks.items()}
        variables = {} if masks else self._variables
        return {"rho": np.asarray(self.rho), "patterns": self.plan.patterns, **plan, **variables, **masks}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on where another pruner of the same module and options stopped; raises TapdotError for one of another.

        Nothing is changed where it raises.
        """
        expected = {f"count {layer.name}" for layer in self.plan.layers}
        found = {name for name in state if name.startswith("count ")}
        if expected != found:
            raise TapdotError(
                f"Expected the state of a pruner of the layers {', '.join(layer.name for layer in self.plan.layers)}, found one "
                f"of {', '.join(sorted(name.removeprefix('count ') for name in found)) or 'none'}."
            )
        self._check_state(state)
        counts = {layer.name: int(state[f"count {layer.name}"]) for layer in self.plan.layers}
        self.plan = Plan(self.plan.layers, self.plan.skipped, np.asarray(state["patterns"]), counts)
        self.rho = float(state["rho"])
        masks = {layer.name: state[f"mask {layer.name}"] for layer in self.plan.layers if f"mask {layer.name}" in state}
        self._set_masks(masks)
        if not masks:
            self._variables = {name: np.array(state[name]) for name in self._variables}
            self._aim()

    def _check_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Raises TapdotError for a state that lacks an array or has one of another shape than this module's."""
        masked = any(name.startswith("mask ") for name in state)
        shapes: dict[str, tuple[int, ...]] = {"rho": (), "patterns": self.plan.patterns.shape}
        for layer in self.plan.layers:
            shape = tuple(self._parameters[layer.weight].shape)
            shapes |= {f"{name} {layer.name}": shape for name in (("mask",) if masked else self._names(layer))}
        for name, shape in shapes.items():
            if name not in state or np.shape(state[name]) != shape:
                found = f"one of {list(np.shape(state[name]))}" if name in state else "none"
                raise TapdotError(
                    f"Expected the state of a pruner of the same module and options, with an array {name!r} of {list(shape)}, "
                    f"found {found}."
                )
        for layer in self.plan.layers:
            if not 0 < (count := int(state[f"count {layer.name}"])) <= layer.unit_count:
                raise TapdotError(
                    f"Expected the state of a pruner of the same module and options: layer {layer.name!r} has {layer.unit_count} "
                    f"kernels (or quads) in groups of {layer.share} filters, and the state keeps {count}."
                )


def _parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """By the names layers know them under."""
    if isinstance(module, GraphModule):
        return {name: value for name in module.graph.constants if isinstance(value := module.find(name), nn.Parameter)}
    return dict(module.named_parameters(remove_duplicate=False))
