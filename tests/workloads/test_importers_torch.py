"""Torch modules as traces: by a stand-in with torch's names and hooks, and by torch itself where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import sparchitect as sp
from sim.errors import InputError
from sim.trace_tools.validate import violations

RNG = np.random.default_rng(0)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


class Module:
    """What the importer uses of ``torch.nn.Module``."""

    def __init__(self, **fields: Any) -> None:
        self.hooks: list[Any] = []
        self.training = True
        self.__dict__.update(fields)

    def children(self) -> Iterator[Module]:
        return (v for v in self.__dict__.values() if isinstance(v, Module))

    def named_modules(self, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Module]]:
        seen = set() if seen is None else seen
        if id(self) not in seen:  # torch names each module once
            seen.add(id(self))
            yield prefix, self
            for name, value in self.__dict__.items():
                if isinstance(value, Module):
                    yield from value.named_modules(f"{prefix}.{name}" if prefix else name, seen)

    def parameters(self, recurse: bool = True) -> Iterator[np.ndarray]:
        return (v for k, v in self.__dict__.items() if isinstance(v, np.ndarray) and k in ("weight", "bias", "token"))

    def register_forward_hook(self, hook: Any) -> Any:
        self.hooks.append(hook)
        module = self

        class Handle:
            def remove(self) -> None:
                module.hooks.remove(hook)

        return Handle()

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        found = self.forward(*inputs)
        for hook in self.hooks:
            hook(self, inputs, found)
        return found

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Linear(Module):
    def forward(self, x):
        return x @ self.weight.T + (0 if self.bias is None else self.bias)


class ReLU(Module):
    def forward(self, x):
        return np.maximum(x, 0)


class LayerNorm(Module):
    def forward(self, x):
        return x - x.mean(axis=-1, keepdims=True)


class Embedding(Module):
    def forward(self, x):
        return self.weight[x]


class Exotic(Module):
    def forward(self, x):
        return x


class Sequential(Module):
    def forward(self, x):
        for part in self.children():
            x = part(x)
        return x


class Residual(Module):
    def forward(self, x):
        return x + self.inner(x)


def matrix(n: int, k: int, density: float = 1.0) -> np.ndarray:
    return np.where(RNG.random((n, k)) < density, RNG.standard_normal((n, k)), 0)


def perceptron() -> Sequential:
    first = Linear(weight=matrix(16, 32, 0.5), bias=np.ones(16))
    return Sequential(
        norm=LayerNorm(normalized_shape=(32,)), up=first, act=ReLU(), down=Linear(weight=matrix(8, 16), bias=None)
    )


def test_perceptron_by_hand():
    module = perceptron()
    trace = sp.from_torch(module, np.ones((2, 3, 32), dtype=np.float32))
    assert violations(trace) == [] and trace.name == "Sequential"
    norm, up, act, down = trace.ops.to_dict("records")
    assert [o["name"] for o in (norm, up, act, down)] == ["norm", "up", "up.bias+act", "down"]
    assert (up["m"], up["n"], up["k"], up["nonzeros"]) == (6, 16, 32, np.count_nonzero(module.up.weight))
    assert trace.masks is not None
    np.testing.assert_array_equal(trace.masks[0], module.up.weight != 0)
    assert act["alu_ops"] == 2 * 6 * 16 and act["dram_read_bytes"] == 16
    assert norm["special_function_ops"] == 6 and (norm["read_bytes"], norm["live_in_bytes"]) == (192, 192)
    assert (down["m"], down["n"], down["k"], down["live_in_bytes"], down["live_out_bytes"]) == (6, 8, 16, 96, 48)


def test_the_module_is_left_as_it_was():
    module = perceptron()
    sp.from_torch(module, np.ones((1, 32)))
    with pytest.raises(InputError, match="does not take these inputs"):
        sp.from_torch(module, np.ones((1, 31)))
    assert all(m.training and not m.hooks for _, m in module.named_modules())


def test_a_layer_called_twice_is_two_ops():
    layer = Linear(weight=matrix(8, 8), bias=None)
    twice = Sequential(a=layer, b=layer)
    assert list(sp.from_torch(twice, np.ones((1, 8))).ops["name"]) == ["a", "a#2"]


def test_code_between_layers_is_not_seen():
    """x + inner(x) loses its addition; what comes next is fed by the layer before."""
    net = Sequential(
        body=Residual(inner=Linear(weight=matrix(8, 8), bias=None)), head=Linear(weight=matrix(4, 8), bias=None)
    )
    trace = sp.from_torch(net, np.ones((5, 8)))
    assert list(trace.ops["name"]) == ["body.inner", "head"] and violations(trace) == []


def test_indices_are_no_activations():
    net = Sequential(e=Embedding(weight=matrix(50, 8)), h=Linear(weight=matrix(4, 8), bias=None))
    trace = sp.from_torch(net, np.zeros((2, 5), dtype=np.int64))
    embedding, head = trace.ops.to_dict("records")
    assert (embedding["dram_read_bytes"], embedding["live_in_bytes"], head["m"]) == (80, 0, 10)


def test_unknown_layers_are_listed_or_skipped():
    net = Sequential(a=Linear(weight=matrix(8, 8), bias=None), b=Exotic(), c=Exotic(), token=np.ones(8))
    with pytest.raises(InputError, match=r"not known: Exotic \(2\), Sequential's own parameters \(1\)"):
        sp.from_torch(net, np.ones((1, 8)))
    trace = sp.from_torch(net, np.ones((1, 8)), unknown="skip")
    assert len(trace) == 1 and trace.meta["skipped_ops"]["Exotic"] == 2


@pytest.mark.parametrize("module", [3, None, "net", lambda x: x])
def test_what_is_no_module(module):
    with pytest.raises(InputError, match=r"nn\.Module"):
        sp.from_torch(module, np.ones(3))


@pytest.fixture
def torch():
    import torch

    torch.manual_seed(0)
    return torch


@needs_torch
class TestTorch:
    def test_convolutions(self, torch):
        nn = torch.nn
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.ReLU6(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        )  # fmt: skip
        before = net[1].running_mean.clone()
        trace = sp.from_torch(net, torch.ones(2, 3, 32, 32))
        assert violations(trace) == [] and torch.equal(net[1].running_mean, before) and net.training
        wanted = sp.conv2d(2, 3, 32, 32, 8, 3, 2, 1).ops.iloc[0]
        assert all(trace.ops.iloc[0][c] == wanted[c] for c in ("m", "n", "k", "input_elements"))
        assert trace.macs == 2 * (256 * 27 * 8 + 256 * 9 * 8 + 64 * 8 * 16 + 16 * 10)

    def test_lines_and_groups(self, torch):
        nn = torch.nn
        net = nn.Sequential(nn.Conv1d(4, 8, 3, padding=1, stride=2), nn.GroupNorm(2, 8), nn.Softmax(1), nn.MaxPool1d(2))
        conv, rest = sp.from_torch(net, torch.ones(2, 4, 16)).ops.to_dict("records")
        assert (conv["m"], conv["n"], conv["k"]) == (2 * 8, 8, 12)
        assert rest["special_function_ops"] == 2 * 2 + 2 * 8 * 8 + 2 * 8  # a root a group, exp a number, 1/sum a row

    def test_attention(self, torch):
        layer = torch.nn.MultiheadAttention(64, 4, batch_first=True)
        x = torch.ones(2, 16, 64)
        trace = sp.from_torch(layer, (x, x, x))
        assert violations(trace) == []
        assert trace.macs == 4 * 2 * 16 * 64 * 64 + 2 * 2 * 16 * 16 * 64

    def test_pruned_and_bfloat16(self, torch):
        from torch.nn.utils import prune

        layer = torch.nn.Linear(32, 16, bias=False)
        prune.l1_unstructured(layer, "weight", 0.5)
        trace = sp.from_torch(layer, torch.ones(4, 32))
        assert trace.ops["nonzeros"].tolist() == [256]
        assert sp.from_torch(torch.nn.Linear(8, 8).bfloat16(), torch.ones(2, 8).bfloat16()).macs == 128

    def test_export_and_modules_agree(self, torch, tmp_path):
        """A plain stack of layers is the same trace by either road."""
        pytest.importorskip("onnx")
        nn = torch.nn
        net = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8)).eval()
        x = torch.ones(4, 32)
        torch.onnx.export(net, (x,), tmp_path / "net.onnx", dynamo=False)
        ours, theirs = sp.from_torch(net, x).ops, sp.from_onnx(tmp_path / "net.onnx").ops
        columns = ["kind", "batch", "m", "n", "k", "nonzeros", "alu_ops", "special_function_ops", "dram_read_bytes"]
        columns += ["read_bytes", "write_bytes", "live_in_bytes", "live_out_bytes"]
        assert ours[columns].to_dict("records") == theirs[columns].to_dict("records")
