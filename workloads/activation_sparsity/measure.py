"""Measure perplexity and densities of every method at every sparsity; what ``python -m`` this package runs.

A row is written as soon as it is measured, and rows that are there are not measured again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from workloads.activation_sparsity.base import activation_method
from workloads.activation_sparsity.edit import DENSE_TOKENS, SparseInputs
from workloads.activation_sparsity.facts import READERS, Facts
from workloads.activation_sparsity.table import DEFAULT, DENSE, PERPLEXITY, densities_file
from workloads.calibration import bundled_windows, windows_sha256
from workloads.checkpoint import INPUTS, Checkpoint, open_checkpoint
from workloads.perplexity import DOMAINS, Measurement, Meter, domain_windows

LEVELS = (0.5, 0.3, 0.4, 0.7, 0.65)
METHODS = ("teal", "wina", "topk", "dynatran", "teal_blockwise")
THRESHOLDS = "teal"
"""Its densities come with :mod:`workloads.activations`, at more shares."""
ARITHMETIC = "w8a8kv8"
#: Windows of each domain; densities are counted on the first domain.
WINDOWS = {"wikipedia": 8, "speeches": 4}
UNIONS = ("tokens_2", "tokens_4", "tokens_8", "texts_2", "texts_4", "texts_8")


@dataclass(frozen=True)
class Task:
    """One measurement. ``setting``: "default", "first_token_too" or "only TENSOR"."""

    method: str
    sparsity: float
    domain: str
    setting: str = DEFAULT

    @property
    def identity(self) -> tuple[str, float, str, str]:
        return self.method, self.sparsity, self.setting, self.domain


def tasks() -> list[Task]:
    """Every row in the order in which it becomes useful."""
    first, *others = DOMAINS
    todo = [Task(DENSE, 0.0, domain) for domain in DOMAINS]
    todo += [Task(method, LEVELS[0], first) for method in METHODS]
    settings = ("first_token_too", *(f"only {name}" for name in INPUTS))
    todo += [Task(METHODS[0], LEVELS[0], first, setting) for setting in settings[:1]]
    todo += [Task(method, level, first) for level in LEVELS[1:] for method in METHODS]
    todo += [Task(METHODS[0], LEVELS[0], first, setting) for setting in settings[1:]]
    return todo + [Task(method, level, domain) for domain in others for level in LEVELS for method in METHODS]


def edit_of(task: Task, facts: Facts) -> SparseInputs | None:
    """What the task does to the forward pass."""
    if task.method == DENSE:
        return None
    only = task.setting.removeprefix("only ")
    return SparseInputs(
        activation_method(task.method).keep(facts, task.sparsity),
        dense_tokens=0 if task.setting == "first_token_too" else DENSE_TOKENS,
        texts=WINDOWS[task.domain],
        tensors=(only,) if only in INPUTS else INPUTS,
    )


def mean_density(facts: Facts, densities: pd.DataFrame, column: str = "density") -> float:
    """Share of all weights of the decoder layers whose activations stay; tensors without a row stay whole."""
    known = densities.set_index(["layer", "tensor"])[column]
    kept = total = 0.0
    for layer in range(facts.checkpoint.config.layers):
        for name, readers in READERS.items():
            for t in readers:
                size = facts.weights(layer, t).size
                key = (layer, t) if (layer, t) in known.index else (layer, name)
                kept += size * (float(known[key]) if key in known.index else 1.0)
                total += size
    return kept / total


def row(
    task: Task, found: Measurement, dense: pd.DataFrame, facts: Facts, edit: SparseInputs | None
) -> dict[str, object]:
    """A line of perplexity.csv. ``dense``: the dense rows that are there, for the change against their windows."""
    base = dense[dense["domain"] == task.domain]
    windows = tuple(json.loads(base.iloc[0]["window_nll"])) if len(base) else found.window_nll
    reference = Measurement(**{**vars(found), "nll": sum(windows) / len(windows), "window_nll": windows})
    change, low, high = found.nll_change(reference)
    ppl_low, ppl_high = found.ppl_interval()
    counted = pd.DataFrame(edit.densities) if edit else None
    shares = {
        column: 1.0 if counted is None else mean_density(facts, counted, column) for column in ("density", *UNIONS)
        if counted is None or column in counted
    }  # fmt: skip
    return {
        "method": task.method,
        "sparsity": task.sparsity,
        "setting": task.setting,
        "domain": task.domain,
        "arithmetic": found.arithmetic,
        "ppl": round(found.ppl, 4),
        "ppl_low": round(ppl_low, 4),
        "ppl_high": round(ppl_high, 4),
        "delta_nll": round(change, 5),
        "delta_low": round(low, 5),
        "delta_high": round(high, 5),
        **{column: round(share, 5) for column, share in shares.items()},
        "windows": len(found.window_nll),
        "tokens": found.tokens,
        "cpu_s": round(found.cpu_s, 1),
        "window_nll": json.dumps([round(x, 5) for x in found.window_nll], separators=(",", ":")),
        "model_sha256": found.model_sha256,
        "windows_sha256": found.windows_sha256,
        "calibration_sha256": found.calibration_sha256,
    }


def measure(task: Task, meter: Meter, facts: Facts) -> tuple[Measurement, SparseInputs | None]:
    """Run one task."""
    edit = edit_of(task, facts)
    needs = edit is not None and activation_method(task.method).needs_calibration
    calibration = windows_sha256(facts.windows) if needs else ""
    name = task.method if edit is None else f"{task.method} {task.sparsity:g}"
    found = meter.measure(name, facts.weights, 0.0, ARITHMETIC, calibration, edit)
    return found, edit


def run(wanted: Callable[[Task], bool], again: bool = False, checkpoint: Checkpoint | None = None) -> Iterator[str]:
    """Measure what ``wanted`` says and the bundle lacks (``again``: has too), writing it row by row; a line each."""
    checkpoint = checkpoint or open_checkpoint()
    facts = Facts(checkpoint, bundled_windows()["calibration"][::4])
    meters = {d: Meter(checkpoint, domain_windows(d)[: WINDOWS[d]], domain=d) for d in DOMAINS}
    for task in filter(wanted, tasks()):
        table = _rows(PERPLEXITY)
        if not again and task.identity in _identities(table):
            continue
        found, edit = measure(task, meters[task.domain], facts)
        dense = table[table["method"] == DENSE] if len(table) else pd.DataFrame({"domain": []})
        _add(
            PERPLEXITY,
            pd.DataFrame([row(task, found, dense, facts, edit)]),
            ["method", "sparsity", "setting", "domain"],
        )
        if edit is not None and task.domain == DOMAINS[0] and task.setting == DEFAULT and task.method != THRESHOLDS:
            counted = pd.DataFrame(edit.densities).round(4)
            counted.insert(0, "sparsity", task.sparsity)
            _add(densities_file(task.method), counted, ["sparsity", "layer", "tensor"])
        yield str(found)


def _rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def _identities(table: pd.DataFrame) -> set[tuple[object, ...]]:
    names = ["method", "sparsity", "setting", "domain"]
    return set(table[names].itertuples(index=False, name=None)) if len(table) else set()


def _add(path: Path, rows: pd.DataFrame, identity: list[str]) -> None:
    """Put rows into a file in place of those of the same identity, sorted, in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.concat([_rows(path), rows], ignore_index=True).drop_duplicates(identity, keep="last")
    partial = path.with_suffix(f".{os.getpid()}.part")
    table.sort_values(identity, kind="stable").to_csv(partial, index=False)
    os.replace(partial, path)
