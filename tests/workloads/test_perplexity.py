"""Perplexity in two domains with bootstrap intervals over windows; the bundled windows; one command."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sim.errors import InputError
from workloads import perplexity, text
from workloads.calibration import bundled_windows, calibrate, windows_sha256
from workloads.perplexity import DOMAINS, Measurement, Meter, bootstrap, domain_windows, measure_domains
from workloads.recipe import Recipe
from workloads.tokenizer import Tokenizer
from workloads.transformer import token_nll
from workloads.variants import VariantStore, default_store


@pytest.fixture
def store(tiny, monkeypatch) -> VariantStore:
    """A tiny model with two made-up domains of four windows of 16 tokens."""
    rng = np.random.default_rng(3)
    windows = {domain: rng.integers(0, tiny.config.vocab, (4, 16)) for domain in DOMAINS}
    monkeypatch.setattr(perplexity, "domain_windows", windows.__getitem__)
    return VariantStore(tiny, calibrate(tiny, rng.integers(0, tiny.config.vocab, (2, 16))))


def a_measurement(window_nll: list[float], **other) -> Measurement:
    values = {"recipe": "x", "arithmetic": "float", "nll": float(np.mean(window_nll)), "window_nll": tuple(window_nll)}
    values |= {"tokens": 2000, "realised_sparsity": 0.0, "cpu_s": 8.0, "seed": 0, "model_sha256": "m"}
    return Measurement(**(values | {"windows_sha256": "w", "calibration_sha256": ""} | other))


def test_bundled_domains_are_two():
    wikipedia, speeches = (domain_windows(domain) for domain in DOMAINS)
    assert wikipedia.shape == speeches.shape == (8, 512)
    assert windows_sha256(wikipedia) == windows_sha256(bundled_windows()["evaluation"]) != windows_sha256(speeches)
    assert len(np.unique(speeches, axis=0)) == 8 and speeches.max() < 49152
    with pytest.raises(InputError, match="did you mean 'speeches'"):
        domain_windows("speech")


def test_the_bootstrap_of_many_windows_is_the_normal_interval():
    """For n = 400 draws of unit variance: mean ± 1.96 / √400; the interval is equivariant and the seed decides it."""
    values = np.random.default_rng(0).standard_normal(400)
    low, high = bootstrap(values, 0.95, seed=1)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.05)
    assert low < values.mean() < high
    np.testing.assert_allclose(bootstrap(3 * values + 1, 0.95, seed=1), (3 * low + 1, 3 * high + 1))
    assert bootstrap(values, 0.95, seed=1) == (low, high) != bootstrap(values, 0.95, seed=2)
    narrow = bootstrap(values, 0.5, seed=1)
    assert low < narrow[0] < narrow[1] < high


def test_the_bootstrap_covers():
    """Of 300 samples of 30 windows, 95 % intervals hold the true mean nearly as often as they say."""
    rng = np.random.default_rng(0)
    hits = [low < 0 < high for low, high in (bootstrap(rng.standard_normal(30), seed=i) for i in range(300))]
    assert 0.90 < np.mean(hits) < 0.98


def test_equal_windows_have_no_width():
    assert bootstrap([2.0, 2.0, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize(("values", "level"), [([1.0], 0.9), ([1.0, 2.0], 1.0), ([1.0, 2.0], 0), ([1.0, 2.0], np.nan)])
def test_bad_bootstraps(values, level):
    with pytest.raises(InputError, match=r"at least 2 windows|between 0 and 1"):
        bootstrap(values, level)


def test_cpu_and_intervals_of_a_measurement():
    measured = a_measurement([2.0, 3.0, 4.0])
    assert measured.cpu_s_per_1k_tokens == 4.0
    low, high = measured.ppl_interval()
    assert np.exp(2.0) <= low < measured.ppl < high <= np.exp(4.0)
    assert "measured" in str(measured) and "4.00 CPU-s/1k tokens" in str(measured)


def test_a_change_is_compared_window_by_window():
    """Texts differ by nats, the change does not: its interval must not inherit their spread."""
    dense = a_measurement([2.0, 3.0, 4.0, 5.0])
    change, low, high = a_measurement([2.1, 3.1, 4.1, 5.1]).nll_change(dense)
    assert (change, low, high) == pytest.approx((0.1, 0.1, 0.1))
    for other in ({"windows_sha256": "v"}, {"arithmetic": "w8a8kv8"}):
        with pytest.raises(InputError, match="same windows and arithmetic"):
            dataclasses.replace(dense, **other).nll_change(dense)


def test_both_domains_are_measured(store):
    found = measure_domains(Recipe.uniform("wanda_50"), store, "float", seed=5)
    assert tuple(found) == DOMAINS
    for domain, (dense, pruned) in found.items():
        expected = token_nll(store.checkpoint, perplexity.domain_windows(domain)).mean(axis=1)
        np.testing.assert_allclose(dense.window_nll, expected, atol=1e-6)
        assert (dense.domain, pruned.domain, pruned.seed) == (domain, domain, 5)
        assert pruned.realised_sparsity == pytest.approx(0.5, abs=0.02) and dense.cpu_s > 0
    assert found["wikipedia"][0].windows_sha256 != found["speeches"][0].windows_sha256


def test_the_command_prints_both_domains(store, capsys):
    perplexity.main(["--recipe", "attn_q=wanda_50", "--arithmetic", "float"], lambda: store)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip().split(" ")[0] for line in lines] == ["dense", "attn_q=wanda_50", "ΔNLL"] * 2
    assert "wikipedia" in lines[0] and "speeches" in lines[3]
    with pytest.raises(SystemExit):
        perplexity.main(["--recipe", "wanda_55"], lambda: store)
    assert "wanda_55" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arithmetic", "name"),
    [
        ("float", "float"),
        ("wxa8kv4", "wxa8kv4"),
        (("w8a8kv8", "w4a4kv4"), "w8a8kv8,w4a4kv4*2"),
        ("w4a8kv8*2", "w4a8kv8"),
    ],
)
def test_any_arithmetic_is_measured_and_named(store, arithmetic, name):
    """The head that a meter keeps is rounded to the arithmetic at hand, whatever came before."""
    meter = Meter(store.checkpoint, perplexity.domain_windows("speeches"))
    meter.measure("dense", store.checkpoint.matrix, 0.0)
    for _ in range(2):
        found = meter.measure("dense", store.checkpoint.matrix, 0.0, arithmetic)
        assert found.arithmetic == name
        expected = token_nll(store.checkpoint, meter.windows, arithmetic=arithmetic).mean()
        assert found.nll == pytest.approx(expected, rel=1e-9)


def test_a_narrower_cache_is_further_from_float(store):
    """KV4 moves the tiny model further than KV8 does, and again the same; which way, random weights cannot say."""
    windows = perplexity.domain_windows("wikipedia")
    exact = token_nll(store.checkpoint, windows, arithmetic="w8a8kvf")
    moved = [
        [np.abs(token_nll(store.checkpoint, windows, arithmetic=a) - exact).mean() for a in ("w8a8kv8", "w8a8kv4")]
        for _ in range(2)
    ]
    assert moved[0] == moved[1] and moved[0][1] > 4 * moved[0][0] > 0


def test_an_edit_is_measured(store):
    meter = Meter(store.checkpoint, perplexity.domain_windows("wikipedia"))
    edit = lambda layer, name, x: x * np.float32(name != "ffn_in")  # noqa: E731
    found = meter.measure("no ffn", store.checkpoint.matrix, 0.0, "float", edit=edit)
    assert found.nll == pytest.approx(token_nll(store.checkpoint, meter.windows, edit=edit).mean())
    assert abs(found.nll - meter.measure("dense", store.checkpoint.matrix, 0.0, "float").nll) > 1e-3


@pytest.mark.slow
def test_kv4_costs_more_than_kv8():
    """Two windows of real text."""
    checkpoint = default_store().checkpoint
    meter = Meter(checkpoint, domain_windows("wikipedia")[:2])
    exact, eight, four = (
        meter.measure("dense", checkpoint.matrix, 0.0, a).nll for a in ("w8a8kvf", "w8a8kv8", "w8a8kv4")
    )
    assert abs(eight - exact) < 0.01 < four - eight


@pytest.mark.slow
def test_real_speeches():
    """The bundled windows come from the text, and the second domain is harder for the model than the first."""
    checkpoint = default_store().checkpoint
    np.testing.assert_array_equal(text.speech_windows(Tokenizer(checkpoint)), domain_windows("speeches"))
    speech, wikipedia = (
        Meter(checkpoint, domain_windows(domain)[:2], domain=domain).measure("dense", checkpoint.matrix, 0.0, "float")
        for domain in reversed(DOMAINS)
    )
    assert speech.nll > wikipedia.nll + 0.3
