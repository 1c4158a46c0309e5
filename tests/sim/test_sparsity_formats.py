"""Bytes of formats: closed forms against encoders written out here, and against the collected formulas."""

from importlib import resources

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.sparsity import formats
from sim.sparsity.profile import profile


def stored_bits(name, mask, bits):
    """Write the matrix down, symbol by symbol; returns the bits of all symbols."""
    symbols = []
    if name == "dense":
        symbols = [bits for _ in mask.flat]
    elif name == "bitmap":
        symbols = [1 + bits * bool(x) for x in mask.flat]
    elif name in ("csr", "csc"):
        for line in mask if name == "csr" else mask.T:
            symbols += [32] + [32 + bits for x in line if x]
        symbols.append(32)
    elif name == "coo":
        symbols = [32 + 32 + bits for x in mask.flat if x]
    elif name == "run_length":
        run = 0
        for x in mask.flat:
            if x or run == 31:
                symbols.append(5 + bits)
                run = 0
            else:
                run += 1
        trailing = len(mask.flat) - (np.flatnonzero(mask.flat).max(initial=-1) + 1)
        symbols = symbols[: len(symbols) - trailing // 32]
    elif name == "block":
        for line in mask:
            symbols += [32] + [32 + 4 * bits for j in range(0, len(line), 4) if line[j : j + 4].any()]
        symbols.append(32)
    return sum(symbols)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 90), st.floats(0, 1), st.sampled_from([4, 8, 16]))
def test_closed_forms_against_an_encoder(seed, rows, columns, density, bits):
    mask = np.random.default_rng(seed).random((rows, columns)) < density
    for name in formats.FORMATS:
        if name == "n_of_m":
            continue
        want = stored_bits(name, mask, bits) / 8
        assert formats.encoded_bytes(name, mask, bits) == want, name
        if name not in ("run_length", "block"):
            assert formats.bytes_of(name, rows, columns, mask.sum(), bits) == want
    blocks = rows * -(-columns // 4) - profile(mask).empty_runs[4]
    assert (
        formats.bytes_of("block", rows, columns, mask.sum(), bits, stored_blocks=blocks)
        == stored_bits("block", mask, bits) / 8
    )


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
def test_expected_forms_on_random_masks(density):
    mask = np.random.default_rng(0).random((400, 500)) < density
    for name in ("run_length", "block"):
        expected = formats.bytes_of(name, 400, 500, mask.sum(), 8)
        assert expected == pytest.approx(formats.encoded_bytes(name, mask, 8), rel=0.01)


def test_n_of_m():
    mask = np.zeros((6, 10), bool)
    mask[:, [0, 3, 4, 9]] = True
    assert formats.encoded_bytes("n_of_m", mask, 8) == 6 * 3 * 2 * (8 + 2) / 8
    assert formats.bytes_of("n_of_m", 6, 10, mask.sum(), 8) == 6 * 3 * 2 * (8 + 2) / 8
    assert formats.bytes_of("n_of_m", 4, 64, 64, 4, n_of_m=(4, 16)) == 4 * 16 * (4 + 4) / 8
    with pytest.raises(InputError, match="more than 1 nonzeros"):
        formats.encoded_bytes("n_of_m", mask, 8, (1, 4))


def test_collected_formulas():
    """The rows that are plain definitions, evaluated as they are written (fp16 values, M x K)."""
    with (resources.files("validation") / "data/tech/storage_format_formulas.csv").open() as file:
        rows = pd.read_csv(file).set_index("format").bytes_formula
    m, k, nnz = 128, 256, 9000
    known = {"M": m, "K": k, "nnz": nnz}
    for ours, theirs in (("dense", "dense"), ("csr", "CSR"), ("coo", "COO"), ("bitmap", "flat bitmap")):
        assert formats.bytes_of(ours, m, k, nnz, 16) == eval(rows[theirs], known), theirs
    assert formats.bytes_of("n_of_m", m, k, nnz, 16) == 1.125 * m * k
    ratio = 16 / formats.bits_per_weight("bitmap", m, k, m * k * np.array([0.7, 0.5, 0.3]), 16)
    np.testing.assert_allclose(ratio, [1.31, 1.78, 2.76], atol=0.005)


def test_broadcasting_and_names():
    got = formats.bytes_of("bitmap", [[4], [8]], [16, 32, 64], 10, 8)
    assert got.shape == (2, 3) and got[1, 2] == (10 * 8 + 8 * 64) / 8
    with pytest.raises(InputError, match="did you mean 'bitmap'"):
        formats.bytes_of("bit_map", 4, 4, 4, 8)
