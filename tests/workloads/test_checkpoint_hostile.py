"""Damaged and hostile checkpoints: one InputError of one line, in bounded time and memory, whatever the bytes.

As a program, ``test_checkpoint_hostile.py KIND FIRST COUNT`` opens and reads damaged files under a limit of address
space and prints how many were refused and how many could still be read (a flipped weight harms nobody).
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_llama

from sim.errors import InputError
from workloads.checkpoint import Checkpoint

EXTREMES = (0, 1, 2**8 - 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**61, 2**63 - 1, 2**63, 2**64 - 1)
#: Opening the tiny model takes this or less, traced; so may refusing it.
MEMORY = 48 << 20


def whole_files(folder: Path) -> dict[str, list[Path]]:
    """Each kind's model: the path to open first, then every file that is damaged in turn."""
    weights = tiny_llama.random_weights()
    tensors = tiny_llama.hf_tensors(weights)
    one = tiny_llama.write_hf(folder / "one", tensors)
    shards = tiny_llama.write_hf(folder / "shards", tensors, shards=3)
    return {
        "gguf": [tiny_llama.write_gguf(folder / "tiny.gguf", weights)] * 2,
        "safetensors": [one / "model.safetensors", one / "model.safetensors", one / "config.json"],
        "shards": [shards, shards / "model.safetensors.index.json", *sorted(shards.glob("*.safetensors"))],
        "npz": [tiny_llama.write_npz(folder / "tiny.npz", tensors)] * 2,
        "deflated": [tiny_llama.write_npz(folder / "deflated.npz", tensors, compressed=True)] * 2,
    }


KINDS = ("gguf", "safetensors", "shards", "npz", "deflated")


def flip(data: bytearray, rng: random.Random, front: int) -> None:
    """Some bits, in the front part where headers are, or at the end."""
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        place = rng.randrange(min(front, len(data))) if rng.random() < 0.8 else -1 - rng.randrange(min(400, len(data)))
        data[place] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random, front: int) -> None:
    """A truncation."""
    del data[rng.randrange(rng.choice((front, len(data))) if front < len(data) else len(data)) :]


def extreme(data: bytearray, rng: random.Random, front: int) -> None:
    """A number of 4 or 8 bytes that no count, length or offset can have."""
    width = rng.choice((4, 8))
    place = rng.randrange(max(1, min(front, len(data)) - width))
    if rng.random() < 0.3:
        place = max(0, len(data) - rng.randrange(8, 600))
    data[place : place + width] = (rng.choice(EXTREMES) & (256**width - 1)).to_bytes(width, "little")


def move(data: bytearray, rng: random.Random, front: int) -> None:
    """A slice taken out, or put in again elsewhere."""
    start = rng.randrange(min(front, len(data)))
    piece = data[start : start + rng.randrange(1, 200)]
    if rng.random() < 0.5:
        del data[start : start + len(piece)]
    else:
        place = rng.randrange(min(front, len(data)))
        data[place:place] = piece


def word(data: bytearray, rng: random.Random, front: int) -> None:
    """A word of a text header replaced (numbers, names, dtypes, brackets), its length kept."""
    words = (
        b"-1",
        b"0",
        b"9" * 25,
        b"1e400",
        b"NaN",
        b"null",
        b"[",
        b"{",
        b'"',
        b"F64",
        b"BOOL",
        b"X9",
        b"../x",
        b"\xff",
    )
    new = rng.choice(words)
    place = rng.randrange(min(front, len(data)))
    data[place : place + len(new)] = new


def junk(data: bytearray, rng: random.Random, front: int) -> None:
    """Random bytes after an intact beginning."""
    keep = rng.randrange(min(front, len(data)))
    data[keep:] = rng.randbytes(rng.randrange(2000))


DAMAGES: tuple[Callable[[bytearray, random.Random, int], None], ...] = (
    flip,
    flip,
    cut,
    extreme,
    extreme,
    move,
    word,
    junk,
)


def outcome(path: Path) -> str:
    """Open and read everything: 'refused' or 'read'. Any other exception, or a message of two lines, is a failure."""
    try:
        checkpoint = Checkpoint(path, cache_bytes=0)
        for _, matrix_type, weight in checkpoint.matrices():
            assert weight.dtype == np.float32 and weight.shape == checkpoint.config.matrix_shape(matrix_type)
        if not checkpoint.gap:
            assert checkpoint.head.shape == (checkpoint.config.vocab, checkpoint.config.d_model)
    except InputError as error:
        assert "\n" not in str(error) and 0 < len(str(error)) < 700, str(error)
        return "refused"
    return "read"


def damage_and_read(kind: str, first: int, count: int, folder: Path) -> dict[str, int]:
    """Outcomes of ``count`` damaged models, seeds from ``first`` on."""
    opened, *victims = whole_files(folder)[kind]
    intact = {path: path.read_bytes() for path in victims}
    assert outcome(opened) == "read"
    found = {"refused": 0, "read": 0}
    for seed in range(first, first + count):
        rng = random.Random(f"{kind} {seed}")
        victim = rng.choice(victims)
        data = bytearray(intact[victim])
        front = min(len(data), 12_000)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if data:
                rng.choice(DAMAGES)(data, rng, front)
        victim.write_bytes(data)
        try:
            with np.errstate(all="ignore"):
                found[outcome(opened)] += 1
        except BaseException:
            print(f"{kind} seed {seed}", file=sys.stderr)
            raise
        victim.write_bytes(intact[victim])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, tmp_path):
    found = damage_and_read(kind, 0, 300, tmp_path)
    assert found["refused"] > 150


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_damaged_files_within_limits(kind):
    """5,000 a format, no case above 5 s, within 1.5 GiB of address space (NumPy and the packages take most of it)."""
    command = [sys.executable, __file__, kind, "1000", "5000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["refused"] + found["read"] == 5000 and found["refused"] > 2500


def refused(path: Path) -> str:
    """The message; refusing takes little time and memory."""
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(InputError) as raised:
            Checkpoint(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY and time.process_time() - began < 5
    text = str(raised.value)
    assert "\n" not in text and len(text) < 700
    return text


def gguf(tensors: int, fields: int, rest: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields) + rest


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


_FIELD = string(b"general.architecture") + struct.pack("<I", 8) + string(b"llama")
_TENSOR = string(b"t") + struct.pack("<IQIQ", 1, 32, 0, 0)


GGUF_HEADERS = [
    gguf(2**60, 0, b""),
    gguf(0, 2**60, b""),
    gguf(2**64 - 1, 2**64 - 1, b"\0" * 1000),
    gguf(0, 1, struct.pack("<Q", 2**63)),
    gguf(0, 1, struct.pack("<Q", 2**63) + b"x" * 1000),
    gguf(0, 1, string(b"") + struct.pack("<I", 8) + string(b"llama")),
    gguf(0, 1, string(b"\xff\xfe") + struct.pack("<I", 8) + string(b"llama")),
    gguf(0, 1, string(b"a") + struct.pack("<IQ", 8, 2**63) + b"x" * 100),
    gguf(0, 1, string(b"a") + struct.pack("<IIQ", 9, 8, 2**61)),
    gguf(0, 1, string(b"a") + struct.pack("<IIQ", 9, 8, 2**22) + bytes(2**25)),
    gguf(0, 1, string(b"a") + struct.pack("<IIQ", 9, 12, 2**61) + b"\0" * 100),
    gguf(0, 1, string(b"a") + struct.pack("<IIQ", 9, 9, 2**32) + b"\0" * 100),
    gguf(0, 1, string(b"a") + struct.pack("<I", 99) + b"\0" * 100),
    gguf(0, 2, _FIELD + _FIELD),
    gguf(2, 1, _FIELD + _TENSOR + _TENSOR + b"\0" * 512),
    gguf(1, 1, _FIELD + string(b"t") + struct.pack("<I", 2**32 - 1) + b"\0" * 512),
    gguf(1, 1, _FIELD + string(b"t") + struct.pack("<IQQIQ", 2, 2**32, 2**32, 0, 0) + b"\0" * 512),
    gguf(1, 1, _FIELD + string(b"t") + struct.pack("<IQIQ", 1, 0, 0, 0) + b"\0" * 512),
    gguf(1, 1, _FIELD + string(b"t") + struct.pack("<IQIQ", 1, 32, 77, 0) + b"\0" * 512),
    gguf(1, 1, _FIELD + string(b"t") + struct.pack("<IQIQ", 1, 33, 2, 0) + b"\0" * 512),
    gguf(1, 1, _FIELD + string(b"t") + struct.pack("<IQIQ", 1, 32, 0, 7) + b"\0" * 512),
    gguf(1, 1, _FIELD + string(b"t") + struct.pack("<IQIQ", 1, 32, 0, 2**64 - 32) + b"\0" * 512),
    gguf(2, 1, _FIELD + _TENSOR + string(b"u") + struct.pack("<IQIQ", 1, 32, 0, 64) + b"\0" * 512),
    gguf(0, 1, string(b"general.alignment") + struct.pack("<II", 4, 0)),
    gguf(0, 1, string(b"general.alignment") + struct.pack("<II", 4, 24)),
    gguf(0, 1, string(b"general.alignment") + struct.pack("<IQ", 10, 2**62)),
    gguf(0, 0, b"", version=1),
    gguf(0, 0, b"", version=3 << 24),
]


@pytest.mark.parametrize("data", GGUF_HEADERS, ids=range(len(GGUF_HEADERS)))
def test_hostile_gguf_headers(tmp_path, data):
    (tmp_path / "h.gguf").write_bytes(data)
    assert "truncated or damaged GGUF file" in refused(tmp_path / "h.gguf")


@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, 3.5, True, "four"])
@pytest.mark.parametrize("key", ["llama.block_count", "llama.embedding_length", "llama.attention.head_count"])
def test_hostile_gguf_values(tmp_path, tiny_path, monkeypatch, key, value):
    from workloads.checkpoint import gguf_model

    class Changed(gguf_model.Gguf):
        def __init__(self, path):
            super().__init__(path)
            self.metadata[key] = value

    monkeypatch.setattr(gguf_model, "Gguf", Changed)
    refused(tiny_path)


def safetensors(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def entry(dtype: object = "F32", shape: object = (4,), offsets: object = (0, 16), name: str = "a") -> bytes:
    return json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


def _twice(first: str, second: str) -> bytes:
    return f'{{"a": {first}, "{second}": {first}}}'.encode()


_PLACE = '{"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}'


SAFETENSORS_HEADERS = [
    (struct.pack("<Q", 2**63) + b"{}", "truncated or damaged"),
    (struct.pack("<Q", 2**64 - 1) + b"{" * 100, "truncated or damaged"),
    (safetensors(b"{" + b"[" * 100_000), "not JSON"),
    (safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested too deeply"),
    (safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "nested too deeply"),
    (safetensors(b'{"a": ' + b"9" * 10_000 + b"}"), "not JSON"),
    (safetensors(b'{"a": NaN}'), "NaN"),
    (safetensors(b'{"\xff": 1}'), "not JSON"),
    (safetensors(b"{}"), "no tensors"),
    (safetensors(b'{"a": 1}'), "no object"),
    (safetensors(_twice(_PLACE, "a"), bytes(16)), "comes twice"),
    (safetensors(_twice(_PLACE, "b"), bytes(32)), "overlaps"),
    (safetensors(entry(), bytes(15)), "truncated"),
    (safetensors(entry(), bytes(17)), "take"),
    (safetensors(entry(dtype="X9"), bytes(16)), "dtype 'X9'"),
    (safetensors(entry(dtype=["F32"]), bytes(16)), "dtype"),
    (safetensors(entry(shape=[-4]), bytes(16)), "shape"),
    (safetensors(entry(shape=[2.0, 2]), bytes(16)), "shape"),
    (safetensors(entry(shape=[True] * 3), bytes(16)), "shape"),
    (safetensors(entry(shape=[2**62, 2**62]), bytes(16)), "data_offsets span"),
    (safetensors(entry(shape=[1] * 1000), bytes(16)), "shape"),
    (safetensors(entry(offsets=[-16, 0]), bytes(16)), "data_offsets"),
    (safetensors(entry(offsets=[16, 0]), bytes(16)), "data_offsets span"),
    (safetensors(entry(offsets=[0, 2**63]), bytes(16)), "data_offsets"),
    (safetensors(entry(offsets=[2**60, 2**60 + 16]), bytes(16)), "truncated"),
    (safetensors(entry(shape=None), bytes(16)), "shape"),
]


@pytest.mark.parametrize(("data", "part"), SAFETENSORS_HEADERS, ids=range(len(SAFETENSORS_HEADERS)))
def test_hostile_safetensors_headers(tmp_path, data, part):
    tiny_llama.write_hf(tmp_path, {"model.norm.weight": np.ones(4, np.float32)})
    (tmp_path / "model.safetensors").write_bytes(data)
    path = tmp_path / "model.safetensors"
    assert part in refused(path if data[8:9] == b"{" else tmp_path)


def test_a_header_beyond_the_limit_is_not_read(tmp_path):
    tiny_llama.write_hf(tmp_path, {"model.norm.weight": np.ones(4, np.float32)})
    with open(tmp_path / "model.safetensors", "wb") as stream:
        stream.write(struct.pack("<Q", 1 << 40) + b"{")
        stream.truncate(1 << 41)  # a sparse file that does hold that much
    assert "at most" in refused(tmp_path)
    with open(tmp_path / "strings.gguf", "wb") as stream:
        stream.write(gguf(0, 1, string(b"a") + struct.pack("<IIQ", 9, 8, 1 << 36)))
        stream.truncate(1 << 41)
    assert "truncated or damaged GGUF file" in refused(tmp_path / "strings.gguf")


@pytest.mark.parametrize(
    "shard",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        "",
        "x.bin",
        7,
    ],
)
def test_an_index_names_files_of_its_own_folder_alone(tmp_path, tiny_weights, shard):
    tensors = tiny_llama.hf_tensors(tiny_weights)
    tiny_llama.write_hf(tmp_path, tensors, shards=2)
    tiny_llama.write_hf(tmp_path / "a", tensors)
    home = dict.fromkeys(tensors, shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": home}))
    assert "in the same folder" in refused(tmp_path)


def test_shards_and_index_that_do_not_go_together(tmp_path, tiny_weights):
    folder = tiny_llama.write_hf(tmp_path, tiny_llama.hf_tensors(tiny_weights), shards=3)
    index = folder / "model.safetensors.index.json"
    home = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {**home, "model.norm.weight": "model-00001-of-00003.safetensors"}}))
    wrong = refused(folder)
    assert "holds no tensor" in wrong or home["model.norm.weight"] == "model-00001-of-00003.safetensors"
    for text in ("[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}', "\0", '{"weight_map": ' + "[" * 10_000):
        index.write_text(text)
        refused(folder)
    index.write_text(json.dumps({"weight_map": home}))
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "shard model-00002-of-00003.safetensors is missing" in refused(folder)


def test_headers_of_all_shards_together_are_bounded(tmp_path, tiny_weights, monkeypatch):
    from workloads.checkpoint import safetensors_file

    folder = tiny_llama.write_hf(tmp_path, tiny_llama.hf_tensors(tiny_weights), shards=3)
    lengths = [safetensors_file.header_length(path) for path in sorted(folder.glob("*.safetensors"))]
    monkeypatch.setattr(safetensors_file, "MAX_HEADER", sum(lengths))  # the index itself is a little shorter
    Checkpoint(folder)
    monkeypatch.setattr(safetensors_file, "MAX_HEADER", sum(lengths) - 1)
    assert "in all shards" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json", "pipe.gguf"])
def test_pipes_are_not_waited_for(tmp_path, tiny_weights, name):
    folder = tiny_llama.write_hf(tmp_path / "model", tiny_llama.hf_tensors(tiny_weights))
    if name.endswith("index.json"):
        (folder / "model.safetensors").unlink()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert "no such file" in refused(folder / name if name == "pipe.gguf" else folder)


def npy(header: bytes, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    code = "<H" if version == b"\1\0" else "<I"
    return b"\x93NUMPY" + version + struct.pack(code, len(header)) + header + body


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


_NPY = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"


@pytest.mark.parametrize(
    ("members", "part"),
    [
        ({"a.npy": npy(_NPY.replace(b"<f4", b"|O"), bytes(16))}, "pickle"),
        ({"a.npy": npy(b"__import__('os').abort()", bytes(16))}, "header that is damaged"),
        ({"a.npy": npy(_NPY.replace(b"'<f4'", b"[('a', '<f4')]"), bytes(16))}, "header that is damaged"),
        ({"a.npy": npy(_NPY.replace(b"(4,)", b"(" * 100), bytes(16))}, "header that is damaged"),
        ({"a.npy": npy(_NPY.replace(b"(4,)", b"(-4,)"), bytes(16))}, "header that is damaged"),
        (
            {"a.npy": npy(_NPY.replace(b"(4,)", b"(4611686018427387904, 4611686018427387904)"))},
            "where its header tells",
        ),
        ({"a.npy": npy(_NPY, bytes(15))}, "where its header tells"),
        ({"a.npy": npy(_NPY + b" " * 5000, bytes(16))}, "header of"),
        ({"a.npy": npy(_NPY, bytes(16), b"\2\0")[:9]}, "truncated or damaged npz"),
        ({"a.npy": npy(_NPY, bytes(16), b"\7\7")}, "is no .npy array"),
        ({"a.txt": b"text"}, "is no .npy array"),
        ({"../../a.npy": b""}, "is no .npy array"),
        ({"config.npy": npy(_NPY, bytes(16))}, "must be one string"),
        ({"config.npy": npy(_NPY.replace(b"<f4", b"<U4").replace(b"(4,)", b"()"), b"\xff" * 16)}, "cannot be read"),
    ],
)
def test_hostile_npz_members(tmp_path, members, part):
    (tmp_path / "h.npz").write_bytes(zipped(members))
    assert part in refused(tmp_path / "h.npz")


def test_zip_bombs_are_not_unpacked(tmp_path):
    shape = _NPY.replace(b"(4,)", b"(16777216,)")
    bomb = zipped({"a.npy": npy(shape, bytes(4 << 24))}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    (tmp_path / "bomb.npz").write_bytes(bomb)
    assert "more than 100 times" in refused(tmp_path / "bomb.npz")
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        (tmp_path / "bomb.npz").write_bytes(zipped({"a.npy": npy(_NPY, bytes(16))}, compression))
        assert "another way than deflate" in refused(tmp_path / "bomb.npz")


def test_a_long_list_of_members_is_not_read(tmp_path):
    data = bytearray(zipped({"a.npy": npy(_NPY, bytes(16))}))
    end = data.rfind(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<I", 1 << 31)
    (tmp_path / "many.npz").write_bytes(data)
    assert "list of members" in refused(tmp_path / "many.npz")


def main(kind: str, first: str, count: str) -> None:
    """Damage and read under limits; the outcomes as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    found = {"refused": 0, "read": 0}
    with tempfile.TemporaryDirectory() as folder:
        for start in range(int(first), int(first) + int(count), 50):
            signal.alarm(60)  # dies here if 50 files take a minute
            for what, number in damage_and_read(kind, start, 50, Path(folder)).items():
                found[what] += number
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
