"""The gains of real masks: no machine beats the ideal, and what balances a mask shows."""

import pytest

from validation.speedup import LINES, markdown, table


@pytest.mark.slow
def test_gains_are_bounded_by_the_zeros():
    found = table().set_index(["method", "pattern"])
    for line in LINES:
        part = found[line].dropna()
        assert (part >= 1 - 1e-9).all() and (part <= found["ideal"][part.index] * (1 + 1e-9)).all(), line
    levels = [str(level) for level in range(10, 80, 10)]
    for method in ("magnitude", "wanda", "sparsegpt"):
        for line in LINES:
            if line != "2:4":
                assert found.loc[method].loc[levels, line].is_monotonic_increasing, (method, line)
    wanda = found.loc["wanda"].loc[levels]
    assert (wanda["output lanes"] > wanda["input lanes"]).all()  # equal rows: its output lanes are even
    assert markdown(found.reset_index()).count("\n") == len(found) + 2
