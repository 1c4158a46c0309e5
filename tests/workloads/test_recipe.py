"""Recipes: names, keys, and what cannot be combined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from workloads.checkpoint import MATRIX_TYPES
from workloads.recipe import CHANNEL_VARIANTS, DENSE, FFN_TYPES, MATRIX_VARIANTS, VARIANTS, Recipe

plain = st.sampled_from([DENSE, *MATRIX_VARIANTS])
recipes = st.one_of(
    st.tuples(*[plain] * 7).map(Recipe),
    st.tuples(st.tuples(*[plain] * 4), st.sampled_from(list(CHANNEL_VARIANTS))).map(
        lambda pair: Recipe((*pair[0], *[pair[1]] * 3))
    ),
)


def test_names():
    assert len(MATRIX_VARIANTS) == 27 and len(VARIANTS) == 31 and VARIANTS[0] == DENSE
    assert {"magnitude_10", "sparsegpt_70", "wanda_2_4", "sparsegpt_4_8", "ffn_channels_30"} <= set(VARIANTS)


@given(recipes)
def test_key_round_trip(recipe):
    assert Recipe.parse(recipe.key) == recipe
    assert [VARIANTS[code] for code in recipe.codes()] == list(recipe.variants)


def test_keys():
    assert Recipe.uniform("wanda_50").key == "wanda_50"
    assert Recipe.uniform(DENSE).key == "dense" == Recipe.of().key
    assert Recipe.single("attn_q", "wanda_50").key == "attn_q=wanda_50"
    assert Recipe.uniform("ffn_channels_10").key == "ffn_channels_10"
    assert Recipe.of(attn_k="wanda_20", ffn="ffn_channels_10").key == "attn_k=wanda_20,ffn=ffn_channels_10"
    assert Recipe.of(ffn="wanda_20")["ffn_up"] == "wanda_20"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wanda_55", "did you mean 'wanda_50'"),
        ("attn_z=wanda_50", "matrix type 'attn_z' is unknown"),
        ("attn_q=ffn_channels_10", "fits only"),
        ("ffn_up=ffn_channels_10", "together"),
        ("ffn_gate=ffn_channels_10,ffn_up=ffn_channels_20,ffn_down=ffn_channels_10", "together"),
    ],
)
def test_wrong_recipes(text, message):
    with pytest.raises(InputError, match=message):
        Recipe.parse(text)


def test_wrong_length():
    with pytest.raises(InputError, match="7 variants"):
        Recipe(("dense",) * 6)
    assert len(MATRIX_TYPES) == 7 and set(FFN_TYPES) < set(MATRIX_TYPES)
