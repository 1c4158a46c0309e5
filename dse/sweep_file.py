"""A sweep's Parquet file, piece by piece: what is finished survives a kill, and a resumed run goes on from it.

While the sweep runs, ``OUT.parts`` holds ``sweep.json`` (what is swept) and one ``NNNNNN.parquet`` a finished piece,
each under a temporary name until it is whole. At the end the pieces become the row groups of ``OUT`` (renamed into
place when complete, what is swept in its schema's metadata) and the folder goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pandas as pd

from sim.errors import InputError
from sim.spec import Accelerator
from sim.trace import Trace
from sim.version import __version__

_ABOUT = "sweep.json"
_KEY = b"sparchitect_sweep"


def fingerprint(
    machine: Accelerator, trace: Trace, grid: Mapping[str, list[Any]], objective: str, effort: str
) -> dict[str, Any]:
    """What a sweep is: equal for the same designs on the same work by the same version; nothing of it is a path."""
    work = hashlib.sha256(trace.numeric().tobytes())
    work.update("\n".join(trace.ops["name"].astype(str)).encode())
    for mask in trace.masks or []:
        work.update(mask.tobytes())
    if trace.profiles is not None:
        for name in trace.profiles.__dataclass_fields__:
            work.update(getattr(trace.profiles, name).tobytes())
    return {
        "version": __version__,
        "machine": machine.config_hash(),
        "trace": work.hexdigest()[:16],
        "grid": json.loads(json.dumps(grid, default=str)),
        "objective": objective,
        "effort": effort,
    }


class SweepFile:
    """The file ``out`` of a sweep of ``designs`` designs in pieces of ``piece``; ``finished`` pieces are on disk."""

    def __init__(self, out: Path, about: dict[str, Any], designs: int, piece: int):
        if out.suffix != ".parquet":
            raise InputError(f"out {out}: a streamed sweep ends in .parquet")
        if out.is_dir():
            raise InputError(f"out {out}: is a folder")
        self.out, self.parts = out, out.with_name(f"{out.name}.parts")
        self.about = {**about, "designs": designs, "piece": piece}
        self.count = -(-designs // piece)
        self.finished: set[int] = set()
        self._whole = False

    @contextmanager
    def opened(self, resume: bool) -> Iterator[SweepFile]:
        """Hold the file: refuse another sweep at this path (:class:`InputError`), find what is finished."""
        try:
            self._claim(resume)
            with self._lock():
                self.finished = set(range(self.count)) if self._whole else self._found()
                yield self
        except OSError as error:
            raise InputError(f"out {self.out}: cannot be written ({error.strerror or error})") from None

    def _claim(self, resume: bool) -> None:
        described = self.parts / _ABOUT
        if self.out.exists():
            if not resume:
                raise InputError(f"out {self.out}: is already there, choose another (or resume the sweep that made it)")
            self._same(_about_of(self.out))
            self._whole = True
            if _read(described) == self.about:  # killed while tidying up
                shutil.rmtree(self.parts)
            return
        if self.parts.exists():
            if not resume:
                raise InputError(f"out {self.out}: an unfinished sweep is there, resume it or choose another path")
            found = _read(described)
            if found is not None or any(self.parts.glob("*.parquet")):
                self._same(found)
        elif resume:
            raise InputError(f"out {self.out}: no sweep to resume there")
        else:
            self.parts.mkdir(parents=True)
        if not described.exists():
            _written(described, json.dumps(self.about, sort_keys=True).encode())

    def _same(self, found: dict[str, Any] | None) -> None:
        """Refuse what is not this sweep, and say which part of it differs."""
        if found is None:
            raise InputError(f"out {self.out}: is no sweep of ours, choose another path")
        other = [key for key in self.about if found.get(key) != self.about[key]]
        if other:
            raise InputError(f"out {self.out}: holds another sweep ({', '.join(other)} differ), choose another path")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """No second run adds to the same parts; the lock ends with the process."""
        if self._whole:
            yield
            return
        with (self.parts / ".lock").open("wb") as held:
            if not _locked(held):
                raise InputError(f"out {self.out}: another run is writing it")
            yield

    def _found(self) -> set[int]:
        names = {f"{i:06d}.parquet": i for i in range(self.count)}
        return {names[p.name] for p in self.parts.iterdir() if p.name in names}

    def _part(self, number: int) -> Path:
        return self.parts / f"{number:06d}.parquet"

    def add(self, number: int, table: pd.DataFrame) -> None:
        """Keep one finished piece; columns of mixed values (``16``, ``full``) become text."""
        mixed = [name for name in table if table[name].dtype == object]
        table = table.astype(dict.fromkeys(mixed, str))
        temporary = self.parts / f".{number:06d}.tmp"
        table.to_parquet(temporary, index=False)
        os.replace(temporary, self._part(number))
        self.finished.add(number)

    def join(self) -> None:
        """Put all pieces together, in order, one row group each; nothing is there under the final name before that."""
        import pyarrow.parquet as pq

        if self._whole:
            return
        first = pq.read_schema(self._part(0))
        schema = first.with_metadata({**(first.metadata or {}), _KEY: json.dumps(self.about, sort_keys=True).encode()})
        temporary = self.out.with_name(f".{self.out.name}.tmp")
        with pq.ParquetWriter(temporary, schema) as writer:
            for number in range(self.count):
                table = pq.ParquetFile(self._part(number)).read()
                writer.write_table(table.replace_schema_metadata(schema.metadata))
        os.replace(temporary, self.out)
        shutil.rmtree(self.parts)
        self._whole = True


def _about_of(path: Path) -> dict[str, Any] | None:
    import pyarrow.parquet as pq

    try:
        return json.loads((pq.read_schema(path).metadata or {})[_KEY])
    except (OSError, ValueError, KeyError):
        return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _written(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _locked(file: IO[bytes]) -> bool:
    """Whether this process now holds the lock; always where the system has none."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
