"""``python -m validation.zigzag``: the comparison as text."""

from __future__ import annotations

import numpy as np
import pandas as pd

from validation.zigzag.compare import Comparison, compare

EXACT = ("weights", "inputs", "outputs", "ideal", "steps", "first_load", "last_store")
SHOWN = {
    "weights": "W words",
    "inputs": "I words",
    "outputs": "O words",
    "steps": "steps",
    "first_load": "load",
    "last_store": "store",
}


def error_percent(ours: pd.Series, theirs: pd.Series) -> pd.Series:
    """100 (ours / theirs - 1)."""
    return 100.0 * (ours / theirs - 1.0)


def table(found: Comparison) -> pd.DataFrame:
    """ZigZag's value and, behind it, our error in per cent: a line a row. ``port/latency``: DRAM words over ZigZag's
    whole latency (above 1: shorter than its own port allows)."""
    rows = found.rows
    short = rows.accelerator.replace({r"\[M1.*": " [M1]", r"\[free.*": " [free]"}, regex=True)
    shown = [short, rows.gemm, rows.M, rows.opt.str[:3]]
    for column, title in SHOWN.items():
        theirs = rows[f"zigzag_{column}"].astype("int64")
        shown += [theirs.rename(title), error_percent(rows[column], theirs).rename("err%")]
    shown += [
        (rows.zigzag_energy_pj / 1e3).rename("energy nJ"),
        error_percent(rows.same_rules_pj, rows.zigzag_energy_pj).round(9).rename("err% same rules"),
        error_percent(rows.energy_pj, rows.zigzag_energy_pj).rename("err% exact"),
        rows.zigzag_latency.astype("int64").rename("latency"),
        (rows.port_cycles / rows.zigzag_latency).rename("port/latency"),
    ]
    return pd.concat(shown, axis=1)


def summary(found: Comparison) -> str:
    """What agrees exactly, and how far the rest is apart and why."""
    rows, moved, room = found.rows, found.moved, found.room
    exact = {column: int((rows[column] == rows[f"zigzag_{column}"]).sum()) for column in EXACT}
    same = error_percent(rows.same_rules_pj, rows.zigzag_energy_pj).abs().max()
    apart = error_percent(rows.energy_pj, rows.zigzag_energy_pj)
    rounding, sums = (100.0 * rows[c] / rows.zigzag_energy_pj for c in ("rounding_pj", "sums_pj"))
    short = rows.port_cycles > rows.zigzag_latency
    wider = room.share > room.same_rules
    return "\n".join(
        [
            f"words by ZigZag's rules: {int((moved.words == moved.zigzag_words).sum())} of {len(moved)} counts equal",
            f"rows equal of {len(rows)}: " + ", ".join(f"{name} {number}" for name, number in exact.items()),
            f"occupancy: largest difference {np.abs(room.same_rules - room.zigzag).max():.5f} (printed to 4 digits)",
            f"energy, same rules: largest error {same:.1e} %",
            f"energy, exact transfers: {apart.min():.2f} .. {apart.max():.4f} %: ZigZag adds up to {sums.max():.2f} % "
            f"for partial sums and {rounding.min():.4f} .. {rounding.max():.4f} % by rounding to words",
            f"occupancy, outputs at the width in which they rest: larger in {int(wider.sum())} of {len(room)} memories",
            f"latency below what the DRAM port needs: {int(short.sum())} rows, by up to "
            f"{error_percent(rows.port_cycles, rows.zigzag_latency).max():.2f} %",
        ]
    )


def main() -> None:
    """Print the row table, the inferred word widths and prices, and the summary."""
    found = compare()
    print("ZigZag's value and our error; words at DRAM, cycles, energy\n")
    print(table(found).to_string(float_format=lambda value: f"{value:.4g}" if value else "0"))
    print("\nbits of a word and of the granule it is filled by, read off the counts\n")
    print(found.ports.to_string())
    print(f"\npJ a word, read off the energies (and {found.mac_pj:.3g} a MAC)\n")
    print(found.prices.to_string())
    print("\n" + summary(found))


if __name__ == "__main__":
    main()
