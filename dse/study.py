"""The Optuna loop: ask a batch, evaluate it at once, tell it, log it; survives being killed and goes on.

Sampling works on a study in memory; finished batches are appended to a journal file (Optuna's), which is what a resumed
run starts from. Storing every parameter as it is asked would cost more than simulating the design. Objectives go to the
sampler as log10 (they span decades); designs that cannot be built or run are data with a reason, and constraints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pandas as pd

from sim.errors import InputError

if TYPE_CHECKING:
    import optuna

OBJECTIVES = ("latency_s", "energy_per_token_pj", "area_mm2", "perplexity")
"""All minimised."""
INFEASIBLE = 30.0  # log10 objective of a design that cannot run: worse than anything that can
BATCH = 50  # trials asked, evaluated and told together; also NSGA-II's population

Evaluate = Callable[[list[dict[str, Any]]], pd.DataFrame]
"""Parameter sets to one row each: the objectives, ``violation_*`` columns (> 0 breaks it), ``feasible``, ``reason``."""

_ROW = "row"
_FIRST = b'{"op_code":'  # how a journal begins
_LONGEST = 1 << 20  # bytes, far more than a line of it has


@dataclass
class Study:
    """``memory`` samples, ``journal`` (None for a study that is not kept) holds what is finished.

    ``held``: the journal's file, locked while the study is open, so that no second run writes to it.
    """

    memory: optuna.Study
    journal: optuna.Study | None = None
    held: IO[bytes] | None = None

    @property
    def finished(self) -> list[optuna.trial.FrozenTrial]:
        return [t for t in self.memory.get_trials(deepcopy=False) if t.state.is_finished()]

    def keep(self, numbers: Sequence[int]) -> None:
        """Append finished trials to the journal."""
        if self.journal is not None:
            trials = self.memory.get_trials(deepcopy=False)
            self.journal.add_trials([trials[n] for n in numbers])

    def close(self) -> None:
        """Let another run have the journal."""
        if self.held is not None:
            self.held.close()


def in_memory(seed: int) -> Study:
    """A study that leaves nothing behind."""
    import optuna

    if not 0 <= seed < 1 << 31:
        raise InputError(f"seed must be between 0 and {(1 << 31) - 1}, got {seed}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.NSGAIISampler(population_size=BATCH, seed=seed)
    return Study(optuna.create_study(directions=["minimize"] * len(OBJECTIVES), sampler=sampler))


def open_study(folder: Path, name: str, seed: int, resume: bool, fingerprint: str) -> Study:
    """Create or load the study of ``folder``.

    The caller closes it.

    Raises:
        InputError: the folder holds a study and ``resume`` is false, holds none and it is true, holds one of another
            space, seed or code (``fingerprint``), is in use by another run, or cannot be written.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = in_memory(seed)
    path = folder / "journal.log"
    try:
        if path.exists() and not resume:
            raise InputError(f"{folder} already holds a study: add --resume to go on with it, or choose another --out")
        if resume and not path.exists():
            raise InputError(f"{folder} holds no study to resume (no journal.log)")
        folder.mkdir(parents=True, exist_ok=True)
        study.held = _hold(path)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written ({error.strerror})") from None
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_Held()))
        found = optuna.get_all_study_names(storage)
        if found not in ([], [name]):
            raise _another(folder)
        if found:
            study.journal = optuna.load_study(storage=storage, study_name=name)
        elif path.stat().st_size:
            raise _no_journal(path)
        else:
            directions = ["minimize"] * len(OBJECTIVES)
            study.journal = optuna.create_study(storage=storage, study_name=name, directions=directions)
        known = study.journal.user_attrs.get("fingerprint")
        if known is None:
            study.journal.set_user_attr("fingerprint", fingerprint)
        elif known != fingerprint:
            raise _another(folder)
        done = [t for t in study.journal.get_trials() if t.state.is_finished()]
        if done:
            study.memory.sampler = optuna.samplers.NSGAIISampler(population_size=BATCH, seed=seed + len(done))
            study.memory.add_trials(done)
    except Exception as error:
        study.close()
        if isinstance(error, InputError):
            raise
        if isinstance(error, OSError):
            raise InputError(f"--out {folder}: cannot be written ({error.strerror})") from None
        # whatever Optuna stumbles over in a file that it did not write
        raise _no_journal(path) from None
    return study


def _another(folder: Path) -> InputError:
    return InputError(f"{folder} holds a study of another space, seed or version: choose another --out")


def _no_journal(path: Path) -> InputError:
    return InputError(f"{path} is not a journal of this program, or is damaged")


class _Held:
    """Optuna's lock of a journal that is ours already. Its own would outlive a killed run by half a minute."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _hold(path: Path) -> IO[bytes]:
    """The journal, open and locked until closed (the system unlocks it when the process dies), and without the half
    line that a run killed while writing may have left."""
    stream = open(path, "a+b")  # noqa: SIM115
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks here: two runs in one folder are the user's to avoid
        pass
    except OSError as error:
        if isinstance(error, BlockingIOError):
            stream.close()
            raise InputError(f"{path.parent} is in use by another run") from None
    size = stream.seek(0, 2)
    stream.seek(0)
    begin = stream.read(len(_FIRST))
    if not _FIRST.startswith(begin):
        stream.close()
        raise _no_journal(path)
    start = max(0, size - _LONGEST)
    stream.seek(start)
    tail = stream.read()
    if tail and not tail.endswith(b"\n"):
        stream.truncate(start + tail.rfind(b"\n") + 1)
    return stream


def optimise(
    study: Study,
    distributions: dict[str, Any],
    evaluate: Evaluate,
    trials: int,
    first: Sequence[dict[str, Any]] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Run until ``trials`` trials are finished (those already in the study count); returns one row a trial.

    ``first``: parameter sets to try before sampling (anchors).
    """
    done = len(study.finished)
    if not done:
        for params in first:
            study.memory.enqueue_trial(params, skip_if_exists=True)
    progress(done)
    while done < trials:
        asked = [study.memory.ask(distributions) for _ in range(min(BATCH, trials - done))]
        table = evaluate([dict(t.params) for t in asked])
        for trial, row in zip(asked, table.to_dict("records"), strict=True):
            for name, value in _constraints(row).items():
                trial.set_constraint(name, value)
            trial.set_user_attr(_ROW, {k: _plain(v) for k, v in row.items()})
            study.memory.tell(trial, _values(row))
        study.keep([t.number for t in asked])
        done += len(asked)
        progress(done)
    return frame(study)


def frame(study: Study) -> pd.DataFrame:
    """One row a finished trial: number, evaluated columns, parameters."""
    return pd.DataFrame(
        [
            {"trial": t.number, **t.user_attrs[_ROW], **{f"param_{k}": v for k, v in t.params.items()}}
            for t in study.finished
        ]
    )


def _constraints(row: dict[str, Any]) -> dict[str, float]:
    broken = {k: float(row[k]) if math.isfinite(row[k]) else 1.0 for k in sorted(row) if k.startswith("violation_")}
    return broken | {"infeasible": 0.0 if row["feasible"] else 1.0}


def _values(row: dict[str, Any]) -> list[float]:
    values = [row[o] for o in OBJECTIVES]
    return [math.log10(v) if row["feasible"] and math.isfinite(v) and v > 0 else INFEASIBLE for v in values]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
