"""benchmarks/checkpoint_memory.py: what it writes is a model, and memory does not grow with the layers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workloads.checkpoint import ModelConfig, open_checkpoint

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import checkpoint_memory  # noqa: E402


def model(layers: int, d: int, ffn: int) -> ModelConfig:
    """A decoder of that shape."""
    return ModelConfig("shape", layers, d, ffn, d // 64, d // 64, 64, 1000, 10000.0, 1e-5, False)


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_the_checkpoint_it_writes(tmp_path, kind):
    config = model(3, 128, 256)
    stored = checkpoint_memory.write_model(tmp_path, config, kind, dense=2)
    assert stored == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    read = open_checkpoint(tmp_path)
    assert read.gap == "" and {**vars(read.config), "name": "shape"} == vars(config)
    assert read.matrix(0, "ffn_up").std() == pytest.approx(0.02, rel=0.02) and not read.matrix(1, "ffn_up").any()
    found = checkpoint_memory.prune_and_profile(tmp_path)
    assert found["weights"] == 3 * (4 * 128**2 + 3 * 128 * 256) and found["sparsity"] == 0.5


@pytest.mark.slow
def test_resident_memory_does_not_grow_with_the_layers(tmp_path):
    """16 layers of 51 MB in float32 take no more than 4 do, and the 16 take far less than the model."""
    peaks = {}
    for layers in (4, 16):
        folder = tmp_path / str(layers)
        folder.mkdir()
        checkpoint_memory.write_model(folder, model(layers, 1024, 2816), "F16", dense=1)
        command = [sys.executable, str(BENCHMARKS / "checkpoint_memory.py"), "--measure", str(folder)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        peaks[layers] = found["peak"] - found["before"]
        for path in folder.iterdir():
            path.unlink()
    assert peaks[16] < 1.15 * peaks[4] + (16 << 20)
    assert peaks[16] < 0.4 * 4 * found["weights"]
