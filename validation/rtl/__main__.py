"""Simulate the arrays of this folder and write what was measured.

    python -m validation.rtl [--out FOLDER] [--workers N]

needs Verilator, make and a C++ compiler; about three minutes on two cores. Writes ``own_arrays_cycles.csv``,
``own_zero_skip_cycles.csv``, ``own_scatter_conflicts.csv`` and ``own_zero_skip_masks.csv`` and prints how many rows
equal the equations.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from sim.errors import InputError
from validation.rtl import arrays, zero_skip


def main() -> int:
    """Measure, write, compare. Returns 1 when tools are missing or a row does not compute the right numbers."""
    parser = argparse.ArgumentParser(prog="python -m validation.rtl", description="Measure the RTL arrays.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "data" / "rtl", help="folder of CSVs")
    parser.add_argument("--workers", type=int, default=None, help="builds at a time (default: all cores)")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rtl_") as folder:
        try:
            systolic = arrays.measure(Path(folder), given.workers)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        skipping = zero_skip.measure(Path(folder), given.workers)
    from_masks = zero_skip.masks()
    waits = zero_skip.lanes_may_wait(skipping)
    skipping, scatter = skipping[~waits], skipping[waits]
    scatter = scatter.assign(without_conflicts=zero_skip.predicted(scatter, from_masks))
    systolic.to_csv(given.out / "own_arrays_cycles.csv", index=False)
    skipping.to_csv(given.out / "own_zero_skip_cycles.csv", index=False)
    scatter.to_csv(given.out / "own_scatter_conflicts.csv", index=False)
    zero_skip.stored(from_masks).to_csv(given.out / "own_zero_skip_masks.csv", index=False)
    equal = systolic.cycles == arrays.predicted(systolic)
    print(f"systolic arrays: {equal.sum()} of {len(equal)} rows equal sim.compute.systolic.cycles")
    equal = skipping.cycles == zero_skip.predicted(skipping, from_masks)
    print(f"zero-skipping lanes: {equal.sum()} of {len(equal)} rows equal sim.sparsity.lanes.cycles")
    wrong = sum(int((table.numeric_ok == 0).sum()) for table in (systolic, skipping, scatter))
    print(f"rows with a wrong product: {wrong}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
