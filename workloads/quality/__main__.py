"""Print how wrong the surrogate is: ``python -m workloads.quality`` (from the bundle alone, no weights)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import pandas as pd

from sim.errors import InputError
from workloads.quality import bundled_surrogate, compare_forms
from workloads.quality.evaluate import by_range, held_out_mixes, held_out_plans


def main(arguments: Sequence[str] | None = None) -> None:
    """Errors on held-out mixes and plans by range of ΔNLL, or one prediction."""
    parser = argparse.ArgumentParser(prog="python -m workloads.quality", description=__doc__.split(":")[0])
    parser.add_argument("recipe", nargs="?", help="predict this recipe or plan instead, like attn_q=wanda_50")
    parser.add_argument("--csv", help="also write every held-out prediction to this file")
    given = parser.parse_args(arguments)
    if given.recipe:
        try:
            found = bundled_surrogate().predict(given.recipe)
        except InputError as error:
            parser.error(str(error))
        low, high = found.ppl_interval
        interval = f"[{low:.2f}, {high:.2f}] at {found.level:.0%}"
        print(f"{found.recipe}: perplexity {found.ppl:.2f} {interval} ({found.label})")
        return
    mixes, plans = held_out_mixes(), held_out_plans()
    with pd.option_context("display.width", 200, "display.max_columns", None, "display.float_format", "{:.3f}".format):
        print("one variant a matrix type, each mix left out of the fit (ΔNLL in nats)")
        print(by_range(mixes).to_string(index=False))
        print("plans that differ from layer to layer, none fitted")
        print(by_range(plans).to_string(index=False))
        print("forms compared on the mixes")
        print(compare_forms().to_string(index=False))
    if given.csv:
        both = pd.concat([mixes.assign(kind="mix"), plans.assign(kind="plan")])
        both.to_csv(given.csv, index=False, float_format="%.5f", lineterminator="\n")


if __name__ == "__main__":
    main()
