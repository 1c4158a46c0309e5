"""Traces of pruned models: which op gets which mask, shapes that carry removed channels, and masks that do not fit."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sim.errors import InputError
from sim.sparsity.profile import profile
from sim.trace import Sparsity
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.factored import Factored
from workloads.llm import llm
from workloads.shapes import FFN_TYPES

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


def ffn(width):
    """Shapes of the three matrices with so many channels."""
    return {"ffn_gate": (width, 64), "ffn_up": (width, 64), "ffn_down": (64, width)}


def given(shapes, layer=0):
    """Masks of these shapes in one layer."""
    return lambda at, t: Sparsity(mask=mask(*shapes[t])) if at == layer and t in shapes else None


def test_masks_with_fewer_channels_narrow_the_layer():
    narrowed = by_name(llm(TINY, tokens=4, sparsity=given(ffn(80), layer=1)))
    asked = by_name(llm(TINY, tokens=4, ffn_width=lambda layer: 80 if layer else None))
    for name in ("swiglu", "ffn_quantise", "ffn_gate", "ffn_up", "ffn_down"):
        for column in ("n", "k", "alu_ops", "read_bytes", "live_in_bytes", "live_out_bytes"):
            assert narrowed.loc[f"layer1.{name}", column] == asked.loc[f"layer1.{name}", column]
    assert narrowed.loc["layer1.ffn_down", "k"] == 80 and narrowed.loc["layer0.ffn_down", "k"] == 96
    profiles = {t: profile(mask(*shape)) for t, shape in ffn(80).items()}
    by_profiles = by_name(llm(TINY, tokens=4, sparsity=lambda layer, t: profiles.get(t) if layer else None))
    assert by_profiles.loc["layer1.ffn_up", "n"] == 80


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {"attn_k": (64, 32)},
            "layer 0.attn_k: mask is 64 x 32, the model's is 32 x 64; masks are out x in: transpose",
        ),
        ({"attn_k": (16, 64)}, "layer 0.attn_k: mask is 16 x 64, the model's is 32 x 64"),
        ({"ffn_up": (80, 64)}, "layer 0.ffn_up: mask is 80 x 64, the model's is 96 x 64; to cut channels"),
        (
            {"ffn_up": (64, 96)},
            "layer 0.ffn_up: mask is 64 x 96, the model's is 96 x 64; masks are out x in: transpose",
        ),
        ({**ffn(80), "ffn_up": (88, 64)}, "layer 0.ffn_gate: mask is 80 x 64, the model's is 96 x 64; to cut"),
        ({**ffn(80), "ffn_up": (80, 32)}, "layer 0.ffn_gate: mask is 80 x 64, the model's is 96 x 64; to cut"),
        (dict.fromkeys(FFN_TYPES[:2], (80, 64)), "layer 0.ffn_gate: mask is 80 x 64, the model's is 96 x 64; to cut"),
        (ffn(128), "layer 0.ffn_gate: mask is 128 x 64, the model's is 96 x 64"),
    ],
)
def test_masks_that_do_not_fit_are_named(shapes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        llm(TINY, tokens=4, sparsity=given(shapes))


def test_a_mask_of_another_width_than_asked():
    with pytest.raises(InputError, match=r"layer 0\.ffn_gate: mask is 96 x 64, the model's is 48 x 64"):
        llm(TINY, tokens=4, ffn_width=lambda _: 48, sparsity=given({"ffn_gate": (96, 64)}))


def test_zeros_and_ones_are_a_mask():
    kept = mask(64, 64)
    for made in (kept, kept.astype(np.int64), kept.astype(np.float32), kept.tolist()):
        trace = llm(TINY, tokens=4, sparsity=lambda _, t, made=made: Sparsity(mask=made) if t == "attn_q" else None)
        assert by_name(trace).loc["layer0.attn_q", "nonzeros"] == kept.sum()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Sparsity(mask=np.full((64, 64), 0.5)), "layer 0.attn_q: mask must hold 0 and 1 alone (1: kept), got 0.5"),
        (Sparsity(mask=np.full((64, 64), np.nan)), "0 and 1 alone (1: kept), got nan"),
        (Sparsity(mask=-np.eye(64)), "0 and 1 alone (1: kept), got -1"),
        (Sparsity(mask=np.full((64, 64), "x")), "layer 0.attn_q: mask must hold True and False, or 0 and 1, got <U1"),
        (Sparsity(mask=np.ones(64, bool)), "layer 0.attn_q: mask must have 2 axes, out x in, got shape (64,)"),
        (Sparsity(mask=[[1, 0], [1]]), "layer 0.attn_q: mask must be an array out x in, got rows of different"),
        (Factored(4, left=Sparsity(mask=np.full((64, 4), 2))), "layer 0.attn_q: mask must hold 0 and 1 alone"),
        (mask(64, 64), "layer 0.attn_q: sparsity must be sp.Sparsity(mask=...), a Profile, a Factored or None, got an "
                       "array; wrap it: sp.Sparsity(mask=array)"),
        (0.5, "got a float"),
    ],
)  # fmt: skip
def test_wrong_answers_are_named(wrong, message):
    with pytest.raises(InputError, match=re.escape(message)):
        llm(TINY, tokens=4, sparsity=lambda _, t: wrong if t == "attn_q" else None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({(0, "attn_q"): mask(64, 64)}, "got a dict; give lambda layer, t: masks.get((layer, t))"),
        ({}, "got a dict"),
        (mask(64, 64), "sparsity must be a function (layer, matrix type) -> sp.Sparsity(mask=...), a Profile, a "),
    ],
)
def test_what_is_no_function(wrong, message):
    with pytest.raises(InputError, match=re.escape(message)):
        llm(TINY, tokens=4, sparsity=wrong)
    with pytest.raises(InputError, match="ffn_width must be a function layer -> channels kept"):
        llm(TINY, tokens=4, ffn_width=48)
