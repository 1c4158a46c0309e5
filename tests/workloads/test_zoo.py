"""The model zoo: parameter counts against published totals, configs from files, and what bad ones are told."""

from __future__ import annotations

import json

import pytest

from sim.errors import InputError
from workloads import zoo

PUBLISHED = {
    "llama2_13b": 13_015_864_320,
    "llama2_7b": 6_738_415_616,
    "llama3_2_1b": 1_235_814_400,
    "llama3_8b": 8_030_261_248,
    "smollm2_135m": 134_515_008,
    "smollm2_360m": 361_821_120,
    "tinyllama_1_1b": 1_100_048_384,
}
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


def test_every_model_has_a_published_total():
    assert set(zoo.names()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_total(name):
    assert zoo.parameters(zoo.config(name)) == PUBLISHED[name] == zoo.raw(name)["published_parameters"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_model_says_where_it_is_from(name):
    assert "config.json" in zoo.raw(name)["source"]


def test_summaries_name_the_shape():
    assert zoo.models()["smollm2_135m"].startswith("135 M parameters: 30 layers, d 576, FFN 1536, 9/3 heads of 64")


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
    with pytest.raises(InputError, match=r"missing\.json: cannot be read"):
        zoo.config(tmp_path / "missing.json")
    for text, message in (("{", "not JSON"), ("[]", "must be a JSON object, got list")):
        path = tmp_path / "bad.json"
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            zoo.config(path)
