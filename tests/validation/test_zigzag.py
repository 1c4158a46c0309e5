"""ZigZag's own rows: every word count, cycle count and energy that a nest must reproduce; bounds where we differ."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from sim.errors import InputError
from sim.nest import Nest
from validation.zigzag import compare
from validation.zigzag.nests import CSV, dimensions, nest_of, reference
from validation.zigzag.words import ports, prices, words


@pytest.fixture(scope="module")
def found():
    return compare()


def test_every_word_count_of_every_memory(found):
    assert len(found.rows) == 48 and len(found.moved) == 1344
    assert found.moved.words.tolist() == found.moved.zigzag_words.tolist()


@pytest.mark.parametrize("column", ["weights", "inputs", "outputs", "ideal", "steps", "first_load", "last_store"])
def test_rows_exact(found, column):
    assert found.rows[column].tolist() == found.rows[f"zigzag_{column}"].tolist()


def test_energy_by_one_price_set(found):
    rows = found.rows
    assert (rows.same_rules_pj / rows.zigzag_energy_pj - 1).abs().max() < 1e-12


def test_exact_transfers_cost_less_and_the_difference_is_accounted_for(found):
    rows = found.rows
    error = rows.energy_pj / rows.zigzag_energy_pj - 1
    assert error.max() < 0 and error.min() > -0.04 and error.median() > -1e-3
    extra = rows.rounding_pj + rows.sums_pj
    assert (rows.energy_pj + extra - rows.same_rules_pj).abs().max() <= 1e-9 * rows.same_rules_pj.max()
    assert rows.sums_pj.min() > 0


def test_widths_and_prices_are_those_of_the_machine_files(found):
    """zigzag-dse 3.9.1, zigzag/inputs/hardware/tpu_like.yaml and gemm_l1_l3.yaml: bandwidth_max, r_cost, w_cost."""
    widest = found.ports.groupby(["machine", "memory"]).word.max().to_dict()
    assert widest == {
        ("tpu_like", "dram"): 64,
        ("tpu_like", "rf_128B"): 8,
        ("tpu_like", "rf_2B"): 16,
        ("tpu_like", "sram_2MB"): 2048,
        ("gemm_l1_l3", "l1"): 2048,
        ("gemm_l1_l3", "l3"): 512,
        ("gemm_l1_l3", "reg_O"): 32,
    }
    assert {
        key: tuple(pair) for key, pair in zip(found.prices.index, found.prices.to_numpy().tolist(), strict=True)
    } == {
        ("tpu_like", "dram"): (700, 750),
        ("tpu_like", "rf_128B"): (0.095, 0.095),
        ("tpu_like", "rf_2B"): (0.021, 0.021),
        ("tpu_like", "sram_2MB"): (416.16, 378.4),
        ("gemm_l1_l3", "l1"): (118, 141.6),
        ("gemm_l1_l3", "l3"): (16000, 24000),
        ("gemm_l1_l3", "reg_O"): (3, 4),
    }
    assert found.mac_pj == pytest.approx(0.04)


@pytest.mark.parametrize("half", [0, 1])
def test_widths_and_prices_of_half_the_rows_predict_the_other_half(found, half):
    rows = reference()
    seen = found.moved.row % 2 == half
    raw = found.moved.drop(columns=["granule", "word"])
    bits = ports(raw[seen])
    other = raw[~seen].merge(bits.reset_index(), on=bits.index.names)
    assert len(other) > 300
    assert words(other.tile, other.bits, other.times, other.granule, other.word).tolist() == other.zigzag_words.tolist()
    pd.testing.assert_frame_equal(prices(rows, raw[seen]).sort_index(), found.prices.sort_index())


def test_occupancy(found):
    """ZigZag prints 4 digits; where partial sums rest we hold them at their own width, never at less than it does."""
    room = found.room
    assert (room.same_rules - room.zigzag).abs().max() < 5.1e-5
    assert (room.share >= room.same_rules).all()
    wider = room[room.share > room.same_rules + 1e-4]
    assert set(wider.memory) == {"rf_2B", "reg_O", "sram_2MB", "l1"}
    assert (room.share <= 1).all()


def test_latency_stays_near_what_the_dram_port_allows(found):
    """The port moves a word a cycle: no run can be shorter than its words. ZigZag's are, by less than 0.1 %."""
    beyond = found.rows.port_cycles / found.rows.zigzag_latency
    assert 1.0005 < beyond.max() < 1.001


def test_loop_names():
    rows = reference()
    read = {machine: dimensions(part) for machine, part in rows.groupby("machine")}
    assert read["tpu_like"] == {"B": "m", "K": "n", "C": "k"}
    assert read["gemm_l1_l3"] == {"D0": "m", "D1": "n", "D2": "k"}
    square = rows[(rows.K == rows.N) & (rows.machine == "tpu_like")]
    with pytest.raises(InputError, match="2 ways to read"):
        dimensions(square)


def test_another_loop_order_moves_other_words():
    """Row 9 spills partial sums to SRAM under its outermost k loop; next to the inner k loop, they stay in rf_2B."""
    row = list(reference().itertuples())[9]
    nest = nest_of(row, {"B": "m", "K": "n", "C": "k"})
    plain = nest.to_dict()
    plain["loops"] = [*plain["loops"][1:5], plain["loops"][0], *plain["loops"][5:]]
    before, after = (x.accesses() for x in (nest, Nest.from_dict(plain)))
    assert before["rf_2B", "outputs"].written_from_above > 0 == after["rf_2B", "outputs"].written_from_above
    assert before["dram", "weights"] == after["dram", "weights"]


def test_other_tables_are_read_and_refused(tmp_path):
    rows = pd.read_csv(CSV)
    part = tmp_path / "part.csv"
    rows.iloc[1:24:3].to_csv(part, index=False)
    assert compare(part).rows.outputs.tolist() == compare().rows.outputs.iloc[1:24:3].tolist()
    rows.replace({"accelerator": {"tpu_like": "tpu_lke"}}).to_csv(part, index=False)
    with pytest.raises(InputError, match="did you mean 'tpu_like'"):
        compare(part)


def test_printed(found):
    run = subprocess.run([sys.executable, "-m", "validation.zigzag"], capture_output=True, text=True, check=True)
    assert "1344 of 1344 counts equal" in run.stdout
    assert len([line for line in run.stdout.splitlines() if " lat " in line or " ene " in line]) == 48
