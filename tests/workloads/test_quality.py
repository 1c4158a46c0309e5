"""The surrogate: exact on what it was built from, vectorised as it is one by one, and honest about the rest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from workloads.checkpoint import MATRIX_TYPES
from workloads.quality import FORMS, NOISE_FLOOR, QualityModel, compare_forms
from workloads.quality.model import GUESSING_NLL
from workloads.recipe import CHANNEL_VARIANTS, DENSE, FFN_TYPES, MATRIX_VARIANTS, VARIANTS, Recipe

DENSE_NLL = 2.5


def made_up(seed: int = 0) -> pd.DataFrame:
    """Rows as measured.csv has them, with numbers of a random but orderly world (not measurements), and no mix."""
    rng = np.random.default_rng(seed)
    rows = [("dense", DENSE, DENSE_NLL)]
    for variant in MATRIX_VARIANTS:
        alone = rng.uniform(-0.002, 0.6, len(MATRIX_TYPES))
        rows += [
            ("single", Recipe.single(t, variant).key, DENSE_NLL + d) for t, d in zip(MATRIX_TYPES, alone, strict=True)
        ]
        rows.append(("uniform", variant, DENSE_NLL + alone.sum() * rng.uniform(0.7, 2.0)))
    rows += [("uniform", v, DENSE_NLL + 0.3 * i) for i, v in enumerate(CHANNEL_VARIANTS, 1)]
    return pd.DataFrame(rows, columns=["kind", "key", "nll"]).assign(arithmetic="w8a8kv8")


TABLE = made_up()
MODELS = {form: QualityModel.fit(TABLE, form) for form in FORMS}
plain = st.sampled_from([DENSE, *MATRIX_VARIANTS])
recipes = st.one_of(
    st.tuples(*[plain] * 7).map(Recipe),
    st.tuples(st.tuples(*[plain] * 4), st.sampled_from(list(CHANNEL_VARIANTS))).map(
        lambda pair: Recipe((*pair[0], *[pair[1]] * 3))
    ),
)


@pytest.mark.parametrize("form", ["factor", "pairs", "learned"])
def test_uniform_recipes_are_exact(form):
    rows = TABLE[TABLE["kind"] != "single"]
    for key, nll in zip(rows["key"], rows["nll"], strict=True):
        assert MODELS[form].predict(key).nll == pytest.approx(nll, abs=1e-9)


@pytest.mark.parametrize("form", ["sum", "pairs"])
def test_single_recipes_are_exact(form):
    rows = TABLE[TABLE["kind"] == "single"]
    for key, nll in zip(rows["key"], rows["nll"], strict=True):
        assert MODELS[form].predict(key).nll == pytest.approx(nll, abs=1e-9)


def by_hand(model: QualityModel, recipe: Recipe) -> float:
    """The docstring's equation, term by term."""
    terms = []
    for t, (matrix_type, variant) in enumerate(zip(MATRIX_TYPES, recipe.variants, strict=True)):
        if variant == DENSE or (variant in CHANNEL_VARIANTS and matrix_type != FFN_TYPES[0]):
            continue
        code = VARIANTS.index(variant)
        terms.append((model.alone[t, code], model.correction[code], variant in CHANNEL_VARIANTS))
    if model.form == "learned":
        return model.dense_nll + learned_by_hand(model, recipe, terms)
    total = model.dense_nll
    for i, (d, k, joint) in enumerate(terms):
        total += d if model.form == "pairs" else d * k
        for d2, k2, joint2 in terms[i + 1 :] if model.form == "pairs" else ():
            kappa = k2 if joint else k if joint2 else (k + k2) / 2
            total += kappa * np.sqrt((abs(d) + NOISE_FLOOR) * (abs(d2) + NOISE_FLOOR))
    return total


def learned_by_hand(model: QualityModel, recipe: Recipe, terms: list) -> float:
    """The law of the compounding module, pair by pair, and what uniform recipes are remembered for."""
    ceiling = GUESSING_NLL - model.dense_nll
    pruned = [v for t, v in zip(MATRIX_TYPES, recipe.variants, strict=True) if v != DENSE]
    pruned = pruned[: len(terms)]
    x = [d / (1 - d / ceiling) for d, _, _ in terms]
    p = sum(x)
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            alike = pruned[i].startswith("magnitude") == pruned[j].startswith("magnitude")
            rho = model.law.same if alike else model.law.cross
            p += rho * max(x[i], 0) * max(x[j], 0)
    found = p / (1 + max(p, 0) / ceiling)
    for variant in MATRIX_VARIANTS:
        column = np.maximum(model.alone[:, VARIANTS.index(variant)], 1e-6)
        held = sum(column[t] for t, v in enumerate(recipe.variants) if v == variant) / column.sum()
        found += held**3 * model.correction[VARIANTS.index(variant)]
    return found


@given(st.lists(recipes, min_size=1, max_size=5))
def test_vectorised_equals_the_equation(chosen):
    for model in MODELS.values():
        found = model.nll(np.array([recipe.codes() for recipe in chosen]))
        assert found == pytest.approx([by_hand(model, recipe) for recipe in chosen], abs=1e-9)


def test_prediction_is_labelled():
    predicted = MODELS["pairs"].predict("wanda_50")
    assert predicted.label == "predicted, w8a8kv8" and predicted.ppl == pytest.approx(np.exp(predicted.nll))


def test_rows_of_other_arithmetic_are_not_used():
    other = pd.concat([TABLE, TABLE.assign(arithmetic="float", nll=99.0)])
    for form, model in MODELS.items():
        assert QualityModel.fit(other, form).predict("wanda_50").nll == model.predict("wanda_50").nll


def test_a_missing_measurement_is_named():
    with pytest.raises(InputError, match=r"attn_v=wanda_30: no w8a8kv8 measurement"):
        QualityModel.fit(TABLE[TABLE["key"] != "attn_v=wanda_30"])


@pytest.mark.parametrize(
    "variants",
    [("ffn_channels_10", *["dense"] * 6), (*["dense"] * 6, "ffn_channels_10")],
    ids=["attention", "down alone"],
)
def test_channels_that_do_not_fit(variants):
    with pytest.raises(InputError, match="FFN channels"):
        MODELS["pairs"].nll(np.array([[VARIANTS.index(v) for v in variants]]))


@pytest.mark.parametrize("codes", [[[0] * 6], [[99] * 7], [[-1] * 7]])
def test_wrong_codes(codes):
    with pytest.raises(InputError, match="places in VARIANTS"):
        MODELS["pairs"].nll(np.array(codes))


def test_wrong_form_and_file(tmp_path):
    with pytest.raises(InputError, match="surrogate form"):
        QualityModel.from_bundle("pair")
    with pytest.raises(InputError, match="measure_bundle"):
        QualityModel.from_bundle(path=tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column"):
        QualityModel.from_bundle(path=tmp_path / "bad.csv")


def test_compare_forms_measures_errors_on_mixes():
    recipe = Recipe.of(attn_q="wanda_50", ffn_up="magnitude_30", ffn_down="sparsegpt_2_4")
    truth = MODELS["pairs"].predict(recipe).nll
    more = [("mix", recipe.key, truth + 0.1), ("mix", "attn_k=wanda_10,ffn_up=wanda_20", 2.6), ("mix", "wanda_70", 9.0)]
    table = pd.concat([TABLE, pd.DataFrame(more, columns=["kind", "key", "nll"]).assign(arithmetic="w8a8kv8")])
    errors = compare_forms(table, nll_below=truth + 0.2).set_index("form")
    assert errors.loc["pairs", "mixes"] == 2 and list(errors.index) == list(FORMS)
    assert errors.loc["pairs", "worst_abs_error"] >= 0.1 - 1e-9
    with pytest.raises(InputError, match="no random mix"):
        compare_forms(TABLE)
