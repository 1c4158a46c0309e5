"""Traces of pruned models: which op gets which mask, shapes that carry removed channels, and masks that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from sim.errors import InputError
from sim.sparsity.profile import profile
from sim.trace import Sparsity
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.llm import llm

TINY = ModelConfig("tiny", 2, 64, 96, 4, 2, 16, 100, 1e4, 1e-5, True)


def mask(*shape, density=0.5):
    return np.random.default_rng(0).random(shape) < density


def by_name(trace):
    return trace.ops.set_index("name")


def test_every_matrix_is_asked_for_once_a_layer():
    asked = []
    llm(TINY, tokens=4, sparsity=lambda layer, matrix_type: asked.append((layer, matrix_type)))
    assert asked == [(layer, t) for layer in range(2) for t in MATRIX_TYPES]


def test_profiles_and_sparsities_land_on_their_op():
    given = profile(mask(64, 64))
    choice = {
        (0, "attn_q"): given,
        (1, "ffn_down"): Sparsity(density=0.25, seed=3),
        (1, "ffn_up"): Sparsity(n_of_m="2:4"),
    }
    trace = llm(TINY, tokens=4, sparsity=lambda *key: choice.get(key))
    ops = by_name(trace)
    assert ops.loc["layer0.attn_q", "nonzeros"] == given.nonzeros and len(trace.profiles) == 3
    assert ops.loc["layer1.attn_q", "nonzeros"] == 64 * 64 and ops.loc["layer1.attn_q", "profile"] == -1
    assert 0.15 < ops.loc["layer1.ffn_down", "nonzeros"] / (64 * 96) < 0.35
    assert ops.loc["layer1.ffn_up", "group4_max"] == 2
    assert ops.loc["lm_head", "sparsity_label"] == "dense"


@pytest.mark.parametrize("where", ["ffn_gate", "ffn_up", "ffn_down"])
def test_a_profile_with_fewer_channels_narrows_the_layer(where):
    given = profile(mask(64, 80) if where == "ffn_down" else mask(80, 64))
    choice = {(1, where): given}
    narrowed = by_name(llm(TINY, tokens=4, sparsity=lambda *key: choice.get(key)))
    asked = by_name(llm(TINY, tokens=4, ffn_width=lambda layer: 80 if layer else None))
    for name in ("swiglu", "ffn_quantise", "ffn_gate", "ffn_up", "ffn_down"):
        for column in ("n", "k", "alu_ops", "read_bytes", "live_in_bytes", "live_out_bytes"):
            assert narrowed.loc[f"layer1.{name}", column] == asked.loc[f"layer1.{name}", column]
    assert narrowed.loc["layer1.ffn_down", "k"] == 80 and narrowed.loc["layer0.ffn_down", "k"] == 96


def test_masks_that_do_not_fit_are_named():
    wrong = profile(mask(64, 32))
    with pytest.raises(InputError, match=r"layer1\.attn_k: mask must be out x in = 32 x 64, got 64 x 32"):
        llm(TINY, tokens=4, sparsity=lambda layer, t: wrong if (layer, t) == (1, "attn_k") else None)
    with pytest.raises(InputError, match=r"layer0\.ffn_up: mask must be out x in = 80 x 64, got 96 x 64"):
        shapes = {"ffn_gate": (80, 64), "ffn_up": (96, 64)}
        llm(TINY, tokens=4, sparsity=lambda _, t: Sparsity(mask=mask(*shapes[t])) if t in shapes else None)
    with pytest.raises(InputError, match=r"layer0\.ffn_gate: mask must be out x in = 48 x 64, got 96 x 64"):
        given = profile(mask(96, 64))
        llm(TINY, tokens=4, ffn_width=lambda _: 48, sparsity=lambda _, t: given if t == "ffn_gate" else None)
    with pytest.raises(InputError, match=r"layer 0\.ffn_gate: ffn width must be an integer from 1 to 96, got 128"):
        wide = profile(mask(128, 64))
        llm(TINY, tokens=4, sparsity=lambda _, t: wide if t == "ffn_gate" else None)
