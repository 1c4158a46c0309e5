"""Every format gives the same matrices, and one clear line for what cannot be read."""

from __future__ import annotations

import builtins
import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
import tiny_llama

from sim.errors import InputError
from workloads.checkpoint import MATRIX_INPUT, MATRIX_TYPES, Checkpoint, open_checkpoint, undo_rope_permutation
from workloads.checkpoint.decode import float8_e4m3
from workloads.tokenizer import Tokenizer
from workloads.transformer import token_nll


def _hf(folder, weights, **options):
    return tiny_llama.write_hf(folder, tiny_llama.hf_tensors(weights), **options)


WRITERS = {
    "gguf": lambda folder, weights: tiny_llama.write_gguf(folder / "tiny.gguf", weights),
    "safetensors": lambda folder, weights: _hf(folder / "one", weights) / "model.safetensors",
    "folder": lambda folder, weights: _hf(folder / "whole", weights),
    "shards": lambda folder, weights: _hf(folder / "shards", weights, shards=3),
    "index": lambda folder, weights: _hf(folder / "shards", weights, shards=3) / "model.safetensors.index.json",
    "npz": lambda folder, weights: tiny_llama.write_npz(folder / "tiny.npz", tiny_llama.hf_tensors(weights)),
    "npz deflated": lambda folder, weights: tiny_llama.write_npz(
        folder / "small.npz", tiny_llama.hf_tensors(weights), compressed=True
    ),
}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path, tiny_weights):
    """The tiny model in each format."""
    return WRITERS[request.param](tmp_path, tiny_weights)


def test_every_format_gives_the_weights_that_were_written(written, tiny_weights):
    read = open_checkpoint(written)
    c = read.config
    assert (c.layers, c.d_model, c.ffn, c.heads, c.kv_heads, c.head_dim, c.vocab) == (2, 24, 32, 4, 2, 6, 256)
    assert c.rope_theta == 1000.0 and c.tied_embeddings and c.norm_eps == pytest.approx(1e-5)
    assert read.gap == "" and read.matrix_types == MATRIX_TYPES and len(read.sha256) == 64
    assert (read.config_file is None) == (written.suffix in (".gguf", ".npz"))
    for layer in range(c.layers):
        for matrix_type in MATRIX_TYPES:
            weight = read.matrix(layer, matrix_type)
            assert weight.dtype == np.float32 and weight.shape == c.matrix_shape(matrix_type)
            assert weight.flags.c_contiguous
            np.testing.assert_array_equal(weight, tiny_weights[f"blk.{layer}.{matrix_type}.weight"])
            assert read.bias(layer, matrix_type) is None
        for which in ("attn_norm", "ffn_norm"):
            np.testing.assert_array_equal(read.norm(layer, which), tiny_weights[f"blk.{layer}.{which}.weight"])
    np.testing.assert_array_equal(read.head, tiny_weights["token_embd.weight"])
    np.testing.assert_array_equal(read.output_norm, tiny_weights["output_norm.weight"])
    assert set(MATRIX_INPUT) == set(MATRIX_TYPES)


def test_every_format_gives_the_same_likelihoods(written, tiny):
    tokens = np.random.default_rng(3).integers(0, tiny_llama.VOCAB, (1, 12))
    np.testing.assert_allclose(token_nll(open_checkpoint(written), tokens), token_nll(tiny, tokens), rtol=1e-5)


def test_kept_matrices_stay_below_the_bound_and_are_released(written):
    one = 4 * tiny_llama.D * tiny_llama.FFN
    read = Checkpoint(written, cache_bytes=2 * one)
    for layer, matrix_type, weight in read.matrices():
        assert read.matrix(layer, matrix_type) is read.matrix(layer, matrix_type)
        np.testing.assert_array_equal(weight, read.matrix(layer, matrix_type))
        assert sum(kept.nbytes for kept in read._kept.values()) == read._kept_bytes <= 2 * one
    assert [key for key, *_ in zip(read._kept, range(1), strict=False)] == [(1, "ffn_up")]  # the oldest of two
    last = read.matrix(1, "ffn_down")
    read.release(1)
    assert read._kept_bytes == 0 and read.matrix(1, "ffn_down") is not last
    none = Checkpoint(written, cache_bytes=0)
    assert none.matrix(0, "attn_q") is not none.matrix(0, "attn_q")


@pytest.mark.parametrize("layer", [-1, 2])
def test_what_is_not_there(tiny, layer):
    with pytest.raises(InputError, match=r"layer must be in 0\.\.1"):
        tiny.matrix(layer, "attn_q")
    with pytest.raises(InputError, match="did you mean 'attn_q'"):
        tiny.matrix(0, "attn_qq")


def test_rope_permutation_is_undone():
    weight = np.arange(24, dtype=np.float32).reshape(12, 2)
    np.testing.assert_array_equal(undo_rope_permutation(tiny_llama.interleave(weight, 2), 2), weight)


@pytest.mark.parametrize(("dtype", "bits"), [("F32", 24), ("F16", 11), ("BF16", 8), ("F8_E5M2", 3), ("F64", 24)])
def test_number_formats_round_by_their_mantissa(tmp_path, tiny_weights, dtype, bits):
    """Truncation to p significant bits errs by less than 2^(1 - p) of the value."""
    read = open_checkpoint(_hf(tmp_path, tiny_weights, dtype=dtype))
    wanted = tiny_weights["blk.1.ffn_up.weight"]
    wanted = np.where(np.abs(wanted) > 1e-3, wanted, 0)
    found = np.where(wanted != 0, read.matrix(1, "ffn_up"), 0)
    assert (np.abs(found - wanted) <= 2.0 ** (1 - bits) * np.abs(wanted)).all()
    assert dtype in ("F32", "F64") or (found != wanted).any()


def test_float8_e4m3_values():
    """Micikevicius et al. 2022, table 2: largest 448, smallest normal 2^-6, smallest 2^-9; NaN is S.1111.111."""
    found = float8_e4m3(bytes([0x00, 0x7E, 0x08, 0x01, 0x38, 0xB8, 0x7F, 0xFF]))
    np.testing.assert_array_equal(found, np.float32([0, 448, 2**-6, 2**-9, 1, -1, np.nan, np.nan]))


def test_files_of_the_safetensors_package(tmp_path, tiny_weights):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    folder = _hf(tmp_path, tiny_weights)
    save_file(tiny_llama.hf_tensors(tiny_weights), folder / "model.safetensors")
    read = open_checkpoint(folder)
    np.testing.assert_array_equal(read.matrix(1, "attn_k"), tiny_weights["blk.1.attn_k.weight"])


def test_quantised_tensors_are_dequantised(tmp_path, tiny_weights):
    import gguf

    rng = np.random.default_rng(1)
    dense = rng.normal(size=(tiny_llama.D, tiny_llama.FFN)).astype(np.float32)
    path = tmp_path / "q8.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    for key, value in (("block_count", 2), ("embedding_length", 24), ("feed_forward_length", 32), ("head_count", 4)):
        getattr(writer, f"add_{key}")(value)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, tensor in tiny_weights.items():
        if name == "blk.0.ffn_down.weight":
            packed = gguf.quants.quantize(dense, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = Checkpoint(path)
    assert read.config.rope_theta == 10000.0  # the format's default
    np.testing.assert_allclose(read.matrix(0, "ffn_down"), dense, atol=np.abs(dense).max() / 127)


def refusal(path) -> str:
    with pytest.raises(InputError) as raised:
        open_checkpoint(path)
    text = str(raised.value)
    assert "\n" not in text and len(text) < 500 and path.name in text
    return text


def test_missing_and_foreign_files(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.gguf")
    (tmp_path / "folder").mkdir()
    assert "config.json: no such file" in refusal(tmp_path / "folder")
    for suffix, kind in ((".gguf", "GGUF"), (".safetensors", "safetensors"), (".npz", "npz")):
        foreign = tmp_path / f"foreign{suffix}"
        foreign.write_bytes(b"\x7fELF not a model")
        assert f"not a {kind} file" in refusal(foreign)
    (tmp_path / "notes.txt").write_text("not a model")
    assert "Hugging Face folder" in refusal(tmp_path / "notes.txt")


class Loaded:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt", "model.pkl", "model"])
@pytest.mark.parametrize("zipped", [False, True])
def test_pickles_are_never_loaded(tmp_path, name, zipped):
    path = tmp_path / name
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Loaded()))
    else:
        path.write_bytes(pickle.dumps(Loaded()))
    assert "convert to safetensors" in refusal(path)
    (tmp_path / "config.json").write_text(json.dumps(tiny_llama.hf_config()))
    if path.suffix:
        with pytest.raises(InputError, match="convert to safetensors"):
            open_checkpoint(tmp_path)


def test_object_arrays_are_never_loaded(tmp_path, tiny_weights):
    tensors = tiny_llama.hf_tensors(tiny_weights)
    np.savez(tmp_path / "a.npz", **tensors, more=np.array([Loaded(), None], dtype=object))
    assert "pickle" in refusal(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Loaded()))
    assert "pickle" in refusal(tmp_path / "b.npz")


def _fused(tensors, layer, into, parts):
    tensors[f"model.layers.{layer}.{into}.weight"] = np.concatenate(
        [tensors.pop(f"model.layers.{layer}.{part}.weight") for part in parts]
    )


def phi3(weights):
    """Phi-3's fused linears."""
    tensors = tiny_llama.hf_tensors(weights)
    for layer in range(tiny_llama.LAYERS):
        _fused(tensors, layer, "self_attn.qkv_proj", [f"self_attn.{x}_proj" for x in "qkv"])
        _fused(tensors, layer, "mlp.gate_up_proj", ["mlp.gate_proj", "mlp.up_proj"])
    return tensors, {"model_type": "phi3"}


def qwen2(weights):
    """Llama's names with biases on q, k and v."""
    tensors = tiny_llama.hf_tensors(weights)
    for layer in range(tiny_llama.LAYERS):
        for x, size in zip("qkv", (24, 12, 12), strict=True):
            tensors[f"model.layers.{layer}.self_attn.{x}_proj.bias"] = np.arange(size, dtype=np.float32)
    return tensors, {"model_type": "qwen2"}


def qwen3(weights):
    """Llama's names with norms of queries and keys."""
    more = {f"model.layers.{i}.self_attn.{x}_norm.weight": np.ones(6, np.float32) for i in range(2) for x in "qk"}
    return tiny_llama.hf_tensors(weights) | more, {"model_type": "qwen3"}


def gemma(weights):
    """Llama's names, other norms, activation and embedding scale."""
    return tiny_llama.hf_tensors(weights), {"model_type": "gemma", "hidden_act": "gelu"}


def opt(weights):
    """No gate, names of its own."""
    new = {"self_attn.o_proj": "self_attn.out_proj", "mlp.up_proj": "fc1", "mlp.down_proj": "fc2"}
    tensors = {}
    for name, tensor in tiny_llama.hf_tensors(weights).items():
        if "gate_proj" in name or "norm" in name:
            continue
        for old, own in new.items():
            name = name.replace(old, own)
        tensors[name.replace("model.", "model.decoder.")] = tensor
    return tensors, {"model_type": "opt", "intermediate_size": None, "ffn_dim": tiny_llama.FFN}


def gpt2(weights):
    """Fused, stored in x out, as many KV heads as heads; K and V are those of the tiny model twice."""
    tensors = {"transformer.wte.weight": weights["token_embd.weight"]}
    for i in range(tiny_llama.LAYERS):
        w = {t: weights[f"blk.{i}.{t}.weight"] for t in tiny_llama.SHAPES}
        qkv = np.concatenate([w["attn_q"], w["attn_k"], w["attn_k"], w["attn_v"], w["attn_v"]])
        linears = {"attn.c_attn": qkv, "attn.c_proj": w["attn_output"], "mlp.c_fc": w["ffn_up"]}
        for name, tensor in {**linears, "mlp.c_proj": w["ffn_down"]}.items():
            tensors[f"transformer.h.{i}.{name}.weight"] = np.ascontiguousarray(tensor.T)
            tensors[f"transformer.h.{i}.{name}.bias"] = np.arange(len(tensor), dtype=np.float32)
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_inner": 32, "num_key_value_heads": None}
    return tensors, {"model_type": "gpt2", "hidden_size": None, **sizes}


@pytest.mark.parametrize("family", [phi3, qwen2, qwen3, gemma, opt, gpt2])
@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_other_decoders_are_read_but_not_run(tmp_path, tiny_weights, family, kind):
    tensors, changed = family(tiny_weights)
    if kind == "npz":
        path = tiny_llama.write_npz(tmp_path / "model.npz", tensors, **changed)
    else:
        path = tiny_llama.write_hf(tmp_path / "model", tensors, **changed)
    read = open_checkpoint(path)
    expected = [t for t in MATRIX_TYPES if family not in (opt, gpt2) or t != "ffn_gate"]
    assert list(read.matrix_types) == expected and "matrices only" in repr(read)
    for layer, t, weight in read.matrices():
        wanted = tiny_weights[f"blk.{layer}.{t}.weight"]
        if family is gpt2 and t in ("attn_k", "attn_v"):
            wanted = np.concatenate([wanted, wanted])
        assert weight.flags.c_contiguous
        np.testing.assert_array_equal(weight, wanted)
    if family is qwen2:
        np.testing.assert_array_equal(read.bias(1, "attn_v"), np.arange(12))
    if family is gpt2:
        np.testing.assert_array_equal(read.bias(1, "attn_k"), np.arange(24, 48))
    with pytest.raises(InputError, match=rf"model_type '{family.__name__}' is not run.*the model cannot be run"):
        token_nll(read, np.zeros((1, 4), int))


@pytest.mark.parametrize(
    ("family", "part"),
    [(qwen2, "is a bias"), (qwen3, "queries and keys are normalised"), (opt, "no gate"), (gpt2, "no gate")],
)
def test_a_config_that_says_llama_does_not_make_one(tmp_path, tiny_weights, family, part):
    tensors, changed = family(tiny_weights)
    read = open_checkpoint(tiny_llama.write_hf(tmp_path, tensors, **{**changed, "model_type": "llama"}))
    with pytest.raises(InputError, match=part):
        token_nll(read, np.zeros((1, 4), int))


def test_fused_linears_under_a_config_that_says_llama_are_run(tmp_path, tiny, tiny_weights):
    tensors, _ = phi3(tiny_weights)
    read = open_checkpoint(tiny_llama.write_hf(tmp_path, tensors))
    tokens = np.arange(8)[None]
    np.testing.assert_allclose(token_nll(read, tokens), token_nll(tiny, tokens), rtol=1e-5)


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"sliding_window": 4096}, "sliding_window 4096"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rotary scaling 'yarn'"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, "rotary scaling 'dynamic'"),
    ],
)
def test_what_the_forward_pass_lacks_is_refused_there_alone(tmp_path, tiny_weights, changed, part):
    read = open_checkpoint(_hf(tmp_path, tiny_weights, **changed))
    read.matrix(0, "attn_q")
    with pytest.raises(InputError, match=part):
        token_nll(read, np.zeros((1, 4), int))


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights are read from GGUF alone"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"hidden_size": "24"}, "hidden_size must be an integer"),
        ({"num_key_value_heads": 3}, "do not fit together"),
        ({"head_dim": 5}, "do not fit together"),
        ({"num_hidden_layers": 3}, "no tensor model.layers.2"),
        ({"num_hidden_layers": 10**6}, "layers must be in 1..1000"),
        ({"intermediate_size": 33}, "expected (33, 24)"),
        ({"vocab_size": 255}, "expected (255, 24)"),
        ({"tie_word_embeddings": False}, "no tensor lm_head.weight"),
        ({"rms_norm_eps": 0}, "rms_norm_eps must be a number > 0"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor"),
    ],
)
def test_config_is_checked(tmp_path, tiny_weights, changed, part):
    with pytest.raises(InputError) as raised:
        open_checkpoint(_hf(tmp_path, tiny_weights, **changed))
    assert part in str(raised.value) and "\n" not in str(raised.value)


def test_llama3_rotary_scaling(tmp_path, tiny_weights):
    """Short wavelengths stay, long ones are divided by the factor, those between lie between, monotonically."""
    rope = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    found = open_checkpoint(_hf(tmp_path / "a", tiny_weights, rope_scaling=rope)).rope_divisors
    assert found[0] == 1 and 1 < found[1] < 8 and found[2] == 8  # wavelengths 6.3, 63 and 628 of 128
    linear = open_checkpoint(_hf(tmp_path / "b", tiny_weights, rope_scaling={"type": "linear", "factor": 2.0}))
    np.testing.assert_array_equal(linear.rope_divisors, [2, 2, 2])


def test_gguf_of_another_architecture(tmp_path, tiny_weights):
    path = tiny_llama.write_gguf(tmp_path / "q.gguf", tiny_weights, architecture="qwen2")
    read = Checkpoint(path)
    read.matrix(0, "ffn_up")
    with pytest.raises(InputError, match="'qwen2' and the forward pass runs 'llama' alone"):
        token_nll(read, np.zeros((1, 4), int))


@pytest.mark.parametrize("architecture", ["phi3", "gpt2"])
def test_gguf_of_fused_linears(tmp_path, tiny_weights, architecture):
    """Phi-3 and GPT-2 have the same names there; the size of ffn_up tells them apart."""
    fused = {name: tensor for name, tensor in tiny_weights.items() if "attn_" not in name and "ffn_" not in name}
    for i in range(tiny_llama.LAYERS):
        w = {t: tiny_weights[f"blk.{i}.{t}.weight"] for t in tiny_llama.SHAPES}
        gate = [w["ffn_gate"]] if architecture == "phi3" else []
        fused[f"blk.{i}.attn_qkv.weight"] = np.concatenate([w["attn_q"], w["attn_k"], w["attn_v"]])
        fused[f"blk.{i}.ffn_up.weight"] = np.concatenate([*gate, w["ffn_up"]])
        fused |= {f"blk.{i}.{t}.weight": w[t] for t in ("attn_output", "ffn_down")}
    read = Checkpoint(tiny_llama.write_gguf(tmp_path / "f.gguf", fused, architecture=architecture))
    assert ("ffn_gate" in read.matrix_types) == (architecture == "phi3") and read.gap
    for layer, t, weight in read.matrices():
        np.testing.assert_array_equal(weight, tiny_weights[f"blk.{layer}.{t}.weight"])


def test_one_part_of_a_split_gguf(tiny_path, monkeypatch):
    from workloads.checkpoint import gguf_model

    class Part(gguf_model.Gguf):
        def __init__(self, path):
            super().__init__(path)
            self.metadata["split.count"] = 3

    monkeypatch.setattr(gguf_model, "Gguf", Part)
    assert "join them" in refusal(tiny_path)


def test_lacking_tensor_wrong_shape_and_bias(tmp_path, tiny_weights):
    less = {name: t for name, t in tiny_weights.items() if name != "blk.1.ffn_up.weight"}
    with pytest.raises(InputError, match=r"no tensor blk\.1\.ffn_up\.weight"):
        Checkpoint(tiny_llama.write_gguf(tmp_path / "less.gguf", less))
    turned = {**tiny_weights, "blk.1.ffn_up.weight": np.ascontiguousarray(tiny_weights["blk.1.ffn_up.weight"].T)}
    with pytest.raises(InputError, match=r"blk\.1\.ffn_up\.weight is \(24, 32\), expected \(32, 24\)"):
        Checkpoint(tiny_llama.write_gguf(tmp_path / "turned.gguf", turned))
    biased = {**tiny_weights, "blk.0.attn_q.bias": np.arange(24, dtype=np.float32)}
    read = Checkpoint(tiny_llama.write_gguf(tmp_path / "biased.gguf", biased))
    np.testing.assert_array_equal(read.bias(0, "attn_q"), np.arange(24))
    with pytest.raises(InputError, match=r"blk\.0\.attn_q\.bias is a bias"):
        token_nll(read, np.zeros((1, 4), int))


def test_missing_extra_names_the_remedy(tiny_path, monkeypatch):
    real = builtins.__import__

    def without_gguf(name, *args, **kwargs):
        if name.split(".")[0] == "gguf":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_gguf)
    with pytest.raises(InputError, match=r"pip install 'sparchitect\[llm\]'"):
        Checkpoint(tiny_path)


@pytest.mark.parametrize("kind", ["shards", "npz", "gguf"])
def test_memory_is_that_of_a_layer_not_of_the_model(tmp_path, kind):
    """Reading all matrices of 12 layers peaks below two of its matrices and the pieces that are being decoded."""
    d, ffn, layers = 512, 2048, 12
    rng = np.random.default_rng(0)
    shapes = {"attn_q": (d, d), "attn_k": (d, d), "attn_v": (d, d), "attn_output": (d, d)}
    shapes |= {"ffn_gate": (ffn, d), "ffn_up": (ffn, d), "ffn_down": (d, ffn)}
    one = {t: rng.normal(size=shape).astype(np.float32) for t, shape in shapes.items()}
    tensors = {f"blk.{i}.{t}.weight": weight for i in range(layers) for t, weight in one.items()}
    sizes = {"hidden_size": d, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 4, "head_dim": 128, "model_type": "other", "vocab_size": 8}
    if kind == "shards":
        path = tiny_llama.write_hf(tmp_path / "m", tiny_llama.hf_tensors(tensors), dtype="BF16", shards=3, **sizes)
    elif kind == "npz":
        path = tiny_llama.write_npz(tmp_path / "m.npz", tiny_llama.hf_tensors(tensors), **sizes)
    else:
        import gguf

        path = tmp_path / "m.gguf"
        writer = gguf.GGUFWriter(str(path), "other")
        for key, value in (("block_count", layers), ("embedding_length", d), ("feed_forward_length", ffn)):
            getattr(writer, f"add_{key}")(value)
        writer.add_head_count(4)
        for name, tensor in {**tensors, "token_embd.weight": np.ones((8, d), np.float32)}.items():
            packed = gguf.quants.quantize(tensor, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    del tensors
    layer = sum(weight.nbytes for weight in one.values())
    tracemalloc.start()
    try:
        read = Checkpoint(path, cache_bytes=layer)
        total = 0
        for i, t in ((i, t) for i in range(layers) for t in MATRIX_TYPES):
            total += read.matrix(i, t).nbytes
        kept_peak = tracemalloc.get_traced_memory()[1]
        read.release()
        tracemalloc.reset_peak()
        for _ in read.matrices():
            pass
        streamed_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == layers * layer == 12 * 16 * (1 << 20)
    piece = 24 << 20  # a piece of 2^20 elements, raw and decoded, and what its decoder needs
    assert streamed_peak < 2 * one["ffn_up"].nbytes + piece
    assert kept_peak < layer + 2 * one["ffn_up"].nbytes + piece


def test_a_file_that_shrinks_under_the_reader(tmp_path, tiny_weights):
    read = open_checkpoint(_hf(tmp_path, tiny_weights))
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InputError, match="the file ends inside it"):
        for _ in read.matrices():
            pass


def test_fingerprint_follows_weights_and_config(tmp_path, tiny_weights):
    first = open_checkpoint(_hf(tmp_path / "a", tiny_weights, shards=2)).sha256
    assert open_checkpoint(_hf(tmp_path / "b", tiny_weights, shards=2)).sha256 == first
    assert open_checkpoint(_hf(tmp_path / "c", tiny_weights, shards=2, rope_theta=500.0)).sha256 != first
    other = {**tiny_weights, "output_norm.weight": np.ones(24, np.float32)}
    assert open_checkpoint(_hf(tmp_path / "d", other, shards=2)).sha256 != first


def _byte_tokenizer():
    tokenizers = pytest.importorskip("tokenizers")
    tokens = {token: i for i, token in enumerate(tiny_llama.byte_tokens())}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=tokens, merges=[]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return made


def test_tokenizer_json_of_a_folder(tmp_path, tiny, tiny_weights):
    """The same ids as GGUF metadata give; no special token, truncation or padding from the file."""
    made = _byte_tokenizer()
    made.enable_truncation(2)
    made.enable_padding(length=100)
    folder = _hf(tmp_path, tiny_weights)
    with pytest.raises(InputError, match=r"no tokenizer\.json beside it"):
        Tokenizer(open_checkpoint(folder))
    made.save(str(folder / "tokenizer.json"))
    text = "Åben 12 bytes\n"
    ids = Tokenizer(open_checkpoint(folder)).encode(text)
    np.testing.assert_array_equal(ids, Tokenizer(tiny).encode(text))
    assert Tokenizer(open_checkpoint(folder)).decode(ids) == text


def test_tokenizer_json_that_is_wrong(tmp_path, tiny_weights):
    made = _byte_tokenizer()
    folder = _hf(tmp_path, tiny_weights)
    path = folder / "tokenizer.json"
    whole = made.to_str().encode()
    rng = np.random.default_rng(0)
    for data in (b"", b"{}", b"\xff", b"[" * 10_000, whole[: len(whole) // 2], whole.replace(b'"BPE"', b'"XPE"')):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"tokenizer\.json") as raised:
            Tokenizer(open_checkpoint(folder))
        assert "\n" not in str(raised.value)
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            Tokenizer(open_checkpoint(folder)).encode("text")
        except InputError as error:
            assert "tokenizer.json" in str(error)
    made.add_tokens(["one more"])
    made.save(str(path))
    with pytest.raises(InputError, match="257 tokens for a vocabulary of 256"):
        Tokenizer(open_checkpoint(folder))
