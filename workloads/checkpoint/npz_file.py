"""``.npz``: a zip archive of ``.npy`` arrays. Headers are matched, never evaluated, and nothing is ever unpickled."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sim.errors import InputError
from workloads.checkpoint.container import READ_ERRORS, Container, Tensor, reason
from workloads.checkpoint.decode import FLOATS

#: The list of members at the archive's end: 9,000 arrays or so; a model of 405 B weights has 1,138.
MAX_DIRECTORY = 1 << 20
#: A member may grow to this many times its compressed size, beyond the first MiB. Weights shrink by less than 2.
MAX_GROWTH = 100
_HEADER = re.compile(
    rb"\{\s*'descr'\s*:\s*'([^']{1,16})'\s*,\s*'fortran_order'\s*:\s*(True|False)\s*,"
    rb"\s*'shape'\s*:\s*\(([0-9, ]{0,120})\)\s*,?\s*\}\s*"
)
_FLOAT = {"<f4": "F32", "<f2": "F16", "<f8": "F64"}


class Npz(Container):
    """Arrays of an archive by name; only little-endian floats can be read, text with ``text``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = (path,)
        self.tensors = {}
        with _archive(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name == info.filename:
                    if info.filename.endswith(".pkl"):
                        raise InputError(f"{path}: holds a pickle ({info.filename[:80]}), which is never loaded")
                    raise InputError(f"{path}: member {info.filename[:80]!r} is no .npy array")
                if name in self.tensors:
                    raise InputError(f"{path}: array {name[:80]!r} comes twice")
                self.tensors[name] = self._member(archive, info)

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Tensor:
        def bad(what: str) -> InputError:
            return InputError(f"{self.path}: array {info.filename[:80]!r} {what}")

        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise bad("is encrypted or compressed in another way than deflate")
        if info.file_size > max(1 << 20, MAX_GROWTH * info.compress_size):
            raise bad(f"grows from {info.compress_size} bytes to {info.file_size}, more than {MAX_GROWTH} times")
        with archive.open(info) as stream:
            begin = stream.read(8)
            if begin[:6] != b"\x93NUMPY" or begin[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
                raise bad("is no .npy array")
            width, code = (2, "<H") if begin[6] == 1 else (4, "<I")
            (length,) = struct.unpack(code, stream.read(width))
            if length > 4096:
                raise bad(f"has a header of {length} bytes")
            header = _HEADER.fullmatch(stream.read(length))
        if header is None:
            raise bad("has a header that is damaged or of a structured type")
        descr = header[1].decode("latin-1")
        if "O" in descr:
            raise bad("holds Python objects, which need pickle and are never loaded")
        size = re.fullmatch(r"[<>=|]?([a-zA-Z])(\d{1,9})", descr)
        if size is None:
            raise bad(f"has the unknown type {descr!r}")
        shape = tuple(int(n) for n in header[3].decode().replace(" ", "").split(",") if n)
        dtype = _FLOAT.get(descr, descr)
        tensor = Tensor(
            shape,
            dtype,
            info.filename,
            8 + width + length,
            FLOATS.get(dtype),
            int(size[2]) * (4 if size[1] == "U" else 1),
            fortran=header[2] == b"True" and len(shape) > 1,
        )
        if tensor.start + tensor.nbytes != info.file_size:
            raise bad(f"has {info.file_size} bytes where its header tells of {tensor.start + tensor.nbytes}")
        return tensor

    @contextmanager
    def _stream(self, tensor: Tensor) -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(self.path) as archive, archive.open(tensor.file) as stream:
            yield stream

    def text(self, name: str, limit: int) -> bytes | None:
        """A string or uint8 array as UTF-8 bytes, None when there is none of that name."""
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        kind = tensor.dtype[1:2]
        if tensor.nbytes > 4 * limit or (kind not in ("U", "S") and tensor.dtype != "|u1") or len(tensor.shape) > 1:
            raise InputError(f"{self.path}: array {name!r} must be one string of at most {limit} characters")
        try:
            with self._stream(tensor) as stream:
                stream.seek(tensor.start)
                raw = stream.read(tensor.nbytes)
            return raw.decode("utf-32-le").rstrip("\0").encode() if kind == "U" else raw.rstrip(b"\0")
        except READ_ERRORS as error:
            raise InputError(f"{self.path}: array {name!r} cannot be read: {reason(error)}") from None


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        _bounded_directory(path)
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InputError:
        raise
    except (*READ_ERRORS, NotImplementedError) as error:
        raise InputError(f"{path}: truncated or damaged npz file ({reason(error)})") from None


def _bounded_directory(path: Path) -> None:
    """Refuse a long list of members before ``zipfile`` reads it all (PKWARE APPNOTE 4.3.14 to 4.3.16)."""
    with open(path, "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - (1 << 16) - 22 - 20))
        tail = stream.read()
        end = tail.rfind(b"PK\5\6")
        if end < 0 or len(tail) - end < 22:
            raise zipfile.BadZipFile("no list of members at its end")
        directory = struct.unpack_from("<I", tail, end + 12)[0]
        if end >= 20 and tail[end - 20 : end - 16] == b"PK\6\7":
            stream.seek(struct.unpack_from("<Q", tail, end - 12)[0])
            record = stream.read(56)
            if len(record) < 56 or record[:4] != b"PK\6\6":
                raise zipfile.BadZipFile("no list of members at its end")
            directory = struct.unpack_from("<Q", record, 40)[0]
        if directory > MAX_DIRECTORY:
            raise InputError(f"{path}: its list of members takes {directory} bytes; at most {MAX_DIRECTORY} are read")
