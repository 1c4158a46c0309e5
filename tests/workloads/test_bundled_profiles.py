"""Bundled profiles are what walking the real masks gives, on every grid point."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from sim.sparsity import lanes
from sim.sparsity.profile import DEPTHS, FIFOS, LANES, profile
from workloads.bundled import counts, profile_tables
from workloads.checkpoint import MATRIX_TYPES
from workloads.recipe import MATRIX_VARIANTS
from workloads.traces import load_trace

MASKS = Path(__file__).parent / "data" / "real_masks.npz"
"""Real masks of SmolLM2-135M (packed along the inputs), as pruned for the bundle: variant/layer/matrix type."""
KEYS = list(np.load(MASKS))


def real(key):
    variant, layer, matrix_type = key.split("/")
    row = int(layer) * len(MATRIX_TYPES) + MATRIX_TYPES.index(matrix_type)
    with np.load(MASKS) as masks:
        return np.unpackbits(masks[key], axis=1).astype(bool), variant, row


@pytest.mark.parametrize("key", KEYS)
def test_look_up_is_the_walk_on_every_grid_point(key):
    mask, variant, row = real(key)
    bundled, fresh = profile_tables("smollm2_135m").index(variant)[row], profile(mask)
    for lane, depth, orientation, assignment, fifo in itertools.product(
        LANES, DEPTHS, lanes.ORIENTATIONS, lanes.ASSIGNMENTS, FIFOS
    ):
        design = (lane, depth, orientation, assignment, fifo)
        walked = lanes.walk(mask, *design)
        assert bundled.cycles(*design) == walked == fresh.cycles(*design), design
        if fifo == 0:
            assert bundled.cycles(*design, 0) == lanes.walk(mask, *design, 0), design


@pytest.mark.parametrize("key", KEYS)
def test_counts_and_nonzeros_are_the_masks(key):
    mask, variant, row = real(key)
    found = counts("smollm2_135m", variant)[row]
    assert (found.rows == mask.sum(axis=1)).all() and (found.columns == mask.sum(axis=0)).all()
    assert profile_tables("smollm2_135m").index(variant).nonzeros[row] == mask.sum()


@pytest.mark.parametrize("variant", list(MATRIX_VARIANTS))
def test_every_variant_has_210_masks_of_its_sparsity(variant):
    table = profile_tables("smollm2_135m").index(variant)
    pattern = MATRIX_VARIANTS[variant][1]
    assert len(table) == 210 == len(counts("smollm2_135m", variant))
    density = table.nonzeros.sum() / (table.shapes[:, 0] * table.shapes[:, 1]).sum()
    wanted = 1 - pattern.sparsity if hasattr(pattern, "sparsity") else pattern.n / pattern.m
    assert density == pytest.approx(wanted, abs=0.002)
    if variant.endswith("_2_4"):
        assert table.group_max[:, 0].max() == 2
    if variant.endswith("_4_8"):
        assert table.group_max[:, 1].max() == 4 and table.group_max[:, 0].max() > 2


@pytest.mark.slow
def test_every_profile_of_a_layer_is_its_real_masks():
    """Prune again (or reuse the cached masks) and walk whole layers of three variants."""
    from workloads.variants import default_store

    store = default_store()
    for variant in ("magnitude_70", "wanda_30", "sparsegpt_4_8"):
        table = profile_tables("smollm2_135m").index(variant)
        for row, (layer, matrix_type) in enumerate(itertools.product((0, 29), MATRIX_TYPES)):
            mask = store.mask(variant, layer, matrix_type)
            bundled = table[layer * len(MATRIX_TYPES) + row % len(MATRIX_TYPES)]
            assert (bundled.cycles_grid == profile(mask).cycles_grid).all()


def test_bundled_traces_carry_their_masks_quality():
    dense, pruned = load_trace("smollm2_135m_dense_decode"), load_trace("smollm2_135m_wanda_50_decode")
    assert dense.macs == pruned.macs and len(dense) == len(pruned)
    weights = pruned.ops[(pruned.ops["profile"] >= 0)]
    assert len(weights) == 210
    assert (weights["nonzeros"] / (weights["n"] * weights["k"])).to_numpy() == pytest.approx(0.5, abs=0.01)
    assert pruned.meta["perplexity"] > dense.meta["perplexity"] == pytest.approx(12.187, abs=0.001)
    narrow = load_trace("smollm2_135m_ffn_channels_30")
    assert narrow.macs < load_trace("smollm2_135m_dense").macs


@pytest.mark.parametrize("name", ["smollm2_135m_wanda_50", "smollm2_135m_sparsegpt_2_4_decode"])
def test_bundled_traces_bring_their_counts(name):
    """Lane designs off the profile grid are estimated from them."""
    trace = load_trace(name)
    ops = trace.ops[trace.ops["profile"] >= 0].sort_values("profile")
    assert len(trace.counts) == len(ops) == 210
    for found, n, k, nonzeros in zip(trace.counts, ops["n"], ops["k"], ops["nonzeros"], strict=True):
        assert (len(found.rows), len(found.columns)) == (n, k)
        assert found.rows.sum() == found.columns.sum() == nonzeros
