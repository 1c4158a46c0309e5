"""The base of all file formats: tensors by name, each read as float32 when asked for, in small pieces."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from sim.errors import InputError
from workloads.checkpoint.decode import Decoder

#: Elements decoded at a time, a multiple of every block: what is read beyond the result stays below 16 MiB.
_CHUNK = 1 << 20
#: What reading a file that is damaged, or changes under the reader, raises.
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies. ``decode`` is None for a format that holds no weights (integers, unknown blocks).

    ``start``: its first byte in ``file``, or in the member ``file`` of an archive. A block of ``block_elements`` takes
    ``block_bytes``. ``fortran``: stored with the first dimension fastest.
    """

    shape: tuple[int, ...]
    dtype: str
    file: str
    start: int
    decode: Decoder | None
    block_bytes: int
    block_elements: int = 1
    fortran: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes stored."""
        return self.elements // self.block_elements * self.block_bytes


class Container(ABC):
    """Tensors in a file or a set of files.

    Life cycle: the constructor reads the headers alone and checks every extent in them against the files, so nothing
    a header claims is allocated before it is known to be there; ``read`` may then be called any number of times, opens
    and closes the file, and keeps nothing. Files are read, not mapped: mapped pages would count as the process's memory
    for as long as the system pleases, and a file that shrinks would kill the process.

    A format implements the constructor (setting ``path``, ``files`` and ``tensors``) and ``_stream``.
    """

    path: Path
    #: The files behind it, for the fingerprint.
    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]

    @abstractmethod
    def _stream(self, tensor: Tensor) -> AbstractContextManager[IO[bytes]]:
        """What ``tensor.start`` counts from, open for reading."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Tensor ``name``, or its rows ``start`` to ``stop`` of the first dimension, as a new float32 array.

        Raises InputError for a number format that holds no weights, and when the file cannot be read (any more).
        """
        tensor = self.tensors[name]
        if tensor.decode is None:
            raise InputError(f"{self.path}: tensor {name} is {tensor.dtype}, which cannot be read")
        if tensor.fortran:
            whole = self._elements(name, tensor, 0, tensor.elements).reshape(tensor.shape[::-1]).T
            return np.ascontiguousarray(whole[start:stop])
        start, stop, _ = slice(start, stop).indices(tensor.shape[0])
        row = math.prod(tensor.shape[1:])
        return self._elements(name, tensor, start * row, stop * row).reshape(stop - start, *tensor.shape[1:])

    def _elements(self, name: str, tensor: Tensor, first: int, last: int) -> np.ndarray:
        out = np.empty(last - first, np.float32)
        try:
            with self._stream(tensor) as stream:
                stream.seek(tensor.start + first // tensor.block_elements * tensor.block_bytes)
                for at in range(0, out.size, _CHUNK):
                    piece = out[at : at + _CHUNK]
                    wanted = piece.size // tensor.block_elements * tensor.block_bytes
                    raw = stream.read(wanted)
                    if len(raw) != wanted:
                        raise EOFError("the file ends inside it")
                    piece[:] = tensor.decode(raw).reshape(-1)
        except (*READ_ERRORS, NotImplementedError) as error:
            raise InputError(f"{self.path}: tensor {name} ({tensor.dtype}) cannot be read: {reason(error)}") from None
        return out


def reason(error: BaseException) -> str:
    """An exception as a few words on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]


def overlapping(extents: Iterable[tuple[int, int, str]]) -> str | None:
    """The name of a tensor that begins before the one ahead of it ends; ``extents`` are (first, end, name)."""
    end = 0
    for first, last, name in sorted(extents):
        if first < end:
            return name
        end = max(end, last)
    return None
