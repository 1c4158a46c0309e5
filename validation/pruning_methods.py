"""Every pruning method on one real model, the same calibration and the same tokens.

    python -m validation.pruning_methods              # prints the tables
    python -m validation.pruning_methods --measure    # measures what is missing (two CPU-hours for all; resumable)
    python -m validation.pruning_methods --write      # refreshes the tables of docs/pruning.md

All seven matrix types of all layers of SmolLM2-135M are pruned at once, calibrated on the bundled 16 x 512 tokens; no
training anywhere. Perplexity is measured as priced (W8A8KV8) on 8 x 512 tokens of each of two domains: Wikipedia, and
speeches, which no rule of any method was chosen on. Imbalance is that of 16 lanes with a barrier every 64 positions:
cycles over those of even lanes, all 210 masks together, by what a lane owns (:data:`sim.sparsity.lanes.ORIENTATIONS`).
CPU seconds are of pruning alone, calibration read from the cache.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim.sparsity import lanes
from sim.sparsity.profile import profiles
from workloads.checkpoint import Checkpoint, open_checkpoint
from workloads.perplexity import DOMAINS, Meter, bootstrap, domain_windows
from workloads.prune import PrunedModel, prune_model
from workloads.pruning import method, methods, parse_pattern

FILE = Path(__file__).parent / "data" / "pruning_methods.csv"
PAGE = Path(__file__).parents[1] / "docs" / "pruning.md"
#: What every method that can is asked for; of the table's columns.
PATTERNS = ("0.5", "0.6", "2:4", "0.7", "0.3", "4:8")
#: What the others are asked for instead of a share or n:m.
OWN = {
    "block_diagonal": ("diagonal 2", "diagonal 4"),
    "sevedo": ("rank 32 + 0.3", "rank 32 + 0.5", "rank 32 + 0.6", "rank 32 + 0.7"),
    "tetris": ("0.3 1x16", "0.5 1x16", "0.6 1x16", "0.7 1x16"),
}
LANES, BARRIER = 16, 64
COLUMNS = (
    "method",
    "pattern",
    "sparsity",
    *(f"nll_{domain}" for domain in DOMAINS),
    *(f"imbalance_{orientation}" for orientation in lanes.ORIENTATIONS),
    "cpu_s",
)
_START, _END = "<!-- methods -->\n", "<!-- end of methods -->"


def wanted() -> list[tuple[str, str]]:
    """(method, pattern) of every row, the patterns people compare at first."""
    rows = [(p, name) for p in PATTERNS for name in methods() if isinstance(parse_pattern(p), method(name).takes)]
    rows += [(p, name) for name, patterns in OWN.items() for p in patterns]
    return [("dense", "0"), *((name, p) for p, name in rows)]


def rows(path: Path = FILE) -> pd.DataFrame:
    """The measured rows, :data:`COLUMNS`; ``nll_DOMAIN``: a list of the windows' mean NLL in nats."""
    found = pd.read_csv(path, dtype={"pattern": str})
    for domain in DOMAINS:
        found[f"nll_{domain}"] = found[f"nll_{domain}"].map(json.loads)
    return found


def imbalance(pruned: PrunedModel) -> Mapping[str, float]:
    """By orientation; NaN where matrices were cut smaller or away, which leaves no zeros to walk over."""
    masks = [one.mask for one in pruned.details.values() if one.weight.shape == one.mask.shape]
    if len(masks) < len(pruned.details) or not any(mask.any() for mask in masks):
        return dict.fromkeys(lanes.ORIENTATIONS, np.nan)
    found = profiles(masks)
    even = sum(p.nonzeros for p in found) / LANES
    return {o: sum(p.cycles(LANES, BARRIER, o) for p in found) / even for o in lanes.ORIENTATIONS}


def measure(checkpoint: Checkpoint, name: str, pattern: str) -> dict[str, Any]:
    """One row: prune (nothing for ``dense``), count, and run the model over both domains."""
    row: dict[str, Any] = {"method": name, "pattern": pattern, "sparsity": 0.0}
    weights = checkpoint.matrix
    if name != "dense":
        started = time.process_time()
        pruned = prune_model(method=name, pattern=pattern, evaluate=False)
        row["cpu_s"] = round(time.process_time() - started, 1)
        row["sparsity"] = round(pruned.realised_sparsity, 6)
        row |= {f"imbalance_{o}": round(float(value), 4) for o, value in imbalance(pruned).items()}

        def weights(layer: int, matrix_type: str) -> np.ndarray:
            own = pruned.weights.get((layer, matrix_type))
            return checkpoint.matrix(layer, matrix_type) if own is None else own

    for domain in DOMAINS:
        found = Meter(checkpoint, domain_windows(domain), domain=domain).measure(name, weights, row["sparsity"])
        row[f"nll_{domain}"] = json.dumps([round(nll, 5) for nll in found.window_nll])
    return row


def complete(path: Path = FILE) -> Iterator[dict[str, Any]]:
    """Measure the rows that the file lacks, and append each as it is known."""
    done = set(zip(*(rows(path)[c] for c in ("method", "pattern")), strict=True)) if path.exists() else set()
    checkpoint = open_checkpoint()
    for name, pattern in wanted():
        if (name, pattern) in done:
            continue
        row = measure(checkpoint, name, pattern)
        fresh = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerow(row)
            stream.flush()
            os.fsync(stream.fileno())
        yield row


def damage(found: pd.DataFrame, domain: str) -> pd.DataFrame:
    """Perplexity of each row on a domain and its 95 % interval: ``ppl``, ``low``, ``high``; index: method, pattern.

    The interval is of the change against the dense model, window by window, so the texts' own spread is not in it.
    """
    windows = found.set_index(["method", "pattern"])[f"nll_{domain}"].map(np.asarray)
    dense = windows["dense", "0"]
    bounds = {}
    for key, nll in windows.items():
        low, high = bootstrap(nll - dense)
        bounds[key] = np.exp([nll.mean(), dense.mean() + low, dense.mean() + high])
    return pd.DataFrame.from_dict(bounds, orient="index", columns=["ppl", "low", "high"]).set_axis(windows.index)


def perplexities(found: pd.DataFrame, domain: str) -> str:
    """Markdown: a line a method, a column a pattern of :data:`PATTERNS`; best at 50 % first."""
    known = damage(found, domain)
    patterns = sorted(PATTERNS, key=lambda p: (":" in p, p))
    lines = ["| method | " + " | ".join(_title(p) for p in patterns) + " |", "|---|" + "---:|" * len(patterns)]
    shares = known[known.index.get_level_values("pattern") == "0.5"].sort_values("ppl", kind="stable")
    for name in shares.index.get_level_values("method"):
        cells = (_cell(known.loc[name, p]) if (name, p) in known.index else "" for p in patterns)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def own_patterns(found: pd.DataFrame) -> str:
    """Markdown: the methods with patterns of their own, both domains."""
    known = {domain: damage(found, domain) for domain in DOMAINS}
    lines = ["| method | pattern | zeros | " + " | ".join(DOMAINS) + " |", "|---|---|---:|" + "---:|" * len(DOMAINS)]
    for row in found[found["method"].isin(OWN)].itertuples():
        cells = (_cell(known[domain].loc[row.method, row.pattern]) for domain in DOMAINS)
        lines.append(f"| `{row.method}` | `{row.pattern}` | {row.sparsity:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def loads(found: pd.DataFrame) -> str:
    """Markdown: zeros and CPU seconds at 50 %, and how uneven lanes get at 50 %, 70 % and 2:4 (patterns of their own:
    the second and the last)."""
    titles = (f"{at}: {o} lanes" for at in ("50 %", "70 %", "2:4") for o in lanes.ORIENTATIONS)
    lines = ["| method | zeros | CPU, s | " + " | ".join(titles) + " |", "|---|" + "---:|" * 8]
    table = found.set_index(["method", "pattern"])
    for name in dict.fromkeys(found["method"]):
        shown = [OWN[name][1], OWN[name][-1], ""] if name in OWN else ["0.5", "0.7", "2:4"]
        if name == "dense" or (name, shown[0]) not in table.index:
            continue
        first = table.loc[(name, shown[0])]
        uneven = [
            f"{table.at[(name, p), f'imbalance_{o}']:.2f}".replace("nan", "–") if (name, p) in table.index else ""
            for p in shown
            for o in lanes.ORIENTATIONS
        ]
        cells = [f"{first['sparsity']:.0%}".replace("%", " %"), f"{first['cpu_s']:.0f}", *uneven]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def markdown(found: pd.DataFrame) -> str:
    """All tables as they stand in the page."""
    known = {domain: damage(found, domain)["ppl"] for domain in DOMAINS}
    agree = known["wikipedia"].rank().corr(known["speeches"].rank())
    parts = [f"Rank correlation of the two domains over all {len(found)} rows: {agree:.3f}.\n"]
    for domain in DOMAINS:
        parts += [f"{domain.capitalize()}; dense {known[domain]['dense', '0']:.2f}:\n", perplexities(found, domain)]
    parts += ["Patterns of their own:\n", own_patterns(found)]
    parts += [f"Cost, and imbalance of {LANES} lanes:\n", loads(found)]
    return "\n".join(parts)


def _title(pattern: str) -> str:
    return pattern if ":" in pattern else f"{float(pattern):.0%}".replace("%", " %")


def _cell(row: pd.Series) -> str:
    return "{} [{}, {}]".format(*(_short(row[name]) for name in ("ppl", "low", "high")))


def _short(ppl: float) -> str:
    return f"{ppl:.1f}" if ppl < 100 else f"{ppl:,.0f}" if ppl < 1e5 else f"{ppl:.0e}".replace("e+0", "e")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables; measure and write when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure the rows that are missing")
    parser.add_argument("--write", action="store_true", help="refresh the tables of docs/pruning.md")
    given = parser.parse_args(arguments)
    if given.measure:
        for row in complete():
            print(row["method"], row["pattern"], row.get("cpu_s", ""), file=sys.stderr, flush=True)
    text = markdown(rows())
    print(text)
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(_START)
        PAGE.write_text(before + _START + text + _END + rest.split(_END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
