"""Decoders: what they cost is the sum of their parts, each from a row of the technology tables."""

from dataclasses import replace

import numpy as np
import pytest

from formats.cases import CASES, IDS
from sim.cost import units
from sim.cost.decoder import RULES, decode_energy_pj, decoder_area_mm2, decoder_notes
from sim.cost.technology import cells_um2, component, constant
from sim.sparsity.formats import Decoder, Part, format_of
from sim.sparsity.formats.base import Format


def of_parts(*parts, rate=1.0):
    class Built(Format):
        bits = _write = _read = None

        def decoder(self, bits):
            return Decoder(rate, "values", parts)

    return Built()


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_decoder_has_a_price_and_a_rate(case):
    unit = case.decoder(8)
    area, energy = decoder_area_mm2(case, 8), decode_energy_pj(case, 8)
    assert unit.rate > 0 and unit.cycles(1000, 500) >= 0
    assert (area > 0) == (energy > 0) == bool(unit.parts)
    assert decoder_area_mm2(case, 8, count=3) == pytest.approx(3 * area)
    assert decoder_area_mm2(case, 16) >= area and decode_energy_pj(case, 8, 16) >= energy
    assert set(decoder_notes(case, 8)) <= set(RULES.values()) and bool(decoder_notes(case, 8)) == bool(unit.parts)


def test_the_bitmap_decoder_is_the_synthesised_encoder_and_its_register():
    cells = cells_um2("prienc", "T=16") + 16 * cells_um2("regs", "W=32") / 32
    assert decoder_area_mm2(format_of("bitmap"), 8) == pytest.approx(cells / constant("cell_utilisation") / 1e6)
    assert constant("decoder_positions") == 16  # the same unit that sim.cost.area puts in front of a systolic row


def test_rows_of_the_tables_are_used_as_they_are():
    pj = {name: decode_energy_pj(of_parts(Part(name, bits=32)), 8) for name in ("register", "adder", "comparator")}
    rows = {"register": "register 32b", "adder": "add32", "comparator": "comparator32"}
    assert pj == {kind: component(row, "energy_pJ", 7) for kind, row in rows.items()}


def test_parts_add_up_and_rate_divides_energy():
    parts = [Part("encoder", 2, size=64), Part("popcount", size=16), Part("table", size=16, bits=8)]
    each = [decoder_area_mm2(of_parts(part), 8) for part in parts]
    assert decoder_area_mm2(of_parts(*parts), 8) == pytest.approx(sum(each))
    assert each[0] == pytest.approx(2 * decoder_area_mm2(of_parts(replace(parts[0], count=1)), 8))
    one, four = (decode_energy_pj(of_parts(*parts, rate=rate), 8) for rate in (1.0, 4.0))
    assert one == pytest.approx(4 * four)
    assert each[2] > decoder_area_mm2(of_parts(Part("register", 16, bits=8)), 8)  # a table is also read


def test_a_prefix_popcount_grows_faster_than_its_positions():
    area = np.array([decoder_area_mm2(of_parts(Part("popcount", size=size)), 8) for size in (8, 16, 32, 64)])
    assert (area[1:] > 2 * area[:-1]).all()
    assert units.adder(1) > 0
