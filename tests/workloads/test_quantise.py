"""Properties of the symmetric int8 quantiser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workloads.quantise import fake_quantise, quantise_rows

finite = st.floats(-1e4, 1e4, width=32).map(lambda v: 0.0 if abs(v) < 1e-6 else v)


@given(arrays(np.float32, (3, 7), elements=finite))
def test_quantiser(x):
    q, scale = quantise_rows(x)
    assert q.dtype == np.float32 and np.array_equal(q, np.rint(q)) and np.abs(q).max() <= 127
    top = np.abs(x).max(axis=1)
    np.testing.assert_allclose(scale[:, 0], top / 127, rtol=1e-6)
    assert np.all(np.abs(q).max(axis=1) == np.where(top > 0, 127, 0))
    assert np.all(np.abs(q * scale - x) <= scale * 0.5001 + 1e-12)
    mirrored, _ = quantise_rows(-x)
    np.testing.assert_array_equal(mirrored, -q)
    assert np.all(q[x == 0] == 0)  # pruned weights stay zero


@given(arrays(np.float32, (2, 5), elements=finite))
def test_idempotent(x):
    once = fake_quantise(x)
    np.testing.assert_allclose(fake_quantise(once), once, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("columns", [576, 1040])
def test_integer_sums_are_exact_in_float32(columns):
    rng = np.random.default_rng(0)
    a = rng.integers(-127, 128, (50, columns))
    a[0] = 127
    b = rng.integers(-127, 128, (60, columns))
    b[0] = 127
    found = a.astype(np.float32) @ b.astype(np.float32).T
    np.testing.assert_array_equal(found.astype(np.int64), a @ b.T)
