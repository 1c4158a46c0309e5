"""What kind of file a path is, by its first bytes and its name, and the reader for it."""

from __future__ import annotations

from pathlib import Path

from sim.errors import InputError
from workloads.checkpoint.contents import Contents
from workloads.checkpoint.gguf_model import read_gguf
from workloads.checkpoint.hf_model import read_folder, read_npz, read_safetensors

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SUFFIXES = {".gguf": "GGUF", ".safetensors": "safetensors", ".npz": "npz"}
_READERS = {"GGUF": read_gguf, "safetensors": read_safetensors, "npz": read_npz}


def read_contents(path: Path) -> Contents:
    """Open whatever is at ``path``; InputError when it is nothing that is read."""
    if path.is_dir():
        return read_folder(_holding_safetensors(path))
    if path.name == "config.json":
        return read_folder(_holding_safetensors(path.parent))
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.name.endswith(".safetensors.index.json"):
        return read_safetensors(path)
    try:
        with open(path, "rb") as stream:
            begin = stream.read(9)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    found, named = _kind(begin), _SUFFIXES.get(path.suffix.lower())
    if named and named != found:
        raise InputError(f"{path}: not a {named} file (it begins with {begin[:4]!r})")
    if found is None or (found == "npz" and named is None):
        if path.suffix.lower() in _PICKLES or begin[:1] == b"\x80" or found == "npz":
            raise pickle_refused(path)
        raise InputError(f"{path}: not a GGUF file, safetensors, .npz or a Hugging Face folder")
    return _READERS[found](path)


def _kind(begin: bytes) -> str | None:
    if begin[:4] == b"GGUF":
        return "GGUF"
    if begin[:4] in (b"PK\3\4", b"PK\5\6"):
        return "npz"
    return "safetensors" if begin[8:] == b"{" else None


def _holding_safetensors(folder: Path) -> Path:
    """``folder``, unless its weights are pickles alone."""
    if not any(folder.glob("*.safetensors*")):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in _PICKLES:
                raise pickle_refused(path)
    return folder


def pickle_refused(path: Path) -> InputError:
    """The refusal of a pickle."""
    return InputError(
        f"{path}: a PyTorch pickle is never loaded (it can run code): convert to safetensors, "
        "e.g. with save_pretrained(folder, safe_serialization=True)"
    )
