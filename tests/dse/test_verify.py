"""``--verify`` measures on the real model what the quality model predicted."""

import numpy as np
import pandas as pd
import pytest

from dse.space import load
from dse.verify import measured
from workloads.quality import bundled_model
from workloads.recipe import Recipe


@pytest.mark.slow
def test_reported_points_are_measured_again():
    """A uniform recipe's prediction is its measurement; points that are not reported stay unmeasured."""
    recipes = ["wanda_30", "attn_q=wanda_50,ffn=ffn_channels_10", "sparsegpt_2_4"]
    codes = np.array([Recipe.parse(r).codes() for r in recipes])
    front = pd.DataFrame({"recipe": recipes, "perplexity": bundled_model().ppl(codes), "reported": [True, True, False]})
    table = measured(front, load("edge_codesign"), lambda what, done, total: None)
    assert table["perplexity_measured"].notna().tolist() == [True, True, False]
    assert table["nll_error"][0] == pytest.approx(0.0, abs=0.002)
    assert abs(table["nll_error"][1]) < 0.1
