"""Containers alone: any tensors of any shape come back, whole and by rows, whatever else the file holds."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_llama
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from workloads.checkpoint import container
from workloads.checkpoint.gguf_file import Gguf
from workloads.checkpoint.npz_file import Npz
from workloads.checkpoint.safetensors_file import Safetensors

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12)
SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


def write_gguf(path, tensors):
    import gguf

    writer = gguf.GGUFWriter(str(path), "any")
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.add_array("strings", ["", "a", "ø"] * len(tensors))
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("truths", [True, False])
    writer.add_bool("truth", True)
    writer.add_float64("real", -0.5)
    writer.add_int8("small", -3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Gguf(path)


def write_safetensors(path, tensors):
    path.write_bytes(tiny_llama.safetensors_bytes(tensors))
    return Safetensors(path)


def write_npz(path, tensors):
    np.savez(path, **tensors)
    return Npz(path)


def write_npz_deflated(path, tensors):
    np.savez_compressed(path, **tensors)
    return Npz(path)


WRITERS = {
    "t.gguf": write_gguf,
    "t.safetensors": write_safetensors,
    "t.npz": write_npz,
    "d.npz": write_npz_deflated,
}


@pytest.mark.parametrize("name", WRITERS)
@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    shapes=st.dictionaries(NAMES.filter(lambda name: name != "file"), SHAPES, min_size=1, max_size=5), data=st.data()
)
def test_tensors_come_back_whole_and_by_rows(tmp_path_factory, name, shapes, data):
    rng = np.random.default_rng(0)
    order = data.draw(st.sampled_from(("C", "F")))
    tensors = {key: np.asarray(rng.normal(size=shape).astype(np.float32), order=order) for key, shape in shapes.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "_CHUNK", data.draw(st.sampled_from((1, 7, 1 << 20))))
        found = WRITERS[name](tmp_path_factory.mktemp("t") / name, tensors)
        assert set(found.tensors) == set(tensors)
        for key, tensor in tensors.items():
            np.testing.assert_array_equal(found.read(key), tensor)
            start = data.draw(st.integers(0, len(tensor)))
            stop = data.draw(st.integers(start, len(tensor)))
            rows = found.read(key, start, stop)
            assert rows.dtype == np.float32 and rows.flags.c_contiguous
            np.testing.assert_array_equal(rows, tensor[start:stop])


def test_gguf_metadata(tmp_path):
    found = write_gguf(tmp_path / "t.gguf", {"a": np.ones(1, np.float32)}).metadata
    assert found["strings"] == ["", "a", "ø"] and found["numbers"].tolist() == [1, 2, 3]
    assert found["truths"].tolist() == [True, False] and found["truth"] is True
    assert found["real"] == -0.5 and found["small"] == -3 and found["general.architecture"] == "any"


@pytest.mark.parametrize("dtype", ["i4", "u1", "?", "c8", "U3"])
def test_arrays_that_are_no_weights_may_lie_there_but_are_not_read(tmp_path, dtype):
    found = write_npz(tmp_path / "t.npz", {"a": np.zeros(3, dtype), "b": np.ones(2, np.float16)})
    np.testing.assert_array_equal(found.read("b"), [1, 1])
    with pytest.raises(InputError, match=r"tensor a is .*, which cannot be read"):
        found.read("a")


def test_every_quantised_gguf_format_reads_as_the_package_does(tmp_path):
    import gguf

    rng = np.random.default_rng(0)
    writer, expected = gguf.GGUFWriter(str(tmp_path / "t.gguf"), "any"), {}
    for kind, (elements, _) in gguf.GGML_QUANT_SIZES.items():
        try:
            values = rng.normal(size=(3, 2 * elements)).astype(np.float32)
            packed = gguf.quants.quantize(values, kind)
        except NotImplementedError:
            continue
        writer.add_tensor(kind.name, packed, raw_dtype=kind)
        expected[kind.name] = gguf.dequantize(packed, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = Gguf(tmp_path / "t.gguf")
    assert len(expected) >= 8
    for name, values in expected.items():
        np.testing.assert_array_equal(found.read(name), values)
        np.testing.assert_array_equal(found.read(name, 1, 2), values[1:2])
