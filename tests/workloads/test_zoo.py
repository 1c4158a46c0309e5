"""The model zoo: parameter counts against published totals, configs from files, and what bad ones are told."""

from __future__ import annotations

import json

import pytest

from sim.errors import InputError
from workloads import zoo
from workloads.checkpoint import MATRIX_TYPES

#: Parameters a token uses, as the model card or paper rounds them; tables are counted.
ACTIVE = {
    "mixtral_8x7b": "12.9B",
    "mixtral_8x22b": "39B",
    "deepseek_moe_16b": "2.8B",
    "deepseek_v2": "21B",
    "qwen1_5_moe_a2_7b": "2.7B",
    "qwen2_57b_a14b": "14B",
    "qwen3_235b_a22b": "22B",
}
LLAMA_LIKE = (
    "llama2_7b",
    "llama3_8b",
    "llama_65b",
    "llama3_1_405b",
    "smollm2_135m",
    "tinyllama_1_1b",
    "mistral_7b_v0_3",
)
TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


def write(folder, fields):
    path = folder / "tiny.json"
    path.write_text(json.dumps(fields))
    return path


def rounds_to(count, published):
    """Whether ``count`` is ``published`` (as in 6.7B or 790M) within half a unit of its last nonzero digit."""
    digits, unit = published[:-1], {"M": 1e6, "B": 1e9}[published[-1]]
    decimals = len(digits.partition(".")[2])
    last = 10.0**-decimals if decimals else 10.0 ** (len(digits) - len(digits.rstrip("0")))
    return abs(count / unit - float(digits)) <= last / 2


@pytest.mark.parametrize("name", zoo.names())
def test_parameters_are_the_published_total(name):
    published = zoo.raw(name)["published_parameters"]
    if isinstance(published, int):
        assert zoo.parameters(name) == published
    else:
        assert rounds_to(zoo.parameters(name), published)


def test_rounding_is_tight():
    assert rounds_to(6.658e9, "6.7B") and not rounds_to(6.64e9, "6.7B")
    assert rounds_to(793e6, "790M") and not rounds_to(796e6, "790M")


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_the_published_ones(name):
    assert rounds_to(zoo.active_parameters(name), ACTIVE[name])


def test_deepseek_v3_counts_its_active_parameters_without_the_token_table():
    fields = zoo.raw("deepseek_v3")
    table = fields["vocab_size"] * fields["hidden_size"]
    assert rounds_to(zoo.active_parameters("deepseek_v3") - table, "37B")


@pytest.mark.parametrize("name", zoo.names())
def test_every_model_says_where_it_is_from(name):
    source = zoo.raw(name)["source"]
    assert "config.json of " in source and ("recalled" in source or "read in public copies" in source)
    assert "published_parameters" in source


@pytest.mark.parametrize("name", LLAMA_LIKE)
def test_llama_like_models_are_the_same_in_both_descriptions(name):
    config, full = zoo.config(name), zoo.architecture(name)
    assert zoo.architecture(config) == full
    assert full.matrices(0) == {t: config.matrix_shape(t) for t in MATRIX_TYPES}


@pytest.mark.parametrize("name", ["gpt2_small", "mistral_7b", "mixtral_8x7b", "gemma_2b", "mamba_130m"])
def test_other_models_have_no_config_that_forward_passes_could_use(name):
    with pytest.raises(InputError, match=rf"{name}\.json: (model_type must be|sliding_window)"):
        zoo.config(name)


def test_summaries_name_the_shape():
    found = zoo.models()
    assert set(found) == set(zoo.names())
    assert found["smollm2_135m"].startswith("135 M parameters: 30 layers, d 576, FFN 1536, 9/3 heads of 64")
    assert "8 of 256 experts of 2048" in found["deepseek_v3"] and "latent 576" in found["deepseek_v3"]
    assert "Mamba-2, 5120 channels, state 128" in found["mamba2_2_7b"]
    assert "196 patches" in found["vit_b_16"]


def test_a_config_file_is_a_model_with_the_usual_defaults(tmp_path):
    config = zoo.config(write(tmp_path, TINY))
    assert (config.name, config.kv_heads, config.head_dim, config.tied_embeddings) == ("tiny", 4, 16, False)
    assert zoo.parameters(config) == 2 * (4 * 64 * 64 + 3 * 64 * 96 + 2 * 64) + 2 * 100 * 64 + 64
    assert zoo.config(config) is config


def test_a_file_called_config_json_is_named_after_its_folder(tmp_path):
    folder = tmp_path / "my_model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    assert zoo.config(str(folder / "config.json")).name == "my_model"


def test_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match="model 'lama2_7b' is unknown, did you mean 'llama2_7b'"):
        zoo.config("lama2_7b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "tiny.json: field 'hidden_size' is missing"),
        ({"hidden_size": "64"}, "hidden_size must be an integer >= 1, got '64'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be an integer >= 1, got 0"),
        ({"num_attention_heads": 5}, "hidden_size 64 is no multiple of num_attention_heads 5"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 must be a multiple of num_key_value_heads 3"),
        ({"head_dim": 15}, "head_dim must be even"),
        ({"rope_theta": -1}, "rope_theta must be a number > 0, got -1"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false, got 1"),
        ({"model_type": "gpt2"}, "model_type must be llama or mistral, got 'gpt2'"),
        ({"hidden_act": "gelu"}, "hidden_act must be silu"),
        ({"attention_bias": True}, "attention_bias True is not supported"),
        ({"num_local_experts": 8}, "num_local_experts 8 is not supported"),
        ({"sliding_window": 4096}, "sliding_window 4096 is not supported"),
    ],
)
def test_bad_configs_are_told_what_is_wrong(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        zoo.config(write(tmp_path, TINY | change))


def test_unreadable_files_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"missing\.json: no such file"):
        zoo.config(tmp_path / "missing.json")
    for text, message in (("{", "not JSON"), ("[]", "must be a JSON object, got list"), ("[" * 10**6, "JSON")):
        path = tmp_path / "bad.json"
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            zoo.config(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "lama"}, "model_type 'lama' is unknown, did you mean 'llama'"),
        ({"model_type": "qwen3", "hidden_act": "gelo"}, "hidden_act 'gelo' is unknown, did you mean 'gelu'"),
        ({"model_type": "mixtral"}, "field 'num_local_experts' is missing"),
        ({"model_type": "deepseek_v2"}, "field 'kv_lora_rank' is missing"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": [1]}, "only models with experts in every layer"),
        ({"model_type": "mamba", "use_bias": True}, "use_bias True is not supported"),
        ({"model_type": "mamba2", "num_heads": 3}, "num_heads 3 must divide the 128 inner channels"),
        ({"model_type": "gemma2", "sliding_window": 4, "layer_types": ["sliding_attention"]}, "name each of 2 layers"),
        ({"model_type": "gpt2", "n_embd": 10, "n_head": 3, "n_layer": 1}, "n_embd 10 is no multiple of n_head 3"),
        ({"model_type": "llama", "attention_bias": "no"}, "attention_bias must be true or false, got 'no'"),
    ],
)
def test_bad_architectures_are_told_what_is_wrong(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        zoo.architecture(write(tmp_path, TINY | change))


def test_a_users_file_may_be_of_any_family(tmp_path):
    kinds = ["sliding_attention", "full_attention"]
    fields = TINY | {"model_type": "qwen3", "use_sliding_window": True, "sliding_window": 16, "layer_types": kinds}
    found = zoo.architecture(write(tmp_path, fields))
    assert found.attention.windows == (16, None) and found.attention.qk_norm
    assert zoo.parameters(found) == 2 * (4 * 64 * 64 + 3 * 64 * 96 + 2 * 64 + 2 * 16) + 2 * 100 * 64 + 64


@pytest.mark.parametrize("key", ["sliding_window_pattern", "_sliding_window_pattern"])
def test_both_spellings_of_the_window_pattern(tmp_path, key):
    fields = TINY | {"model_type": "gemma3_text", "num_hidden_layers": 4, "sliding_window": 8, key: 3}
    assert zoo.architecture(write(tmp_path, fields)).attention.windows == (8, 8, None, 8)
