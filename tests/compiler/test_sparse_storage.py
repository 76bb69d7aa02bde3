"""The layerwise representation, and FKW's bytes beside CSR's and dense weights'."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.passes.pruned_weights import pruned_kernels
from tests.passes.test_compress_weights import network

import tapdot
from tapdot.compiler.package import Package
from tapdot.compiler.sparse_storage import storage
from tapdot.compiler.sparsity import LayerStructure, Storage
from tapdot.kernels.fkw import FKW, Structure
from tapdot.passes import sparse_projection
from tapdot.passes.reorder_filters import visiting_order
from tapdot.passes.sparse_layers import SparseLayer
from tapdot.passes.sparse_structure import find_structure

VGG16 = ((64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512), *[(512, 512)] * 5)
"""Input and output channels of the 3x3 layers that are pruned."""


@pytest.mark.parametrize(("share", "below_csr32", "below_csr16"), [(1, 0.85, 0.74), (2, 0.93, 0.87)])
def test_vgg_16_needs_far_less_than_csr(share: int, below_csr32: float, below_csr16: float) -> None:
    """At 8.1x: 4 of 9 taps and 1 in 3.6 kernels, by norm, and so unequally many in each filter."""
    numbers = np.random.default_rng(0)
    parts = []
    for inputs, filters in dict.fromkeys(VGG16):
        weight = numbers.standard_normal((filters, inputs, 3, 3)).astype(np.float32)
        weight *= np.exp(0.5 * numbers.standard_normal((filters, inputs, 1, 1))).astype(np.float32)
        layer = SparseLayer("layer", "weight", filters, inputs, False, share=share)
        patterns = sparse_projection.choose_patterns([layer], [weight], 8)
        structure = sparse_projection.structure_of(layer, weight, patterns, round(layer.unit_count / 3.6))
        pruned = np.where(layer.mask(structure), weight, 0)
        found = find_structure(pruned)
        assert isinstance(found, Structure) and found.share == share
        stored = FKW.compress(pruned, found, visiting_order(found))
        parts += [storage(stored, pruned.nbytes)] * VGG16.count((inputs, filters))
    total = Storage.total(parts)
    assert total.below_csr32 >= below_csr32 and total.below_csr16 >= below_csr16
    assert total.weights * 8.1 == pytest.approx(total.dense, rel=0.01)


@pytest.fixture(scope="module")
def package() -> Package:
    return tapdot.compile(network(), recipe="pattern", settings=["compress_weights.choice=sparse"])


def test_the_package_says_what_is_pruned(package: Package) -> None:
    layers = {layer.node: layer for layer in package.sparsity}
    assert {layer.op for layer in layers.values()} == {"SparseConv", "SparseGemm"}
    kinds = [layer.kind for layer in layers.values()]
    assert kinds == ["3x3", "1x1", "1x1", "fully connected"]
    first = layers["a"]
    _, structure = pruned_kernels(0, 8, 2, 6, 6)
    assert (first.share, first.kept, first.units, len(first.patterns)) == (2, structure.counts.sum(), 48, 6)
    assert list(first.arrays) == ["reorder", "offset", "index", "stride", "weight", "patterns"]
    assert first.arrays["weight"].shape == (first.kept, 2, 4)
    assert first.macs == first.kept * 8 * 2 * 64 and first.dense_macs == 16 * 6 * 9 * 2 * 64
    assert first.rate == pytest.approx(16 * 6 * 9 / (first.kept * 8))
    assert first.storage.fkw_extra == sum(array.bytes for name, array in first.arrays.items() if name != "weight")
    call = next(call for call in package.program.calls if call.node == "a")
    assert first.tuning == call.config and call.macs == first.macs


def test_plain_data_and_back(package: Package) -> None:
    for layer in package.sparsity:
        assert LayerStructure.from_json(json.loads(json.dumps(layer.json()))) == layer


def test_the_reference_comes_back_from_the_packed_weights(package: Package) -> None:
    result = tapdot.connect("host").verify(package)
    assert result.passed, str(result)
