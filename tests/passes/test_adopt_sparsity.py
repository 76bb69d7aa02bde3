"""Structure found in zeros: patterns, kernels removed whole, shares and quads; what does not fit is named."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.passes.before_and_after import graph
from tests.passes.pruned_weights import pruned_kernels, pruned_quads

from tapdot.compiler.errors import ModelError, TapdotError
from tapdot.compiler.pipeline import Notes
from tapdot.kernels.fkw import FKW, Structure
from tapdot.kernels.patterns import ALL_PATTERNS, best_pattern, histogram, masks, pattern_set, picture
from tapdot.passes.adopt_sparsity import AdoptSparsity
from tapdot.passes.fuse import Fuse
from tapdot.passes.sparse_structure import UNPRUNED, find_structure, share_nearly_had

quick = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@quick
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([1, 2, 4, 8]), st.integers(1, 20), st.sampled_from([6, 8, 12]))
def test_what_was_pruned_is_found(seed: int, groups: int, share: int, inputs: int, count: int) -> None:
    """Kept weights are never zero here: patterns and shares are the very ones."""
    weight, structure = pruned_kernels(seed, groups, share, inputs, count)
    found = find_structure(weight)
    assert isinstance(found, Structure)
    assert found.share >= share, "neighbouring groups may agree by chance"
    assert found.counts.sum() * found.share == structure.counts.sum() * share
    assert np.array_equal(found.mask(weight.shape), structure.mask(weight.shape))
    stored = FKW.compress(weight, found)
    assert np.array_equal(stored.dense(weight.shape), weight)


def test_the_share_is_the_largest_that_agrees() -> None:
    for share in (1, 2, 4, 8):
        weight, _ = pruned_kernels(3, 16 // share, share, 32, 8)
        found = find_structure(weight)
        assert isinstance(found, Structure) and found.share == share


def test_a_kernel_with_fewer_taps_takes_a_pattern_that_others_have() -> None:
    weight, structure = pruned_kernels(0, 4, 2, 16, 6)
    kernels = weight.reshape(8, 16, 9)
    filters, channels = np.nonzero(np.repeat(structure.kept, 2, axis=0) >= 0)
    for filter_, channel in list(zip(filters, channels, strict=True))[::3]:
        taps = np.flatnonzero(kernels[filter_, channel])
        kernels[filter_, channel, taps[:2]] = 0  # what small codes round to; the other filter of the group still tells
    found = find_structure(weight)
    assert isinstance(found, Structure) and found.share == 2
    known = {picture(row) for row in structure.patterns.tolist()}
    assert {picture(row) for row in found.patterns.tolist()} <= known
    assert np.array_equal(FKW.compress(weight, found).dense(weight.shape), weight)


def test_few_patterns_cover_kernels_of_one_or_two_taps() -> None:
    weight = np.zeros((4, 56, 3, 3), np.float32)
    weight[:, :, 1, 1] = 1
    for channel in range(56):
        weight[:, channel].reshape(4, 9)[:, ALL_PATTERNS[channel][channel % 4]] = 2
    found = find_structure(weight)
    assert isinstance(found, Structure)
    assert len(found.patterns) == 3, "three patterns hold eight taps beside the centre, three each"
    assert np.array_equal(FKW.compress(weight, found).dense(weight.shape), weight)


def test_a_share_may_store_a_few_weights_in_vain_and_no_more() -> None:
    weight, _ = pruned_kernels(1, 8, 2, 32, 8)
    kept = np.flatnonzero(weight[0].any(axis=(1, 2)))
    weight[0, kept[0]] = 0  # as quantizing may do to a kernel of small weights
    found = find_structure(weight)
    assert isinstance(found, Structure) and found.share == 2
    strict = find_structure(weight, redundancy=0.0)
    assert isinstance(strict, Structure) and strict.share == 1
    for channels in np.array_split(np.arange(32), 4):
        weight[2 * np.arange(8)[:, None], channels[::2]] = 0
    few = find_structure(weight)
    assert isinstance(few, Structure) and few.share == 1


def rounded(sigma: float, share: int) -> np.ndarray:
    """int8 ``[32, 64, 3, 3]``: pruned by a share at 8.1x, the norms of kernels lognormal, then a scale for every filter."""
    numbers = np.random.default_rng(0)
    weight = numbers.standard_normal((32, 64, 9)) * np.exp(sigma * numbers.standard_normal((32, 64, 1)))
    norms = np.sqrt(np.square(weight.reshape(-1, share, 64, 9)).sum(axis=1))
    table = pattern_set(histogram([norms]), 8)
    mask = masks(table)[best_pattern(norms, table)]
    energy = np.square(norms * mask).sum(axis=-1)
    mask &= (energy >= np.quantile(energy, 1 - 1 / 3.6))[..., None]
    weight = (weight * np.repeat(mask, share, axis=0)).reshape(32, 64, 3, 3)
    return np.rint(weight / (np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127)).astype(np.int8)


@pytest.mark.parametrize("share", [2, 4])
def test_a_share_outlives_the_rounding_of_lognormal_kernels(share: int) -> None:
    """In codes, single filters of some groups have no more of a kernel; 2 % of them was too few to allow."""
    codes = rounded(1.25, share)
    found, strict = find_structure(codes), find_structure(codes, redundancy=0.02)
    assert isinstance(found, Structure) and found.share == share and share_nearly_had(codes, found) is None
    assert isinstance(strict, Structure) and strict.share == 1


@pytest.mark.parametrize("share", [2, 4])
def test_a_share_that_rounding_costs_is_noted(share: int) -> None:
    codes = rounded(1.75, share)
    notes = Notes()
    before = model(codes.astype(np.float32))
    AdoptSparsity().run(before, notes)
    (line,) = (line for line in notes.lines if "share lost" in line)
    assert line.startswith(f"'y': share lost: groups of {share} filters would store ")
    option = float(line.rpartition("redundancy=")[2].removesuffix("."))
    found = AdoptSparsity(redundancy=option).find(before)["y"]
    assert isinstance(found, Structure) and found.share == share, "the note names what gives the share back"
    alone, _ = pruned_kernels(3, 32, 1, 64, 8)
    notes = Notes()
    AdoptSparsity().run(model(alone), notes)
    assert "share lost" not in str(notes.lines), "filters that never agreed lose nothing"


def test_quads_that_few_filters_lack_are_no_lost_share() -> None:
    weight = np.ones((16, 64), np.float32)
    weight.reshape(16, 16, 4)[np.arange(16), np.arange(16)] = 0
    found = find_structure(weight)
    assert isinstance(found, Structure) and found.share == 1, "a share of 2 would keep all"
    weight.reshape(16, 16, 4)[np.arange(16), np.arange(16)[::-1]] = 0  # an eighth, everywhere another
    found = find_structure(weight)
    assert isinstance(found, Structure) and found.share == 1 and share_nearly_had(weight, found) is None


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("inputs", [4, 32, 30, 7])
def test_quads_of_inputs(inputs: int, transposed: bool) -> None:
    for share in (1, 2, 4, 8):
        weight, structure = pruned_quads(2, 16 // share, share, inputs)
        if transposed:
            weight = np.ascontiguousarray(weight.T).T
        found = find_structure(weight)
        if structure.counts.sum() > 15 / 16 * structure.kept.size:
            continue
        assert isinstance(found, Structure) and found.by_quads and found.share >= share
        assert np.array_equal(found.mask(weight.shape), structure.mask(weight.shape))
        assert np.array_equal(FKW.compress(weight, found).dense(weight.shape), weight)


def test_what_has_no_structure_is_named() -> None:
    numbers = np.random.default_rng(0)
    dense = numbers.standard_normal((8, 8, 3, 3)).astype(np.float32)
    assert find_structure(dense) == UNPRUNED
    assert find_structure(dense.reshape(8, 72)) == UNPRUNED
    holes = dense * (numbers.random(dense.shape) < 0.5)
    assert "unstructured zeros" in str(find_structure(holes)) and "more than the four taps of a pattern" in str(
        find_structure(holes)
    )
    some = dense.reshape(8, 72) * (numbers.random((8, 72)) < 0.7)
    assert "of its quads of four consecutive inputs" in str(find_structure(some))
    corners = np.zeros_like(dense)
    corners[:, :, ::2, ::2] = dense[:, :, ::2, ::2]
    assert "without the centre" in str(find_structure(corners))
    assert find_structure(0 * dense) == find_structure(0 * some) == "all its weights are zero"
    assert "kernels of 5x5" in str(find_structure(numbers.standard_normal((8, 8, 5, 5))))
    many = np.zeros((1, 56, 3, 3), np.float32)
    np.put_along_axis(many.reshape(56, 9), ALL_PATTERNS.astype(int), 1, axis=1)
    assert find_structure(many) == "its kernels follow 56 patterns, and kernels take at most 12 a layer"
    almost, _ = pruned_kernels(0, 8, 1, 16, 8)
    almost[3, 5] = 1
    assert "first that of filter 3 and input 5, keep more than the four taps of a pattern (up to 9)" in str(
        find_structure(almost)
    )


def test_a_hundred_million_weights_take_seconds() -> None:
    """A matrix product's weights lie ``[inputs, filters]``; this one is a sixteenth of VGG-16's first."""
    weight = np.zeros((25088, 256), np.int8).T
    weight[::2, : 25088 // 2] = 1
    begin = time.process_time()
    assert isinstance(find_structure(weight), Structure)
    assert time.process_time() - begin < 2


WINDOW = "strides=[1, 1], pads=[1, 1, 1, 1], dilations=[{0}, {0}], group={1}"


def model(weight: np.ndarray, dilation: int = 1, group: int = 1):  # type: ignore[no-untyped-def]
    filters, inputs = weight.shape[:2]
    size = 10 if weight.shape[2] == 1 else 8 if dilation == 1 else 6
    made = graph(
        f"""
        input %x: float32[1,{inputs * group},8,8]
        constant %w: float32[{",".join(map(str, weight.shape))}]
        %y: float32[1,{filters},{size},{size}] = Conv(%x, %w) {{{WINDOW.format(dilation, group)}}}
        return %y
        """
    )
    return Fuse()(made.replace(constants={"w": weight}))


def test_notes_say_what_there_is() -> None:
    weight, structure = pruned_kernels(0, 8, 2, 16, 6)
    notes = Notes()
    before = model(weight)
    assert AdoptSparsity().run(before, notes) is before
    kept = structure.counts.sum()
    assert notes.lines[0].startswith(f"Pruned: 1 layers keep {kept * 8} of {16 * 16 * 9} weights")
    assert all(picture(row) in notes.lines[0] for row in structure.patterns.tolist())
    assert notes.lines[1].startswith(f"'y': {kept} of 128 kernels in 6 patterns, shared by 2 filters; ")


def test_a_model_with_nothing_pruned_is_told_how_to() -> None:
    weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    with pytest.raises(ModelError, match=r"found none\. Prune the model first \(tapdot prune MODEL -o PRUNED\.onnx"):
        AdoptSparsity()(model(weight))
    weight, _ = pruned_kernels(0, 8, 2, 16, 6)
    with pytest.raises(ModelError, match="'y': the convolution is dilated"):
        AdoptSparsity()(model(weight, dilation=2))
    points = pruned_quads(0, 4, 2, 16)[0].reshape(8, 16, 1, 1)
    assert isinstance(AdoptSparsity().find(model(points, dilation=2))["y"], Structure), "dilation of 1x1 means nothing"
    with pytest.raises(ModelError, match="'y': the convolution is of 2 groups"):
        AdoptSparsity()(model(weight, group=2))


def test_wrong_options_are_refused() -> None:
    weight, _ = pruned_kernels(0, 8, 2, 16, 6)
    with pytest.raises(TapdotError, match=r"Expected adopt_sparsity\.most_patterns of 1 to 12"):
        AdoptSparsity(most_patterns=13)(model(weight))
    with pytest.raises(ModelError, match="follow 6 patterns, and kernels take at most 4 a layer"):
        AdoptSparsity(most_patterns=4)(model(weight))
