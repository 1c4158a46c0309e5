"""Regenerate the bundled measurements: ``python -m workloads.measure_bundle`` (about 75 CPU-minutes, resumable).

Prunes every variant of SmolLM2-135M into the user's cache, profiles its masks (``profiles/``, ``counts/``), measures
the perplexity of dense, uniform, single-type and mixed recipes on the bundled 8 x 512 evaluation tokens, and merges the
rows into ``data/smollm2_135m/measured.csv``.
Start it twice (or more often) to use more cores: each task is claimed by a file lock, each process appends finished
rows to a part file of its own, and a killed process loses the row it was working on and nothing else. ``--merge``
only merges what is there (and, once all is there, writes the surrogate's errors); ``--status`` says how far things are.
Set OPENBLAS_NUM_THREADS=1 when as many processes run as there are cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads import bundled
from workloads.calibration import bundled_windows, calibrate, windows_sha256
from workloads.checkpoint import MATRIX_TYPES, open_checkpoint
from workloads.fetch import SMOLLM2, cache_dir
from workloads.perplexity import Measurement, Meter
from workloads.quality import MEASURED, write_surrogate_errors
from workloads.recipe import CHANNEL_VARIANTS, DENSE, FFN_TYPES, GROUPS, LEVELS, MATRIX_VARIANTS, METHODS, Recipe
from workloads.variants import VariantStore

SEED = 2026
REVISION = 2  # raised when the arithmetic of the measurement changes, so that old rows are not mixed in
MIXES = 45
COLUMNS = (
    "key", "kind", "variant", "matrix_type", "recipe", "arithmetic", "nll", "ppl", "nll_stderr", "tokens", "windows",
    "realised_sparsity", "cpu_s", "seed", "window_nll", "model_sha256", "windows_sha256", "calibration_sha256",
)  # fmt: skip
#: Uniform recipes also measured in float arithmetic, to show what W8A8KV8 itself costs.
ALSO_FLOAT = ("dense", "wanda_30", "wanda_50", "sparsegpt_50", "magnitude_50", "wanda_2_4", "sparsegpt_2_4")


@dataclass(frozen=True)
class Task:
    """One row to measure. ``kind``: dense, uniform, single (one matrix type pruned) or mix."""

    kind: str
    recipe: Recipe
    arithmetic: str = "w8a8kv8"
    variant: str = ""
    matrix_type: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        return self.recipe.key, self.arithmetic


def random_mix(rng: np.random.Generator) -> Recipe:
    """A recipe as an explorer would draw it: each matrix type its own variant, a quarter with FFN channels removed.

    The highest unstructured level is drawn first, mostly at most 50 %, so that most mixes stay useful models.
    """
    ceiling = rng.choice((30, 40, 50, 60, 70), p=(0.1, 0.2, 0.35, 0.2, 0.15))
    levels = [level for level in LEVELS if ceiling - 30 <= level <= ceiling]

    def draw() -> str:
        kind = rng.random()
        if kind < 0.12:
            return DENSE
        name = rng.choice(METHODS, p=(0.25, 0.375, 0.375))
        if kind < 0.3:
            n, m = GROUPS[rng.integers(len(GROUPS))]
            return f"{name}_{n}_{m}"
        return f"{name}_{rng.choice(levels)}"

    choice = {matrix_type: draw() for matrix_type in MATRIX_TYPES}
    if rng.random() < 0.25:
        channels = str(rng.choice(list(CHANNEL_VARIANTS), p=(0.5, 0.3, 0.2)))
        choice |= dict.fromkeys(FFN_TYPES, channels)
    return Recipe.of(choice)


def tasks() -> list[Task]:
    """Every row of the bundle, in the order in which it becomes useful: dense, uniform, float checks, single, mixes."""
    dense = Recipe.uniform(DENSE)
    todo = [Task("dense", dense), Task("dense", dense, "float")]
    uniform = (*MATRIX_VARIANTS, *CHANNEL_VARIANTS)
    todo += [Task("uniform", Recipe.uniform(v), variant=v) for v in uniform]
    todo += [Task("uniform", Recipe.uniform(v), "float", variant=v) for v in ALSO_FLOAT if v != DENSE]
    todo += [
        Task("single", Recipe.single(t, v), variant=v, matrix_type=t) for v in MATRIX_VARIANTS for t in MATRIX_TYPES
    ]
    rng = np.random.default_rng(SEED)
    return todo + [Task("mix", random_mix(rng)) for _ in range(MIXES)]


def row(task: Task, measured: Measurement) -> dict[str, object]:
    """A measurement as a row of measured.csv."""
    return {
        "key": measured.recipe,
        "kind": task.kind,
        "variant": task.variant,
        "matrix_type": task.matrix_type,
        "recipe": task.recipe.to_json(),
        "arithmetic": measured.arithmetic,
        "nll": f"{measured.nll:.6f}",
        "ppl": f"{measured.ppl:.4f}",
        "nll_stderr": f"{measured.nll_stderr:.5f}",
        "tokens": measured.tokens,
        "windows": len(measured.window_nll),
        "realised_sparsity": f"{measured.realised_sparsity:.6f}",
        "cpu_s": f"{measured.cpu_s:.2f}",
        "seed": measured.seed,
        "window_nll": json.dumps([round(x, 5) for x in measured.window_nll], separators=(",", ":")),
        "model_sha256": measured.model_sha256,
        "windows_sha256": measured.windows_sha256,
        "calibration_sha256": measured.calibration_sha256,
    }


class Parts:
    """The part files of one set of windows, one a process, and the locks that share out tasks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = folder / f"part-{os.getpid()}.csv"

    def rows(self) -> dict[tuple[str, str], dict[str, str]]:
        """Every complete row of every part, by (key, arithmetic); a line cut short by a kill is passed over."""
        found = {}
        for path in sorted(self.folder.glob("part-*.csv")):
            with open(path, newline="", encoding="utf-8") as stream:
                for line in csv.DictReader(stream, fieldnames=COLUMNS):
                    if len(line["calibration_sha256"] or "-") in (1, 64) and line["windows_sha256"]:
                        found[line["key"], line["arithmetic"]] = line
        return found

    def append(self, values: dict[str, object]) -> None:
        """Add a row in one write and flush it to the disk."""
        with open(self.own, "a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, COLUMNS, lineterminator="\n").writerow(values)
            stream.flush()
            os.fsync(stream.fileno())

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether this process alone has the task ``name`` now. The lock ends with the process."""
        import fcntl

        with open(self.folder / f"{name}.lock", "w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def parts() -> Parts:
    """The part files that belong to the bundled evaluation windows and to SmolLM2-135M."""
    evaluation = windows_sha256(bundled_windows()["evaluation"])
    return Parts(cache_dir("bundle", f"{SMOLLM2.sha256[:16]}_{evaluation[:16]}_{REVISION}"))


def say(text: str) -> None:
    """One timed line of progress on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def run() -> None:
    """Prune what is missing and measure what no process has measured or is measuring."""
    checkpoint = open_checkpoint()
    windows = bundled_windows()
    shared = parts()
    store = VariantStore(checkpoint, calibrate(checkpoint, windows["calibration"]))
    for variant in (*CHANNEL_VARIANTS, *MATRIX_VARIANTS):
        with shared.claim(f"prune-{variant}") as mine:
            if mine:
                store.ensure(variant)
                say(f"pruned {variant}")
    with shared.claim("profiles") as mine:
        if mine:
            bundled.write(
                MEASURED.parent.name, checkpoint.config.layers, store.mask, lambda done, total, what: say(what)
            )
    meter = Meter(checkpoint, windows["evaluation"], SEED)
    todo = tasks()
    for number, task in enumerate(todo):
        with shared.claim(f"measure-{number:03d}") as mine:
            if not mine or task.identity in shared.rows():
                continue
            measured = meter.recipe(task.recipe, store, task.arithmetic)
            shared.append(row(task, measured))
            say(f"{number + 1}/{len(todo)} {task.kind} {measured}")


def merge(target: Path = MEASURED) -> tuple[int, int]:
    """Write all finished rows to ``target`` in task order (atomically); returns (rows written, rows wanted)."""
    todo = tasks()
    found = parts().rows()
    ready = [found[task.identity] for task in todo if task.identity in found]
    partial = target.with_suffix(f".{os.getpid()}.part")
    with open(partial, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ready)
    os.replace(partial, target)
    return len(ready), len(todo)


def main() -> None:
    """Command line of the bundle's one command."""
    parser = argparse.ArgumentParser(prog="python -m workloads.measure_bundle", description=__doc__.split("\n")[0])
    parser.add_argument("--merge", action="store_true", help="merge finished rows into measured.csv and stop")
    parser.add_argument("--status", action="store_true", help="say how many rows are finished and stop")
    options = parser.parse_args()
    if options.status:
        found, todo = parts().rows(), tasks()
        print(f"{sum(task.identity in found for task in todo)} of {len(todo)} rows measured")
        return
    if not options.merge:
        run()
    done, wanted = merge()
    say(f"{MEASURED}: {done} of {wanted} rows")
    if done == wanted:
        say(f"errors of the surrogate on random mixes, in nats\n{write_surrogate_errors().to_string(index=False)}")


if __name__ == "__main__":
    main()
