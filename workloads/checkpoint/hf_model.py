"""A decoder under Hugging Face names: a folder or file of safetensors with its ``config.json``, or an ``.npz``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.errors import InputError
from workloads.checkpoint.container import Container
from workloads.checkpoint.contents import Contents, check_outer, find_names, structure_gap
from workloads.checkpoint.hf_config import dimensions, forward_gap, rope_divisors
from workloads.checkpoint.json_file import MAX_JSON, json_object, read_json
from workloads.checkpoint.names import HUGGING_FACE
from workloads.checkpoint.npz_file import Npz
from workloads.checkpoint.safetensors_file import Safetensors


def read_folder(folder: Path) -> Contents:
    """Open a folder as ``save_pretrained`` writes it: config.json, safetensors, perhaps tokenizer.json."""
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(f"{config}: no such file; a Hugging Face folder holds config.json and safetensors")
    for pattern in ("model.safetensors", "model.safetensors.index.json", "*.safetensors.index.json", "*.safetensors"):
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            names = ", ".join(path.name for path in found[:3])
            raise InputError(f"{folder}: several checkpoints ({names}); name one")
        if found:
            return read_safetensors(found[0])
    raise InputError(f"{folder}: no safetensors file beside config.json")


def read_safetensors(path: Path) -> Contents:
    """Open one safetensors file, or the shards of an index, with the config.json beside it."""
    config = path.with_name("config.json")
    return _contents(Safetensors(path), read_json(config), str(config), config)


def read_npz(path: Path) -> Contents:
    """Open an ``.npz`` of tensors under Hugging Face names, with config.json as its array ``config`` or beside it."""
    file = Npz(path)
    text = file.text("config", MAX_JSON)
    if text is not None:
        return _contents(file, json_object(text, f"{path}: config"), f"{path}: config", None)
    config = path.with_name("config.json")
    if not config.is_file():
        raise InputError(f"{path}: no array 'config' (the text of config.json) in it and no config.json beside it")
    return _contents(file, read_json(config), str(config), config)


def _contents(file: Container, fields: Mapping[str, Any], where: str, config_file: Path | None) -> Contents:
    home = file.path.absolute().parent.name
    own = file.path.name.split(".")[0]
    config = dimensions(fields, home if own == "model" and home else own, where)
    names, prefix = find_names(file, HUGGING_FACE, config)
    outer = {which: prefix + name for which, name in names.outer.items()} | {"head": "lm_head.weight"}
    gap = forward_gap(fields) or structure_gap(file, names, prefix, config)
    divisors = None
    if not gap:
        check_outer(file, outer, config)
        divisors = rope_divisors(fields, config, where)
    tokenizer = file.path.with_name("tokenizer.json")
    return Contents(
        file,
        config,
        names,
        prefix,
        gap,
        outer,
        rope_divisors=divisors,
        config_file=config_file,
        tokenizer_file=tokenizer if tokenizer.is_file() else None,
    )
