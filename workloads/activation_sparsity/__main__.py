"""Perplexity and densities under activation sparsity: ``python -m workloads.activation_sparsity`` prints the table.

``--write`` measures what the bundle lacks (SmolLM2-135M, both domains; about a CPU-minute a method and sparsity, and
two once for the greedy allocation), ``--again`` everything.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import pandas as pd

from workloads.activation_sparsity.measure import LEVELS, METHODS, UNIONS, run
from workloads.activation_sparsity.table import DEFAULT, DENSE, perplexities
from workloads.perplexity import DOMAINS


def lines(table: pd.DataFrame) -> Iterator[str]:
    """Markdown of measured rows: perplexity by method and share, then what is needed of the weights, then settings."""
    shares = sorted(LEVELS)
    plain = table[table["setting"] == DEFAULT].set_index(["domain", "method", "sparsity"])
    for domain in DOMAINS:
        dense = plain.loc[(domain, DENSE, 0.0)]
        yield f"| {domain}, dense {_ppl(dense)} | " + " | ".join(f"{share:.0%}" for share in shares) + " |"
        yield "|---|" + "---|" * len(shares)
        for method in METHODS:
            cells = [_cell(plain, (domain, method, share)) for share in shares]
            yield f"| {method} | " + " | ".join(cells) + " |"
        yield ""
    yield "| dropped | method | one token | " + " | ".join(name.replace("_", " ") for name in UNIONS) + " |"
    yield "|---|---|" + "---:|" * (1 + len(UNIONS))
    for share in shares:
        for method in METHODS:
            if (DOMAINS[0], method, share) in plain.index:
                one = plain.loc[(DOMAINS[0], method, share)]
                cells = [f"{one[column]:.1%}" for column in ("density", *UNIONS)]
                yield f"| {share:.0%} | {method} | " + " | ".join(cells) + " |"
    yield ""
    yield "| teal 50%, wikipedia | dropped of all | ΔNLL, nats | perplexity |"
    yield "|---|---:|---|---|"
    for one in table.query("method == 'teal' and sparsity == 0.5 and domain == @DOMAINS[0]").to_dict("records"):
        yield f"| {one['setting']} | {1 - one['density']:.1%} | {_change(one)} | {_ppl(one)} |"


def _cell(plain: pd.DataFrame, key: tuple[str, str, float]) -> str:
    return _ppl(plain.loc[key]) if key in plain.index else "not measured"


def _ppl(row: pd.Series | dict) -> str:
    return f"{row['ppl']:.2f} [{row['ppl_low']:.2f}, {row['ppl_high']:.2f}]"


def _change(row: dict) -> str:
    return f"{row['delta_nll']:+.3f} [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workloads.activation_sparsity",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="measure what is missing and add it to the bundle")
    parser.add_argument("--again", action="store_true", help="with --write: measure what is there again")
    parser.add_argument("--only", nargs="+", choices=("dense", *METHODS), help="these methods alone")
    given = parser.parse_args()
    if given.write:
        for line in run(lambda task: not given.only or task.method in given.only, given.again):
            print(line, file=sys.stderr, flush=True)
    for line in lines(perplexities()):
        print(line)


if __name__ == "__main__":
    main()
