"""The measured table of pruning methods: complete, consistent with independent measurements, and what it claims."""

import json

import numpy as np
import pandas as pd
import pytest

from validation import pruning_methods as table
from workloads.perplexity import DOMAINS
from workloads.quality.table import read_measured

FOUND = table.rows()


def nll(method, pattern, domain="wikipedia"):
    row = FOUND[(FOUND["method"] == method) & (FOUND["pattern"] == pattern)].iloc[0]
    return float(np.mean(row[f"nll_{domain}"]))


def test_every_row_is_there_once():
    assert sorted(zip(FOUND["method"], FOUND["pattern"], strict=True)) == sorted(table.wanted())


@pytest.mark.parametrize(("method", "nats"), [("magnitude", 1e-4), ("wanda", 1e-4), ("sparsegpt", 0.02)])
@pytest.mark.parametrize("pattern", ["0.3", "0.5", "0.6", "0.7", "2:4", "4:8"])
def test_equals_what_the_bundle_measured_by_another_path(method, nats, pattern):
    """The bundle's variants are made by workloads.variants and measured there.

    SparseGPT's sweep carries the last bits of its sums, which another number of threads adds up otherwise, all
    the way into the masks.
    """
    name = pattern.replace(":", "_") if ":" in pattern else f"{100 * float(pattern):.0f}"
    rows = read_measured()
    rows = rows[(rows["arithmetic"] == "w8a8kv8") & (rows["key"] == f"{method}_{name}")]
    assert len(rows) == 1
    np.testing.assert_allclose(nll(method, pattern), float(rows["nll"].iloc[0]), atol=nats, rtol=0)


def test_weights_gone_are_the_share_asked_for():
    """Mask methods remove what they are told, over each row, block or matrix; n:m exactly."""
    for row in FOUND[FOUND["method"].isin(["alps", "elsa", "magnitude", "ria", "sparsegpt", "wanda"])].itertuples():
        share = 0.5 if ":" in row.pattern else float(row.pattern)
        assert row.sparsity == pytest.approx(share, abs=1e-3), (row.method, row.pattern)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("pattern", ["0.6", "0.7"])
def test_alps_is_at_or_below_sparsegpt(pattern, domain):
    assert nll("alps", pattern, domain) <= nll("sparsegpt", pattern, domain)


def test_lanes_never_beat_even_ones():
    for column in ("imbalance_output", "imbalance_input"):
        assert (FOUND[column].dropna() >= 1.0).all()


def test_intervals_are_of_the_change_window_by_window():
    """The same shift in every window has no spread, however far apart the windows are."""
    base = np.array([1.0, 2.0, 3.0, 4.0])
    rows = pd.DataFrame(
        {"method": ["dense", "x"], "pattern": ["0", "0.5"], "nll_wikipedia": [list(base), list(base + 0.25)]}
    )
    found = table.damage(rows, "wikipedia")
    np.testing.assert_allclose(found.loc[("x", "0.5")], np.exp(2.75))


def test_page_shows_this_table():
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.markdown(FOUND) in page, "run python -m validation.pruning_methods --write"


@pytest.mark.slow
def test_a_row_measured_again():
    from workloads.checkpoint import open_checkpoint

    row = table.measure(open_checkpoint(), "wanda", "2:4")
    stored = FOUND[(FOUND["method"] == "wanda") & (FOUND["pattern"] == "2:4")].iloc[0]
    for domain in DOMAINS:
        np.testing.assert_allclose(json.loads(row[f"nll_{domain}"]), stored[f"nll_{domain}"], atol=2e-3)
    assert row["imbalance_output"] == pytest.approx(stored["imbalance_output"], abs=1e-3)
