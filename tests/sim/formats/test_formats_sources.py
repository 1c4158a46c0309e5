"""Formats against formulas that others wrote down, and the public short cuts."""

from importlib import resources

import numpy as np
import pandas as pd
import pytest

from formats import real_masks
from formats.cases import drawn
from sim.errors import InputError
from sim.sparsity import formats
from sim.sparsity.density import Hypergeometric
from sim.sparsity.formats import format_of
from sim.sparsity.profile import profile

DATA = resources.files("validation") / "data"


def table(path, **options):
    with (DATA / path).open() as file:
        return pd.read_csv(file, **options).set_index("format")


def test_collected_formulas():
    """The rows that say it exactly, evaluated as they are written (fp16 values, M x K), on a real mask of whole
    tiles."""
    rows = table("tech/storage_format_formulas.csv").bytes_formula
    mask = real_masks.masks()["sparsegpt_50"][:128]
    (m, k), nnz = mask.shape, int(mask.sum())
    known = {"M": m, "K": k, "nnz": nnz}
    for ours, theirs in (("dense", "dense"), ("csr", "CSR"), ("coo", "COO"), ("bitmap", "flat bitmap")):
        assert formats.bytes_of(ours, m, k, nnz, 16) == eval(rows[theirs], known), theirs
        assert formats.encoded_bytes(ours, mask, 16) == eval(rows[theirs], known), theirs
    assert formats.bytes_of("n_of_m", m, k, nnz, 16) == 1.125 * m * k
    known |= {"N": 4, "Mg": 16, "ceil": np.ceil, "log2": np.log2}
    assert formats.bytes_of("n_of_m", m, k, nnz, 16, n_of_m=(4, 16)) == eval(rows["N:M fp16"], known)
    groups = mask.reshape(2, 64, 9, 64).sum(axis=(1, 3))
    paper, medians = rows["TCA-BME (SpInfer)"].split(" [+ ")
    known["pad"] = int((-groups % 8).sum())
    assert known["pad"] > 0 and formats.encoded_bytes("tca_bme", mask, 16) == eval(paper, known)
    with_medians = eval(paper, known) + eval(medians.split(" median")[0], known)
    assert formats.encoded_bytes("tca_bme", mask, 16, medians=True) == with_medians
    csl = rows["Tiled-CSL (Flash-LLM)"].replace("(num_tiles+1..2)", "(num_tiles+2)")
    known |= {"pad": int((-mask.reshape(128, 9, 64).sum(axis=(0, 2)) % 4).sum()), "num_tiles": 9}
    assert formats.encoded_bytes("tiled_csl", mask, 16) == eval(csl, known)


def test_run_length_of_eyeriss():
    """5-bit runs, 16-bit values, three pairs in 64 bits: 8 ceil(pairs / 3) bytes; a run beyond 31 inserts a zero."""
    row = np.zeros((1, 200), dtype=np.int64)
    row[0, [0, 32, 65, 199]] = 7  # gaps of 0, 31, 32 and 133 zeros
    runs = format_of("run_length", word_bits=64)
    encoded = runs.encode(row, 16)
    assert encoded.streams["runs"].numbers.tolist() == [0, 31, 31, 0, 31, 31, 31, 31, 5]
    assert runs.stored(row, 16).total == 8 * 3
    row[0, 198] = 7
    formula = table("tech/storage_format_formulas.csv").bytes_formula["RLC-4/5 (Eyeriss v1)"]
    assert runs.stored(row, 16).total == eval(formula, {"ceil": np.ceil, "nnz_eff": 10})
    mask = drawn((64, 64), 0.9) > 0
    plain = format_of("run_length").stored(mask, 16)
    assert plain.values / plain.total == pytest.approx(16 / 21, abs=1e-3)  # Sparseloop's "RLE overhead"


def test_bitmap_against_dense_bandwidth():
    ratio = 16 / formats.bits_per_weight("bitmap", 512, 512, 512 * 512 * np.array([0.7, 0.5, 0.3]), 16)
    np.testing.assert_allclose(ratio, [1.31, 1.78, 2.76], atol=0.005)


def test_stacks_are_the_formats_they_spell():
    for mask in real_masks.masks().values():
        m, k = mask.shape
        same = (
            ("csr", {}, {"ranks": "UOP-CP", "index_bits": 32}),
            ("coo", {}, {"ranks": "CP-CP", "index_bits": 32}),
            ("block", {"block": (4, 8)}, {"ranks": "UOP-CP-U", "block": (4, 8), "index_bits": 32}),
            ("bitmap", {}, {"ranks": "B"}),
            ("dense", {}, {"ranks": "U-U"}),
            ("run_length", {}, {"ranks": "RLE"}),
        )
        for name, options, stack in same:
            ours, theirs = format_of(name, **options), format_of("ranks", **stack)
            assert ours.stored(mask, 8) == theirs.stored(mask, 8), name
            assert ours.closed(m, k, mask.sum(), 8).total == pytest.approx(theirs.closed(m, k, mask.sum(), 8).total)


def test_sparseloop_units_of_every_rank():
    """Numbers that each rank stores, against the collected formulas with F = fibers, S = their shape, P0 = chance that
    a tile is empty. F' n is theirs for a CP or RLE rank, exact where no fiber is empty."""
    rows = table("peers/sparseloop_format_formulas.csv", comment="#")
    model = Hypergeometric((32, 64), 0.25)
    mask = model.draw(3)
    for name in ("B", "CP", "UB", "RLE"):
        formula = rows.loc[next(i for i in rows.index if i.split()[0] == name), "metadata_units_per_tile"]
        fibers, size = 32, 64
        known = {"F": fibers, "F_": fibers * (1 - model.empty(1, size)), "S": size, "n": size * (1 - model.empty(1, 1))}
        known["n_exact"] = known["n"]
        want = eval(formula.replace("F'", "F_"), known)
        streams = format_of("ranks", ranks=f"UOP-{name}", run_bits=8).encode(mask, 8).streams
        assert len(streams[f"1.{name}"].numbers) == pytest.approx(want, rel=1e-6), name
    uop = rows.loc[next(i for i in rows.index if i.startswith("UOP")), "payload_units_per_tile"]
    pointers = format_of("ranks", ranks="UOP-CP").encode(mask, 8).streams["0.UOP"].numbers
    assert len(pointers) == eval(uop.replace("F'", "F_"), {"F_": 1, "S": 32}) == 33


def test_stacks_that_could_not_be_read_back_are_refused():
    for ranks, block, text in (
        ("UOP-CQ", None, "did you mean 'CP'"),
        ("B-CP", None, "with UOP above CP"),
        ("UOP", None, "with a rank below UOP"),
        ("RLE-B", None, "with RLE innermost"),
        ("UOP-CP-B", None, "block must be"),
        ("B-B-B-B-B", (4, 4), "at most 4 names"),
    ):
        with pytest.raises(InputError, match=text):
            format_of("ranks", ranks=ranks, block=block)


def test_profiles_know_the_blocks():
    for mask in real_masks.masks().values():
        found = profile(mask)
        blocks = mask.shape[0] * -(-mask.shape[1] // 8) - found.empty_runs[8]
        known = formats.bytes_of("block", *mask.shape, mask.sum(), 8, block=8, stored_blocks=blocks)
        assert known == formats.encoded_bytes("block", mask, 8, block=8)


def test_broadcasting_and_names():
    got = formats.bytes_of("bitmap", [[4], [8]], [16, 32, 64], 10, 8)
    assert got.shape == (2, 3) and got[1, 2] == (10 * 8 + 8 * 64) / 8
    with pytest.raises(InputError, match="did you mean 'bitmap'"):
        formats.bytes_of("bit_map", 4, 4, 4, 8)
