"""Machines with any weight format: what reaches DRAM is what the format stores."""

import numpy as np
import pytest

import sparchitect as sp
from formats import real_masks
from formats.cases import CASES, IDS, fitting
from sim.designs import FORMATS as CODES
from sim.designs import Designs
from sim.errors import InputError
from sim.sparse_ops import GUESSED, configuration, storage
from sim.sparsity.formats import FORMATS, format_of
from sim.sparsity.formats.numbers import FIELDS, of_numbers, to_numbers
from sim.sparsity.profile import profile
from sim.stored_weights import stored_weights
from sim.trace import Op, Trace

MACHINES = (
    {},
    {"format": "bitmap"},
    {"format": "n_of_m", "n_of_m": "2:4"},
    {"format": "n_of_m", "n_of_m": "3:6"},
    {"format": "csr", "index_bits": 10},
    {"format": "csc", "index_bits": 12},
    {"format": "coo", "index_bits": 10},
    {"format": "run_length"},
    {"format": "run_length", "word_bits": 64},
    {"format": "block", "block": "4x4"},
    {"format": "block", "block": "1x8", "index_bits": 8},
    {"format": "tiled_csl"},
    {"format": "tca_bme"},
    {"format": "two_four_residual", "index_bits": 10},
    {"format": "huffman", "code_bits": 5.5},
    {"format": "ranks", "ranks": "UOP-CP"},
    {"format": "ranks", "ranks": "CP-B", "block": "8x8"},
    {"format": "ranks", "ranks": "UOP-RLE"},
)
NAMES = [" ".join(map(str, fields.values())) or "dense" for fields in MACHINES]
WORK = {"m": 16, "k": 576, "n": 192, "bits": 8}


def machine(fields, name="dense_ws"):
    """Memories hold the whole op, whatever room the format asks for: DRAM sees every weight once."""
    plain = sp.accelerator(name)
    roomy = {f"memory.{level}.capacity_kib": 1 << 16 for level in plain.memory}
    return plain.override(roomy | {f"sparsity.{field}": value for field, value in fields.items()})


def pruned(density=0.15, seed=0):
    """A mask sparse enough for every format, blocks of it empty: real nonzeros, thinned out block by block."""
    rng = np.random.default_rng(seed)
    kept = np.kron(rng.random((24, 72)) < 2 * density, np.ones((8, 8), dtype=bool))
    return real_masks.masks()["wanda_50"] & kept


def as_profile_only(trace, mask):
    return Trace.from_ops([Op("w", sparsity=profile(mask), numbers=dict(trace.ops.iloc[0][["m", "n", "k"]]))])


def test_every_format_is_a_machine_here():
    assert {fields.get("format", "dense") for fields in MACHINES} == set(FORMATS) == set(CODES)


@pytest.mark.parametrize("fields", MACHINES, ids=NAMES)
@pytest.mark.parametrize("engine", ["analytic", "timeline"])
def test_dram_sees_what_is_stored(fields, engine):
    """Weights as stored, inputs and outputs once: 16 x 576 and 16 x 192 bytes."""
    mask = fitting(machine(fields).sparsity.storage, pruned()).astype(bool)
    found = sp.simulate(machine(fields), sp.gemm(**WORK, sparsity=mask), engine=engine, objective="traffic")
    chosen = machine(fields).sparsity.storage
    stored = chosen.closed(192, 576, mask.sum(), 8) if chosen.codes_values else chosen.stored(mask, 8)
    assert found.dram_bytes == pytest.approx(stored.total + 16 * 576 + 16 * 192, abs=1)
    assert stored.total < 192 * 576 or not fields
    assert np.isfinite(found.energy_pj)


@pytest.mark.parametrize("fields", [f for f in MACHINES if "n_of_m" not in f], ids=str)
def test_lanes_take_any_format_too(fields):
    lanes = machine(fields, "sparse_lanes") if fields else sp.accelerator("sparse_lanes")
    report = sp.simulate(lanes, sp.gemm(**WORK, sparsity=pruned()))
    assert report.cycles > 0 and report.dram_bytes > 0


@pytest.mark.parametrize("fields", MACHINES, ids=NAMES)
def test_a_matrix_that_would_only_grow_is_stored_dense_and_room_is_for_the_worst(fields):
    chosen = machine(fields).sparsity.storage
    for mask in (pruned(), np.ones((192, 576), bool), real_masks.masks()["magnitude_50"]):
        found = stored_weights(chosen, sp.gemm(**WORK, sparsity=mask))
        assert found.stored[0] <= 192 * 576 <= found.room[0] or found.room[0] == found.stored[0]
        assert found.packed_k[0] <= 576


@pytest.mark.parametrize("fields", MACHINES, ids=NAMES)
def test_without_the_mask_bytes_are_exact_or_say_that_they_are_not(fields):
    mask = fitting(machine(fields).sparsity.storage, pruned()).astype(bool)
    trace = sp.gemm(**WORK, sparsity=mask)
    chosen = machine(fields).sparsity.storage
    exact, known = (stored_weights(chosen, t) for t in (trace, as_profile_only(trace, mask)))
    assert exact.guessed[0] == chosen.codes_values  # values are never in a trace
    if not known.guessed[0] and fields.get("n_of_m") != "3:6":  # profiles know groups of 4, 8, 16, 32
        assert known.stored[0] == exact.stored[0]
    assert known.guessed[0] == (
        not chosen.counts_suffice and chosen.name != "block" and fields.get("block") != "8x8"
    )  # blocks are in the profile
    report = sp.simulate(machine(fields), as_profile_only(trace, mask))
    assert report.table["weights_are"].str.endswith(GUESSED).any() == known.guessed[0]


def test_n_of_m_of_any_group():
    """What fits is known from the mask, or from groups that divide it or that it divides."""
    mask = np.zeros((32, 96), bool)
    mask[:, [0, 5, 11]] = True
    for pattern, fits in (("1:2", True), ("1:6", False), ("2:6", True), ("3:12", True), ("2:12", False), ("2:5", True)):
        report = sp.simulate(machine({"format": "n_of_m", "n_of_m": pattern}), sp.gemm(m=8, k=96, n=32, sparsity=mask))
        assert (report.table["weights_are"] == "n:m").all() == fits, pattern
    packed = stored_weights(
        machine({"format": "n_of_m", "n_of_m": "2:5"}).sparsity.storage, sp.gemm(8, 96, 32, sparsity=mask)
    )
    assert packed.packed_k[0] == 2 * 20 and packed.grain % 5 == 0


def test_fewer_nonzeros_never_take_more_dram():
    for fields in MACHINES[4::3]:
        bytes_of = [
            sp.simulate(machine(fields), sp.gemm(**WORK, sparsity=mask), objective="traffic").dram_bytes
            for mask in (np.zeros((192, 576), bool), pruned(0.05), pruned(0.15), np.ones((192, 576), bool))
        ]
        assert bytes_of == sorted(bytes_of), fields


def test_a_sweep_over_formats_is_each_machine():
    trace = sp.gemm(**WORK, sparsity=pruned())
    table = sp.sweep(
        sp.accelerator("dense_ws"), trace, {"sparsity.format": ["dense", "bitmap", "run_length", "tca_bme"]}
    )
    for row in table.to_dict("records"):
        one = sp.simulate(machine({"format": row["sparsity.format"]}), trace)
        assert one.cycles == row["cycles"]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_formats_survive_as_numbers(case):
    numbers = to_numbers(case)
    assert tuple(numbers) == FIELDS
    again = of_numbers(case.name, numbers)
    only_here = {"run_bits": 5, "medians": False, "over": "bitmap"}  # options that machine files do not have
    if all(getattr(case, field, default) == default for field, default in only_here.items()):
        assert again == case


@pytest.mark.parametrize("fields", MACHINES, ids=NAMES)
def test_a_design_knows_its_format(fields):
    design = Designs.from_machines([machine(fields)])
    assert storage(configuration(design)) == machine(fields).sparsity.storage


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"format": "bit_map"}, "did you mean 'bitmap'"),
        ({"format": "csr", "block": "4x4"}, "no option 'block'"),
        ({"format": "block", "block": "4"}, "must look like '4x4'"),
        ({"format": "ranks", "ranks": "UOP-CQ"}, "did you mean 'CP'"),
        ({"format": "n_of_m"}, "go together"),
        ({"format": "n_of_m", "n_of_m": "4:4"}, "1 <= n < m"),
        ({"format": "huffman", "code_bits": 64}, "less than or equal to 32"),
    ],
)
def test_wrong_fields_are_refused_in_one_line(fields, text):
    with pytest.raises(InputError, match=text) as error:
        machine(fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
@pytest.mark.parametrize("name", ["bitmap", "csr", "run_length"])
def test_fewer_decoders_stall_and_are_smaller(name, engine):
    """Decoders of one unit by hand: what they count over their rate, for every pass of the weights."""
    mask = np.random.default_rng(2).random((96, 128)) < 0.1
    trace = sp.gemm(m=16, k=128, n=96, sparsity=mask)
    base = sp.accelerator("dense_ws").override({"sparsity.format": name})
    found = [sp.simulate(base, trace, engine)]
    assert found[0].table["decode"].sum() == 0
    for units in (8, 4, 2, 1):
        found.append(sp.simulate(base.override({"sparsity.decoders": units}), trace, engine))
    assert (np.diff([report.cycles for report in found]) >= 0).all()
    assert (np.diff([report.area_mm2 for report in found[1:]]) < 0).all()
    row, unit = found[-1].table.iloc[0], format_of(name).decoder(8)
    assert row["decodes"] % (mask.sum() if unit.per == "values" else mask.size) == 0
    assert row["decode"] > 0 and row["cycles"] >= row["decodes"] / unit.rate
    causes = row[["compute", "edge", "imbalance", "fill_drain", "decode"]].sum()
    assert causes <= row["cycles"] * (1 + 1e-12)
