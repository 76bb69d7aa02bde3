"""What commands say of pruned layers: the layerwise representation, and storage beside other forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tapdot.compiler.sparsity import LayerStructure, Storage
from tapdot.compiler.units import bytes_text, macs_text


def sparsity_facts(layers: Sequence[LayerStructure]) -> dict[str, str]:
    """Facts of a package with sparse layers, each a line."""
    if not layers:
        return {}
    macs, dense = sum(layer.macs for layer in layers), sum(layer.dense_macs for layer in layers)
    weights = Storage.total(layer.storage for layer in layers)
    return {
        "sparse_layers": f"{len(layers)}, {macs_text(macs)} of {macs_text(dense)} kept ({dense / macs:.3g}x)",
        "sparse_weights": (
            f"{bytes_text(weights.weights + weights.fkw_extra)} of {bytes_text(weights.dense)} dense; indices and the like take "
            f"{bytes_text(weights.fkw_extra)}, {weights.below_csr32:.1%} less than CSR's of 32 bits, {weights.below_csr16:.1%} "
            "less than of 16 bits"
        ),
    }


def sparsity_json(layers: Sequence[LayerStructure]) -> dict[str, Any]:
    """All of it as plain data."""
    if not layers:
        return {}
    total = Storage.total(layer.storage for layer in layers)
    figures = {"below_csr32": total.below_csr32, "below_csr16": total.below_csr16}
    return {"sparsity": {"layers": [layer.json() for layer in layers], "storage": {**vars(total), **figures}}}


def print_layers(layers: Sequence[LayerStructure], device: str, console: Console) -> None:
    """PatDNN's layerwise representation, a paragraph a layer, and the table of storage."""
    for layer in layers:
        for line in layer_lines(layer, device):
            console.print(line, markup=False)
    console.print("\nWeights, in bytes:", markup=False)
    console.print(storage_table(layers))


def layer_lines(layer: LayerStructure, device: str) -> list[str]:
    """One layer for a reader."""
    unit = "kernels" if layer.patterns else "quads of inputs"
    strides = f", stride {layer.strides[0]}" if layer.strides and layer.strides[0] > 1 else ""
    tuning = ", ".join(f"{name} {value}" for name, value in layer.tuning.items()) or "none"
    lines = [
        f"\nlayer {layer.node}: {layer.op} on {device} by {layer.family}",
        f"  info          {layer.kind}{strides}, {layer.inputs} to {layer.filters} channels, {macs_text(layer.macs)} of "
        f"{macs_text(layer.dense_macs)}",
        f"  connectivity  {layer.kept} of {layer.units} {unit} kept ({layer.connectivity_rate:.3g}x), {layer.rate:.3g}x fewer "
        "weights",
        f"  share         {layer.share} filter{'s' * (layer.share > 1)}",
    ]
    if layer.patterns:
        lines.append(f"  patterns      {' '.join(layer.patterns)}")
    arrays = ", ".join(f"{name} {array} ({bytes_text(array.bytes)})" for name, array in layer.arrays.items())
    return [*lines, f"  FKW           {arrays}", f"  tuning        {tuning}"]


def storage_table(layers: Sequence[LayerStructure]) -> Table:
    """FKW beside dense weights and compressed sparse rows with indices of 32 and 16 bits, by layer and together.

    ``extra`` is what FKW stores beside weights, then how much less that is than what CSR stores beside them.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("layer", "dense", "CSR-32", "CSR-16", "FKW", "extra", "of CSR-32's", "of CSR-16's"):
        table.add_column(column, justify="left" if column == "layer" else "right", overflow="fold", no_wrap=column != "layer")
    rows = [(layer.node, layer.storage) for layer in layers]
    for name, storage in [*rows, ("together", Storage.total(storage for _, storage in rows))]:
        table.add_row(
            name,
            *(
                f"{size:,}"
                for size in (
                    storage.dense,
                    storage.weights + storage.csr32_extra,
                    storage.weights + storage.csr16_extra,
                    storage.weights + storage.fkw_extra,
                    storage.fkw_extra,
                )
            ),
            f"-{storage.below_csr32:.1%}",
            f"-{storage.below_csr16:.1%}",
        )
    return table
