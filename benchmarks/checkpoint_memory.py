"""Peak memory of pruning and profiling a model that is larger than the memory it is given.

    python benchmarks/checkpoint_memory.py                     # Llama-2-7B's shape, 32 layers: 13.5 GB in shards
    python benchmarks/checkpoint_memory.py --layers 4 --kind BF16
    python benchmarks/checkpoint_memory.py --prune wanda --tokens 512                # prune_model, masks kept
    python benchmarks/checkpoint_memory.py --prune wanda --tokens 512 --evaluate 512 --layers 4

A checkpoint of that shape is written to a temporary folder (and deleted): a shard for each layer, the same 8 M random
weights over and over. With ``--dense 4`` all layers but every fourth are holes in the file, which read as zeros and
take no disk (but pruning breaks many ties there). A process of its own then reads every matrix, prunes half of it by
magnitude, profiles the mask and lets both go. About 12 seconds a layer on one core.

``--prune METHOD``: the process calls ``prune_model`` instead, keeping the packed masks, calibrated on ``--tokens`` and
measured on ``--evaluate`` random tokens (0: not measured). The perplexity of random weights says nothing; the memory
and the time do.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from page import duration, number

from workloads import zoo
from workloads.checkpoint import MATRIX_TYPES, ModelConfig

NAMES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
NAMES += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def write_model(folder: Path, config: ModelConfig, kind: str, dense: int) -> int:
    """A checkpoint in shards, two bytes a weight; returns its size in bytes."""
    values = np.random.default_rng(0).normal(0, 0.02, 1 << 23).astype("<f4")
    block = (values.view("<u4") >> 16).astype("<u2") if kind == "BF16" else values.astype("<f2")
    home, total = {}, 0
    outer = {"model.embed_tokens.weight": (config.vocab, config.d_model), "model.norm.weight": (config.d_model,)}
    if not config.tied_embeddings:
        outer["lm_head.weight"] = (config.vocab, config.d_model)
    for layer in range(config.layers + 1):
        shapes: dict[str, tuple[int, ...]] = outer
        if layer < config.layers:
            at = f"model.layers.{layer}."
            shapes = {f"{at}{name}.weight": config.matrix_shape(t) for name, t in zip(NAMES, MATRIX_TYPES, strict=True)}
            for norm in ("input_layernorm", "post_attention_layernorm"):
                shapes[f"{at}{norm}.weight"] = (config.d_model,)
        shard = f"model-{layer + 1:05d}-of-{config.layers + 1:05d}.safetensors"
        total += write_shard(folder / shard, shapes, kind, block if layer % dense == 0 else None)
        home |= dict.fromkeys(shapes, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": home}))
    fields = {
        "model_type": "llama",
        "hidden_size": config.d_model,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
    }
    (folder / "config.json").write_text(json.dumps(fields))
    return total


def write_shard(path: Path, shapes: dict[str, tuple[int, ...]], kind: str, block: np.ndarray | None) -> int:
    """One shard, of repeated blocks of weights or, without one, of a hole; returns its size in bytes."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    end = 8 + len(text) + at
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        while block is not None and stream.tell() < end:
            stream.write(block[: (end - stream.tell()) // 2])
        stream.truncate(end)
    return end


def prune_and_profile(folder: Path) -> dict[str, float]:
    """Read, prune and profile every matrix; seconds of each and the peak resident memory of this process in bytes."""
    from sim.sparsity.profile import profile
    from workloads.checkpoint import open_checkpoint
    from workloads.pruning import method, parse_pattern

    magnitude, pattern = method("magnitude"), parse_pattern("0.5")
    seconds = {"read": 0.0, "prune": 0.0, "profile": 0.0}
    began = time.perf_counter()
    checkpoint = open_checkpoint(folder)
    seconds["open"] = time.perf_counter() - began
    before = peak_bytes()
    weights = nonzeros = 0
    matrices = checkpoint.matrices()
    while True:
        times = [time.perf_counter()]
        found = next(matrices, None)
        if found is None:
            break
        times.append(time.perf_counter())
        mask = magnitude.prune(found[2], None, 0, pattern).mask
        weights += mask.size
        del found
        times.append(time.perf_counter())
        nonzeros += profile(mask).nonzeros
        times.append(time.perf_counter())
        for name, start, end in zip(("read", "prune", "profile"), times, times[1:], strict=False):
            seconds[name] += end - start
    if checkpoint.gap:
        raise SystemExit(f"the model written here should be one that can be run: {checkpoint.gap}")
    return {**seconds, "before": before, "peak": peak_bytes(), "weights": weights, "sparsity": 1 - nonzeros / weights}


def prune_whole(folder: Path, method: str, pattern: str, tokens: int, evaluate: int) -> dict[str, float]:
    """``prune_model`` of the whole checkpoint; CPU seconds and the peak resident memory of this process in bytes."""
    from workloads.checkpoint import open_checkpoint
    from workloads.prune import prune_model

    before, began = peak_bytes(), time.process_time()
    vocab, rng = open_checkpoint(folder).config.vocab, np.random.default_rng(0)
    windows, evaluation = (rng.integers(0, vocab, (-(-count // 512), 512)) for count in (tokens, evaluate or 512))
    pruned = prune_model(
        folder,
        method,
        pattern,
        evaluate=evaluate > 0,
        keep="masks",
        windows=windows,
        evaluation=evaluation,
        progress=lambda done, total, what: print(f"\r{what} {done}/{total}  ", end="", file=sys.stderr),
    )
    print(file=sys.stderr)
    weights = sum(mask.shape[0] * mask.shape[1] for mask in pruned.masks.values())
    kept = sum(mask.words.nbytes for mask in pruned.masks.values())
    return {
        "cpu": time.process_time() - began,
        "before": before,
        "peak": peak_bytes(),
        "weights": weights,
        "masks": kept,
        "sparsity": pruned.realised_sparsity,
    }


def peak_bytes() -> int:
    """Largest resident set so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Write the model, measure in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama2_7b", help="a model of the zoo")
    parser.add_argument("--layers", type=int, help="fewer layers than the model has")
    parser.add_argument("--kind", choices=("F16", "BF16"), default="F16")
    parser.add_argument("--dense", type=int, default=1, help="every how many layers are random, not zero")
    parser.add_argument("--folder", type=Path, help="where to put the temporary folder")
    parser.add_argument("--prune", metavar="METHOD", help="prune the whole model by this method")
    parser.add_argument("--pattern", default="0.5", help="of --prune")
    parser.add_argument("--tokens", type=int, default=512, help="of calibration")
    parser.add_argument("--evaluate", type=int, default=0, help="tokens to measure perplexity on")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        given = (asked.prune, asked.pattern, asked.tokens, asked.evaluate)
        print(json.dumps(prune_whole(asked.measure, *given) if asked.prune else prune_and_profile(asked.measure)))
        return
    config = zoo.config(asked.model)
    if asked.layers:
        config = ModelConfig(**{**vars(config), "layers": asked.layers})
    with tempfile.TemporaryDirectory(prefix="sparchitect_", dir=asked.folder) as folder:
        stored = write_model(Path(folder), config, asked.kind, asked.dense)
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", folder]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    if asked.prune:
        steps = f"{duration(found['cpu'])} of CPU, {found['masks'] / 1e9:.2f} GB of it packed masks"
    else:
        steps = ", ".join(f"{name} {duration(found[name])}" for name in ("open", "read", "prune", "profile"))
    print(
        f"{asked.model}, {config.layers} layers, {asked.kind}: {stored / 1e9:.2f} GB of checkpoint, "
        f"{number(found['weights'] / 1e6)} M weights pruned to sparsity {found['sparsity']:.4f}\n"
        f"peak resident memory {found['peak'] / 1e9:.2f} GB ({found['before'] / 1e9:.2f} GB before the first matrix); "
        f"{steps}"
    )


if __name__ == "__main__":
    main()
